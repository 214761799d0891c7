// A server of the toy task with raw peers around it: what the tests of the agent's side share.
#ifndef M4N_TESTS_BRIDGE_SERVER_FIXTURE_H
#define M4N_TESTS_BRIDGE_SERVER_FIXTURE_H

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include "bridge/client.h"
#include "tests/bridge/raw_peer.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

class Server : public testing::Test {
protected:
  void SetUp() override {
    owner.serve_on = true;
    endpoint = "ipc://" + m4n_temp_dir() + "/a.sock";
    options.endpoint = endpoint.c_str();
    options.slots = 8;
    options.idle_ms = 20000;
    m4n_log_set_level(M4N_LOG_QUIET);
  }
  void TearDown() override {
    agent.reset();
    m4n_log_set_level(M4N_LOG_INFO);
  }
  void start() { agent = std::make_unique<toy_agent>(options, owner.owner()); }
  m4n_server_stats stats() { return m4n_server_stats_of(agent->server); } // after stop

  // A session of two lanes that has sent its first STEP and got seq 1's ACT; lane i plays episode i.
  void begin(raw_peer &peer, uint8_t uid = 1) {
    peer.hello(spec, 2, uid);
    ASSERT_TRUE(peer.welcome());
    raw_rows rows(spec, 2, M4N_FIRST);
    for (size_t i = 0; i < 2; i++) rows.episode[i] = peer.resets[i].episode;
    first_episode = rows.episode[0];
    peer.step(spec, rows.view, 1);
    ASSERT_EQ(peer.receive(), (unsigned)M4N_FRAME_ACT);
  }
  // Everybody else is still served.
  void expect_alive() {
    raw_peer other(endpoint.c_str());
    m4n_encode_ping(&other.out, M4N_FRAME_PING, 0, 0, 77);
    other.send();
    ASSERT_EQ(other.receive(), (unsigned)M4N_FRAME_PONG);
    uint64_t token = 0;
    ASSERT_EQ(m4n_decode_ping(&other.in, &token), 0);
    EXPECT_EQ(token, 77u);
  }

  const m4n_spec spec = toy_spec();
  toy_owner owner{1000};
  m4n_server_options options{};
  std::string endpoint;
  std::unique_ptr<toy_agent> agent;
  int64_t first_episode = 0;
};

#endif
