// What every block promises (agent/model/block.h), for all of the registry: a kind that is missing from the table below
// fails the first test. Gradients against central differences are the f64 build's.
#include <cstring>
#include <map>

#include "tests/agent/model/model_test.h"
#include "tests/support/alloc.h"

namespace {

using namespace m4n_test;

constexpr bool wide = sizeof(m4n_real) == 8;

m4n_backbone small() {
  m4n_backbone b = {};
  b.d = 12, b.attention_layers = 1, b.mamba_layers = 1, b.eps = 1e-5, b.ffn = 20, b.mamba_ffn = 1;
  b.heads = 3, b.kv_heads = 3, b.head_dim = 4, b.rope_theta = 100;
  b.inner = 16, b.state = 4, b.rank = 3, b.conv = 4;
  return b;
}

struct Variant {
  const char *name;
  m4n_backbone config;
  m4n_lora lora;
};

m4n_lora adapter(std::vector<const char *> targets, double dropout) {
  m4n_lora lora = {};
  lora.rank = 2, lora.alpha = 3, lora.dropout = dropout;
  for (const char *t : targets) strcpy(lora.target[lora.targets++], t);
  return lora;
}

std::map<std::string, std::vector<Variant>> table() {
  std::map<std::string, std::vector<Variant>> t;
  m4n_backbone b = small();
  t["norm"] = {{"plain", b, {}}};
  t["ffn"] = {{"plain", b, {}}, {"lora", b, adapter({"up_proj", "down_proj"}, 0)}};
  t["mamba1"] = {{"plain", b, {}}};
  t["mamba"] = {{"plain", b, {}}};
  b.gate_bias = 1, b.state = 8, b.conv = 2;
  t["mamba"].push_back({"gate bias, two groups", b, {}});
  b = small();
  t["attention"] = {{"plain", b, {}},
                    {"lora", b, adapter({"q_proj", "v_proj"}, 0)},
                    {"lora with dropout", b, adapter({"q_proj", "v_proj", "o_proj"}, 0.25)}};
  b.heads = 4, b.kv_heads = 2, b.qkv_bias = 1, b.interleaved = 1;
  t["attention"].push_back({"grouped, biased, interleaved", b, {}});
  b.interleaved = 0, b.frequencies = 2, b.rope_freq[0] = 0.3, b.rope_freq[1] = 0.01;
  t["attention"].push_back({"frequencies", b, {}});
  return t;
}

template <typename F> void for_all(F check) {
  const auto all = table();
  for (int i = 0; m4n_block_kinds[i]; i++) {
    const m4n_block_kind *kind = m4n_block_kinds[i];
    auto found = all.find(kind->name);
    ASSERT_NE(found, all.end()) << kind->name << " is missing from this test's table";
    for (const Variant &v : found->second) {
      SCOPED_TRACE(std::string(kind->name) + ", " + v.name);
      check(*kind, v);
    }
  }
}

// Parameters that start at 0 or 1 hide mistakes.
void shake(const Block &b) {
  for (int i = 0; i < b.params->n_parts; i++) {
    const m4n_part &part = b.params->part[i];
    reals v = b.values(part), n = noise(v.size(), 100 + (uint64_t)i, 0.2);
    for (size_t k = 0; k < v.size(); k++) v[k] += n[k];
    b.put(part, v);
  }
}

double dot(const reals &a, const reals &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

TEST(Blocks, EveryKindIsTested) {
  for_all([](const m4n_block_kind &, const Variant &) {});
  std::map<std::string, int> names;
  for (int i = 0; m4n_block_kinds[i]; i++) names[m4n_block_kinds[i]->name]++;
  EXPECT_EQ(names.size(), table().size());
}

TEST(Blocks, GradientsAreDifferences) {
  if (!wide) GTEST_SKIP() << "differences need the f64 build";
  const int B = 2, T = 5;
  Machine m;
  const uint32_t key_host[2] = {7, 9};
  uint32_t *key = (uint32_t *)m4n_alloc(m.backend, sizeof key_host);
  m4n_copy_in(m.s, key, key_host, sizeof key_host);
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    Block b(m, kind, v.config, B, T, true, {}, v.lora);
    shake(b);
    const uint32_t *dropout = v.lora.dropout > 0 ? key : nullptr;
    const size_t n = (size_t)(B * T * v.config.d);
    reals x = noise(n, 1), R = noise(n, 2);
    auto loss = [&] { return dot(b.forward(x, B, T, true, dropout), R); };
    loss();
    const reals dx = b.backward(R, B, T, dropout);
    std::vector<reals> dw;
    for (int i = 0; i < b.params->n_parts; i++)
      dw.push_back(b.params->part[i].of->g ? b.gradient(b.params->part[i]) : reals());

    auto check = [&](const char *name, reals &values, const reals &gradient, auto put) {
      const double scale = std::sqrt(dot(gradient, gradient) / (double)gradient.size());
      EXPECT_GT(scale, 0) << name;
      const double h = 1e-5;
      for (size_t k = 0; k < values.size(); k++) {
        const m4n_real kept = values[k];
        values[k] = kept + (m4n_real)h, put();
        const double above = loss();
        values[k] = kept - (m4n_real)h, put();
        const double below = loss();
        values[k] = kept, put();
        const double numeric = (above - below) / (2 * h);
        EXPECT_LE(std::fabs(numeric - (double)gradient[k]), 1e-6 * (std::fabs((double)gradient[k]) + scale))
            << name << " [" << k << "]: " << numeric << " by differences, " << gradient[k];
        if (testing::Test::HasFailure()) return;
      }
    };
    check("x", x, dx, [] {});
    for (int i = 0; i < b.params->n_parts; i++) {
      const m4n_part &part = b.params->part[i];
      if (!part.of->trainable) continue;
      reals values = b.values(part);
      check(part.name, values, dw[(size_t)i], [&] { b.put(part, values); });
    }
  });
  m4n_free(m.backend, key);
}

