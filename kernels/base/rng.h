/* Random numbers without hidden state: Philox4x32-10 (Salmon et al., SC 2011), keyed by (seed, episode,
 * purpose).
 *
 * A stream is named by what it is for, never by who draws from it: the lane, the thread and the transport do
 * not enter, so that any split of the work gives the same numbers. A stream is plain bytes and may be copied
 * or saved.
 *
 *     m4n_rng rng = m4n_rng_make(seed, episode, M4N_RNG_START);
 *     int row = 1 + (int)m4n_rng_below(&rng, rows - 1);
 */
#ifndef M4N_BASE_RNG_H
#define M4N_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a stream is for. Add at the end: the numbers are part of every published result. */
enum m4n_rng_purpose {
  M4N_RNG_START = 1, /* where in a trace an episode begins */
  M4N_RNG_NOISE,     /* noise of the simulated world */
  M4N_RNG_ACTION,    /* sampled actions */
  M4N_RNG_INIT,      /* initial weights */
  M4N_RNG_DATA,      /* order of training windows */
  M4N_RNG_DROPOUT,
  M4N_RNG_BOOTSTRAP, /* resampling in statistics */
  M4N_RNG_GENERATE,  /* synthetic traces, videos and jobs */
  M4N_RNG_TEST,
  M4N_RNG_ROLLOUT /* seeds of episodes that are played while something learns */
};

typedef struct m4n_rng {
  uint32_t key[2];     /* seed */
  uint32_t counter[4]; /* block, purpose, episode (low, high) */
  uint32_t out[4];     /* the current block */
  uint32_t left;       /* words of `out` not drawn yet */
} m4n_rng;

m4n_rng m4n_rng_make(uint64_t seed, uint64_t episode, uint32_t purpose);

uint32_t m4n_rng_u32(m4n_rng *rng);
uint64_t m4n_rng_u64(m4n_rng *rng);
double m4n_rng_uniform(m4n_rng *rng);             /* [0, 1), 53 bits */
uint32_t m4n_rng_below(m4n_rng *rng, uint32_t n); /* 0 … n-1 without bias; n > 0 */
double m4n_rng_normal(m4n_rng *rng);              /* mean 0, deviation 1 (Box–Muller, two draws a call) */
double m4n_rng_exponential(m4n_rng *rng);         /* mean 1 */

/* The bare function: ten rounds on (counter, key) -> out. For kernels that fill arrays and for the test
 * against the published vectors. */
void m4n_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#ifdef __cplusplus
}
#endif
#endif
