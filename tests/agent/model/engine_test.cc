// Deciding: window, stream and reset contexts against whole passes, lanes in batches, formats of weights, memory.
#include <cstring>

#include "agent/model/engine.h"
#include "tests/agent/model/model_test.h"
#include "tests/support/alloc.h"

namespace {

using namespace m4n_test;

m4n_config config_of(const char *preset, int window) {
  m4n_config c;
  EXPECT_EQ(m4n_config_preset(&c, preset), M4N_OK);
  c.abr.window = window;
  return c;
}

struct Engine {
  m4n_engine *engine = nullptr;
  m4n_net *net = nullptr;
  Engine(const Machine &m, const m4n_config &config, int context, int slots, int batch,
         int format = M4N_W_REAL) {
    m4n_engine_options o = {};
    o.config = config, o.context = context, o.slots = slots, o.batch = batch, o.format = format;
    EXPECT_EQ(m4n_engine_open(&engine, m.s, &o), M4N_OK) << m4n_error_message();
    net = m4n_engine_net(engine);
    EXPECT_EQ(m4n_net_start(net, 11), M4N_OK) << m4n_error_message();
  }
  ~Engine() { m4n_engine_close(engine); }
  Engine(const Engine &) = delete;
  Engine &operator=(const Engine &) = delete;
};

// What lane `lane` sees and does at each step of its episode, drawn from its number alone.
reals row_of(const m4n_net *net, int lane, int step) {
  return noise((size_t)net->features, 1000 * (uint64_t)lane + (uint64_t)step);
}
int action_of(int lane, int step) {
  return (lane + step * step) % 6;
}

// The answers to every step of the lanes' episodes, decided in one batch after the other.
std::vector<reals> play(Engine &e, const std::vector<int> &lanes, const std::vector<int32_t> &slots,
                        int steps) {
  std::vector<reals> answers;
  const size_t n = lanes.size();
  for (size_t i = 0; i < n; i++) m4n_engine_begin(e.engine, slots[i]);
  for (int step = 0; step < steps; step++) {
    reals rows, logits(n * (size_t)e.net->levels);
    for (int lane : lanes) {
      const reals row = row_of(e.net, lane, step);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    EXPECT_EQ(m4n_engine_decide(e.engine, (int)n, slots.data(), rows.data(), logits.data()), M4N_OK);
    for (size_t i = 0; i < n; i++) m4n_engine_acted(e.engine, slots[i], action_of(lanes[i], step));
    answers.push_back(logits);
  }
  return answers;
}

// One pass over the steps first … last of a lane's episode, as in training; the answer to the last.
reals whole(const Machine &m, m4n_net *net, int lane, int first, int last) {
  const int steps = last - first + 1;
  for (int k = 0; k < steps; k++) {
    const reals row = row_of(net, lane, first + k);
    m4n_real *to = m4n_net_row(net, 0, k, steps);
    std::copy(row.begin(), row.end(), to);
    to[M4N_ABR_ACTION] = m4n_abr_action(&net->options.config.abr, action_of(lane, first + k));
    m4n_net_set_step(net, 0, k, steps, first + k);
  }
  m4n_net_forward(net, 1, steps, false, nullptr);
  const reals all = m.out(net->logits, (size_t)(steps * net->levels));
  return reals(all.end() - net->levels, all.end());
}

reals of_lane(const reals &answers, size_t i, int levels) {
  const auto at = answers.begin() + (long)i * levels;
  return reals(at, at + levels);
}

TEST(Engine, WindowIsTheLastStepsRunAsInTraining) {
  Machine m(2);
  const int window = 4, steps = 11;
  for (const char *preset : {"tiny", "mini"}) {
    const m4n_config config = config_of(preset, window);
    Engine e(m, config, M4N_CONTEXT_WINDOW, 3, 3);
    m4n_net_options o = {};
    o.config = config, o.sequences = 1;
    Net net(m, o);
    M4N_OKAY(m4n_net_start(net.net, 11));
    const auto answers = play(e, {5, 7}, {2, 0}, steps);
    for (int step = 0; step < steps; step++)
      for (size_t i = 0; i < 2; i++)
        M4N_EXPECT_SAME_ROWS(m, of_lane(answers[(size_t)step], i, e.net->levels),
                             whole(m, net.net, i ? 7 : 5, std::max(0, step - window + 1), step))
            << preset << ", step " << step;
  }
}

TEST(Engine, StreamIsOnePassOverTheEpisode) {
  Machine m(2);
  const int steps = 20;
  for (const char *preset : {"tiny", "mini"}) {
    const m4n_config config = config_of(preset, steps);
    Engine e(m, config, M4N_CONTEXT_STREAM, 4, 4);
    m4n_net_options o = {};
    o.config = config, o.sequences = 1;
    Net net(m, o);
    M4N_OKAY(m4n_net_start(net.net, 11));
    const auto answers = play(e, {1, 2, 3}, {3, 1, 0}, steps);
    for (int step = 0; step < steps; step++)
      for (size_t i = 0; i < 3; i++)
        EXPECT_LE(furthest(of_lane(answers[(size_t)step], i, e.net->levels),
                           whole(m, net.net, (int)i + 1, 0, step)),
                  1e-5)
            << preset << ", step " << step;
  }
}

TEST(Engine, ResetForgetsAfterEveryWindow) {
  Machine m;
  const int window = 5, steps = 17;
  const m4n_config config = config_of("tiny", window);
  Engine e(m, config, M4N_CONTEXT_RESET, 2, 2);
  m4n_net_options o = {};
  o.config = config, o.sequences = 1;
  Net net(m, o);
  M4N_OKAY(m4n_net_start(net.net, 11));
  const auto answers = play(e, {4, 9}, {0, 1}, steps);
  for (int step = 0; step < steps; step++)
    for (size_t i = 0; i < 2; i++)
      EXPECT_LE(furthest(of_lane(answers[(size_t)step], i, e.net->levels),
                         whole(m, net.net, i ? 9 : 4, step / window * window, step)),
                1e-5)
          << "step " << step;
}

// A stream's attention sees the last window of tokens only; its Mamba layers see more. Without Mamba layers, tokens
// that left the window have no influence at all on layer one, so answers of a one-layer model agree.
TEST(Engine, AStreamsAttentionForgetsWhatLeftTheWindow) {
  Machine m;
  m4n_config config = config_of("mini", 3);
  config.backbone.attention_layers = 1;
  Engine e(m, config, M4N_CONTEXT_STREAM, 2, 2);
  const auto a = play(e, {1}, {0}, 12);
  // Another past, but the same last steps: after 3 steps + 1 (whose tokens are read beside the window's) they agree.
  std::vector<reals> b;
  m4n_engine_begin(e.engine, 1);
  for (int step = 0; step < 12; step++) {
    const reals row = row_of(e.net, step < 5 ? 77 : 1, step);
    reals logits((size_t)e.net->levels);
    const int32_t slot = 1;
    M4N_OKAY(m4n_engine_decide(e.engine, 1, &slot, row.data(), logits.data()));
    m4n_engine_acted(e.engine, 1, action_of(step < 5 ? 77 : 1, step));
    b.push_back(logits);
  }
  EXPECT_GT(furthest(a[5], b[5]), 1e-4);
  for (size_t step = 8; step < 12; step++) EXPECT_LE(furthest(a[step], b[step]), 1e-6) << step;
}

TEST(Engine, AnswersDoNotDependOnTheBatch) {
  Machine m(2);
  const m4n_config config = config_of("tiny", 3);
  for (int context : {M4N_CONTEXT_WINDOW, M4N_CONTEXT_STREAM, M4N_CONTEXT_RESET}) {
    Engine together(m, config, context, 9, 9), pieces(m, config, context, 9, 2);
    const std::vector<int> lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    const auto a = play(together, lanes, {0, 1, 2, 3, 4, 5, 6, 7, 8}, 7);
    const auto b = play(pieces, lanes, {8, 7, 6, 5, 4, 3, 2, 1, 0}, 7), alone = play(together, {6}, {4}, 7);
    for (size_t step = 0; step < 7; step++) {
      M4N_EXPECT_SAME_ROWS(m, b[step], a[step]);
      M4N_EXPECT_SAME_ROWS(m, alone[step], of_lane(a[step], 6, 6));
    }
  }
}

// Lanes whose episodes began at different times are answered in one call.
TEST(Engine, LanesMayBeAtAnyStep) {
  Machine m;
  const m4n_config config = config_of("tiny", 3);
  for (int context : {M4N_CONTEXT_WINDOW, M4N_CONTEXT_STREAM, M4N_CONTEXT_RESET}) {
    Engine e(m, config, context, 2, 2);
    const auto one = play(e, {1}, {0}, 8), two = play(e, {2}, {0}, 8);
    m4n_engine_begin(e.engine, 0);
    for (int step = 0; step < 8; step++) {
      const bool both = step >= 3;
      if (step == 3) m4n_engine_begin(e.engine, 1);
      reals rows = row_of(e.net, 1, step), logits(12);
      if (both) {
        const reals second = row_of(e.net, 2, step - 3);
        rows.insert(rows.end(), second.begin(), second.end());
      }
      const int32_t slots[2] = {0, 1};
      M4N_OKAY(m4n_engine_decide(e.engine, both ? 2 : 1, slots, rows.data(), logits.data()));
      m4n_engine_acted(e.engine, 0, action_of(1, step));
      if (both) m4n_engine_acted(e.engine, 1, action_of(2, step - 3));
      M4N_EXPECT_SAME_ROWS(m, of_lane(logits, 0, 6), one[(size_t)step]);
      if (!both) continue;
      M4N_EXPECT_SAME_ROWS(m, of_lane(logits, 1, 6), two[(size_t)step - 3]);
    }
  }
}

TEST(Engine, ThreadsChangeNoByte) {
  const m4n_config config = config_of("small", 3);
  for (int format : {M4N_W_REAL, M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
    if (sizeof(m4n_real) == 8 && format != M4N_W_REAL) continue;
    std::vector<std::vector<reals>> all;
    for (int threads : {1, 3}) {
      Machine m(threads);
      Engine e(m, config, M4N_CONTEXT_STREAM, 4, 4, format);
      all.push_back(play(e, {1, 2, 3}, {0, 1, 2}, 4));
    }
    EXPECT_EQ(all[0], all[1]) << format;
  }
}

TEST(Engine, NarrowWeightsAnswerNearlyTheSame) {
  if (sizeof(m4n_real) == 8) GTEST_SKIP() << "narrow weights are float32's";
  Machine m(2);
  const m4n_config config = config_of("small", 4);
  Engine full(m, config, M4N_CONTEXT_STREAM, 3, 3);
  const auto a = play(full, {1, 2, 3}, {0, 1, 2}, 12);
  struct {
    int format;
    double limit;
  } cases[] = {{M4N_W_PACKED, 1e-10}, {M4N_W_BF16, 1e-3}, {M4N_W_INT8, 1e-2}};
  for (const auto &c : cases) {
    Engine e(m, config, M4N_CONTEXT_STREAM, 3, 3, c.format);
    const auto b = play(e, {1, 2, 3}, {0, 1, 2}, 12);
    for (size_t step = 0; step < 12; step++) EXPECT_LE(nmse(b[step], a[step]), c.limit) << c.format;
  }
}

TEST(Engine, DecisionsDoNotAllocate) {
  Machine m(2);
  const m4n_config config = config_of("tiny", 3);
  for (int context : {M4N_CONTEXT_WINDOW, M4N_CONTEXT_STREAM, M4N_CONTEXT_RESET}) {
    Engine e(m, config, context, 4, 2);
    const reals rows = noise(3 * (size_t)e.net->features, 1);
    reals logits(18);
    const int32_t slots[3] = {3, 0, 1};
    const int64_t before = m4n_own_allocations();
    for (int32_t s : slots) m4n_engine_begin(e.engine, s);
    for (int step = 0; step < 8; step++) {
      EXPECT_EQ(m4n_engine_decide(e.engine, 3, slots, rows.data(), logits.data()), M4N_OK);
      for (int32_t s : slots) m4n_engine_acted(e.engine, s, step % 6);
    }
    EXPECT_EQ(m4n_own_allocations(), before);
  }
}

TEST(Engine, WhatCannotBeOpenedIsRefused) {
  Machine m;
  m4n_engine_options o = {};
  o.config = config_of("tiny", 3), o.slots = 0, o.batch = 1;
  m4n_engine *engine;
  EXPECT_EQ(m4n_engine_open(&engine, m.s, &o), M4N_EARG);
  EXPECT_EQ(engine, nullptr);
  o.slots = 1, o.config.abr.levels = 0;
  EXPECT_EQ(m4n_engine_open(&engine, m.s, &o), M4N_EARG);
  EXPECT_EQ(m4n_context_of("stream"), M4N_CONTEXT_STREAM);
  EXPECT_EQ(m4n_context_of("streams"), -1);
}

} // namespace
