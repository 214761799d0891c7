// The program as its users meet it: every subcommand, judged by exit status, output and files.
#include "tests/agent/small_world.h"

#include <string.h>

#include <functional>
#include <map>
#include <tuple>

#include "agent/learn/store.h"
#include "kernels/base/status.h"

namespace {

// ---- help and usage

TEST(Usage, EverySubcommandHasHelp) {
  Ended top = run({"--help"});
  EXPECT_EQ(top.status, 0);
  for (const char *command : {"run", "serve", "sim", "trace", "report", "replay", "bench"}) {
    EXPECT_TRUE(holds(top.out, std::string("  ") + command)) << command;
    Ended r = run({command, "--help"});
    EXPECT_EQ(r.status, 0) << command << r.err;
    EXPECT_TRUE(holds(r.out, std::string("mamba4net ") + command)) << r.out;
    EXPECT_TRUE(holds(r.out, "--help")) << r.out;
    EXPECT_EQ(r.err, "") << command;
  }
}

TEST(Usage, Version) {
  Ended r = run({"--version"});
  EXPECT_EQ(r.status, 0);
  for (const char *part : {"mamba4net ", "libzmq 4", "libcyaml", "CUDA: "})
    EXPECT_TRUE(holds(r.out, part)) << r.out;
}

TEST(Usage, HelpOfKeys) {
  Ended r = run({"run", "--help-keys"});
  EXPECT_EQ(r.status, 0);
  EXPECT_TRUE(holds(r.out, "abr.qoe.rebuffer\n")) << r.out;
}

struct Misuse {
  Arguments arguments;
  const char *words;
};

TEST(Usage, WhatIsWrongIsSaidInOneLine) {
  const Misuse cases[] = {{{}, "no command"},
                          {{"rnu"}, "rnu: unknown command"},
                          {{"run"}, "expected a SCENARIO"},
                          {{"run", "a", "b"}, "2 arguments"},
                          {{"run", "--frobnicate"}, "--frobnicate: unknown option"},
                          {{"run", "x.yaml", "--out"}, "--out: expected a value"},
                          {{"run", "x.yaml", "--threads", "0"}, "--threads: '0' is refused"},
                          {{"run", "x.yaml", "--threads=many"}, "--threads: 'many' is refused"},
                          {{"run", "x.yaml", "--quiet=1"}, "--quiet: takes no value"},
                          {{"run", "x.yaml", "--seed", "-3"}, "--seed: seed: '-3' is refused"},
                          {{"run", "/nowhere/x.yaml"}, "/nowhere/x.yaml: cannot open"},
                          {{"run", "/"}, "/: expected a regular file"},
                          {{"serve"}, "expected a SCENARIO or --policy"},
                          {{"serve", "x.yaml", "--policy", "bba"}, "expected a SCENARIO or --policy"},
                          {{"serve", "--policy", "bbr"}, "no policy 'bbr'"},
                          {{"serve", "--policy", "bba", "--fallback", "bbr"}, "no policy 'bbr'"},
                          {{"serve", "--policy", "bba", "--endpoint", "udp://x"}, "endpoint 'udp://x'"},
                          {{"serve", "--policy", "bba", "--endpoint", "tcp://0.0.0.0:5555"}, "loopback"},
                          {{"serve", "--policy", "bba", "--out", "x"}, "belong to a SCENARIO"},
                          {{"serve", "x.yaml", "--fallback", "bba"}, "belong to --policy"},
                          {{"sim"}, "expected SCENARIO"},
                          {{"sim", "/nowhere/x.yaml"}, "cannot open"},
                          {{"report"}, "expected DIR"},
                          {{"report", "/nowhere"}, "/nowhere: expected a run's folder"},
                          {{"report", "/tmp", "/usr"}, "--out"},
                          {{"replay"}, "expected DIR"},
                          {{"replay", "/nowhere"}, "/nowhere/scenario.yaml: cannot open"},
                          {{"bench", "dance"}, "dance: no group"},
                          {{"trace"}, "trace"}};
  for (const Misuse &c : cases) {
    Ended r = run(c.arguments);
    std::string all;
    for (const std::string &a : c.arguments) all += a + " ";
    EXPECT_EQ(r.status, 2) << all << r.err;
    EXPECT_TRUE(holds(r.err, c.words)) << all << r.err;
    expect_one_line(r);
  }
}

// ---- run

TEST(Run, WritesTheFolderAndTheTable) {
  World w;
  std::string out = w.dir + "/run";
  Ended r = run({"run", w.scenario, "--out", out});
  ASSERT_EQ(r.status, 0) << r.err;
  for (const char *file :
       {"scenario.yaml", "events.bin", "episodes.csv", "summary.json", "report.html", "log.jsonl"})
    EXPECT_GT(read_file(out + "/" + file).size(), 20u) << file;
  for (const char *policy : {"random", "bba", "robust-mpc", "oracle"})
    EXPECT_TRUE(holds(r.out, policy)) << r.out;
  EXPECT_TRUE(holds(r.err, out + "/report.html")) << r.err;
  EXPECT_TRUE(holds(read_file(out + "/scenario.yaml"), "seed: 7"));
}

TEST(Run, MakesAFolderUnderRuns) {
  World w;
  ProcessOptions there;
  there.folder = w.dir;
  for (int i = 0; i < 2; i++) { // two in one second do not meet
    Ended r = run({"run", w.scenario, "--quiet", "--set", "evaluate.policies=bba"}, there);
    ASSERT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(r.err, "");
  }
  int folders = 0;
  for (const auto &entry : fs::directory_iterator(w.dir + "/runs")) {
    folders++;
    EXPECT_EQ(entry.path().filename().string().rfind("small-2", 0), 0u);
    EXPECT_TRUE(fs::exists(entry.path() / "report.html"));
  }
  EXPECT_EQ(folders, 2);
}

TEST(Run, JsonIsTheSummary) {
  World w;
  Ended r = run({"run", w.scenario, "--out", w.dir + "/run", "--json", "--quiet"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(r.out, read_file(w.dir + "/run/summary.json"));
}

TEST(Run, TakesItsOwnResolvedScenario) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/a", "--seed", "3"}).status, 0);
  Ended r = run({"run", w.dir + "/a/scenario.yaml", "--out", w.dir + "/b"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(read_file(w.dir + "/a/episodes.csv"), read_file(w.dir + "/b/episodes.csv"));
}

TEST(Run, NullTask) {
  World w;
  write_file(w.dir + "/null.yaml",
             "name: nothing\ntask: 'null'\nevaluate: {policies: [random, level-1], episodes: 3}\n");
  Ended r = run({"run", w.dir + "/null.yaml", "--out", w.dir + "/run"});
  EXPECT_EQ(r.status, 0) << r.err;
}

// What is learned on one demo set says something about the others: each lies where 18,000 traces of the models do. By
// chance a set of so few may lie half as high, for one long outage.
TEST(Run, TheDemoSetsAreAlike) {
  const std::pair<const char *, double> expected[] = {{"robust-mpc", 0.944}, {"bola", 0.919}, {"bba", 0.569}};
  World w;
  write_file(w.dir + "/demo.yaml", "name: demo\ntask: abr\nabr:\n"
                                   "  train: {traces: demo:train}\n  valid: {traces: demo:valid}\n"
                                   "  test: {traces: demo:test}\n  video: {sizes: demo:video}\n"
                                   "evaluate: {policies: [bba]}\n");
  for (const char *set : {"train", "valid", "test"})
    for (const auto &[policy, mean] : expected) {
      Ended r =
          run({"run", w.dir + "/demo.yaml", "--out", w.dir + "/run", "--quiet", "--json", "--set",
               std::string("evaluate.set=") + set, "--set", std::string("evaluate.policies=") + policy});
      ASSERT_EQ(r.status, 0) << r.err;
      size_t at = r.out.find("\"mean\": ");
      ASSERT_NE(at, std::string::npos) << r.out;
      EXPECT_NEAR(std::stod(r.out.substr(at + 8)), mean, 0.03) << policy << " on " << set;
    }
}

// The student that comes along plays the demo traces, and better than the lowest level does.
TEST(Run, ThePretrainedStudent) {
  World w;
  double mean[2];
  const char *policies[] = {"level-0", "student"};
  for (int i = 0; i < 2; i++) {
    Ended r = run({"run", M4N_SOURCE_DIR "/scenarios/abr-pretrained.yaml", "--out", w.dir + "/run", "--quiet",
                   "--json", "--set", "evaluate.episodes=5", "--set",
                   std::string("evaluate.policies=") + policies[i]});
    ASSERT_EQ(r.status, 0) << r.err;
    size_t at = r.out.find("\"mean\": ");
    ASSERT_NE(at, std::string::npos) << r.out;
    mean[i] = std::stod(r.out.substr(at + 8));
  }
  EXPECT_GT(mean[1], mean[0]);
}

// ---- the same bytes whatever carries them

using Key = std::tuple<std::string, int64_t>;

// Every episode of a log as bytes, by policy and number: the order of finishing is all that may differ.
std::map<Key, std::string> episodes(const std::string &folder) {
  std::map<Key, std::string> all;
  m4n_events_file *file = nullptr;
  EXPECT_EQ(m4n_events_open(&file, (folder + "/events.bin").c_str()), 0) << m4n_error_message();
  if (!file) return all;
  const m4n_events_header *h = m4n_events_header_of(file);
  m4n_episode e;
  bool more;
  while (!m4n_events_next(file, &e, &more) && more) {
    std::string bytes = e.label;
    auto add = [&](const void *data, size_t size) { bytes.append((const char *)data, size); };
    size_t steps = (size_t)e.steps;
    add(&e.flags, sizeof e.flags), add(&e.seed, sizeof e.seed), add(&e.set, sizeof e.set);
    add(e.obs, (steps + 1) * h->spec.obs_size), add(e.action, steps * h->spec.act_size);
    add(e.reward, steps * 8), add(e.info, steps * 8 * (size_t)h->spec.n_info);
    add(e.metrics, 8 * (size_t)h->spec.n_metrics), add(e.sim_time_ns, (steps + 1) * 8);
    add(e.delay_ns, steps * 8), add(e.served_by, steps);
    EXPECT_TRUE(all.emplace(Key{h->policy[e.policy], e.episode}, bytes).second) << "an episode twice";
  }
  EXPECT_FALSE(m4n_events_truncated(file));
  m4n_events_free(file);
  return all;
}

void expect_same_run(const std::string &a, const std::string &b) {
  EXPECT_TRUE(read_file(a + "/episodes.csv") == read_file(b + "/episodes.csv")) << a << " and " << b;
  EXPECT_TRUE(episodes(a) == episodes(b)) << a << " and " << b;
}

TEST(SameBytes, ThreadsLanesAndEndpoints) {
  World w;
  std::string base = w.dir + "/base";
  ASSERT_EQ(run({"run", w.scenario, "--out", base, "--threads", "1"}).status, 0);
  ASSERT_EQ(episodes(base).size(), 20u);
  const Arguments others[] = {{"--threads", "2"},
                              {"--set", "bridge.lanes=1"},
                              {"--set", "bridge.lanes=3", "--threads", "2"},
                              {"--set", "bridge.endpoint=ipc://" + w.dir + "/agent.sock"},
                              {"--set", "bridge.endpoint=tcp://127.0.0.1:*"},
                              {"--set", "bridge.mode=async"}};
  for (const Arguments &other : others) {
    std::string out = w.dir + "/other";
    Arguments all = {"run", w.scenario, "--out", out};
    all.insert(all.end(), other.begin(), other.end());
    Ended r = run(all);
    ASSERT_EQ(r.status, 0) << other.back() << r.err;
    SCOPED_TRACE(other.back());
    expect_same_run(base, out);
  }
}

TEST(SameBytes, TwoProcesses) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/one"}).status, 0);
  Process agent({"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/two"});
  ASSERT_TRUE(agent.says("serving 'small'"));
  Ended sim = run({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "7"});
  EXPECT_EQ(sim.status, 0) << sim.err;
  Ended r = agent.finish();
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "robust-mpc")) << r.out;
  expect_same_run(w.dir + "/one", w.dir + "/two");
}

TEST(SameBytes, ThreeSimulatorsAtOnce) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/one", "--set", "evaluate.episodes=40"}).status, 0);
  Process agent({"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/two", "--set",
                 "evaluate.episodes=40", "--set", "bridge.mode=async"});
  ASSERT_TRUE(agent.says("serving 'small'"));
  Process a({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "1"});
  Process b({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "2"});
  Process c({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "5"});
  Ended r = agent.finish();
  ASSERT_EQ(r.status, 0) << r.err;
  for (Process *p : {&a, &b, &c}) p->finish(); // one may have come when all was done
  expect_same_run(w.dir + "/one", w.dir + "/two");
}

