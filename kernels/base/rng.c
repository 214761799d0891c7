#include "kernels/base/rng.h"

#include <math.h>

// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Philox4x32 with ten
// rounds.
void m4n_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = (uint32_t)b, c2 = n2, c3 = (uint32_t)a;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

m4n_rng m4n_rng_make(uint64_t seed, uint64_t episode, uint32_t purpose) {
  return (m4n_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                   .counter = {0, purpose, (uint32_t)episode, (uint32_t)(episode >> 32)}};
}

uint32_t m4n_rng_u32(m4n_rng *rng) {
  if (!rng->left) {
    m4n_philox4x32(rng->out, rng->counter, rng->key);
    rng->counter[0]++;
    rng->left = 4;
  }
  return rng->out[4 - rng->left--];
}

uint64_t m4n_rng_u64(m4n_rng *rng) {
  uint64_t low = m4n_rng_u32(rng);
  return low | (uint64_t)m4n_rng_u32(rng) << 32;
}

double m4n_rng_uniform(m4n_rng *rng) {
  return (double)(m4n_rng_u64(rng) >> 11) * 0x1p-53;
}

// Lemire's multiply-and-reject: unbiased, and a rejection is rare.
uint32_t m4n_rng_below(m4n_rng *rng, uint32_t n) {
  uint64_t m = (uint64_t)m4n_rng_u32(rng) * n;
  if ((uint32_t)m < n)
    for (uint32_t least = -n % n; (uint32_t)m < least;) m = (uint64_t)m4n_rng_u32(rng) * n;
  return (uint32_t)(m >> 32);
}

double m4n_rng_normal(m4n_rng *rng) {
  double u = 1 - m4n_rng_uniform(rng); // (0, 1]: the logarithm is finite
  double v = m4n_rng_uniform(rng);
  return sqrt(-2 * log(u)) * cos(6.283185307179586476925 * v);
}

double m4n_rng_exponential(m4n_rng *rng) {
  return -log(1 - m4n_rng_uniform(rng));
}
