// Server and client together, over every transport: the same rows, the same actions, the same bytes.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "bridge/client.h"
#include "sim/vec.h"
#include "tests/bridge/toy.h"
#include "tests/support/paths.h"

namespace {

struct played {
  int server = 0, client = 0;
  std::string message;
  m4n_client_stats stats{};
};

class simulator {
public:
  explicit simulator(int lanes) {
    EXPECT_EQ(toy_task.world_open(&world_, nullptr), 0);
    EXPECT_EQ(m4n_vec_open(&vec, &toy_task, world_, lanes, nullptr), 0);
  }
  ~simulator() {
    m4n_vec_close(vec);
    toy_task.world_close(world_);
  }
  m4n_vec *vec = nullptr;

private:
  m4n_world *world_ = nullptr;
};

played play(toy_owner &owner, const std::string &endpoint, int lanes, bool lockstep = true, int spin_us = 0) {
  played result;
  simulator sim(lanes);
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
