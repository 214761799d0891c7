#include "agent/learn/stats.h"

#include <gtest/gtest.h>
#include <math.h>

#include <chrono>
#include <vector>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "tests/support/alloc.h"

namespace {

double wilcoxon(const std::vector<double> &d) {
  double p = -1;
  EXPECT_EQ(m4n_wilcoxon(&p, d.data(), (int)d.size()), M4N_OK);
  return p;
}

TEST(Stats, MeanAndQuantiles) {
  double x[] = {3, NAN, 1, 2, 10};
  int n;
  EXPECT_DOUBLE_EQ(m4n_mean(x, 5, &n), 4);
  EXPECT_EQ(n, 4);
  EXPECT_TRUE(std::isnan(m4n_mean(x + 1, 1, &n)));
  ASSERT_EQ(m4n_sort(x, 5), 4);
  EXPECT_DOUBLE_EQ(x[0], 1);
  EXPECT_DOUBLE_EQ(x[3], 10);
  // R: quantile(c(1, 2, 3, 10), c(0, .05, .5, .95, 1)) is 1, 1.15, 2.5, 8.95, 10
  EXPECT_DOUBLE_EQ(m4n_quantile(x, 4, 0), 1);
  EXPECT_DOUBLE_EQ(m4n_quantile(x, 4, 0.05), 1.15);
  EXPECT_DOUBLE_EQ(m4n_quantile(x, 4, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(m4n_quantile(x, 4, 0.95), 8.95);
  EXPECT_DOUBLE_EQ(m4n_quantile(x, 4, 1), 10);
  EXPECT_TRUE(std::isnan(m4n_quantile(x, 0, 0.5)));
}

// Hollander and Wolfe (1973), depression scale of nine patients before and after; R's help of wilcox.test: V = 40,
// p = 0.01953 one-sided.
TEST(Stats, WilcoxonEqualsPublishedValues) {
  const double x[] = {1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30};
  const double y[] = {0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};
  std::vector<double> d;
  for (int i = 0; i < 9; i++) d.push_back(x[i] - y[i]);
  EXPECT_DOUBLE_EQ(wilcoxon(d), 0.0390625);
  // Darwin's maize (SciPy's help): W = 24, p = 0.041259765625
  EXPECT_DOUBLE_EQ(wilcoxon({6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75}), 0.041259765625);
}

TEST(Stats, WilcoxonByHand) {
  EXPECT_DOUBLE_EQ(wilcoxon({}), 1);
  EXPECT_DOUBLE_EQ(wilcoxon({0, 0}), 1);
  EXPECT_DOUBLE_EQ(wilcoxon({1, 0}), 1);           // one coin
  EXPECT_DOUBLE_EQ(wilcoxon({1, 2, 3}), 0.25);     // all of one sign: 2 / 2^3
  EXPECT_DOUBLE_EQ(wilcoxon({-1, -2, -3}), 0.25);  // and the other
  EXPECT_DOUBLE_EQ(wilcoxon({-1, 2, 3, 4}), 0.25); // W <= 1: {} and {1}, 2 * 2/16
  // Ties: ranks 1.5 1.5 3, 4, 5.5, 5.5; minus = 1.5; mean 10.5, variance 22.75 - 12/48
  double z = (10.5 - 1.5 - 0.5) / sqrt(22.75 - 0.25);
  EXPECT_NEAR(wilcoxon({-1, 1, 2, 3, 4, 4}), erfc(z / sqrt(2)), 1e-12);
}

// 50 differences are counted out, 51 are not; there the normal approximation is a few per cent away.
TEST(Stats, WilcoxonExactMeetsNormal) {
  std::vector<double> d;
  for (int n = 1; n <= 51; n++) {
    d.push_back(n % 3 ? n : -n);
    if (n < 50) continue;
    double minus = n == 50 ? 408 : 459, mean = n * (n + 1) / 4.0, deviation = sqrt(mean * (2 * n + 1) / 6);
    double normal = erfc((mean - minus - 0.5) / deviation / sqrt(2)), p = wilcoxon(d);
    EXPECT_NEAR(p, normal, n == 50 ? 0.05 * normal : 1e-15) << n;
    EXPECT_EQ(n == 50, fabs(p - normal) > 1e-4) << n;
  }
}

TEST(Stats, HolmEqualsR) {
  // R: p.adjust(c(0.02, 0.01, 0.04, 0.03), "holm") is 0.06 0.04 0.06 0.06
  const double p[] = {0.02, 0.01, 0.04, 0.03}, want[] = {0.06, 0.04, 0.06, 0.06};
  double got[4];
  ASSERT_EQ(m4n_holm(got, p, 4), M4N_OK);
  for (int i = 0; i < 4; i++) EXPECT_DOUBLE_EQ(got[i], want[i]);
  const double large[] = {0.6, 0.7};
  ASSERT_EQ(m4n_holm(got, large, 2), M4N_OK);
  EXPECT_EQ(got[0], 1);
  EXPECT_EQ(got[1], 1);
  ASSERT_EQ(m4n_holm(got, p, 0), M4N_OK);
}

TEST(Stats, BootstrapIsRepeatableAndSeeded) {
  std::vector<double> x(40);
  m4n_rng rng = m4n_rng_make(1, 1, M4N_RNG_TEST);
  for (double &v : x) v = m4n_rng_normal(&rng);
  m4n_interval a, b, c;
  m4n_bootstrap one = {1000, 1, 0}, two = {1000, 2, 0};
  ASSERT_EQ(m4n_bootstrap_means(&a, x.data(), 40, 1, &one), M4N_OK);
  ASSERT_EQ(m4n_bootstrap_means(&b, x.data(), 40, 1, &one), M4N_OK);
  ASSERT_EQ(m4n_bootstrap_means(&c, x.data(), 40, 1, &two), M4N_OK);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(a.low, c.low);
  m4n_bootstrap few = {99, 1, 0};
  EXPECT_EQ(m4n_bootstrap_means(&a, x.data(), 40, 1, &few), M4N_EARG);
}

// Columns are resampled together and do not see each other; missing values are left out.
TEST(Stats, BootstrapColumns) {
  const int n = 60;
  m4n_rng rng = m4n_rng_make(1, 2, M4N_RNG_TEST);
  std::vector<double> a(n), table(4 * n);
  double gap = 0;
  for (int i = 0; i < n; i++) {
    a[i] = m4n_rng_exponential(&rng);
    table[4 * i] = a[i];
    table[4 * i + 1] = a[i] + 5;
    table[4 * i + 2] = i % 2 ? NAN : a[i];
    table[4 * i + 3] = 3;
    gap += i % 2 ? 0 : a[i] / (n / 2);
  }
  m4n_bootstrap options = {2000, 3, 0};
  m4n_interval alone, all[4];
  ASSERT_EQ(m4n_bootstrap_means(&alone, a.data(), n, 1, &options), M4N_OK);
  ASSERT_EQ(m4n_bootstrap_means(all, table.data(), n, 4, &options), M4N_OK);
  EXPECT_EQ(alone.low, all[0].low);
  EXPECT_EQ(alone.high, all[0].high);
  EXPECT_NEAR(all[1].low, all[0].low + 5, 1e-12);
  EXPECT_LT(all[2].low, gap);
  EXPECT_GT(all[2].high, gap);
  EXPECT_GT(all[2].high - all[2].low, all[0].high - all[0].low); // half the data
  EXPECT_EQ(all[3].low, 3);
  EXPECT_EQ(all[3].high, 3);
}

TEST(Stats, BootstrapOfLittle) {
  m4n_interval ci;
  m4n_bootstrap options = {200, 1, 0};
  double one[] = {4}, none[] = {NAN, NAN}, half[] = {NAN, 2};
  ASSERT_EQ(m4n_bootstrap_means(&ci, one, 1, 1, &options), M4N_OK);
  EXPECT_EQ(ci.low, 4);
  EXPECT_EQ(ci.high, 4);
  ASSERT_EQ(m4n_bootstrap_means(&ci, half, 2, 1, &options), M4N_OK);
  EXPECT_EQ(ci.low, 2);
  ASSERT_EQ(m4n_bootstrap_means(&ci, none, 2, 1, &options), M4N_OK);
  EXPECT_TRUE(std::isnan(ci.low));
  ASSERT_EQ(m4n_bootstrap_means(&ci, none, 0, 1, &options), M4N_OK);
  EXPECT_TRUE(std::isnan(ci.low));
}

// For many normal values the interval is mean +- 1.96 s/sqrt(n).
TEST(Stats, BootstrapOfNormalValues) {
  const int n = 400;
  std::vector<double> x(n);
  m4n_rng rng = m4n_rng_make(1, 3, M4N_RNG_TEST);
  double mean = 0, variance = 0;
  for (double &v : x) v = 10 + m4n_rng_normal(&rng), mean += v / n;
  for (double v : x) variance += (v - mean) * (v - mean) / n;
  m4n_interval ci;
  m4n_bootstrap options = {0, 1, 0};
  ASSERT_EQ(m4n_bootstrap_means(&ci, x.data(), n, 1, &options), M4N_OK);
  double half = 1.959964 * sqrt(variance / n);
  EXPECT_NEAR(ci.low, mean - half, 0.03 * half);
  EXPECT_NEAR(ci.high, mean + half, 0.03 * half);
}

// Skewed data, the reason for BCa: 95 % intervals of 40 exponential values cover the mean in about 94 % of cases.
TEST(Stats, BootstrapCovers) {
  const int n = 40, columns = 500;
  std::vector<double> x(n * columns);
  m4n_rng rng = m4n_rng_make(1, 4, M4N_RNG_TEST);
  for (double &v : x) v = m4n_rng_exponential(&rng);
  std::vector<m4n_interval> ci(columns);
  m4n_bootstrap options = {1000, 1, 0};
  ASSERT_EQ(m4n_bootstrap_means(ci.data(), x.data(), n, columns, &options), M4N_OK);
  int covered = 0;
  for (const m4n_interval &i : ci) covered += i.low <= 1 && 1 <= i.high;
  EXPECT_GT(covered, 0.91 * columns);
  EXPECT_LT(covered, 0.98 * columns);
}

// Eight policies, ten metrics, 81 episodes and 28 pairs: far below a second.
TEST(Stats, BootstrapIsFast) {
  if (m4n_sanitized()) GTEST_SKIP() << "timed without sanitizers only";
  std::vector<double> x(81 * 108, 1.0);
  for (size_t i = 0; i < x.size(); i++) x[i] = (double)(i * 7919 % 1000);
  std::vector<m4n_interval> ci(108);
  auto begin = std::chrono::steady_clock::now();
  m4n_bootstrap options = {0, 1, 0};
  ASSERT_EQ(m4n_bootstrap_means(ci.data(), x.data(), 81, 108, &options), M4N_OK);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LT(seconds, 2);
}

} // namespace
