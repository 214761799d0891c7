/* Sums over a row in 32 lanes with a fixed order: a compiler may not reorder a floating-point sum by itself, and where
 * it is allowed to, the order depends on the address. Lane i takes elements i, i + 32, …; lanes are added pairwise.
 */
#ifndef M4N_KERNELS_CPU_LANES_H
#define M4N_KERNELS_CPU_LANES_H

#include "kernels/ops.h"

enum { M4N_LANES = 32 };

static inline m4n_real m4n_lanes_total(m4n_real lane[M4N_LANES]) {
  for (int half = M4N_LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}

/* Σ EXPRESSION over i = 0 … n−1; the expression uses i. */
#define M4N_ROW_SUM(result, n, i, expression)                                                                \
  do {                                                                                                       \
    m4n_real m4n_lane[M4N_LANES] = {0};                                                                      \
    const int m4n_whole = (n) / M4N_LANES * M4N_LANES;                                                       \
    for (int m4n_at = 0; m4n_at < m4n_whole; m4n_at += M4N_LANES)                                            \
      for (int m4n_j = 0; m4n_j < M4N_LANES; m4n_j++) {                                                      \
        const int i = m4n_at + m4n_j;                                                                        \
        m4n_lane[m4n_j] += (expression);                                                                     \
      }                                                                                                      \
    for (int i = m4n_whole; i < (n); i++) m4n_lane[i - m4n_whole] += (expression);                           \
    (result) = m4n_lanes_total(m4n_lane);                                                                    \
  } while (0)

#endif
