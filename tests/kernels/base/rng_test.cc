#include "kernels/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

// The known answers that Random123 ships for philox4x32-10 (kat_vectors).
TEST(Rng, PhiloxKnownAnswers) {
  const struct {
    uint32_t counter[4], key[2], out[4];
  } kat[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
             {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
              {0xffffffff, 0xffffffff},
              {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
             {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
              {0xa4093822, 0x299f31d0},
              {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
  for (const auto &k : kat) {
    uint32_t out[4];
    m4n_philox4x32(out, k.counter, k.key);
    for (int i = 0; i < 4; i++) EXPECT_EQ(out[i], k.out[i]);
  }
}

TEST(Rng, StreamsAreKeyedBySeedEpisodeAndPurpose) {
  m4n_rng a = m4n_rng_make(1, 2, M4N_RNG_START), b = a;
  EXPECT_EQ(m4n_rng_u64(&a), m4n_rng_u64(&b));
  m4n_rng other[] = {m4n_rng_make(2, 2, M4N_RNG_START), m4n_rng_make(1, 3, M4N_RNG_START),
                     m4n_rng_make(1, 2, M4N_RNG_NOISE), m4n_rng_make(1, 2 + (1ull << 32), M4N_RNG_START)};
  m4n_rng first = m4n_rng_make(1, 2, M4N_RNG_START);
  uint64_t word = m4n_rng_u64(&first);
  for (m4n_rng &o : other) EXPECT_NE(m4n_rng_u64(&o), word);
}

TEST(Rng, Distributions) {
  m4n_rng rng = m4n_rng_make(7, 0, M4N_RNG_TEST);
  const int n = 200000;
  double uniform = 0, normal = 0, square = 0, exponential = 0;
  std::vector<int> hits(7);
  for (int i = 0; i < n; i++) {
    double u = m4n_rng_uniform(&rng);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    uniform += u;
    double x = m4n_rng_normal(&rng);
    normal += x, square += x * x;
    exponential += m4n_rng_exponential(&rng);
    uint32_t k = m4n_rng_below(&rng, 7);
    ASSERT_LT(k, 7u);
    hits[k]++;
  }
  // Five standard errors each.
  EXPECT_NEAR(uniform / n, 0.5, 5 * 0.2887 / std::sqrt(n));
  EXPECT_NEAR(normal / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(exponential / n, 1, 5 / std::sqrt(n));
  for (int h : hits) EXPECT_NEAR(h, n / 7.0, 5 * std::sqrt(n / 7.0));
}
