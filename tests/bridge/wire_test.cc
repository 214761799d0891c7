// Every frame: what is written is read again; cut anywhere or changed anywhere it is an error or another valid frame,
// never a crash.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/base/rng.h"
#include "tests/bridge/raw_peer.h"
#include "tests/support/alloc.h"

namespace {

const uint64_t session = 0xfedcba9876543210, seq = 12345678901;

std::string taken(const m4n_buffer &b) {
  return std::string((const char *)b.data, b.size);
}

// A STEP of five rows: one first, one terminated, one truncated, two in between; the jobs' counts are 0 … 4.
struct sample_step {
  m4n_spec spec = toy_spec();
  raw_rows rows{spec, 5, 0};
  sample_step() {
    for (size_t i = 0; i < 5; i++) {
      rows.lane[i] = (int32_t)(4 - i), rows.episode[i] = (int64_t)i << 40,
      rows.time[i] = (int64_t)i * 1000000007;
      rows.reward[i] = -0.1 * (double)i, rows.info[2 * i] = (double)i, rows.info[2 * i + 1] = NAN;
      uint8_t *row = rows.obs.data() + i * spec.obs_size;
      at<double>(row, "time")[0] = 0.1 * (double)i;
      for (int k = 0; k < 6; k++) at<double>(row, "matrix")[k] = k - 3.25;
      for (int k = 0; k < 3; k++) at<float>(row, "small")[k] = (float)k / 3;
      at<uint32_t>(row, "jobs")[0] = (uint32_t)i;
      for (size_t k = 0; k < 2 * i; k++) at<int32_t>(row, "jobs")[2 + k] = (int32_t)(10 * i + k);
      for (size_t k = 0; k < 4; k++) at<uint8_t>(row, "allowed")[k] = k != i;
      at<int64_t>(row, "big")[0] = INT64_MIN + (int64_t)i;
      at<uint32_t>(row, "count")[0] = UINT32_MAX - (uint32_t)i;
      rows.advised[i] = i == 1;
    }
    rows.flags[0] = M4N_FIRST, rows.flags[2] = M4N_TERMINATED, rows.flags[4] = M4N_TRUNCATED;
    for (size_t k : {4u, 5u, 8u, 9u}) rows.metrics[k] = (double)k;
    snprintf(&rows.labels[0], M4N_LABEL, "trace_1 ü");
    int32_t choice = 3;
    memcpy(rows.advice.data() + spec.act_size + spec.act[0].offset, &choice, sizeof choice);
  }
  template <typename T> T *at(uint8_t *row, const char *name) {
    return reinterpret_cast<T *>(row + m4n_spec_obs(&spec, name)->offset);
  }
};

int decode_step(const std::string &frame, const m4n_spec &spec, int32_t lanes, raw_rows &into) {
  m4n_reader in;
  m4n_envelope head;
  M4N_TRY(m4n_decode_head(&in, &head, frame.data(), frame.size()));
  return m4n_decode_step(&in, &spec, lanes, &into.view);
}

std::string step_frame(sample_step &s) {
  m4n_buffer b{};
  m4n_encode_step(&b, &s.spec, session, seq, &s.rows.view);
  EXPECT_EQ(m4n_pack_end(&b, "STEP"), 0);
  std::string frame = taken(b);
  m4n_buffer_close(&b);
  return frame;
}

struct sample_act {
  std::vector<uint8_t> action, served;
  std::vector<m4n_reset> resets;
  std::vector<int64_t> delay;
  std::vector<float> logp, value;
  m4n_act view{};
  sample_act(const m4n_spec &spec, int32_t n, int32_t lanes)
      : action((size_t)n * spec.act_size), served((size_t)n), resets((size_t)lanes), delay((size_t)n),
        logp((size_t)n), value((size_t)n) {
    view.n = n;
    view.action = action.data();
    view.served_by = served.data();
    view.reset = resets.data();
    view.delay_ns = delay.data();
    view.logp = logp.data();
    view.value = value.data();
  }
};

// Any of the frames that are decoded without knowing a spec, or with the toy's.
int decode_any(const std::string &frame, const m4n_spec &spec) {
  m4n_reader in;
  m4n_envelope head;
  M4N_TRY(m4n_decode_head(&in, &head, frame.data(), frame.size()));
  m4n_hello hello;
  m4n_wire_error error;
  m4n_wire_stats stats;
  m4n_bye bye;
  uint64_t token;
  raw_rows rows(spec, 5, 0);
  sample_act act(spec, 5, 8);
  m4n_welcome welcome{};
  welcome.reset = act.resets.data();
  switch (head.type) {
  case M4N_FRAME_HELLO:
    return m4n_decode_hello(&in, &head, &hello);
  case M4N_FRAME_WELCOME:
    return m4n_decode_welcome(&in, 8, &welcome);
  case M4N_FRAME_STEP:
    return m4n_decode_step(&in, &spec, 5, &rows.view);
  case M4N_FRAME_ACT:
    return m4n_decode_act(&in, &spec, 5, 8, &act.view);
  case M4N_FRAME_ERROR:
    return m4n_decode_error(&in, &error);
  case M4N_FRAME_STATS:
    return m4n_read_left(&in) ? m4n_decode_stats(&in, &stats) : m4n_decode_stats_request(&in);
  case M4N_FRAME_BYE:
    return m4n_decode_bye(&in, &bye);
  default:
    return m4n_decode_ping(&in, &token);
  }
}

// One frame of every type.
std::vector<std::string> all_frames() {
  std::vector<std::string> frames;
  m4n_buffer b{};
  auto add = [&] {
    EXPECT_EQ(m4n_pack_end(&b, "frame"), 0);
    frames.push_back(taken(b));
  };
  sample_step step;
  m4n_hello hello{};
  hello.oldest = hello.newest = 1;
  snprintf(hello.simulator, sizeof hello.simulator, "toy");
  hello.lanes = 5;
  hello.spec = step.spec;
  m4n_encode_hello(&b, &hello), add();
  sample_act act(step.spec, 5, 8);
  for (size_t i = 0; i < 3; i++) act.resets[i] = {(int32_t)i, 1, 1 << 20, UINT64_MAX, 1, -1};
  m4n_welcome welcome{};
  welcome.version = 1, welcome.idle_ms = -1, welcome.max_frame = M4N_MAX_FRAME;
  snprintf(welcome.policy, sizeof welcome.policy, "bba");
  welcome.n_resets = 3, welcome.reset = act.resets.data();
  m4n_encode_welcome(&b, session, &welcome), add();
  m4n_encode_step(&b, &step.spec, session, seq, &step.rows.view), add();
  act.view.n_resets = 3;
  act.delay[2] = 5;
  m4n_encode_act(&b, &step.spec, session, seq, &act.view), add();
  m4n_wire_error error{M4N_WIRE_LANE, true, "STEP.lane", "lane 3 has two rows"};
  m4n_encode_error(&b, session, seq, &error), add();
  m4n_encode_ping(&b, M4N_FRAME_PING, session, seq, 99), add();
  m4n_encode_ping(&b, M4N_FRAME_PONG, session, seq, 99), add();
  m4n_encode_stats_request(&b, session, seq), add();
  m4n_wire_stats stats{1, 2, 3, 4, 5, 6};
  m4n_encode_stats(&b, session, seq, &stats), add();
  m4n_bye bye{"had enough", -2};
  m4n_encode_bye(&b, session, seq, &bye), add();
  m4n_buffer_close(&b);
  return frames;
}

} // namespace

