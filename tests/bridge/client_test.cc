// The simulator's side against agents that are absent, slow, dead or wrong: every wait ends, and the message says which.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "bridge/client.h"
#include "tests/bridge/raw_peer.h"
#include "tests/support/paths.h"

namespace {

// m4n_client_run of a toy with two lanes, on a thread of its own.
class Client : public testing::Test {
protected:
  void SetUp() override {
    endpoint = "ipc://" + m4n_temp_dir() + "/a.sock";
    options.endpoint = endpoint.c_str();
    m4n_log_set_level(M4N_LOG_QUIET);
  }
  void TearDown() override {
    m4n_log_set_level(M4N_LOG_INFO);
    if (thread_.joinable()) thread_.join();
    m4n_buffer_close(&kept);
  }
  void start() {
    thread_ = std::thread([this] {
      const int64_t begin = m4n_now_ns();
      status = m4n_client_run(&options, sim.vec, &stats, &stop);
      if (status) message = m4n_error_message();
      elapsed_ms = (m4n_now_ns() - begin) / 1000000;
    });
  }
  int join() {
    thread_.join();
    return status;
  }

  // ---- the agent, by hand
  void listen() { agent = std::make_unique<raw_peer>(endpoint.c_str(), nullptr, true); }
  // HELLO and WELCOME; lane 0 begins episode 0.
  void welcome(int resets = 1, int idle_ms = 30000) {
    ASSERT_EQ(agent->receive(), (unsigned)M4N_FRAME_HELLO);
    auto hello = std::make_unique<m4n_hello>();
    ASSERT_EQ(m4n_decode_hello(&agent->in, &agent->head, hello.get()), 0) << m4n_error_message();
    EXPECT_EQ(hello->lanes, 2);
    EXPECT_STREQ(hello->spec.task, "toy");
    m4n_welcome w{};
    w.version = 1, w.max_frame = M4N_MAX_FRAME, w.idle_ms = idle_ms;
    snprintf(w.policy, sizeof w.policy, "by hand");
    w.n_resets = resets, w.reset = orders;
    m4n_encode_welcome(&agent->out, 99, &w);
    agent->send();
  }
  // The next STEP; its rows.
  m4n_wire_rows &step(uint64_t seq) {
    EXPECT_EQ(agent->receive(), (unsigned)M4N_FRAME_STEP);
    EXPECT_EQ(agent->head.seq, seq);
    EXPECT_EQ(agent->head.session, 99u);
    EXPECT_EQ(m4n_decode_step(&agent->in, &spec, 2, &rows.view), 0) << m4n_error_message();
    return rows.view;
  }
  m4n_act act_for(int32_t n) {
    m4n_act act{};
    act.n = n;
    std::fill(action.begin(), action.end(), 0);
    act.action = action.data(), act.delay_ns = delay, act.served_by = served, act.reset = orders;
    act.logp = nullptr, act.value = nullptr;
    return act;
  }
  void send_act(const m4n_act &act, uint64_t seq, uint64_t session = 99) {
    m4n_encode_act(&agent->out, &spec, session, seq, &act);
    agent->send();
  }
  // The next PING, and its PONG.
  void pong(uint64_t seq) {
    uint64_t token = 0;
    ASSERT_EQ(agent->receive(), (unsigned)M4N_FRAME_PING);
    ASSERT_EQ(m4n_decode_ping(&agent->in, &token), 0) << m4n_error_message();
    EXPECT_EQ(agent->head.session, 99u);
    EXPECT_EQ(agent->head.seq, seq);
    m4n_encode_ping(&agent->out, M4N_FRAME_PONG, 99, seq, token);
    agent->send();
  }
  // What the simulator said last: ERROR or BYE.
  std::string last_word() {
    unsigned type = agent->receive();
    m4n_wire_error error;
    m4n_bye bye;
    if (type == M4N_FRAME_ERROR && !m4n_decode_error(&agent->in, &error))
      return std::string("ERROR ") + error.path + ": " + error.text;
    if (type == M4N_FRAME_BYE && !m4n_decode_bye(&agent->in, &bye))
      return std::string("BYE ") + bye.reason + " " + std::to_string(bye.status);
    return type ? m4n_frame_name(type) : "nothing";
  }

