#include "agent/learn/ppo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/rng.h"

TEST(Ppo, AdvantagesByHand) {
  // Two episodes in one lane: the second begins behind a done.
  const float reward[] = {1, 2, 3}, value[] = {10, 20, 30, 40};
  const uint8_t done[] = {0, 1, 0};
  float advantage[3], target[3];
  m4n_gae(advantage, target, reward, value, done, 3, 0.5, 0.5);
  EXPECT_FLOAT_EQ(advantage[2], 3 + 0.5f * 40 - 30);
  EXPECT_FLOAT_EQ(advantage[1], 2 - 20);
  EXPECT_FLOAT_EQ(advantage[0], (1 + 0.5f * 20 - 10) + 0.25f * (2 - 20));
  for (int t = 0; t < 3; t++) EXPECT_FLOAT_EQ(target[t], advantage[t] + value[t]);
}

TEST(Ppo, WithLambdaOneTheTargetIsTheDiscountedReturn) {
  const float reward[] = {1, 1, 1, 1}, value[] = {5, -3, 2, 9, 7};
  const uint8_t done[] = {0, 0, 0, 1};
  float advantage[4], target[4];
  m4n_gae(advantage, target, reward, value, done, 4, 0.9, 1);
  EXPECT_NEAR(target[0], 1 + 0.9 + 0.81 + 0.729, 1e-5);
}

TEST(Ppo, RewardsBendAndStayInOrder) {
  EXPECT_EQ(m4n_bent_reward(-9, -10), -9);
  EXPECT_NEAR(m4n_bent_reward(-10.001, -10), -10.001, 1e-6);
  EXPECT_NEAR(m4n_bent_reward(-100, -10), -10 * (1 + log(10)), 1e-12);
  EXPECT_LT(m4n_bent_reward(-500, -10), m4n_bent_reward(-400, -10));
}

TEST(Ppo, AdvantagesAreBounded) {
  EXPECT_FLOAT_EQ(m4n_advantage(3, 1, 0.5), 4);
  EXPECT_FLOAT_EQ(m4n_advantage(-1000, 1, 0.5), -M4N_ADVANTAGE_MAX);
  EXPECT_EQ(m4n_advantage(1, 1, 0), 0) << "all alike";
}

double huber(double e) {
  return fabs(e) < 1 ? 0.5 * e * e : fabs(e) - 0.5;
}

// The gradient against differences of the loss, written down once more and differently.
TEST(Ppo, GradientIsThatOfTheClippedObjective) {
  const int n = 64, K = 5;
  m4n_ppo ppo = {K, 0.2, 0.03, 0.5, 1};
  m4n_rng rng = m4n_rng_make(3, 0, M4N_RNG_TEST);
  std::vector<m4n_real> out(n * (K + 1)), d(out.size());
  std::vector<int32_t> action(n);
  std::vector<float> old(n), advantage(n), target(n);
  for (m4n_real &x : out) x = (m4n_real)m4n_rng_normal(&rng);
  for (int i = 0; i < n; i++) {
    double p[K];
    action[(size_t)i] = (int32_t)m4n_rng_below(&rng, K);
    double logp = m4n_policy_logp(p, &out[(size_t)i * (K + 1)], K, action[(size_t)i]);
    EXPECT_NEAR(exp(logp), p[action[(size_t)i]], 1e-12);
    old[(size_t)i] = (float)(logp + 0.4 * m4n_rng_normal(&rng)); // ratios on both sides of the clip
    advantage[(size_t)i] = (float)m4n_rng_normal(&rng), target[(size_t)i] = (float)m4n_rng_normal(&rng);
  }
  auto loss = [&](const std::vector<m4n_real> &z) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      const m4n_real *row = &z[(size_t)i * (K + 1)];
      double total = 0, entropy = 0;
      for (int a = 0; a < K; a++) total += exp((double)row[a]);
      for (int a = 0; a < K; a++) entropy -= exp((double)row[a]) / total * (row[a] - log(total));
      double ratio = exp(row[action[(size_t)i]] - log(total) - old[(size_t)i]), A = advantage[(size_t)i];
      double clipped = std::min(std::max(ratio, 1 - ppo.clip), 1 + ppo.clip);
      sum += -std::min(ratio * A, clipped * A) - ppo.entropy * entropy +
             ppo.value * huber(row[K] - target[(size_t)i]);
    }
    return sum / n;
  };
  m4n_ppo_stats stats;
  m4n_ppo_gradient(d.data(), &stats, out.data(), action.data(), old.data(), advantage.data(), target.data(),
                   n, &ppo);
  EXPECT_GT(stats.clipped, 0.05);
  EXPECT_LT(stats.clipped, 0.95);
  EXPECT_GT(stats.entropy, 0.5);
  for (size_t j = 0; j < out.size(); j++) {
    const double h = sizeof(m4n_real) == 8 ? 1e-6 : 1e-3;
    std::vector<m4n_real> up = out, down = out;
    up[j] += (m4n_real)h, down[j] -= (m4n_real)h;
    EXPECT_NEAR(d[j], (loss(up) - loss(down)) / ((double)up[j] - down[j]), 2e-5) << j;
  }
}

TEST(Ppo, GradientOfImitation) {
  const int n = 16, K = 4;
  m4n_ppo ppo = {};
  ppo.choices = K, ppo.value = 0.3, ppo.width = 1;
  m4n_rng rng = m4n_rng_make(4, 0, M4N_RNG_TEST);
  std::vector<m4n_real> out(n * (K + 1)), d(out.size());
  std::vector<int32_t> guide(n);
  std::vector<float> target(n);
  for (m4n_real &x : out) x = (m4n_real)m4n_rng_normal(&rng);
  for (int i = 0; i < n; i++)
    guide[(size_t)i] = (int32_t)m4n_rng_below(&rng, K), target[(size_t)i] = (float)m4n_rng_normal(&rng);
  auto loss = [&](const std::vector<m4n_real> &z) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      const m4n_real *row = &z[(size_t)i * (K + 1)];
      double total = 0;
      for (int a = 0; a < K; a++) total += exp((double)row[a]);
      sum += log(total) - row[guide[(size_t)i]] + ppo.value * huber(row[K] - target[(size_t)i]);
    }
    return sum / n;
  };
  m4n_guided_gradient(d.data(), out.data(), guide.data(), target.data(), n, &ppo);
  for (size_t j = 0; j < out.size(); j++) {
    const double h = sizeof(m4n_real) == 8 ? 1e-6 : 1e-3;
    std::vector<m4n_real> up = out, down = out;
    up[j] += (m4n_real)h, down[j] -= (m4n_real)h;
    EXPECT_NEAR(d[j], (loss(up) - loss(down)) / ((double)up[j] - down[j]), 5e-5) << j;
  }
}
