/* Packed weights: how they lie in memory, and who multiplies by them.
 *
 * Numbers of a weight that the product y[rows][N] = x[rows][K]·w reads together lie together: a panel holds 32 columns of
 * y, and in it lie, for every K, 1 (M4N_W_PACKED), 2 (bf16) or 4 (int8) neighbours of each column:
 *
 *     w[panel][depth/g][32][g],  g = 1, 2, 4;  depth: K, for bf16 and int8 rounded up to 64 bytes of zeros
 *
 * so a product with few rows reads its weights once, from front to back, as fast as memory gives them. Products are ours
 * for every number of rows, so a row's result is the row's own by construction: a sum over K of one order.
 */
#ifndef M4N_KERNELS_CPU_PACKED_H
#define M4N_KERNELS_CPU_PACKED_H

#include <stdbool.h>

#include "kernels/ops.h"

enum { M4N_PANEL = 32, M4N_TILE_ROWS = 32 };

/* One product with packed weights: forward, or dx from dy. */
typedef struct m4n_packed {
  int N, K, depth, panels;
  size_t panel, at; /* bytes of a panel; where the first one lies inside the weights */
} m4n_packed;

/* The processor's matrix tiles (amx.c), where it has them: c[rows][32] = x·panel for 16 or 32 rows, as float32 of bf16 or
 * int32 of int8. `depth` is bytes of a row, 64 at a time; x lies as [rows/16][depth/64][16][64 bytes]. */
typedef struct m4n_tile_unit {
  void (*begin)(void); /* before a thread's first product … */
  void (*end)(void);   /* … and after its last: the system then has no tiles to save */
  void (*bf16)(float *c, const void *x, const void *panel, size_t depth, int rows);
  void (*int8)(int32_t *c, const void *x, const void *panel, size_t depth, int rows);
} m4n_tile_unit;

/* NULL where the processor has none or the system does not lend it. */
const m4n_tile_unit *m4n_tile_unit_here(void);

#endif
