// Either side of the bridge by hand: frames are written by the test, and may be anything.
#ifndef M4N_TESTS_BRIDGE_RAW_PEER_H
#define M4N_TESTS_BRIDGE_RAW_PEER_H

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "bridge/link_zmq.h"
#include "bridge/wire.h"
#include "kernels/base/log.h"
#include "sim/env.h"
#include "tests/bridge/toy.h"

// The toy's spec, as the simulator has it.
inline m4n_spec toy_spec() {
  m4n_world *world;
  EXPECT_EQ(toy_task.world_open(&world, nullptr), 0);
  m4n_spec spec = *toy_task.spec(world);
  toy_task.world_close(world);
  return spec;
}

// Rows with room for `n` lanes, all zero but for lane and episode: lane i plays episode i.
struct raw_rows {
  raw_rows(const m4n_spec &spec, int32_t n, uint8_t flag)
      : lane((size_t)n), episode((size_t)n), time((size_t)n), reward((size_t)n), flags((size_t)n, flag),
        obs((size_t)n * spec.obs_size), info((size_t)(n * spec.n_info)),
        metrics((size_t)(n * spec.n_metrics)), advice((size_t)n * spec.act_size), advised((size_t)n),
        labels((size_t)n * M4N_LABEL) {
    for (int32_t i = 0; i < n; i++) lane[(size_t)i] = i, episode[(size_t)i] = i;
    view.n = n;
    view.lane = lane.data();
    view.episode = episode.data();
    view.sim_time_ns = time.data();
    view.reward = reward.data();
    view.flags = flags.data();
    view.obs = obs.data();
    view.info = info.data();
    view.metrics = metrics.data();
    view.advice = advice.data();
    view.advised = advised.data();
    view.label = reinterpret_cast<char(*)[M4N_LABEL]>(labels.data());
  }
  raw_rows(const raw_rows &) = delete;
  std::vector<int32_t> lane;
  std::vector<int64_t> episode, time;
  std::vector<double> reward;
  std::vector<uint8_t> flags, obs;
  std::vector<double> info, metrics;
  std::vector<uint8_t> advice, advised;
  std::vector<char> labels;
  m4n_wire_rows view{};
};

// One side's socket. What it receives is kept in `frame` until the next one.
class raw_peer {
public:
  explicit raw_peer(const char *uri, void *context = nullptr, bool bind = false) {
    m4n_link_options options = {context, 0, false};
    int status = bind ? m4n_link_bind(&link, uri, &options) : m4n_link_connect(&link, uri, &options);
    EXPECT_EQ(status, 0) << m4n_error_message();
  }
  ~raw_peer() {
    close();
    m4n_buffer_close(&out);
  }
  void close(int linger_ms = 200) {
    m4n_message_close(&message_);
    m4n_link_close(link, linger_ms);
    link = nullptr;
  }

  void send() { // what `out` holds
    ASSERT_EQ(m4n_pack_end(&out, "frame"), 0);
    ASSERT_EQ(m4n_link_send(link, route.size ? &route : nullptr, &out), 0) << m4n_error_message();
  }
  void send_bytes(const std::string &bytes) {
    m4n_pack_begin(&out);
    m4n_pack_bin(&out, bytes.size() + 8); // for the room
    memcpy(out.data, bytes.data(), bytes.size());
    out.size = bytes.size();
    send();
  }
  // The next frame's type, its reader behind the head; 0: nothing came in time.
  unsigned receive(int wait_ms = 5000) {
    int64_t until = m4n_now_ns() + wait_ms * INT64_C(1000000);
    m4n_message_close(&message_);
    while (true) {
      EXPECT_EQ(m4n_link_receive(link, &route, &message_), 0);
      if (message_.open || m4n_now_ns() >= until) break;
      EXPECT_EQ(m4n_link_wait(link, until, nullptr), 0);
    }
    if (!message_.open) return 0;
    frame.assign(reinterpret_cast<const char *>(message_.data), message_.size);
    EXPECT_EQ(m4n_decode_head(&in, &head, message_.data, message_.size), 0) << m4n_error_message();
    return head.type;
  }
  // Expects an ERROR; its text with the path in front.
  std::string error(unsigned code, int wait_ms = 5000) {
    unsigned type = receive(wait_ms);
    EXPECT_EQ(type, (unsigned)M4N_FRAME_ERROR) << (type ? m4n_frame_name(type) : "nothing");
    m4n_wire_error e{};
    if (type != M4N_FRAME_ERROR) return "";
    EXPECT_EQ(m4n_decode_error(&in, &e), 0) << m4n_error_message();
    EXPECT_EQ(e.code, code) << e.path << ": " << e.text;
    fatal = e.fatal;
    return std::string(e.path) + ": " + e.text;
  }

  // ---- a simulator's part
  void hello(const m4n_spec &spec, int32_t lanes, uint8_t uid = 1) {
    lanes_ = lanes;
    resets.resize((size_t)lanes);
    m4n_hello h{};
    h.oldest = M4N_WIRE_OLDEST, h.newest = M4N_WIRE_NEWEST;
    snprintf(h.simulator, sizeof h.simulator, "raw");
    snprintf(h.version, sizeof h.version, "7");
    memset(h.uid, uid, sizeof h.uid);
    h.lanes = lanes;
    h.spec = spec;
    m4n_encode_hello(&out, &h);
    send();
  }
  bool welcome() {
    unsigned type = receive();
    EXPECT_EQ(type, (unsigned)M4N_FRAME_WELCOME) << (type ? m4n_frame_name(type) : "nothing");
    if (type != M4N_FRAME_WELCOME) return false;
    welcomed = {};
    welcomed.reset = resets.data();
    EXPECT_EQ(m4n_decode_welcome(&in, lanes_, &welcomed), 0) << m4n_error_message();
    session = head.session;
    return true;
  }
  void step(const m4n_spec &spec, const m4n_wire_rows &rows, uint64_t seq) {
    m4n_encode_step(&out, &spec, session, seq, &rows);
    send();
  }

  m4n_link *link = nullptr;
  m4n_route route{};
  m4n_buffer out{};
  m4n_reader in{};
  m4n_envelope head{};
  std::string frame;
  bool fatal = false;
  uint64_t session = 0;
  m4n_welcome welcomed{};
  std::vector<m4n_reset> resets;

private:
  m4n_message message_{};
  int32_t lanes_ = 0;
};

#endif
