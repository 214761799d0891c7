// Who may include whom: the house's plan as a test. A folder sees what its line below allows, and nothing else; a
// library's header is seen only where that library is used.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

struct Rule {
  std::string files; // a path begins with this; the first rule that fits counts
  Strings may;       // what an include begins with
};

const std::vector<Rule> rules = {
    {"kernels/base/", {"kernels/base/"}},
    {"kernels/", {"kernels/"}},
    {"traces/", {"traces/", "kernels/base/"}},
    {"sim/spec.", {"sim/spec.h", "kernels/base/"}},
    {"sim/", {"sim/", "traces/", "kernels/base/"}},
    // The simulator's side knows the tasks' functions; the rest of the bridge knows the data-only spec.
    {"bridge/client", {"bridge/", "sim/", "kernels/base/"}},
    {"bridge/", {"bridge/", "sim/spec.h", "kernels/base/"}},
    {"agent/policy.", {"agent/policy.h", "agent/rules/", "agent/model/", "sim/spec.h", "kernels/base/"}},
    {"agent/rules/", {"agent/rules/", "agent/policy.h", "sim/spec.h", "kernels/base/"}},
    {"agent/model/", {"agent/model/", "kernels/"}},
    {"agent/learn/",
     {"agent/learn/", "agent/model/", "agent/policy.h", "agent/rules/", "bridge/server.h", "sim/spec.h",
      "kernels/"}},
    // The agent's half of the program works for any simulator: it must not know ours.
    {"agent/serve.", {"agent/", "bridge/server.h", "bridge/endpoint.h", "sim/spec.h", "kernels/base/"}},
    {"agent/decider.", {"agent/decider.h", "agent/policy.h", "sim/spec.h", "kernels/base/"}},
    {"agent/plan.", {"agent/plan.h"}},
    {"agent/", {"agent/", "bridge/", "sim/", "traces/", "kernels/"}},
};

// Headers of libraries, and the only places that include them.
const std::vector<Rule> libraries = {
    {"zmq", {"bridge/"}},
    {"msgpack", {"bridge/"}},
    {"cuda", {"kernels/cuda/"}},
    {"cublas", {"kernels/cuda/"}},
    {"libav", {"traces/"}},
    {"libsw", {"traces/"}},
    {"oneapi/dnnl", {"kernels/cpu/gemm"}},
    {"dnnl", {"kernels/cpu/gemm"}},
    {"cblas", {"kernels/cpu/gemm"}},
    {"cyaml", {"agent/scenario"}},
    {"yaml.h", {"agent/scenario"}},
};

bool begins(const std::string &text, const std::string &with) {
  return text.compare(0, with.size(), with) == 0;
}

bool any(const Strings &list, const std::string &text) {
  for (const std::string &with : list)
    if (begins(text, with)) return true;
  return false;
}

struct Include {
  std::string file, header;
  int line;
  bool quoted;
};

std::vector<Include> includes() {
  static const std::regex pattern("^\\s*#\\s*include\\s*([\"<])([^\">]+)[\">]");
  std::vector<Include> all;
  for (const char *folder : {"kernels", "traces", "sim", "bridge", "agent"}) {
    fs::path root = fs::path(M4N_SOURCE_DIR);
    if (!fs::exists(root / folder)) continue;
    for (const auto &entry : fs::recursive_directory_iterator(root / folder)) {
      std::string suffix = entry.path().extension();
      if (suffix != ".c" && suffix != ".h" && suffix != ".cu" && suffix != ".cuh" && suffix != ".cc")
        continue;
      std::ifstream in(entry.path());
      std::string text;
      std::smatch match;
      for (int line = 1; std::getline(in, text); line++)
        if (std::regex_search(text, match, pattern))
          all.push_back({fs::relative(entry.path(), root).string(), match[2], line, match[1] == "\""});
    }
  }
  return all;
}

TEST(Includes, FollowTheArrows) {
  std::vector<Include> all = includes();
  ASSERT_GT(all.size(), 100u) << "found no sources in " << M4N_SOURCE_DIR;
  for (const Include &i : all) {
    if (!i.quoted) continue;
    for (const Rule &rule : rules) {
      if (!begins(i.file, rule.files)) continue;
      EXPECT_TRUE(any(rule.may, i.header)) << i.file << ":" << i.line << " includes " << i.header;
      break;
    }
  }
}

TEST(Includes, LibrariesStayInTheirFolders) {
  for (const Include &i : includes()) {
    if (i.quoted) continue;
    for (const Rule &library : libraries)
      if (begins(i.header, library.files)) {
        EXPECT_TRUE(any(library.may, i.file)) << i.file << ":" << i.line << " includes " << i.header;
      }
  }
}

TEST(Includes, OursAreQuotedFromTheTop) {
  const Strings top = {"kernels/", "traces/", "sim/", "bridge/", "agent/"};
  for (const Include &i : includes())
    EXPECT_EQ(i.quoted, any(top, i.header)) << i.file << ":" << i.line << " includes " << i.header;
}

} // namespace
