// Server and client together, over every transport: the same rows, the same actions, the same bytes.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "bridge/client.h"
#include "tests/bridge/raw_peer.h"
#include "tests/bridge/toy.h"
#include "tests/support/paths.h"

namespace {

struct played {
  int server = 0, client = 0;
  std::string message;
  m4n_client_stats stats{};
};

played play(toy_owner &owner, const std::string &endpoint, int lanes, bool lockstep = true, int spin_us = 0) {
  played result;
  toy_simulator sim(lanes);
  m4n_server_options options = {};
  options.endpoint = endpoint.c_str();
  options.slots = lanes;
  options.lockstep = lockstep;
  options.policy = "toy";
  options.spin_us = spin_us;
  options.wait_ms = 10000;
  toy_agent agent(options, owner.owner());
  EXPECT_EQ(agent.opened, 0) << agent.message;
  if (agent.opened) return result;
  m4n_client_options client = {};
  client.endpoint = m4n_server_endpoint(agent.server);
  client.context = m4n_server_context(agent.server);
  client.spin_us = spin_us;
  result.client = m4n_client_run(&client, sim.vec, &result.stats, nullptr);
  if (result.client) result.message = m4n_error_message();
  result.server = agent.join();
  result.message += agent.message;
  return result;
}

} // namespace

TEST(Loop, EveryTransportGivesTheSameBytes) {
  const std::string folder = m4n_temp_dir();
  const int episodes = 37;
  toy_owner reference(episodes);
  played first = play(reference, "inproc://toy", 1);
  ASSERT_EQ(first.client, 0) << first.message;
  ASSERT_EQ(first.server, 0) << first.message;
  ASSERT_EQ(reference.record.episodes.size(), (size_t)episodes);
  EXPECT_STREQ(first.stats.policy, "toy");
  EXPECT_EQ(first.stats.episodes, episodes);
  int64_t rows = 0;
  for (int e = 0; e < episodes; e++) rows += 1 + toy_length(e);
  EXPECT_EQ(first.stats.steps, rows);
  EXPECT_NE(reference.record.episodes[0].find("label=eins"), std::string::npos);
  EXPECT_NE(reference.record.episodes[2].find("label=drei é"), std::string::npos);

  for (const std::string &endpoint :
       {std::string("inproc://toy"), "ipc://" + folder + "/toy.sock", std::string("tcp://127.0.0.1:*")})
    for (int lanes : {1, 7, 64})
      for (bool lockstep : {true, false}) {
        toy_owner owner(episodes);
        played again = play(owner, endpoint, lanes, lockstep);
        ASSERT_EQ(again.client, 0) << endpoint << again.message;
        ASSERT_EQ(again.server, 0) << endpoint << again.message;
        EXPECT_EQ(owner.record.episodes, reference.record.episodes)
            << endpoint << " with " << lanes << " lanes";
        EXPECT_EQ(owner.began, 1);
        EXPECT_EQ(owner.ended, 1);
        EXPECT_EQ(owner.lost, 0);
      }
}

TEST(Loop, AdviceAndDelaysTravel) {
  toy_owner plain(5), advised(5);
  ASSERT_EQ(play(plain, "inproc://toy", 2).client, 0);
  advised.want_advice = true;
  advised.delay_ns = 7000000;
  ASSERT_EQ(play(advised, "inproc://toy", 2).client, 0);
  EXPECT_EQ(plain.record.episodes[0].find("advice="), std::string::npos);
  EXPECT_NE(advised.record.episodes[0].find("advice=0"), std::string::npos);
  // The toy adds the delay to its clock.
  EXPECT_NE(plain.record.episodes[0].find("t=250000000 "), std::string::npos);
  EXPECT_NE(advised.record.episodes[0].find("t=257000000 "), std::string::npos);
}

TEST(Loop, SpinningChangesNothing) {
  toy_owner still(11), spun(11);
  ASSERT_EQ(play(still, "inproc://toy", 4, true, 0).client, 0);
  ASSERT_EQ(play(spun, "inproc://toy", 4, true, 200).client, 0);
  EXPECT_EQ(spun.record.episodes, still.record.episodes);
}

// In lockstep several simulators share the episodes, and all finish.
TEST(Loop, ManySimulatorsShareTheEpisodes) {
  const std::string endpoint = "ipc://" + m4n_temp_dir() + "/toy.sock";
  toy_owner alone(60);
  ASSERT_EQ(play(alone, "inproc://toy", 1).client, 0);
  for (bool lockstep : {true, false}) {
    toy_owner owner(60);
    owner.sessions = 4;
    m4n_server_options options = {};
    options.endpoint = endpoint.c_str();
    options.slots = 16;
    options.lockstep = lockstep;
    toy_agent agent(options, owner.owner());
    ASSERT_EQ(agent.opened, 0) << agent.message;
    std::vector<std::thread> threads;
    std::vector<played> results(4);
    for (played &result : results)
      threads.emplace_back([&] {
        toy_simulator sim(4);
        m4n_client_options client = {};
        client.endpoint = endpoint.c_str();
        result.client = m4n_client_run(&client, sim.vec, &result.stats, nullptr);
        if (result.client) result.message = m4n_error_message();
      });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(agent.join(), 0) << agent.message;
    // Who comes when all episodes are given out has nothing to do; nobody fails.
    int64_t episodes = 0;
    for (const played &result : results) {
      EXPECT_EQ(result.client, 0) << result.message;
      episodes += result.stats.episodes;
    }
    EXPECT_EQ(episodes, 60);
    EXPECT_EQ(owner.record.episodes, alone.record.episodes);
    EXPECT_EQ(owner.began, 4);
    EXPECT_EQ(owner.ended, 4);
    EXPECT_EQ(owner.lost, 0);
  }
}

// One falls silent, its connection open: in lockstep the others wait until the agent drops it, however short their own patience.
TEST(Loop, InLockstepTheLivingOutlastTheSilent) {
  const std::string endpoint = "ipc://" + m4n_temp_dir() + "/toy.sock";
  m4n_log_set_level(M4N_LOG_QUIET);
  toy_owner owner(20);
  owner.serve_on = true; // the silent one's episodes are never played
  m4n_server_options options = {};
  options.endpoint = endpoint.c_str();
  options.slots = 8;
  options.lockstep = true;
  options.idle_ms = 1200;
  toy_agent agent(options, owner.owner());
  ASSERT_EQ(agent.opened, 0) << agent.message;
  raw_peer silent(endpoint.c_str());
  silent.hello(toy_spec(), 2);
  ASSERT_TRUE(silent.welcome()); // and not a word more
  std::vector<std::thread> threads;
  std::vector<played> results(2);
  const int64_t begin = m4n_now_ns();
  for (played &result : results)
    threads.emplace_back([&] {
      toy_simulator sim(2);
      m4n_client_options client = {};
      client.endpoint = endpoint.c_str();
      client.first_ms = 100, client.act_ms = 150, client.resends = 1;
      result.client = m4n_client_run(&client, sim.vec, &result.stats, nullptr);
      if (result.client) result.message = m4n_error_message();
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_GE(m4n_now_ns() - begin, 900 * INT64_C(1000000)); // they did have to wait
  int64_t episodes = 0;
  for (const played &result : results) {
    EXPECT_EQ(result.client, 0) << result.message;
    episodes += result.stats.episodes;
  }
  EXPECT_EQ(episodes, 18);
  EXPECT_EQ(silent.error(M4N_WIRE_LATE), ": silent for longer than its deadline of 1200 ms");
  agent.stop();
  EXPECT_EQ(owner.lost, 1);
  m4n_log_set_level(M4N_LOG_INFO);
}
