// A backbone as a whole: taps and gradients put in there, lengths of sequences, lanes, memory that is planned.
#include "tests/agent/model/model_test.h"
#include "tests/support/alloc.h"

namespace {

using namespace m4n_test;

constexpr bool wide = sizeof(m4n_real) == 8;

// Two Mamba layers and one of attention, without a task.
m4n_net_options little(int B, int T, bool train) {
  m4n_net_options o = {};
  EXPECT_EQ(m4n_config_preset(&o.config, "tiny"), M4N_OK);
  m4n_backbone &b = o.config.backbone;
  b.d = 16, b.ffn = 20, b.heads = b.kv_heads = 2, b.head_dim = 8, b.inner = 16, b.state = 8, b.rank = 2;
  o.config.abr.levels = 0;
  o.sequences = B, o.tokens = T, o.train = train;
  return o;
}

double dot(const reals &a, const reals &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

TEST(Chain, LayersAreOneOrTwoBlocks) {
  Machine m;
  m4n_net_options o = little(1, 1, false);
  Net both(m, o);
  EXPECT_EQ(m4n_chain_blocks(both->chain), 7); // (mixer, ffn) × 3, norm
  EXPECT_EQ(m4n_chain_behind_layer(both->chain, 2), 6);
  o.config.backbone.mamba_ffn = 0;
  Net some(m, o);
  EXPECT_EQ(m4n_chain_blocks(some->chain), 5);
  EXPECT_EQ(m4n_chain_behind_layer(some->chain, 1), 2);
  EXPECT_STREQ(m4n_chain_block(some->chain, 1)->kind->name, "mamba");
  EXPECT_STREQ(m4n_chain_block(some->chain, 4)->kind->name, "norm");
}

// loss = y·R + tap·Q: the gradient put in at the tap is the tap's share.
TEST(Chain, GradientsPutInAtTapsAreDifferences) {
  if (!wide) GTEST_SKIP() << "differences need the f64 build";
  Machine m;
  const int B = 2, T = 4;
  for (bool recompute : {false, true})
    for (int tap : {0, 3, 7}) {
      m4n_net_options o = little(B, T, true);
      o.recompute = recompute;
      Net net(m, o);
      M4N_OKAY(m4n_net_start(net.net, 1));
      const size_t n = (size_t)(B * T * 16);
      const reals R = noise(n, 1), Q = noise(n, 2);
      reals x = noise(n, 3);
      m4n_real *q = (m4n_real *)m4n_alloc(m.backend, n * sizeof *q);
      m.in(q, Q);
      m4n_chain_inject(net->chain, tap, q);
      auto loss = [&] {
        const double out = dot(net.forward(m, x, B, T, true), R);
        return out + dot(m.out(m4n_chain_tap(net->chain, tap), n), Q);
      };
      loss();
      const reals dx = net.backward(m, R, B, T);
      const std::string name = "model.layers.0.mixer.x_proj.weight";
      const reals dw = net.gradient(m, name);
      const double h = 1e-5;
      for (size_t i = 0; i < n; i += 11) {
        const m4n_real kept = x[i];
        x[i] = kept + (m4n_real)h;
        const double above = loss();
        x[i] = kept - (m4n_real)h;
        const double below = loss();
        x[i] = kept;
        EXPECT_NEAR((above - below) / (2 * h), (double)dx[i], 1e-6 * (1 + std::fabs((double)dx[i])));
      }
      const m4n_part *part = m4n_params_find(net->params, name.c_str());
      reals w((size_t)part->count);
      M4N_OKAY(m4n_part_read(net->params, part, nullptr, w.data()));
      for (size_t i = 0; i < w.size(); i += 37) {
        const m4n_real kept = w[i];
        double at[2];
        for (int side = 0; side < 2; side++) {
          w[i] = kept + (m4n_real)(side ? -h : h);
          M4N_OKAY(m4n_part_write(net->params, part, w.data()));
          at[side] = loss();
        }
        w[i] = kept;
        M4N_OKAY(m4n_part_write(net->params, part, w.data()));
        EXPECT_NEAR((at[0] - at[1]) / (2 * h), (double)dw[i], 1e-6 * (1 + std::fabs((double)dw[i])));
      }
      m4n_chain_inject(net->chain, tap, nullptr);
      EXPECT_GT(nmse(net.backward(m, R, B, T), dx), 1e-3);
      m4n_free(m.backend, q);
    }
}

TEST(Chain, TapsAreThereWithoutTraining) {
  Machine m;
  m4n_net_options o = little(1, 6, false);
  Net plain(m, o);
  o.taps = true;
  Net tapped(m, o);
  M4N_OKAY(m4n_net_start(plain.net, 1));
  M4N_OKAY(m4n_net_start(tapped.net, 1));
  const reals x = noise(6 * 16, 1), y = plain.forward(m, x, 1, 6, false);
  EXPECT_EQ(tapped.forward(m, x, 1, 6, false), y);
  EXPECT_EQ(m.out(m4n_chain_tap(tapped->chain, 0), x.size()), x);
  EXPECT_EQ(m.out(m4n_chain_tap(tapped->chain, 7), x.size()), y);
  EXPECT_GT(nmse(m.out(m4n_chain_tap(tapped->chain, 3), x.size()), x), 1e-4);
}

// Tokens behind a sequence's length are not seen by those before.
TEST(Chain, LengthsEndSequences) {
  Machine m;
  const int T = 9, short_T = 5;
  Net net(m, little(2, T, false));
  M4N_OKAY(m4n_net_start(net.net, 1));
  reals x = noise(2 * T * 16, 1);
  const int32_t host[2] = {short_T, T};
  int32_t *length = (int32_t *)m4n_alloc(m.backend, sizeof host);
  m4n_copy_in(m.s, length, host, sizeof host);
  auto run = [&] {
    m.in(m4n_chain_input(net->chain), x);
    m4n_pass pass = {};
    pass.s = m.s, pass.B = 2, pass.T = T, pass.length = length;
    return m.out(m4n_chain_forward(net->chain, &pass), x.size());
  };
  const reals y = run();
  m4n_net_memory(net.net); // asking changes nothing
  EXPECT_EQ(run(), y);
  for (size_t i = short_T * 16; i < T * 16; i++) x[i] += 100;
  const reals changed = run();
  for (size_t i = 0; i < short_T * 16; i++) EXPECT_EQ(changed[i], y[i]);
  for (size_t i = T * 16; i < 2 * T * 16; i++) EXPECT_EQ(changed[i], y[i]);
  m4n_free(m.backend, length);
}

// What was planned is what is taken, and recomputing takes less.
TEST(Chain, MemoryIsPlanned) {
  Machine m;
  m4n_net_options o = {};
  M4N_OKAY(m4n_config_preset(&o.config, "tiny"));
  o.sequences = 4, o.train = true;
  const m4n_net_bytes whole = m4n_net_memory(Net(m, o).net);
  o.recompute = true;
  const m4n_net_bytes less = m4n_net_memory(Net(m, o).net);
  EXPECT_LT(less.saved, whole.saved / 2);
  EXPECT_EQ(less.weights, whole.weights);
  o.recompute = o.train = false;
  o.steps = 1, o.lanes = {8, 160, 8};
  const m4n_net_bytes lanes = m4n_net_memory(Net(m, o).net);
  // Two Mamba layers: (3 + 16)·64 floats a lane; attention: 2·167·64.
  EXPECT_EQ(lanes.state, (size_t)8 * (2 * (3 + 16) * 64 + 2 * 167 * 64) * sizeof(m4n_real));
  EXPECT_EQ(lanes.gradients, 0u);
}

} // namespace
