/* The functions of kernels/cpu/math.h over all of float32 or a dense part of it: what that header states. The test is
 * compiled for the plain processor, without fused multiply-add; ops_test sees the other variants. */
#include <gtest/gtest.h>

extern "C" {
#include "kernels/cpu/math.h"
}

namespace {

#ifndef M4N_REAL_F64

/* In units of the last place of the exact result. */
double ulps(float got, double exact) {
  return fabs(got - exact) / (nextafterf(fabsf((float)exact), INFINITY) - fabsf((float)exact));
}

// Every float of a range, in steps of a few of them.
template <class F> void each(float from, float to, uint32_t step, F f) {
  for (float sign : {1.f, -1.f})
    for (uint32_t bits = m4n_bits_of(from); bits <= m4n_bits_of(to); bits += step)
      f(sign * m4n_float_of(bits));
}

TEST(Exp, IsWithinTwoUlpsWhereItIsANumber) {
  double worst = 0;
  each(1e-30f, 88.36f, 97, [&](float x) {
    if (x >= -87) worst = fmax(worst, ulps(m4n_exp(x), exp((double)x)));
  });
  EXPECT_LE(worst, 2);
  EXPECT_GT(worst, 0.4); // it was measured at all
}

TEST(Exp2, IsWithinTwoUlpsWhereItIsANumber) {
  double worst = 0;
  each(1e-30f, 126.9f, 97, [&](float x) {
    if (x >= -126) worst = fmax(worst, ulps(m4n_exp2(x), exp2((double)x)));
  });
  EXPECT_LE(worst, 2);
  EXPECT_GT(worst, 0.4); // it was measured at all
  EXPECT_EQ(m4n_exp2(0), 1);
  EXPECT_EQ(m4n_exp2(-INFINITY), m4n_exp2(-126));
  EXPECT_LT(m4n_exp2(-127), 2e-38f);
  EXPECT_TRUE(std::isnan(m4n_exp2(NAN)));
}

TEST(Exp, EndsCleanly) {
  EXPECT_EQ(m4n_exp(0), 1);
  EXPECT_EQ(m4n_exp(-87.1f), 0);
  EXPECT_EQ(m4n_exp(-1e30f), 0);
  EXPECT_EQ(m4n_exp(-INFINITY), 0);
  EXPECT_EQ(m4n_exp(88.4f), INFINITY);
  EXPECT_EQ(m4n_exp(1e30f), INFINITY);
  EXPECT_EQ(m4n_exp(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(m4n_exp(NAN)));
  EXPECT_TRUE(std::isnan(m4n_exp(m4n_float_of(0x7f800001)))) << "of any payload";
  EXPECT_TRUE(std::isnan(m4n_exp(m4n_float_of(0xffc00123))));
}

/* The largest relative error where the result is a normal number. */
template <class F, class G> double relative(float to, F f, G exact) {
  double worst = 0;
  each(1e-20f, to, 997, [&](float x) {
    const double y = exact((double)x);
    if (fabs(y) > 2e-38) worst = fmax(worst, fabs(f(x) - y) / fabs(y));
  });
  return worst;
}

TEST(Functions, AreWithinOneMillionth) {
  EXPECT_LT(relative(86, m4n_sigmoid, [](double x) { return 1 / (1 + exp(-x)); }), 1e-6);
  EXPECT_LT(relative(80, m4n_silu, [](double x) { return x / (1 + exp(-x)); }), 1e-6);
  EXPECT_LT(relative(86, m4n_softplus, [](double x) { return x > 40 ? x : log1p(exp(x)); }), 1e-6);
  EXPECT_LT(relative(100, m4n_tanh, [](double x) { return tanh(x); }), 1e-6);
  // The square of x enters the exponential: towards the tail its rounding is multiplied by x²/2.
  EXPECT_LT(relative(4, m4n_normal_cdf, [](double x) { return 0.5 * erfc(-x * M_SQRT1_2); }), 2e-6);
}

TEST(Functions, KeepWhatIsNoNumber) {
  for (float (*f)(float) : {m4n_sigmoid, m4n_silu, m4n_softplus, m4n_tanh, m4n_normal_cdf})
    EXPECT_TRUE(std::isnan(f(NAN)));
  EXPECT_EQ(m4n_softplus(-INFINITY), 0);
  EXPECT_EQ(m4n_softplus(INFINITY), INFINITY);
  EXPECT_EQ(m4n_tanh(-INFINITY), -1);
  EXPECT_EQ(m4n_normal_cdf(INFINITY), 1);
  EXPECT_EQ(m4n_sigmoid(-INFINITY), 0);
}

#else

TEST(Functions, AreTheLibrarysInTheF64Build) {
  for (double x = -30; x < 30; x += 0.37) {
    EXPECT_EQ(m4n_exp(x), exp(x));
    EXPECT_NEAR(m4n_softplus(x), log1p(exp(x)), 1e-14 * log1p(exp(x)));
    EXPECT_EQ(m4n_tanh(x), tanh(x));
  }
}

#endif

TEST(Round, IsToNearestTiesToEven) {
  for (double x : {-126.5, -2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 0.49, 126.51})
    EXPECT_EQ(m4n_round((m4n_real)x), nearbyint(x));
}

TEST(Bf16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(m4n_of_bf16(m4n_bf16_of(1.00390625f)), 1.0f);
  EXPECT_EQ(m4n_of_bf16(m4n_bf16_of(1.01171875f)), 1.015625f);
  EXPECT_EQ(m4n_of_bf16(m4n_bf16_of(3.4e38f)), INFINITY);
  EXPECT_TRUE(std::isnan(m4n_of_bf16(m4n_bf16_of(NAN))));
  const uint32_t quiet = 0x7f800001; // only low bits set: they must not vanish
  float x;
  memcpy(&x, &quiet, 4);
  EXPECT_TRUE(std::isnan(m4n_of_bf16(m4n_bf16_of(x))));
}

} // namespace
