/* Sizes that ops need and that do not depend on a backend. */
#include "kernels/ops.h"

static size_t ceil_div(size_t a, size_t b) {
  return (a + b - 1) / b;
}

size_t m4n_scan_saved(const m4n_scan *shape) {
  return (size_t)shape->B * ceil_div((size_t)shape->T, M4N_SCAN_SEGMENT) * (size_t)shape->N *
         (size_t)shape->C;
}

// Per batch and channel the sums for A, D and the bias; where a group has several tiles, B̄ and C̄ of each.
size_t m4n_scan_scratch(const m4n_scan *shape) {
  const size_t B = (size_t)shape->B, C = (size_t)shape->C, N = (size_t)shape->N, G = (size_t)shape->G;
  const size_t tiles = ceil_div(C / G, M4N_SCAN_TILE);
  return B * C * (N + 2) + (tiles > 1 ? 2 * tiles * B * (size_t)shape->T * G * N : 0);
}