TEST(Blocks, OutputMayReplaceInputAndTrainingChangesNothing) {
  const int B = 3, T = 7;
  Machine m;
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    Block b(m, kind, v.config, B, T, true, {}, v.lora);
    shake(b);
    const reals x = noise((size_t)(B * T * v.config.d), 3);
    const reals y = b.forward(x, B, T, true);
    EXPECT_EQ(b.forward(x, B, T, false), y);
    m.in(b.x, x);
    const m4n_pass pass = b.pass(B, T, false);
    kind.forward(b.block, &pass, b.x, b.x, b.work);
    EXPECT_EQ(m.out(b.x, x.size()), y);
  });
}

TEST(Blocks, GradientsOfParametersAreAddedTo) {
  const int B = 2, T = 4;
  Machine m;
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    Block b(m, kind, v.config, B, T, true, {}, v.lora);
    shake(b);
    const size_t n = (size_t)(B * T * v.config.d);
    const reals x = noise(n, 1), R = noise(n, 2);
    b.forward(x, B, T, true);
    b.backward(R, B, T);
    const reals once = m.out(b.params->g, (size_t)b.params->n);
    m.in(b.d, R);
    const m4n_pass pass = b.pass(B, T, true);
    b.forward(x, B, T, true);
    m.in(b.d, R);
    kind.backward(b.block, &pass, b.d, b.x, b.work, b.scratch);
    reals twice = m.out(b.params->g, (size_t)b.params->n);
    for (m4n_real &g : twice) g /= 2;
    EXPECT_LE(nmse(twice, once), 1e-12);
  });
}

TEST(Blocks, ThreadsChangeNoByte) {
  const int B = 5, T = 33;
  auto run = [&](const m4n_block_kind &kind, const Variant &v, int threads) {
    Machine m(threads);
    Block b(m, kind, v.config, B, T, true, {}, v.lora);
    shake(b);
    const size_t n = (size_t)(B * T * v.config.d);
    std::vector<reals> all = {b.forward(noise(n, 1), B, T, true), b.backward(noise(n, 2), B, T)};
    all.push_back(m.out(b.params->g, (size_t)b.params->n));
    return all;
  };
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    const auto one = run(kind, v, 1);
    for (int threads : {2, 3, 7}) EXPECT_EQ(run(kind, v, threads), one) << threads << " threads";
  });
}

TEST(Blocks, ASequenceDoesNotDependOnTheOthers) {
  const int B = 4, T = 9;
  Machine m(2);
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    Block b(m, kind, v.config, B, T, false, {}, {});
    const size_t n = (size_t)(T * v.config.d);
    const reals x = noise(B * n, 1), all = b.forward(x, B, T, false);
    for (size_t i = 0; i < B; i++) {
      const reals alone =
          b.forward(reals(x.begin() + (long)(i * n), x.begin() + (long)((i + 1) * n)), 1, T, false);
      M4N_EXPECT_SAME_ROWS(m, alone, reals(all.begin() + (long)(i * n), all.begin() + (long)((i + 1) * n)));
    }
  });
}