// A simulator that dies leaves its episodes to the next one.
TEST(SameBytes, ADeadSimulatorIsReplaced) {
  World w;
  Arguments many = {"--set", "evaluate.episodes=400", "--set", "evaluate.policies=[bba, rate]"};
  Arguments one = {"run", w.scenario, "--out", w.dir + "/one"};
  Arguments two = {"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/two"};
  one.insert(one.end(), many.begin(), many.end()), two.insert(two.end(), many.begin(), many.end());
  ASSERT_EQ(run(one).status, 0);
  Process agent(two);
  ASSERT_TRUE(agent.says("serving 'small'"));
  Process first({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "4"});
  for (int i = 0; i < 500 && size_of(w.dir + "/two/events.bin") < 20000; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  first.send(SIGKILL);
  Process second({"sim", w.scenario, "--endpoint", socket_of(w)});
  Ended r = agent.finish();
  ASSERT_EQ(r.status, 0) << r.err;
  second.finish();
  expect_same_run(w.dir + "/one", w.dir + "/two");
}

// ---- replay

class Replay : public testing::Test {
protected:
  World w;
  std::string out = w.dir + "/run";
  void SetUp() override { ASSERT_EQ(run({"run", w.scenario, "--out", out}).status, 0); }
};

TEST_F(Replay, FindsTheSame) {
  Ended r = run({"replay", out});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "same: 20 episodes, 220 decisions")) << r.out;
}