TEST(Wire, StepRoundTrip) {
  sample_step s;
  raw_rows got(s.spec, 5, 0);
  // What was in the receiver's memory before must not shine through.
  std::fill(got.obs.begin(), got.obs.end(), 0);
  for (size_t i = 0; i < 5; i++) // the varying field's room
    memset(got.obs.data() + i * s.spec.obs_size + m4n_spec_obs(&s.spec, "jobs")->offset, 0xee, 8 + 5 * 2 * 4);
  ASSERT_EQ(decode_step(step_frame(s), s.spec, 5, got), 0) << m4n_error_message();
  EXPECT_EQ(got.view.n, 5);
  EXPECT_EQ(got.lane, s.rows.lane);
  EXPECT_EQ(got.episode, s.rows.episode);
  EXPECT_EQ(got.time, s.rows.time);
  EXPECT_EQ(got.reward, s.rows.reward);
  EXPECT_EQ(got.flags, s.rows.flags);
  EXPECT_EQ(got.obs, s.rows.obs);
  EXPECT_EQ(got.advised, s.rows.advised);
  EXPECT_EQ(got.advice, s.rows.advice);
  EXPECT_STREQ(&got.labels[0], "trace_1 ü");
  EXPECT_STREQ(&got.labels[M4N_LABEL], "");
  EXPECT_EQ(got.info[2], 1.0);
  EXPECT_TRUE(std::isnan(got.info[3])); // unknown
  EXPECT_EQ(got.metrics[4], 4.0);
  EXPECT_EQ(got.metrics[9], 9.0);
  EXPECT_TRUE(std::isnan(got.metrics[0])); // of a row that has not ended
}

