// The program when something is wrong: input, places, peers, signals. One line says what, and nothing is left half-done.
#include "tests/agent/small_world.h"

#include <arpa/inet.h>
#include <sys/socket.h>

namespace {

// ---- what is wrong with the input: status 2, a message with the place, and nothing left behind

struct Bad {
  const char *what;
  const char *file; // in the world's folder; NULL: none is written
  const char *text;
  const char *set; // NULL: none
  const char *words;
};

TEST(BadInput, IsNamedAndLeavesNothing) {
  const Bad cases[] = {
      {"missing traces", nullptr, nullptr, "abr.test.traces=/nowhere", "/nowhere"},
      {"missing video", nullptr, nullptr, "abr.video.sizes=/nowhere", "/nowhere"},
      {"an empty trace", "traces/trace1", "", nullptr, "trace1"},
      {"a trace of one row", "traces/trace1", "0 1\n", nullptr, "trace1"},
      {"NaN", "traces/trace1", "0 1\n1 nan\n2 1\n", nullptr, "trace1:2"},
      {"a negative rate", "traces/trace1", "0 1\n1 1\n2 -1\n", nullptr, "trace1:3"},
      {"times that fall", "traces/trace1", "0 1\n5 1\n3 1\n", nullptr, "trace1:3"},
      {"no rate at all", "traces/trace1", "0 0\n1 0\n2 0\n", nullptr, "trace1"},
      {"words", "traces/trace1", "hello world\n", nullptr, "trace1"},
      {"an empty video", "video/video_size_1", "", nullptr, "video_size_1"},
      {"levels of different length", "video/video_size_1", "1000\n2000\n", nullptr, "video"},
      {"a ladder that does not fit", nullptr, nullptr, "abr.video.ladder=[300, 750]", "ladder"},
      {"no such key", "small.yaml", "name: a\nnmae: b\n", nullptr, "small.yaml:2: nmae: unknown key"},
      {"an empty scenario", "small.yaml", "", nullptr, "small.yaml: is empty"},
      {"a policy that cannot serve", "small.yaml", "name: a\ntask: 'null'\nevaluate: {policies: [bba]}\n",
       nullptr, "bba"},
      {"no traces in the set", nullptr, nullptr, "evaluate.set=train", "abr.train.traces"},
  };
  for (const Bad &c : cases) {
    World w;
    if (c.file) write_file(w.dir + "/" + c.file, c.text);
    Arguments arguments = {"run", w.scenario, "--out", w.dir + "/run", "--quiet"};
    if (c.set) arguments.insert(arguments.end(), {"--set", c.set});
    Ended r = run(arguments);
    EXPECT_EQ(r.status, 2) << c.what << ": " << r.err;
    EXPECT_TRUE(holds(r.err, c.words)) << c.what << ": " << r.err;
    EXPECT_FALSE(fs::exists(w.dir + "/run")) << c.what;
    expect_one_line(r);
  }
}

// ---- places that cannot be used

TEST(BadPlace, AFolderThatIsNoRun) {
  World w;
  fs::create_directory(w.dir + "/mine");
  write_file(w.dir + "/mine/thesis.txt", "years of work");
  Ended r = run({"run", w.scenario, "--out", w.dir + "/mine"});
  EXPECT_EQ(r.status, 2);
  EXPECT_TRUE(holds(r.err, "nothing is written over it")) << r.err;
  EXPECT_EQ(read_file(w.dir + "/mine/thesis.txt"), "years of work");
  for (const char *place : {"/dev/null", "/dev/null/run", "/proc/run"}) {
    r = run({"run", w.scenario, "--out", place});
    EXPECT_EQ(r.status, 2) << place << r.err;
    EXPECT_TRUE(holds(r.err, place)) << r.err;
  }
}

TEST(BadPlace, AnOlderRunIsReplaced) {
  World w;
  ASSERT_EQ(run({"run", w.scenario, "--out", w.dir + "/run"}).status, 0);
  Ended r = run({"run", w.scenario, "--out", w.dir + "/run", "--set", "evaluate.policies=bola"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_FALSE(holds(read_file(w.dir + "/run/episodes.csv"), "bba"));
}

// `ulimit -f` is the full disk that a user can make. The system's signal would kill the program without a word.
TEST(BadPlace, AFullDisk) {
  World whole;
  ASSERT_EQ(run({"run", whole.scenario, "--out", whole.dir + "/run", "--quiet"}).status, 0);
  const long scenario = (long)size_of(whole.dir + "/run/scenario.yaml");
  ASSERT_GT((long)size_of(whole.dir + "/run/events.bin"), scenario) << "else no limit lies between the two";
  const struct {
    long bytes;
    const char *file;
  } limits[] = {{500, "scenario.yaml"}, {scenario, "events.bin"}};
  for (const auto &limit : limits) {
    World w;
    ProcessOptions full;
    full.file_size = limit.bytes;
    Ended r = run({"run", w.scenario, "--out", w.dir + "/run", "--quiet"}, full);
    EXPECT_EQ(r.status, 2) << limit.file << ": " << r.err;
    EXPECT_TRUE(holds(r.err, limit.file) && holds(r.err, "File too large")) << r.err;
  }
  World w; // and where a trace is all that is written
  ProcessOptions full;
  full.file_size = 100;
  Ended r =
      run({"trace", "gen", "--model", "fcc", "--n", "1", "--seed", "1", "--out", w.dir + "/made"}, full);
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "File too large")) << r.err;
  EXPECT_FALSE(fs::exists(w.dir + "/made"));
}

TEST(BadPlace, StandardOutputIsFull) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  World w;
  ProcessOptions full;
  full.out = "/dev/full";
  Ended r = run({"run", w.scenario, "--out", w.dir + "/run", "--quiet"}, full);
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "standard output")) << r.err;
}