  const m4n_spec spec = toy_spec();
  toy_simulator sim{2};
  m4n_client_options options{};
  std::string endpoint, message;
  m4n_client_stats stats{};
  m4n_stop stop{};
  int status = -1;
  int64_t elapsed_ms = 0;
  std::unique_ptr<raw_peer> agent;
  raw_rows rows{spec, 2, 0};
  std::vector<uint8_t> action = std::vector<uint8_t>(2 * spec.act_size);
  int64_t delay[2] = {0, 0};
  uint8_t served[2] = {0, 0};
  m4n_reset orders[2] = {{0, M4N_SET_TEST, 0, 1, 0, -1}, {1, M4N_SET_TEST, 1, 1, 0, -1}};
  m4n_buffer kept{};

private:
  std::thread thread_;
};

} // namespace

TEST_F(Client, SaysWhenNobodyIsThere) {
  options.connect_ms = 120;
  start();
  EXPECT_EQ(join(), M4N_ETIMEOUT);
  EXPECT_EQ(message, "no agent answered at " + endpoint + " within the connect deadline of 120 ms");
  EXPECT_GE(elapsed_ms, 120);
  EXPECT_LT(elapsed_ms, 3000);
}

TEST_F(Client, WaitsForAnAgentThatComesLater) {
  start();
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  listen();
  welcome();
  step(1);
  m4n_act act = act_for(1);
  act.done = true;
  send_act(act, 1);
  EXPECT_EQ(join(), 0) << message;
  EXPECT_STREQ(stats.policy, "by hand");
  EXPECT_EQ(stats.messages, 1);
}

TEST_F(Client, NamesTheFirstActsDeadline) {
  options.first_ms = 100;
  options.act_ms = 40; // that it gives a PONG
  listen();
  start();
  welcome();
  EXPECT_EQ(join(), M4N_ETIMEOUT);
  EXPECT_EQ(message, "the agent at " + endpoint + " sent no first ACT within its deadline of 100 ms");
  step(1);
  EXPECT_EQ(agent->receive(), (unsigned)M4N_FRAME_PING);
  EXPECT_EQ(last_word(),
            "BYE the agent at " + endpoint + " sent no first ACT within its deadline of 100 ms 1");
}

TEST_F(Client, ResendsWithLongerWaitsAndThenGivesUp) {
  options.act_ms = 40;
  options.resends = 2;
  listen();
  start();
  welcome();
  step(1);
  send_act(act_for(1), 1);
  step(2);
  const std::string frame = agent->frame;
  for (int i = 0; i < 2; i++) {
    step(2);
    EXPECT_EQ(agent->frame, frame); // the very same
  }
  EXPECT_EQ(join(), M4N_ETIMEOUT);
  EXPECT_EQ(message,
            "the agent at " + endpoint +
                " sent no ACT within its deadline of 40 ms, nor after 2 resends, nor a PONG (320 ms)");
  EXPECT_GE(elapsed_ms, 320);
  EXPECT_EQ(stats.resent, 2);
}

// In lockstep an agent may wait for others far longer than our own deadline.
TEST_F(Client, AnAgentThatAnswersPingsIsWaitedFor) {
  options.first_ms = 150;
  options.act_ms = 150;
  options.resends = 1;
  listen();
  start();
  welcome();
  step(1);
  for (int i = 0; i < 4; i++) pong(1); // four times the deadline
  send_act(act_for(1), 1);
  step(2);
  step(2); // asked again
  for (int i = 0; i < 4; i++) pong(2);
  m4n_act act = act_for(1);
  act.done = true;
  send_act(act, 2);
  EXPECT_EQ(join(), 0) << message;
  EXPECT_GE(elapsed_ms, 150 + 3 * 150 + 150 + 300 + 3 * 150);
  EXPECT_EQ(stats.messages, 2);
  EXPECT_EQ(stats.resent, 1);
}

TEST_F(Client, AnAgentThatAnswersOnlyPingsIsNotWaitedForForEver) {
  options.first_ms = 100;
  options.act_ms = 150;
  listen();
  start();
  welcome(1, 400);
  step(1);
  for (int i = 0; i < 3; i++) pong(1); // as many as 400 ms hold
  EXPECT_EQ(join(), M4N_ETIMEOUT);
  EXPECT_EQ(message, "the agent at " + endpoint + " answers PINGs, but sent no ACT for 550 ms");
  EXPECT_GE(elapsed_ms, 550);
  EXPECT_EQ(last_word(), "BYE " + message + " 1");
}

