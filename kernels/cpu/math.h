/* Functions of one number that compilers can vectorise: no tables, no calls, no branches. libm's are scalar calls, and
 * were half of the time of a scan.
 *
 * Polynomials are minimax fits (Lawson's iteration on Chebyshev nodes, in 40 digits). Accuracy, measured over all
 * float32 arguments or a dense sample (tests/kernels/math_test.cc asserts these):
 *   exp       2 ulp on [-87, 88.37]; below exactly 0, above inf; NaN stays NaN
 *   exp2      2 ulp on [-126, 127]
 *   sigmoid, silu, softplus, tanh, erfc-based gelu: relative error below 1e-6 wherever the result is a normal number
 * In the f64 build all of them are libm's, since gradients are checked there to 1e-6 and better.
 */
#ifndef M4N_KERNELS_CPU_MATH_H
#define M4N_KERNELS_CPU_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/ops.h"

#ifdef M4N_REAL_F64

static inline double m4n_exp(double x) {
  return exp(x);
}
static inline double m4n_exp2(double x) {
  return exp2(x);
}
static inline double m4n_softplus(double x) {
  return x > 20 ? x + exp(-x) : log1p(exp(x));
}
static inline double m4n_tanh(double x) {
  return tanh(x);
}
/* Φ(x), the normal distribution. */
static inline double m4n_normal_cdf(double x) {
  return 0.5 * erfc(-x * 0.70710678118654752440);
}

#else

static inline uint32_t m4n_bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float m4n_float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* x = n·ln 2 + r with |r| ≤ ln 2/2: eˣ = 2ⁿ·eʳ. Adding 1.5·2²³ rounds x/ln 2 and leaves n in the low bits. */
static inline float m4n_exp(float x) {
  const float round = 12582912.f;
  float shifted = x * 1.44269504f + round, n = shifted - round;
  float r = x - n * 0.693145752f; /* ln 2 in two parts, the first of which has few bits, so n·part is exact */
  r = r - n * 1.42860677e-6f;
  float p = 0.001381456031f;
  p = p * r + 0.008368736116f;
  p = p * r + 0.04166838989f;
  p = p * r + 0.1666652047f;
  p = p * r + 0.4999999344f;
  p = p * (r * r) + r + 1.f;
  float y = m4n_float_of(m4n_bits_of(p) + (m4n_bits_of(shifted) << 23));
  y = x < -87.f ? 0.f : y;
  return x <= 88.37f ? y : x + INFINITY; /* so NaN stays NaN */
}

/* 2ˣ for x < 127, in fewer instructions than m4n_exp: what comes below 2⁻¹²⁶ is that, and of NaN only the processor's own
 * stays NaN. */
static inline float m4n_exp2(float x) {
  const float round = 12582912.f;
  x = x < -126.f ? -126.f : x;
  float shifted = x + round, r = x - (shifted - round);
  float p = 0.0001535335854f;
  p = p * r + 0.001339887481f;
  p = p * r + 0.009618437374f;
  p = p * r + 0.0555033247f;
  p = p * r + 0.2402264791f;
  p = p * r + 0.6931472029f;
  p = p * r + 1.f;
  return m4n_float_of(m4n_bits_of(p) + (m4n_bits_of(shifted) << 23));
}

/* ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), and ln(1 + v) = 2 artanh(v/(2 + v)). */
static inline float m4n_softplus(float x) {
  float v = m4n_exp(-fabsf(x)), t = v / (2.f + v), q = t * t;
  float p = 0.1408910171f;
  p = p * q + 0.1398031893f;
  p = p * q + 0.2001245359f;
  p = p * q + 0.3333315739f;
  p = p * q + 1.f;
  return (x > 0.f ? x : 0.f) + 2.f * t * p;
}

/* An odd polynomial near 0, else through e^−2|x|. */
static inline float m4n_tanh(float x) {
  float a = fabsf(x), q = x * x, e = m4n_exp(-2.f * a);
  float p = -0.005660022271f;
  p = p * q + 0.02059102672f;
  p = p * q - 0.05372108407f;
  p = p * q + 0.1333112783f;
  p = p * q - 0.3333326055f;
  float small = x + x * q * p, large = copysignf((1.f - e) / (1.f + e), x);
  return a < 0.625f ? small : large;
}

/* Φ(x) = erfc(−x/√2)/2; erfc(a) = e^−a²·P(1/(1 + 0.4a)) for a ≥ 0, erfc(−a) = 2 − erfc(a). */
static inline float m4n_normal_cdf(float x) {
  float a = fabsf(x) * 0.707106781f, t = 1.f / (1.f + 0.4f * a);
  float p = -0.02959395654f;
  p = p * t + 0.1980112328f;
  p = p * t - 0.4988070411f;
  p = p * t + 0.5474297902f;
  p = p * t - 0.2843622289f;
  p = p * t + 0.272063973f;
  p = p * t + 0.129680339f;
  p = p * t + 0.2149189523f;
  p = p * t + 0.2249520385f;
  p = p * t + 0.2257069084f;
  float tail = 0.5f * t * p * m4n_exp(-0.5f * x * x);
  return x > 0.f ? 1.f - tail : tail;
}

#endif

/* The nearest whole number, ties to even, of a number far below 2²² in size. */
static inline m4n_real m4n_round(m4n_real x) {
  const m4n_real whole = sizeof x == 4 ? (m4n_real)12582912 : (m4n_real)6755399441055744;
  return x + whole - whole;
}
/* bf16, the upper half of a float32, to nearest, ties to even; NaN keeps a bit so that it stays one. */
static inline uint16_t m4n_bf16_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}
static inline float m4n_of_bf16(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
static inline m4n_real m4n_sqrt(m4n_real x) {
#ifdef M4N_REAL_F64
  return sqrt(x);
#else
  return sqrtf(x);
#endif
}
static inline m4n_real m4n_sigmoid(m4n_real x) {
  return 1 / (1 + m4n_exp(-x));
}
static inline m4n_real m4n_silu(m4n_real x) {
  return x * m4n_sigmoid(x);
}
/* silu'(x) = σ(x)(1 + x(1 − σ(x))) */
static inline m4n_real m4n_silu_grad(m4n_real x) {
  m4n_real g = m4n_sigmoid(x);
  return g * (1 + x * (1 - g));
}
/* φ(x), the normal density */
static inline m4n_real m4n_normal_pdf(m4n_real x) {
  return (m4n_real)0.39894228040143267794 * m4n_exp((m4n_real)-0.5 * x * x);
}

#endif