TEST_F(Replay, MovedDataIsNamedBySet) {
  fs::rename(w.dir + "/traces", w.dir + "/moved");
  EXPECT_EQ(run({"replay", out}).status, 2);
  EXPECT_EQ(run({"replay", out, "--set", "abr.test.traces=" + w.dir + "/moved"}).status, 0);
}

TEST_F(Replay, NamesTheFirstDifference) {
  const std::pair<const char *, const char *> cases[] = {
      {"seed=8", "seed: recorded 7, replayed 8"},
      {"abr.test.noise=0.2", "observation 'throughput'"},
      {"abr.rtt_ms=81", "observation 'throughput'"},
      {"abr.qoe.rebuffer=5", "another world"},
  };
  for (const auto &c : cases) {
    Ended r = run({"replay", out, "--quiet", "--set", c.first});
    EXPECT_EQ(r.status, 1) << c.first << r.err;
    EXPECT_TRUE(holds(r.err, c.second)) << r.err;
    expect_one_line(r);
  }
}

// The log once more, with another header or other actions: a sound record of a run that never was.
using ChangeHeader = std::function<void(m4n_spec &)>;
using ChangeAction = std::function<void(const m4n_episode &, int step, std::vector<uint8_t> &)>;

void record_again(const std::string &folder, const ChangeHeader &change_header,
                  const ChangeAction &change_action) {
  m4n_events_file *file;
  m4n_events *log;
  ASSERT_EQ(m4n_events_open(&file, (folder + "/events.bin").c_str()), 0);
  const m4n_spec &spec = m4n_events_header_of(file)->spec;
  m4n_events_header header = *m4n_events_header_of(file);
  if (change_header) change_header(header.spec);
  ASSERT_EQ(m4n_events_create(&log, (folder + "/other.bin").c_str(), &header, 1), 0);
  m4n_episode e;
  bool more;
  while (!m4n_events_next(file, &e, &more) && more) {
    m4n_reset order = {};
    order.set = e.set, order.episode = e.episode, order.seed = e.seed;
    m4n_events_begin(log, 0, e.policy, &order, e.label, e.obs, e.sim_time_ns[0]);
    for (int t = 0; t < e.steps; t++) {
      std::vector<uint8_t> action(e.action + (size_t)t * spec.act_size,
                                  e.action + (size_t)(t + 1) * spec.act_size);
      if (change_action) change_action(e, t, action);
      m4n_events_action(log, 0, action.data(), e.delay_ns[t], e.served_by[t]);
      m4n_events_result(log, 0, e.obs + (size_t)(t + 1) * spec.obs_size, e.reward[t],
                        e.info + (size_t)t * (size_t)spec.n_info, e.sim_time_ns[t + 1],
                        t + 1 == e.steps ? e.flags : 0, e.metrics);
    }
  }
  m4n_events_free(file);
  ASSERT_EQ(m4n_events_close(log), 0);
  fs::rename(folder + "/other.bin", folder + "/events.bin");
}

