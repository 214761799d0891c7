/* Half-width floats of files: IEEE binary16 and bfloat16, to and from float, rounded to nearest even. */
#ifndef M4N_MODEL_HALF_H
#define M4N_MODEL_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float m4n_bf16_value(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static inline uint16_t m4n_bf16_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* NaN stays NaN */
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* sign 1, exponent 5 (bias 15), fraction 10. Moved into a float's places it is too small by 2^112, subnormals too. */
static inline float m4n_half_value(uint16_t h) {
  uint32_t u = (uint32_t)(h & 0x7fff) << 13;
  float f;
  memcpy(&f, &u, sizeof f);
  f *= 0x1p112f;
  if ((h & 0x7c00) == 0x7c00) f = h & 0x3ff ? NAN : INFINITY;
  return h >> 15 ? -f : f;
}

static inline uint16_t m4n_half_bits(float f) {
  uint16_t sign = (uint16_t)(signbit(f) ? 0x8000 : 0);
  f = fabsf(f);
  if (isnan(f)) return sign | 0x7e00;
  if (f >= 65520.0f) return sign | 0x7c00; /* would round to 65536 */
  int exponent;
  frexpf(f, &exponent);
  if (f < 0x1p-14f) exponent = -13; /* zero and subnormal: the smallest step is 2^-24 */
  /* In units of the last place; rintf rounds to even, and a carry into the exponent is what we want. */
  unsigned units = (unsigned)rintf(ldexpf(f, 11 - exponent));
  return (uint16_t)(sign | (units + ((unsigned)(exponent + 13) << 10)));
}

#endif