TEST(Wire, StepSendsNothingWhereThereIsNothing) {
  sample_step s;
  std::fill(s.rows.flags.begin(), s.rows.flags.end(), 0);
  std::fill(s.rows.advised.begin(), s.rows.advised.end(), 0);
  s.rows.view.info = nullptr;
  raw_rows got(s.spec, 5, 0);
  got.advised.assign(5, 1);
  got.labels.assign(got.labels.size(), 'x');
  ASSERT_EQ(decode_step(step_frame(s), s.spec, 5, got), 0) << m4n_error_message();
  EXPECT_TRUE(std::isnan(got.info[0]));
  EXPECT_TRUE(std::isnan(got.metrics[0]));
  EXPECT_EQ(got.advised, std::vector<uint8_t>(5, 0));
  EXPECT_STREQ(&got.labels[0], "");
}

TEST(Wire, StepRefusesWhatIsWrongAndSaysWhere) {
  struct fault {
    const char *expected;
    std::function<void(sample_step &)> make;
  };
  const double nan = std::nan(""), inf = HUGE_VAL;
  auto obs = [](sample_step &s, int row, const char *name, int k, double x) {
    s.at<double>(s.rows.obs.data() + (size_t)row * s.spec.obs_size, name)[k] = x;
  };
  const fault faults[] = {
      {"STEP.obs[time]: row 2, element 0: nan, expected a finite number",
       [&](sample_step &s) { obs(s, 2, "time", 0, nan); }},
      {"STEP.obs[time]: row 4, element 0: inf, expected", [&](sample_step &s) { obs(s, 4, "time", 0, inf); }},
      {"STEP.obs[time]: row 0, element 0: -0.5 is outside [0, inf]",
       [&](sample_step &s) { obs(s, 0, "time", 0, -0.5); }},
      {"STEP.obs[matrix]: row 3, element 5: 100.5 is outside [-100, 100]",
       [&](sample_step &s) { obs(s, 3, "matrix", 5, 100.5); }},
      {"STEP.obs[small]: row 1, element 2: nan",
       [&](sample_step &s) { s.at<float>(s.rows.obs.data() + s.spec.obs_size, "small")[2] = (float)nan; }},
      {"STEP.obs[small]: row 1, element 2: -inf",
       [&](sample_step &s) { s.at<float>(s.rows.obs.data() + s.spec.obs_size, "small")[2] = -(float)inf; }},
      {"STEP.obs[jobs]: row 4, element 7: 1001 is outside [0, 1000]",
       [&](sample_step &s) { s.at<int32_t>(s.rows.obs.data() + 4 * s.spec.obs_size, "jobs")[2 + 7] = 1001; }},
      {"STEP.obs[allowed]: row 0, element 0: 2 is outside [0, 1]",
       [&](sample_step &s) { s.at<uint8_t>(s.rows.obs.data(), "allowed")[0] = 2; }},
      {"STEP.reward: row 3: nan, expected a finite number", [&](sample_step &s) { s.rows.reward[3] = nan; }},
      {"STEP.reward: row 0: -inf", [&](sample_step &s) { s.rows.reward[0] = -inf; }},
      {"STEP.info: infinite", [&](sample_step &s) { s.rows.info[1] = inf; }},
      {"STEP.metrics: infinite", [&](sample_step &s) { s.rows.metrics[5] = -inf; }},
      {"STEP.lane: row 0: lane 5, expected 0 to 4", [](sample_step &s) { s.rows.lane[0] = 5; }},
      {"STEP.lane: row 1: lane -1, expected 0 to 4", [](sample_step &s) { s.rows.lane[1] = -1; }},
      {"STEP.episode: row 1: -7 is negative", [](sample_step &s) { s.rows.episode[1] = -7; }},
      {"STEP.sim_time_ns: row 1: -1 is negative", [](sample_step &s) { s.rows.time[1] = -1; }},
      {"STEP.flags: row 1: 16", [](sample_step &s) { s.rows.flags[1] = 16; }},
      {"STEP.flags: row 1: 6", [](sample_step &s) { s.rows.flags[1] = M4N_TERMINATED | M4N_TRUNCATED; }},
      {"STEP.flags: row 2: 3", [](sample_step &s) { s.rows.flags[2] |= M4N_FIRST; }},
      {"STEP.advised: row 3: 2, expected 0 or 1", [](sample_step &s) { s.rows.advised[3] = 2; }},
      {"STEP.advice[choice]: row 2, element 0: 4 is outside [0, 3]",
       [](sample_step &s) {
         int32_t bad = 4;
         memcpy(s.rows.advice.data() + 2 * s.spec.act_size, &bad, sizeof bad);
       }},
  };
  for (const fault &f : faults) {
    sample_step s;
    f.make(s);
    raw_rows got(s.spec, 5, 0);
    EXPECT_EQ(decode_step(step_frame(s), s.spec, 5, got), M4N_EPROTO) << f.expected;
    EXPECT_EQ(std::string(m4n_error_message()).rfind(f.expected, 0), 0u) << m4n_error_message();
  }
  sample_step s;
  raw_rows got(s.spec, 5, 0);
  EXPECT_EQ(decode_step(step_frame(s), s.spec, 4, got), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "STEP.n: 5, expected 1 to 4");
  EXPECT_EQ(decode_step(step_frame(s) + "x", s.spec, 5, got), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "STEP: 1 bytes behind the end of the frame");
}