TEST_F(Replay, FindsOneChangedAction) {
  record_again(out, nullptr, [](const m4n_episode &e, int step, std::vector<uint8_t> &action) {
    if (e.policy == 1 && e.episode == 2 && step == 5) action[0] = action[0] ? 0 : 1; // of bba
  });
  Ended r = run({"replay", out, "--quiet"});
  EXPECT_EQ(r.status, 1) << r.err;
  EXPECT_TRUE(holds(r.err, "policy 'bba', episode 2 (trace2), step 5: action 'level'")) << r.err;
}

// The world reports more than it did when the log was made; a log that has other figures is of another simulator.
TEST_F(Replay, AnOlderLogMayLackTheNewestMetrics) {
  record_again(
      out, [](m4n_spec &spec) { spec.n_metrics -= 2; }, nullptr);
  Ended r = run({"replay", out, "--quiet"});
  EXPECT_EQ(r.status, 0) << r.err;
  const ChangeHeader others[] = {[](m4n_spec &spec) { spec.n_info--; },
                                 [](m4n_spec &spec) { strcpy(spec.metric[1].name, "other"); }};
  for (const ChangeHeader &other : others) {
    ASSERT_EQ(run({"run", w.scenario, "--out", out, "--quiet"}).status, 0);
    record_again(out, other, nullptr);
    r = run({"replay", out, "--quiet"});
    EXPECT_EQ(r.status, 1) << r.err;
    EXPECT_TRUE(holds(r.err, "a simulator that reports other figures")) << r.err;
  }
}