TEST(BadPlace, NobodyReadsStandardOutput) {
  ProcessOptions options;
  options.unread = true;
  Ended r = run({"run", "--help-keys"}, options);
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "standard output: cannot write")) << r.err;
}

TEST(BadPlace, AnAddressInUse) {
  World w;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, (sockaddr *)&address, sizeof address), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, (sockaddr *)&address, &size), 0);
  std::string uri = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  Ended r = run({"serve", w.scenario, "--endpoint", uri, "--out", w.dir + "/run"});
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, uri) && holds(r.err, "in use")) << r.err;
  EXPECT_FALSE(fs::exists(w.dir + "/run"));
  close(fd);
}

// ---- signals and silence

TEST(Silence, NobodyComes) {
  World w;
  Ended r = run({"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/run", "--set",
                 "bridge.wait_ms=100"});
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "100 ms")) << r.err;
  EXPECT_FALSE(fs::exists(w.dir + "/run"));
}

TEST(Silence, NobodyAnswers) {
  World w;
  Ended r = run({"sim", w.scenario, "--endpoint", socket_of(w), "--set", "bridge.connect_ms=100"});
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "connect deadline of 100 ms")) << r.err;
}

TEST(Signals, EndAServerThatStays) {
  World w;
  for (int signal : {SIGINT, SIGTERM}) {
    Process agent({"serve", "--policy", "robust-mpc", "--endpoint", socket_of(w), "--fallback", "bba"});
    ASSERT_TRUE(agent.says("serving policy 'robust-mpc'"));
    Process sim({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "2"});
    ASSERT_TRUE(agent.says("comes with 2 lanes of 'abr'"));
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // it plays
    agent.send(signal);
    Ended r = agent.finish();
    EXPECT_EQ(r.status, 0) << r.err;
    r = sim.finish();
    EXPECT_EQ(r.status, 2) << r.err;
    EXPECT_TRUE(holds(r.err, "the agent")) << r.err;
  }
}

TEST(Signals, EndAnEvaluation) {
  World w;
  Process agent({"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/run"});
  ASSERT_TRUE(agent.says("serving"));
  agent.send(SIGTERM);
  EXPECT_EQ(agent.finish().status, 130);
  EXPECT_FALSE(fs::exists(w.dir + "/run")) << "nothing was played";
}