TEST(Wire, VaryingFieldsAreCounted) {
  sample_step s;
  const std::string good = step_frame(s);
  // The counts of field "jobs" stand once in the frame: 0 1 2 3 4 as little-endian u32.
  std::string counts;
  for (char i = 0; i < 5; i++) counts += std::string({i, 0, 0, 0});
  size_t at = good.find(counts);
  ASSERT_NE(at, std::string::npos);
  raw_rows got(s.spec, 5, 0);
  std::string bad = good;
  bad[at + 4] = 2; // more than the bin holds
  EXPECT_EQ(decode_step(bad, s.spec, 5, got), M4N_EPROTO);
  EXPECT_EQ(std::string(m4n_error_message()),
            "STEP.obs[jobs]: bin of 100 bytes does not hold what its counts say");
  bad = good;
  bad[at + 4] = 0; // less
  EXPECT_EQ(decode_step(bad, s.spec, 5, got), M4N_EPROTO);
  bad = good;
  bad[at + 8] = 6; // more than max_rows
  EXPECT_EQ(decode_step(bad, s.spec, 5, got), M4N_EPROTO);
  EXPECT_EQ(std::string(m4n_error_message()), "STEP.obs[jobs]: row 2: count 6, expected at most 5");
  bad = good;
  bad[at + 11] = (char)0xff; // a count that would wrap around
  EXPECT_EQ(decode_step(bad, s.spec, 5, got), M4N_EPROTO);
}