// Decoding in steps of any size, lanes in any slots, gives what one forward over all tokens gives.
TEST(Blocks, DecodeIsForward) {
  const int B = 3, slots = 5;
  Machine m(2);
  int32_t *ints = (int32_t *)m4n_alloc(m.backend, 4096 * sizeof *ints);
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    for (int T : {1, 3, 4, 5, 160}) {
      const size_t d = (size_t)v.config.d, n = (size_t)B * (size_t)T * d;
      Block b(m, kind, v.config, B, T, false, {slots, T, T}, {});
      const reals x = noise(n, 1), full = b.forward(x, B, T, false);
      for (int step : {1, 2, 7, T}) {
        if (step > T || (step != T && step != 7 && T > 100)) continue;
        const int32_t slot[B] = {3, 0, 4};
        for (int s : slot)
          if (kind.reset) kind.reset(b.block, m.s, b.state, s);
        for (int from = 0; from < T; from += step) {
          const int t = std::min(step, T - from);
          reals part;
          std::vector<int32_t> host(slot, slot + B);
          host.insert(host.end(), B, from);
          for (int i = 0; i < B; i++)
            for (int k = 0; k < t; k++) host.push_back(from + k);
          for (int i = 0; i < B; i++) {
            const auto at = x.begin() + (long)((size_t)(i * T + from) * d);
            part.insert(part.end(), at, at + (long)((size_t)t * d));
          }
          m4n_copy_in(m.s, ints, host.data(), host.size() * sizeof host[0]);
          m.in(b.x, part);
          m4n_pass pass = b.pass(B, t, false);
          pass.slot = ints, pass.pos = ints + B, pass.row_pos = ints + 2 * B;
          kind.decode(b.block, &pass, b.x, b.x, b.state, b.work);
          const reals y = m.out(b.x, part.size());
          for (int i = 0; i < B; i++)
            for (size_t k = 0; k < (size_t)t * d; k++)
              ASSERT_NEAR(y[(size_t)i * (size_t)t * d + k], full[(size_t)(i * T + from) * d + k], 1e-5)
                  << "T " << T << ", steps of " << step << ", from " << from;
        }
      }
    }
  });
  m4n_free(m.backend, ints);
}

TEST(Blocks, PassesDoNotAllocate) {
  const int B = 3, T = 19;
  Machine m(2);
  const int64_t start = m4n_own_allocations();
  m4n_free(m.backend, m4n_alloc(m.backend, 64));
  if (!m4n_sanitized()) {
    ASSERT_GT(m4n_own_allocations(), start) << "the count does not count";
  }
  for_all([&](const m4n_block_kind &kind, const Variant &v) {
    Block b(m, kind, v.config, B, T, true, {4, T, T}, v.lora);
    m.in(b.x, noise((size_t)(B * T * v.config.d), 1));
    int32_t *ints = (int32_t *)m4n_alloc(m.backend, 4096 * sizeof *ints);
    std::vector<int32_t> host = {2, 0, 1, 0, 0, 0};
    for (int i = 0; i < B * T; i++) host.push_back(i % T);
    m4n_copy_in(m.s, ints, host.data(), host.size() * sizeof host[0]);
    const m4n_pass train = b.pass(B, T, true);
    m4n_pass pass = b.pass(B, T, false);
    pass.slot = ints, pass.pos = ints + B, pass.row_pos = ints + 2 * B;
    const int64_t before = m4n_own_allocations();
    kind.forward(b.block, &train, b.d, b.x, b.work);
    kind.backward(b.block, &train, b.d, b.x, b.work, b.scratch);
    kind.forward(b.block, &pass, b.x, b.x, b.work);
    kind.decode(b.block, &pass, b.x, b.x, b.state, b.work);
    if (kind.reset) kind.reset(b.block, m.s, b.state, 2);
    EXPECT_EQ(m4n_sync(m.s), M4N_OK);
    EXPECT_EQ(m4n_own_allocations(), before);
    m4n_free(m.backend, ints);
  });
}

} // namespace
