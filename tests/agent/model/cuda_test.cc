// Models on the card against the same on the processor: every block, a whole training step, decisions. Without a card the
// tests skip and say so.
#include "agent/model/engine.h"
#include "agent/model/optimiser.h"
#include "tests/agent/model/model_test.h"

namespace {

using namespace m4n_test;

class CudaModel : public testing::Test {
protected:
  void SetUp() override {
    m4n_backend *backend = nullptr;
    if (m4n_backend_open(&backend, "cuda", nullptr)) GTEST_SKIP() << m4n_error_message();
    m4n_backend_close(backend);
  }
};

// Odd widths on purpose.
m4n_backbone odd() {
  m4n_backbone b = {};
  b.d = 36, b.attention_layers = 1, b.mamba_layers = 1, b.eps = 1e-5, b.ffn = 70, b.mamba_ffn = 1;
  b.heads = 4, b.kv_heads = 2, b.head_dim = 18, b.rope_theta = 100;
  b.inner = 48, b.state = 12, b.rank = 5, b.conv = 4, b.gate_bias = 1;
  return b;
}

TEST_F(CudaModel, EveryBlockAndItsGradients) {
  const int B = 3, T = 21;
  Machine cpu, card(1, "cuda");
  for (int k = 0; m4n_block_kinds[k]; k++) {
    const m4n_block_kind &kind = *m4n_block_kinds[k];
    SCOPED_TRACE(kind.name);
    Block a(cpu, kind, odd(), B, T, true), b(card, kind, odd(), B, T, true);
    const size_t n = (size_t)B * T * 36;
    const reals x = noise(n, 1), dy = noise(n, 2);
    EXPECT_LT(nmse(b.forward(x, B, T, true), a.forward(x, B, T, true)), 1e-11);
    EXPECT_LT(nmse(b.backward(dy, B, T), a.backward(dy, B, T)), 1e-10);
    ASSERT_EQ(a.params->n_parts, b.params->n_parts);
    for (int i = 0; i < a.params->n_parts; i++)
      EXPECT_LT(nmse(b.gradient(b.params->part[i]), a.gradient(a.params->part[i])), 1e-9)
          << a.params->part[i].name;
  }
}

// Three steps of training: the logits before, the norm of every gradient, and the weights behind them.
struct Trained {
  reals logits, weights, norms;
};
Trained train(const Machine &m) {
  const int B = 6, steps = 4, n = B * steps;
  m4n_net_options options = {};
  EXPECT_EQ(m4n_config_preset(&options.config, "tiny"), M4N_OK);
  options.config.abr.window = steps, options.sequences = B, options.train = true;
  Net net(m, options);
  EXPECT_EQ(m4n_net_start(net.net, 3), M4N_OK);
  const reals values = noise((size_t)n * net->features, 7);
  std::vector<int32_t> answers;
  for (int i = 0; i < n; i++) answers.push_back(i * 7 % 6);
  int32_t *target = (int32_t *)m4n_alloc(m.backend, answers.size() * sizeof(int32_t));
  m4n_copy_in(m.s, target, answers.data(), answers.size() * sizeof(int32_t));
  m4n_optimiser *opt = nullptr;
  const m4n_optimiser_options oo = {0.9, 0.95, 1e-8, 0.01, 1, 1};
  EXPECT_EQ(m4n_optimiser_open(&opt, net->params, &oo), M4N_OK) << m4n_error_message();
  Trained t;
  for (int i = 0; i < 3; i++) {
    std::copy(values.begin(), values.end(), net->rows);
    for (int b = 0; b < B; b++)
      for (int k = 0; k < steps; k++) m4n_net_set_step(net.net, b, k, steps, b + k);
    m4n_net_forward(net.net, B, steps, true, nullptr);
    if (i == 0) t.logits = m.out(net->logits, (size_t)n * net->levels);
    m4n_xent_bwd(m.s, net->d_logits, net->logits, target, nullptr, nullptr, n, net->levels, 0);
    m4n_net_zero(net.net);
    m4n_net_backward(net.net);
    m4n_optimiser_step(opt, 2e-3);
    double norm = 0;
    EXPECT_EQ(m4n_optimiser_norm(opt, &norm), M4N_OK) << m4n_error_message();
    t.norms.push_back((m4n_real)norm);
  }
  t.weights = m.out(net->params->w, (size_t)net->params->n);
  m4n_optimiser_close(opt);
  m4n_free(m.backend, target);
  return t;
}

TEST_F(CudaModel, AWholeTrainingStepAndItsBytesAgain) {
  Machine cpu, card(1, "cuda");
  const Trained a = train(cpu), b = train(card), again = train(card);
  EXPECT_LT(nmse(b.logits, a.logits), 1e-10);
  EXPECT_LT(nmse(b.norms, a.norms), 1e-8);
  // AdamW divides a gradient near 0 by itself: there, rounding moves a weight by a whole step.
  EXPECT_LT(nmse(b.weights, a.weights), 1e-5);
  EXPECT_EQ(b.weights, again.weights);
  EXPECT_EQ(b.norms, again.norms);
}

reals decide(const Machine &m, int context, int format) {
  m4n_engine_options o = {};
  EXPECT_EQ(m4n_config_preset(&o.config, "tiny"), M4N_OK);
  o.config.abr.window = 5, o.context = context, o.slots = 4, o.batch = 3, o.format = format;
  m4n_engine *engine = nullptr;
  EXPECT_EQ(m4n_engine_open(&engine, m.s, &o), M4N_OK) << m4n_error_message();
  if (!engine) return {};
  m4n_net *net = m4n_engine_net(engine);
  EXPECT_EQ(m4n_net_start(net, 11), M4N_OK);
  const int32_t slots[] = {2, 0, 3, 1};
  reals all, logits((size_t)(4 * net->levels));
  for (int slot : slots) m4n_engine_begin(engine, slot);
  for (int step = 0; step < 8; step++) {
    const reals rows = noise((size_t)(4 * net->features), 100 + (uint64_t)step);
    EXPECT_EQ(m4n_engine_decide(engine, 4, slots, rows.data(), logits.data()), M4N_OK) << m4n_error_message();
    all.insert(all.end(), logits.begin(), logits.end());
    for (int i = 0; i < 4; i++) m4n_engine_acted(engine, slots[i], (step + i) % net->levels);
  }
  m4n_engine_close(engine);
  return all;
}

TEST_F(CudaModel, DecisionsOfEveryContextAndFormat) {
  Machine cpu, card(1, "cuda");
  for (int context : {M4N_CONTEXT_WINDOW, M4N_CONTEXT_STREAM, M4N_CONTEXT_RESET})
    for (int format : {M4N_W_REAL, M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
      SCOPED_TRACE("context " + std::to_string(context) + ", format " + std::to_string(format));
      // Narrow rows may fall to the other side of a rounding, which is a step of bf16 or of int8.
      EXPECT_LT(nmse(decide(card, context, format), decide(cpu, context, format)), format == M4N_W_BF16 ? 1e-4
                                                                                   : format == M4N_W_INT8
                                                                                       ? 1e-3
                                                                                       : 1e-9);
    }
}

} // namespace