TEST(Wire, ActRoundTrip) {
  const m4n_spec spec = toy_spec();
  sample_act a(spec, 4, 6);
  for (int32_t i = 0; i < 4; i++) {
    int32_t choice = i, second = i % 3;
    memcpy(&a.action[(size_t)i * spec.act_size + spec.act[0].offset], &choice, 4);
    memcpy(&a.action[(size_t)i * spec.act_size + spec.act[1].offset], &second, 4);
    a.delay[(size_t)i] = (int64_t)i << 33;
    a.served[(size_t)i] = i == 2;
    a.logp[(size_t)i] = i == 1 ? NAN : -1.5f;
  }
  std::fill(a.value.begin(), a.value.end(), NAN);
  for (int i = 0; i < 6; i++) a.resets[(size_t)i] = {i, i % 3, INT64_MAX - i, UINT64_MAX, 1, i == 5 ? 0 : -1};
  a.view.n_resets = 6;
  a.view.done = true;
  a.view.infer_ns = 123456789;
  a.view.policy_hash = UINT64_MAX;
  m4n_buffer b{};
  m4n_encode_act(&b, &spec, session, seq, &a.view);
  ASSERT_EQ(m4n_pack_end(&b, "ACT"), 0);
  sample_act got(spec, 4, 6);
  m4n_reader in;
  m4n_envelope head;
  ASSERT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
  EXPECT_EQ(head.session, session);
  EXPECT_EQ(head.seq, seq);
  EXPECT_EQ(head.type, (unsigned)M4N_FRAME_ACT);
  ASSERT_EQ(m4n_decode_act(&in, &spec, 4, 6, &got.view), 0) << m4n_error_message();
  EXPECT_EQ(got.action, a.action);
  EXPECT_EQ(got.delay, a.delay);
  EXPECT_EQ(got.served, a.served);
  EXPECT_EQ(got.view.n_resets, 6);
  EXPECT_EQ(memcmp(got.resets.data(), a.resets.data(), 6 * sizeof(m4n_reset)), 0);
  EXPECT_TRUE(got.view.done);
  EXPECT_EQ(got.view.infer_ns, 123456789);
  EXPECT_EQ(got.view.policy_hash, UINT64_MAX);
  EXPECT_EQ(got.logp[0], -1.5f);
  EXPECT_TRUE(std::isnan(got.logp[1]));
  EXPECT_TRUE(std::isnan(got.value[0]));

  auto decode = [&] {
    m4n_encode_act(&b, &spec, session, seq, &a.view);
    EXPECT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
    return m4n_decode_act(&in, &spec, 4, 6, &got.view);
  };
  int32_t bad = 3;
  memcpy(&a.action[spec.act_size + spec.act[1].offset], &bad, 4);
  EXPECT_EQ(decode(), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "ACT.action[second]: row 1: 3, expected 0 to 2");
  bad = 0;
  memcpy(&a.action[spec.act_size + spec.act[1].offset], &bad, 4);
  a.delay[3] = -1;
  EXPECT_EQ(decode(), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "ACT.delay_ns: row 3: -1 is negative");
  a.delay[3] = 0;
  a.resets[4].lane = 6;
  EXPECT_EQ(decode(), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "ACT.resets[4].lane: 6, expected 0 to 5");
  a.resets[4].lane = 4;
  a.view.n = 3;
  EXPECT_EQ(decode(), M4N_EPROTO);
  EXPECT_STREQ(m4n_error_message(), "ACT.n: 3, expected 4 to 4");
  m4n_buffer_close(&b);
}

TEST(Wire, HelloRoundTripGivesTheSameSpec) {
  m4n_hello hello{}, got;
  hello.oldest = 1, hello.newest = 1, hello.lanes = 256;
  snprintf(hello.simulator, sizeof hello.simulator, "ns-3");
  snprintf(hello.version, sizeof hello.version, "3.37");
  memset(hello.uid, 0xab, sizeof hello.uid);
  hello.spec = toy_spec();
  m4n_buffer b{};
  m4n_encode_hello(&b, &hello);
  ASSERT_EQ(m4n_pack_end(&b, "HELLO"), 0);
  m4n_reader in;
  m4n_envelope head;
  ASSERT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
  ASSERT_EQ(m4n_decode_hello(&in, &head, &got), 0) << m4n_error_message();
  EXPECT_EQ(memcmp(&got.spec, &hello.spec, sizeof got.spec), 0);
  EXPECT_EQ(m4n_spec_hash(&got.spec), m4n_spec_hash(&hello.spec));
  EXPECT_STREQ(got.simulator, "ns-3");
  EXPECT_STREQ(got.version, "3.37");
  EXPECT_EQ(memcmp(got.uid, hello.uid, sizeof got.uid), 0);
  EXPECT_EQ(got.lanes, 256);

  auto refused = [&] {
    m4n_encode_hello(&b, &hello);
    EXPECT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
    int status = m4n_decode_hello(&in, &head, &got);
    return std::to_string(status) + " " + m4n_error_message();
  };
  hello.oldest = 2, hello.newest = 5;
  EXPECT_EQ(refused(),
            std::to_string(M4N_EUNSUPPORTED) +
                " HELLO.versions: no version in common: the simulator speaks 2 to 5, this agent 1 to 1");
  hello.oldest = 1;
  EXPECT_EQ(refused()[0], '0'); // a newer simulator that still speaks ours
  hello.lanes = 0;
  EXPECT_EQ(refused(), std::to_string(M4N_EPROTO) + " HELLO.lanes: 0, expected 1 to 4096");
  hello.lanes = 1;
  hello.spec.act[1].high = 1 << 20;
  EXPECT_EQ(refused(), std::to_string(M4N_EARG) +
                           " HELLO.spec: action 'second': expected an i32 scalar with choices 0 to n-1");
  hello.spec = toy_spec();
  hello.spec.obs[1].shape[1] = 0;
  EXPECT_EQ(refused(), std::to_string(M4N_EPROTO) + " HELLO.obs[1].shape[1]: 0, expected 1 to 1048576");
  hello.spec = toy_spec();
  snprintf(hello.spec.constant[1].name, M4N_NAME, "%s", hello.spec.constant[0].name);
  EXPECT_EQ(refused(), std::to_string(M4N_EPROTO) + " HELLO.constants[episodes]: is given twice");
  m4n_buffer_close(&b);
}

