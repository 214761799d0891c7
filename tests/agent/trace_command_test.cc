// `mamba4net trace` as a user meets it: every part on good and on bad input.
#include <gtest/gtest.h>
#include <jansson.h>

#include "kernels/base/file.h"
#include "tests/support/program.h"
#include "traces/throughput/throughput.h"
#include "traces/video/sizes.h"

namespace {

std::string cooked(const std::string &text = "0 1\n1 1\n2 3\n3 0\n4 4\n") {
  std::string path = m4n_temp_dir() + "/trace";
  std::ofstream(path) << text;
  return path;
}

int files_in(const std::string &folder) {
  int n = 0;
  for (auto &entry : std::filesystem::directory_iterator(folder)) n += entry.exists();
  return n;
}

std::string slurp(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Help, EveryPartHasAPage) {
  Program all({"trace", "--help"});
  EXPECT_EQ(all.status, 0);
  for (const char *part : {"info", "convert", "gen", "fit", "models"}) {
    EXPECT_TRUE(all.says(part));
    Program p({"trace", part, "--help"});
    EXPECT_EQ(p.status, 0) << part;
    EXPECT_TRUE(p.says(std::string("mamba4net trace ") + part)) << p.out;
    EXPECT_EQ(p.err, "");
  }
}

TEST(Usage, IsRefusedWithStatus2) {
  std::string in = cooked(), out = m4n_temp_dir() + "/out";
  struct {
    std::vector<std::string> arguments;
    const char *says;
  } cases[] = {
      {{}, "expected info, convert, gen, fit or models"},
      {{"look"}, "trace look"},
      {{"info"}, "expected FILE|DIR"},
      {{"info", "--nonsense", in}, "--nonsense"},
      {{"info", "--format", "pcap", in}, "--format: 'pcap'"},
      {{"info", "--format"}, "--format"},
      {{"convert", in, "--out", out}, "cooked, mahimahi or sabre"},
      {{"convert", in, "--to", "oboe", "--out", out}, "cooked, mahimahi or sabre"},
      {{"convert", in, "--to", "sabre"}, "--out"},
      {{"convert", in, in, "--to", "sabre", "--out", out}, "FILE|DIR"},
      {{"gen", "--out", out}, "--model"},
      {{"gen", "--model", "fcc"}, "--out"},
      {{"gen", "--model", "no-such", "--out", out}, "norway-hsdpa"},
      {{"gen", "--model", "fcc", "--out", out, "--n", "0"}, "--n"},
      {{"gen", "--model", "fcc", "--out", out, "--n", "many"}, "--n"},
      {{"gen", "--model", "fcc", "--out", out, "--seed", "-1"}, "--seed"},
      {{"gen", "--model", "fcc", "--out", out, "--seconds", "nan"}, "--seconds"},
      {{"gen", "--model", "fcc", "--out", out, "--seconds", "1e15"}, "duration"},
      {{"gen", "--model", "fcc", "--out", out, "--format", "ucc"}, "cooked, mahimahi or sabre"},
      {{"gen", "--model", "fcc", "--out", out, "--video"}, "video model"},
      {{"fit", in}, "--out"},
      {{"fit", "--out", out}, "DIR|FILE"},
      {{"fit", in, "--out", out, "--name", "a/b"}, "a/b"},
      {{"models", "all"}, "arguments"},
  };
  for (auto &c : cases) {
    std::vector<std::string> arguments{"trace"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    Program p(arguments);
    EXPECT_EQ(p.status, 2) << c.says;
    EXPECT_TRUE(p.complains(c.says)) << p.err;
    EXPECT_EQ(p.out, "");
    EXPECT_FALSE(m4n_exists(out.c_str())) << c.says;
  }
}

TEST(Info, TableAndJson) {
  std::string in = cooked();
  Program table({"trace", "info", in, in});
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_TRUE(table.says("cooked")) << table.out;
  Program p({"trace", "info", in, "--json"});
  EXPECT_EQ(p.status, 0) << p.err;
  json_t *list = json_loads(p.out.c_str(), 0, nullptr), *one = json_array_get(list, 0);
  ASSERT_NE(one, nullptr) << p.out;
  EXPECT_STREQ(json_string_value(json_object_get(one, "format")), "cooked");
  EXPECT_EQ(json_integer_value(json_object_get(one, "traces")), 1);
  EXPECT_EQ(json_number_value(json_object_get(one, "mean_mbps")), 2);
  EXPECT_EQ(json_number_value(json_object_get(one, "outage_share")), 0.25);
  EXPECT_EQ(json_number_value(json_array_get(json_object_get(one, "quartiles_mbps"), 2)), 3);
  EXPECT_EQ(json_number_value(json_object_get(json_object_get(one, "seconds"), "median")), 4);
  json_decref(list);
}

TEST(Info, BadInputNamesFileLineAndKey) {
  std::string good = cooked(), bad = cooked("0 1\n1 nan\n");
  Program p({"trace", "info", good, bad});
  EXPECT_EQ(p.status, 2);
  EXPECT_TRUE(p.complains(bad + ":2: bandwidth: ")) << p.err;
  EXPECT_EQ(p.out, "");
  EXPECT_EQ(Program({"trace", "info", "/none"}).status, 2);
  EXPECT_EQ(Program({"trace", "info", good}, "/dev/full").status, 2) << "a full disk looks like success";
}

TEST(Info, PlotIsSvg) {
  if (system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no gnuplot";
  // A name full of what gnuplot might take for something else.
  std::string folder = m4n_temp_dir() + "/it's $a \"set\" `x`\\n_1", plot = m4n_temp_dir() + "/p.svg";
  std::filesystem::create_directory(folder);
  std::filesystem::copy(cooked(), folder + "/a_b'c<i>&x");
  std::filesystem::copy(cooked(), folder + "/second");
  Program p({"trace", "info", folder, "--plot", plot});
  EXPECT_EQ(p.status, 0) << p.err;
  std::string svg = slurp(plot);
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  EXPECT_NE(svg.find("a_b'c&lt;i"), std::string::npos) << svg.substr(0, 200);
  EXPECT_EQ(Program({"trace", "info", folder, "--plot", "/none/p.svg"}).status, 2);
}

TEST(Convert, FileAndFolder) {
  std::string in = m4n_temp_dir(), out = m4n_temp_dir() + "/out", file = m4n_temp_dir() + "/t.json";
  std::filesystem::copy(cooked(), in + "/a");
  std::filesystem::copy(cooked("0 2\n5 2\n"), in + "/b");
  Program folder({"trace", "convert", in, "--to", "mahimahi", "--out", out});
  EXPECT_EQ(folder.status, 0) << folder.err;
  m4n_traces set;
  ASSERT_EQ(m4n_traces_open(&set, out.c_str(), M4N_TRACE_MAHIMAHI), 0);
  EXPECT_EQ(set.count, 2);
  EXPECT_STREQ(set.trace[1].name, "b");
  m4n_traces_close(&set);
  Program single({"trace", "convert", in + "/a", "--to", "sabre", "--out", file});
  EXPECT_EQ(single.status, 0) << single.err;
  ASSERT_EQ(m4n_traces_open(&set, file.c_str(), M4N_TRACE_AUTO), 0);
  EXPECT_EQ(set.trace[0].format, M4N_TRACE_SABRE);
  EXPECT_EQ(set.trace[0].rows, 5);
  m4n_traces_close(&set);
}

TEST(Convert, AFolderIsWholeOrNotThere) {
  std::string in = m4n_temp_dir(), parent = m4n_temp_dir(), out = parent + "/out";
  std::filesystem::copy(cooked(), in + "/a");
  std::filesystem::copy(cooked("0 2\n200000 1e5\n"), in + "/b"); // too many packets for a Mahimahi file
  Program p({"trace", "convert", in, "--to", "mahimahi", "--out", out});
  EXPECT_EQ(p.status, 2);
  EXPECT_TRUE(p.complains("packet times")) << p.err;
  EXPECT_EQ(files_in(parent), 0) << "something half-written was left";
  std::filesystem::create_directory(out);
  std::ofstream(out + "/mine") << "x";
  Program filled({"trace", "convert", in, "--to", "cooked", "--out", out});
  EXPECT_EQ(filled.status, 2);
  EXPECT_TRUE(filled.complains("holds files already")) << filled.err;
  EXPECT_EQ(files_in(out), 1);
  EXPECT_EQ(files_in(parent), 1);
}

TEST(Gen, SameSeedSameFiles) {
  std::string a = m4n_temp_dir(), b = m4n_temp_dir() + "/deep/er", c = m4n_temp_dir() + "/c";
  std::vector<std::string> command{"trace", "gen",       "--model", "norway-hsdpa", "--seed",
                                   "9",     "--seconds", "60",      "--out"};
  auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = command;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  Program first(with({a, "--n", "3"})), more(with({b, "--n", "5"})),
      other(with({c, "--n=3", "--format=sabre"}));
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(more.status, 0) << more.err;
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(files_in(a), 3);
  EXPECT_EQ(files_in(b), 5);
  for (int i = 0; i < 3; i++) {
    std::string name = "/norway-hsdpa_9_00000" + std::to_string(i), text = slurp(a + name);
    EXPECT_GT(text.size(), 100u);
    EXPECT_EQ(text, slurp(b + name));
    EXPECT_EQ(slurp(c + name)[0], '[');
  }
}

TEST(Gen, Video) {
  std::string out = m4n_temp_dir() + "/video";
  Program p({"trace", "gen", "--video", "--model", "pensieve", "--out", out, "--seed", "3"});
  EXPECT_EQ(p.status, 0) << p.err;
  m4n_video v;
  ASSERT_EQ(m4n_video_open(&v, out.c_str()), 0);
  EXPECT_EQ(v.levels, 6);
  EXPECT_EQ(v.chunks, 49);
  m4n_video_close(&v);
}

TEST(Fit, WhatItWritesGenerates) {
  std::string set = m4n_temp_dir() + "/set", model = m4n_temp_dir() + "/mine.json",
              again = m4n_temp_dir() + "/again";
  ASSERT_EQ(Program({"trace", "gen", "--model", "fcc", "--n", "30", "--out", set}).status, 0);
  Program fit({"trace", "fit", set, "--out", model});
  EXPECT_EQ(fit.status, 0) << fit.err;
  Program gen({"trace", "gen", "--model", model, "--n", "2", "--out", again});
  EXPECT_EQ(gen.status, 0) << gen.err;
  EXPECT_TRUE(m4n_exists((again + "/mine_1_000001").c_str()));
  EXPECT_EQ(Program({"trace", "fit", set, "--out", "/none/m.json"}).status, 2);
}

TEST(Fit, Video) {
  std::string video = m4n_temp_dir() + "/video", model = m4n_temp_dir() + "/v.json";
  ASSERT_EQ(Program({"trace", "gen", "--video", "--model", "pensieve", "--out", video}).status, 0);
  Program fit({"trace", "fit", "--video", video, "--out", model});
  EXPECT_EQ(fit.status, 0) << fit.err;
  EXPECT_NE(slurp(model).find("mamba4net video model"), std::string::npos);
}

TEST(Models, AreListed) {
  Program p({"trace", "models"});
  EXPECT_EQ(p.status, 0);
  for (const char *name : {"fcc ", "norway-hsdpa ", "lumos5g-5g ", "pensieve "})
    EXPECT_TRUE(p.says(name)) << p.out;
}

} // namespace