TEST_F(Replay, AFlippedByteIsNoRecord) {
  std::string bytes = read_file(out + "/events.bin");
  bytes[bytes.size() / 2] ^= 1;
  write_file(out + "/events.bin", bytes);
  Ended r = run({"replay", out, "--quiet"});
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "events.bin")) << r.err;
}

// ---- report

TEST(Report, OneRunAndSeveral) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/a"}).status, 0);
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/b", "--set", "evaluate.policies=[bba, bola]"}).status,
            0);
  std::string before = read_file(w.dir + "/a/episodes.csv");
  fs::remove(w.dir + "/a/episodes.csv");
  Ended r = run({"report", w.dir + "/a"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(read_file(w.dir + "/a/episodes.csv"), before);
  r = run({"report", w.dir + "/a", w.dir + "/b", "--out", w.dir + "/both", "--no-plots"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "b/bola")) << r.out;
  EXPECT_TRUE(fs::exists(w.dir + "/both/report.html"));
  r = run({"report", w.dir + "/a", w.dir + "/b"});
  EXPECT_EQ(r.status, 2);
  r = run({"report", w.dir + "/traces"});
  EXPECT_EQ(r.status, 2) << r.err;
}

// A decision's time on the simulated clock: fixed is the same everywhere, measured is replayed from the record.
TEST(Delay, FixedAndMeasured) {
  World w;
  Arguments fixed = {"--set", "evaluate.delay.kind=fixed", "--set", "evaluate.delay.ms=250"};
  auto play = [&](const char *name, Arguments more) {
    Arguments all = {"run", w.scenario, "--out", w.dir + "/" + name};
    all.insert(all.end(), more.begin(), more.end());
    Ended r = run(all);
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(run({"replay", w.dir + "/" + name}).status, 0) << name;
  };
  play("zero", {});
  play("fixed", fixed);
  fixed.insert(fixed.end(), {"--set", "bridge.lanes=2"});
  play("lanes", fixed);
  play("measured", {"--set", "evaluate.delay.kind=measured"});
  expect_same_run(w.dir + "/fixed", w.dir + "/lanes");
  EXPECT_NE(read_file(w.dir + "/zero/episodes.csv"), read_file(w.dir + "/fixed/episodes.csv"));
}

// With time enough a fallback changes nothing.
TEST(Fallback, InTimeChangesNothing) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/one"}).status, 0);
  Ended r = run({"run", w.scenario, "--out", w.dir + "/two", "--set", "bridge.fallback=bba", "--set",
                 "bridge.decide_ms=60000"});
  ASSERT_EQ(r.status, 0) << r.err;
  expect_same_run(w.dir + "/one", w.dir + "/two");
}

} // namespace