TEST_F(Client, AnAnswerThatComesTwiceCountsOnce) {
  options.act_ms = 60;
  listen();
  start();
  welcome();
  step(1);
  send_act(act_for(1), 1);
  step(2);
  step(2); // asked again
  m4n_act act = act_for(1);
  send_act(act, 2);
  send_act(act, 2);
  EXPECT_EQ(step(3).flags[0], M4N_TERMINATED); // episode 0 has two decisions
  act.done = true;
  send_act(act, 3);
  EXPECT_EQ(join(), 0) << message;
  EXPECT_EQ(stats.steps, 3);
  EXPECT_EQ(stats.episodes, 1);
  EXPECT_EQ(stats.resent, 1);
}

TEST_F(Client, NoticesThatTheAgentDied) {
  listen();
  start();
  welcome();
  step(1);
  agent->close(0);
  EXPECT_EQ(join(), M4N_EPROTO);
  EXPECT_EQ(message, "the agent at " + endpoint + " is gone");
  EXPECT_LT(elapsed_ms, 5000); // long before its deadline
}

TEST_F(Client, LeavesWhenTheAgentSaysBye) {
  listen();
  start();
  welcome();
  step(1);
  m4n_bye bye{"the disk is full", 1};
  m4n_encode_bye(&agent->out, 99, 1, &bye);
  agent->send();
  EXPECT_EQ(join(), M4N_EPROTO);
  EXPECT_EQ(message, "the agent at " + endpoint + " leaves: the disk is full (exit status 1)");
}

TEST_F(Client, AGoodByeIsNoError) {
  listen();
  start();
  welcome();
  step(1);
  m4n_bye bye{"the agent has finished", 0};
  m4n_encode_bye(&agent->out, 99, 1, &bye);
  agent->send();
  EXPECT_EQ(join(), 0) << message;
}

TEST_F(Client, PassesOnWhyItWasRefused) {
  listen();
  start();
  ASSERT_EQ(agent->receive(), (unsigned)M4N_FRAME_HELLO);
  m4n_wire_error error{M4N_WIRE_REFUSED, true, "HELLO.obs", "policy 'mpc' needs the field 'next_sizes'"};
  m4n_encode_error(&agent->out, 0, 0, &error);
  agent->send();
  EXPECT_EQ(join(), M4N_EPROTO);
  EXPECT_EQ(message,
            "HELLO.obs: the agent at " + endpoint + " refuses: policy 'mpc' needs the field 'next_sizes'");
}

TEST_F(Client, StopsWhenItIsTold) {
  listen();
  start();
  welcome();
  step(1);
  m4n_stop_request(&stop);
  EXPECT_EQ(join(), M4N_ECANCELLED);
  EXPECT_EQ(last_word(), "BYE the simulator was told to stop 1");
}