TEST(Wire, HelloOfALaterVersionMayCarryMore) {
  m4n_buffer b{};
  m4n_hello hello{}, got;
  hello.oldest = 1, hello.newest = 2, hello.lanes = 1;
  hello.spec = toy_spec();
  m4n_encode_hello(&b, &hello);
  std::string frame = taken(b);
  m4n_buffer_close(&b);
  // The frame's array has 17 items, which is written as dc 00 11.
  ASSERT_EQ(frame.substr(0, 3), std::string("\xdc\x00\x11", 3));
  frame[2] = 0x13;
  frame += std::string("\x81\xa1k\x92\x01\x02\xc0", 7); // {"k": [1, 2]}, nil
  m4n_reader in;
  m4n_envelope head;
  ASSERT_EQ(m4n_decode_head(&in, &head, frame.data(), frame.size()), 0);
  EXPECT_EQ(m4n_decode_hello(&in, &head, &got), 0) << m4n_error_message();
}

TEST(Wire, SmallFramesRoundTrip) {
  m4n_buffer b{};
  m4n_reader in;
  m4n_envelope head;
  auto open = [&] { ASSERT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0) << m4n_error_message(); };

  m4n_wire_error error{M4N_WIRE_LANE, true, "STEP.lane", "lane 3 has two rows"}, e;
  m4n_encode_error(&b, session, seq, &error), open();
  ASSERT_EQ(m4n_decode_error(&in, &e), 0);
  EXPECT_EQ(e.code, (unsigned)M4N_WIRE_LANE);
  EXPECT_TRUE(e.fatal);
  EXPECT_STREQ(e.path, "STEP.lane");
  EXPECT_STREQ(e.text, "lane 3 has two rows");

  uint64_t token = 0;
  m4n_encode_ping(&b, M4N_FRAME_PONG, session, seq, UINT64_MAX), open();
  ASSERT_EQ(m4n_decode_ping(&in, &token), 0);
  EXPECT_EQ(token, UINT64_MAX);
  EXPECT_EQ(head.type, (unsigned)M4N_FRAME_PONG);

  m4n_wire_stats stats{1, 2, 3, 4, 5, 6}, s;
  m4n_encode_stats(&b, session, seq, &stats), open();
  ASSERT_EQ(m4n_decode_stats(&in, &s), 0);
  EXPECT_EQ(memcmp(&s, &stats, sizeof s), 0);
  m4n_encode_stats_request(&b, session, seq), open();
  EXPECT_EQ(m4n_decode_stats_request(&in), 0);

  m4n_bye bye{"had enough", -2}, y;
  m4n_encode_bye(&b, session, seq, &bye), open();
  ASSERT_EQ(m4n_decode_bye(&in, &y), 0);
  EXPECT_STREQ(y.reason, "had enough");
  EXPECT_EQ(y.status, -2);

  std::vector<m4n_reset> resets(4);
  m4n_welcome welcome{}, w{};
  welcome.version = 1, welcome.policy_hash = 7, welcome.spec_hash = 8, welcome.max_frame = M4N_MAX_FRAME;
  welcome.idle_ms = 30000, welcome.done = true, welcome.n_resets = 2;
  snprintf(welcome.agent, sizeof welcome.agent, "mamba4net");
  snprintf(welcome.policy, sizeof welcome.policy, "bba");
  m4n_reset orders[] = {{3, 0, 17, 4, 0, -1}, {1, 2, 18, 4, 1, 2}};
  welcome.reset = orders;
  w.reset = resets.data();
  m4n_encode_welcome(&b, session, &welcome), open();
  ASSERT_EQ(m4n_decode_welcome(&in, 4, &w), 0) << m4n_error_message();
  EXPECT_EQ(memcmp(orders, resets.data(), sizeof orders), 0);
  EXPECT_STREQ(w.policy, "bba");
  EXPECT_STREQ(w.agent, "mamba4net");
  EXPECT_EQ(w.idle_ms, 30000);
  EXPECT_EQ(w.spec_hash, 8u);
  EXPECT_TRUE(w.done);
  open();
  EXPECT_EQ(m4n_decode_welcome(&in, 3, &w), M4N_EPROTO); // lane 3 of three
  m4n_buffer_close(&b);
}

