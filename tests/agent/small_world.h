/* What the tests of the command line share: a small world of files, and the program run on it. */
#ifndef M4N_TESTS_AGENT_SMALL_WORLD_H
#define M4N_TESTS_AGENT_SMALL_WORLD_H

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

inline std::string read_file(const std::string &path) {
  return Process::slurp(path);
}

inline void write_file(const std::string &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline Ended run(const Arguments &arguments, const ProcessOptions &options = {}) {
  return Program(arguments, options);
}

/* A small world of its own: five traces, a video of 12 chunks and 3 levels, and a scenario. */
struct World {
  std::string dir = m4n_temp_dir();
  std::string scenario = dir + "/small.yaml";

  World() {
    mkdir((dir + "/traces").c_str(), 0700), mkdir((dir + "/video").c_str(), 0700);
    for (int i = 0; i < 5; i++) {
      std::ostringstream trace;
      for (int t = 0; t < 40; t++)
        trace << t * (1 + i % 2) << " " << 0.4 + 0.1 * ((t * (i + 3)) % 17) << "\n";
      write_file(dir + "/traces/trace" + std::to_string(i), trace.str());
    }
    const double kbps[] = {300, 750, 1850};
    for (int level = 0; level < 3; level++) {
      std::ostringstream sizes;
      for (int k = 0; k < 13; k++) sizes << (int)(kbps[level] * 500 * (0.8 + 0.05 * (k % 9))) << "\n";
      write_file(dir + "/video/video_size_" + std::to_string(level), sizes.str());
    }
    write_file(scenario, "name: small\ntask: abr\nseed: 7\n"
                         "abr:\n"
                         "  test: {traces: traces, noise: 0.1}\n"
                         "  video: {sizes: video, ladder: [300, 750, 1850]}\n"
                         "evaluate: {policies: [random, bba, robust-mpc, oracle]}\n");
  }
};

inline size_t size_of(const std::string &path) {
  std::error_code none;
  size_t size = fs::file_size(path, none);
  return none ? 0 : size;
}

inline bool holds(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

inline void expect_one_line(const Ended &r) {
  EXPECT_EQ(r.err.rfind("mamba4net: ", 0), 0u) << r.err;
  EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
  EXPECT_EQ(r.out, "");
}

/* Where its agent and simulators meet. */
inline std::string socket_of(const World &w) {
  return "ipc://" + w.dir + "/agent.sock";
}

#endif