TEST_F(Client, RefusesAnAgentThatIsWrong) {
  struct wrong {
    const char *expected;
    std::function<void(m4n_act &)> make;
    std::function<void(std::string &)> bend;
  };
  auto choice = [this](int32_t value) { memcpy(action.data() + spec.act[0].offset, &value, sizeof value); };
  const wrong wrongs[] = {
      {"ACT.action[choice]: row 0: 4, expected 0 to 3", [&](m4n_act &) { choice(4); }, {}},
      {"ACT.action[choice]: row 0: -1, expected 0 to 3", [&](m4n_act &) { choice(-1); }, {}},
      {"ACT.delay_ns: row 0: -5 is negative", [&](m4n_act &) { delay[0] = -5; }, {}},
      {"step of lane 0: a decision delay of", [&](m4n_act &) { delay[0] = INT64_MAX; }, {}},
      {"ACT.n: 2, expected 1 to 1", [&](m4n_act &a) { a.n = 2; }, {}},
      {"ACT.resets: lane 0 is live and cannot begin another episode",
       [&](m4n_act &a) { a.n_resets = 1; },
       {}},
      {"ACT.resets[1].lane: 2, expected 0 to 1",
       [&](m4n_act &a) { a.n_resets = 2, orders[0].lane = 1, orders[1].lane = 2; },
       {}},
      {"ACT.resets[0].set: 3, expected 0 to 2",
       [&](m4n_act &a) { a.n_resets = 1, orders[0].lane = 1, orders[0].set = 3; },
       {}},
      {"the world has no episodes in set 2",
       [&](m4n_act &a) { a.n_resets = 1, orders[0].lane = 1, orders[0].set = 2; },
       {}},
      {"ACT: 1 bytes behind the end of the frame", {}, [](std::string &f) { f += '\xc0'; }},
      {"frame: expected an array, found a map", {}, [](std::string &f) { f[0] = '\x80'; }},
      {"ACT.version: 9, expected 1", {}, [](std::string &f) { f[1] = 9; }},
      {"ACT.action[second]: the frame ends inside it", {}, [](std::string &f) { f.resize(17); }},
  };
  for (const wrong &w : wrongs) {
    SCOPED_TRACE(w.expected);
    toy_simulator fresh(2);
    std::swap(sim.vec, fresh.vec);
    orders[0] = {0, M4N_SET_TEST, 0, 1, 0, -1}, orders[1] = {1, M4N_SET_TEST, 1, 1, 0, -1};
    delay[0] = 0;
    listen();
    start();
    welcome();
    step(1);
    m4n_act act = act_for(1);
    if (w.make) w.make(act);
    m4n_encode_act(&agent->out, &spec, 99, 1, &act);
    std::string frame((const char *)agent->out.data, agent->out.size);
    if (w.bend) w.bend(frame);
    agent->send_bytes(frame);
    EXPECT_EQ(join(), M4N_EPROTO);
    EXPECT_NE(message.find(w.expected), std::string::npos) << message;
    // The agent hears it too.
    EXPECT_NE(last_word().find(w.expected), std::string::npos) << message;
    agent.reset();
    std::swap(sim.vec, fresh.vec);
  }
}

TEST_F(Client, RefusesRepliesThatAreNotItsOwn) {
  for (int kind = 0; kind < 3; kind++) {
    toy_simulator fresh(2);
    std::swap(sim.vec, fresh.vec);
    listen();
    start();
    welcome();
    step(1);
    if (kind == 0) send_act(act_for(1), 2); // from the future
    if (kind == 1) send_act(act_for(1), 1, 98);
    if (kind == 2) m4n_encode_ping(&agent->out, M4N_FRAME_PONG, 99, 1, 5), agent->send();
    EXPECT_EQ(join(), M4N_EPROTO);
    EXPECT_NE(message.find("expected ACT 1"), std::string::npos) << message;
    agent.reset();
    std::swap(sim.vec, fresh.vec);
  }
}

TEST_F(Client, AnAgentThatGivesNothingToDoIsRefused) {
  listen();
  start();
  welcome(0);
  EXPECT_EQ(join(), M4N_EPROTO);
  EXPECT_NE(message.find("neither ends the session nor gives a lane anything to do"), std::string::npos)
      << message;
}

TEST_F(Client, CopiesALaneBeforeItIsStepped) {
  listen();
  start();
  welcome(1);
  m4n_wire_rows &first = step(1);
  const std::vector<uint8_t> before(first.obs, first.obs + spec.obs_size);
  m4n_act act = act_for(1);
  orders[0] = {1, M4N_SET_TEST, 7, 1, 0, 0}; // lane 1 becomes what lane 0 was when it was seen
  act.n_resets = 1;
  send_act(act, 1);
  m4n_wire_rows &both = step(2);
  ASSERT_EQ(both.n, 2);
  int copy = both.lane[0] == 1 ? 0 : 1;
  EXPECT_EQ(both.flags[copy], M4N_FIRST);
  EXPECT_EQ(both.episode[copy], 7);
  EXPECT_EQ(std::vector<uint8_t>(both.obs + (size_t)copy * spec.obs_size,
                                 both.obs + (size_t)(copy + 1) * spec.obs_size),
            before);
  EXPECT_EQ(both.flags[1 - copy], 0);
  act = act_for(2);
  act.done = true;
  send_act(act, 2);
  EXPECT_EQ(join(), 0) << message;
}

TEST_F(Client, InprocNeedsTheServersContext) {
  options.endpoint = "inproc://nobody";
  start();
  EXPECT_EQ(join(), M4N_EARG);
  EXPECT_NE(message.find("inproc needs the server's context"), std::string::npos) << message;
}