TEST(Wire, HeadsAreChecked) {
  m4n_reader in;
  m4n_envelope head;
  auto text = [&](const std::string &frame) {
    EXPECT_EQ(m4n_decode_head(&in, &head, frame.data(), frame.size()), M4N_EPROTO);
    return std::string(m4n_error_message());
  };
  EXPECT_EQ(text(""), "frame: the frame ends inside it");
  EXPECT_EQ(text("\x80"), "frame: expected an array, found a map");
  EXPECT_EQ(text("\x93\x01\x03\x01"), "frame: 3 items, expected 4 to 64");
  EXPECT_EQ(text(std::string("\x94\x01\x00\x01\x01", 5)), "frame.type: 0 is no type of frame");
  EXPECT_EQ(text("\x94\x01\x2a\x01\x01"), "frame.type: 42 is no type of frame");
  EXPECT_EQ(text("\x94\x02\x03\x01\x01"), "STEP.version: 2, expected 1");
  EXPECT_EQ(text("\x94\x01\x03\xff\x01"), "frame.session: expected an integer, found a negative integer");
}

TEST(Wire, NothingIsAllocatedForAMessage) {
  sample_step s;
  raw_rows got(s.spec, 5, 0);
  sample_act act(s.spec, 5, 8);
  m4n_buffer b{};
  m4n_reader in;
  m4n_envelope head;
  int64_t before = 0;
  for (int i = 0; i < 50; i++) {
    if (i == 1) before = m4n_allocations(); // the first one takes the buffer's memory
    m4n_encode_step(&b, &s.spec, session, seq, &s.rows.view);
    ASSERT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
    ASSERT_EQ(m4n_decode_step(&in, &s.spec, 5, &got.view), 0);
    m4n_encode_act(&b, &s.spec, session, seq, &act.view);
    ASSERT_EQ(m4n_decode_head(&in, &head, b.data, b.size), 0);
    ASSERT_EQ(m4n_decode_act(&in, &s.spec, 5, 8, &act.view), 0);
  }
  EXPECT_EQ(m4n_allocations(), before);
  if (!m4n_sanitized()) {
    EXPECT_GT(before, 0); // the counter counts
  }
  m4n_buffer_close(&b);
}

TEST(Wire, CutAnywhereItIsAnError) {
  const m4n_spec spec = toy_spec();
  for (const std::string &frame : all_frames()) {
    ASSERT_EQ(decode_any(frame, spec), 0) << m4n_error_message();
    for (size_t n = 0; n < frame.size(); n++) {
      // A copy of exactly this size, so that reading beyond it is seen by a sanitizer.
      std::string part = frame.substr(0, n);
      part.shrink_to_fit();
      ASSERT_NE(decode_any(part, spec), 0) << (int)frame[2] << " cut at " << n;
    }
    ASSERT_NE(decode_any(frame + '\xc0', spec), 0);
  }
}

TEST(Wire, ChangedAnywhereItNeverCrashes) {
  const m4n_spec spec = toy_spec();
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  int errors = 0, fine = 0;
  for (const std::string &frame : all_frames()) {
    for (size_t i = 0; i < frame.size(); i++)
      for (int k = 0; k < 6; k++) {
        std::string changed = frame;
        changed[i] = (char)(k < 3 ? m4n_rng_u32(&rng) : "\x00\xff\xc1"[k - 3]);
        (decode_any(changed, spec) ? errors : fine)++;
      }
    for (int k = 0; k < 2000; k++) { // several bytes, moved and removed
      std::string changed = frame;
      for (uint32_t c = 1 + m4n_rng_below(&rng, 8); c; c--)
        changed[m4n_rng_below(&rng, (uint32_t)changed.size())] = (char)m4n_rng_u32(&rng);
      if (k % 2) changed.erase(m4n_rng_below(&rng, (uint32_t)changed.size()), 1 + m4n_rng_below(&rng, 9));
      (decode_any(changed, spec) ? errors : fine)++;
    }
  }
  EXPECT_GT(errors, 10000);
  EXPECT_GT(fine, 100); // a changed number may be as good as the one before
}