TEST(Signals, EndARunAndKeepWhatItRecorded) {
  World w;
  std::string out = w.dir + "/run";
  Process p({"run", w.scenario, "--out", out, "--set", "evaluate.episodes=1000000", "--set",
             "evaluate.policies=bba"});
  for (int i = 0; i < 1000 && size_of(out + "/events.bin") < 100000; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  p.send(SIGINT);
  Ended r = p.finish();
  EXPECT_EQ(r.status, 130) << r.err;
  EXPECT_TRUE(holds(r.err, "are recorded in")) << r.err;
  r = run({"replay", out, "--quiet"});
  EXPECT_EQ(r.status, 0) << r.err;
  r = run({"report", out, "--no-plots", "--quiet"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(fs::exists(out + "/episodes.csv"));
}

/* Ctrl-Z, a laptop that sleeps, a machine that is busy elsewhere: agent and simulator stand still together, and neither may
 * take the other for lost when they go on. */
TEST(Signals, ARunThatStoodStillGoesOn) {
  World w;
  const auto command = [&](const std::string &out, const std::string &endpoint) {
    return std::vector<std::string>{"run",   w.scenario,
                                    "--out", w.dir + out,
                                    "--set", "evaluate.episodes=4000",
                                    "--set", "evaluate.policies=bba",
                                    "--set", "bridge.act_ms=20",
                                    "--set", "bridge.resends=1",
                                    "--set", "bridge.idle_ms=40",
                                    "--set", "bridge.endpoint=" + endpoint};
  };
  const Ended whole = run(command("/whole", "inproc://whole"));
  ASSERT_EQ(whole.status, 0) << whole.err;
  for (const std::string &endpoint : {std::string("inproc://still"), socket_of(w)}) {
    const std::string out = "/of-" + std::to_string(endpoint.size());
    Process p(command(out, endpoint));
    for (int i = 0; i < 1000 && size_of(w.dir + out + "/events.bin") < 20000; i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    for (int i = 0; i < 3; i++) {
      p.send(SIGSTOP);
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      p.send(SIGCONT);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const Ended r = p.finish();
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_TRUE(read_file(w.dir + out + "/episodes.csv") == read_file(w.dir + "/whole/episodes.csv"));
  }
}

// ---- serving

TEST(Serve, AnotherTaskIsRefusedAndTheEvaluationGoesOn) {
  World w;
  write_file(w.dir + "/null.yaml", "name: nothing\ntask: 'null'\nevaluate: {policies: [random]}\n");
  Process agent({"serve", w.scenario, "--endpoint", socket_of(w), "--out", w.dir + "/run", "--set",
                 "evaluate.episodes=300", "--set", "bridge.mode=async"});
  ASSERT_TRUE(agent.says("serving"));
  Process right({"sim", w.scenario, "--endpoint", socket_of(w), "--lanes", "1"});
  for (int i = 0; i < 500 && !fs::exists(w.dir + "/run/events.bin"); i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  Ended wrong = run({"sim", w.dir + "/null.yaml", "--endpoint", socket_of(w)});
  EXPECT_EQ(wrong.status, 2) << wrong.err;
  EXPECT_TRUE(holds(wrong.err, "yours has task 'null'")) << wrong.err;
  EXPECT_EQ(right.finish().status, 0);
  EXPECT_EQ(agent.finish().status, 0);
}

// One that stays serves worlds of different kinds, at once and one after the other.
TEST(Serve, DifferentWorldsComeAndGo) {
  World w;
  write_file(w.dir + "/null.yaml", "name: nothing\ntask: 'null'\nevaluate: {policies: [random]}\n");
  Process agent({"serve", "--policy", "random", "--endpoint", socket_of(w)});
  ASSERT_TRUE(agent.says("serving"));
  for (int i = 0; i < 3; i++) {
    Process null({"sim", w.dir + "/null.yaml", "--endpoint", socket_of(w)});
    Process abr({"sim", w.scenario, "--endpoint", socket_of(w)});
    ASSERT_TRUE(agent.says("lanes of 'null'", i + 1) && agent.says("lanes of 'abr'", i + 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // they play
    null.send(SIGINT), abr.send(SIGTERM);
    EXPECT_EQ(null.finish().status, 130);
    EXPECT_EQ(abr.finish().status, 130);
  }
  agent.send(SIGTERM);
  Ended r = agent.finish();
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_FALSE(r.complains(" 0 episodes")) << r.err;
}

TEST(Serve, APolicyThatCannotServeSaysWhy) {
  World w;
  write_file(w.dir + "/null.yaml", "name: nothing\ntask: 'null'\nevaluate: {policies: [random]}\n");
  Process agent({"serve", "--policy", "bba", "--endpoint", socket_of(w)});
  ASSERT_TRUE(agent.says("serving"));
  Ended r = run({"sim", w.dir + "/null.yaml", "--endpoint", socket_of(w)});
  EXPECT_EQ(r.status, 2) << r.err;
  EXPECT_TRUE(holds(r.err, "policy 'bba'")) << r.err;
  agent.send(SIGTERM);
  EXPECT_EQ(agent.finish().status, 0);
}

} // namespace
