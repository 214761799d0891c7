/* Packed weights: how they lie in memory, and who multiplies by them.
 *
 * Numbers of a weight that the product y[rows][N] = x[rows][K]·w reads together lie together: a panel holds 32 columns of
 * y, and in it lie, for every K, 1 (M4N_W_PACKED), 2 (bf16) or 4 (int8) neighbours of each column:
 *
 *     w[panel][depth/g][32][g],  g = 1, 2, 4;  depth: K, for bf16 and int8 rounded up to 64 bytes of zeros
 *
 * so a product with few rows reads its weights once, from front to back, as fast as memory gives them. Products are ours
 * for every number of rows, so a row's result is the row's own by construction: a sum over K of one order. Of a gated
 * layer, panels of the first and the second half of w's rows take turns, so that a gate and what it lets through come
 * from one tile.
 */
#ifndef M4N_KERNELS_CPU_PACKED_H
#define M4N_KERNELS_CPU_PACKED_H

#include <stdbool.h>

#include "kernels/ops.h"

enum { M4N_PANEL = 32, M4N_TILE_ROWS = 32 };

/* One product with packed weights: forward, or dx from dy. */
typedef struct m4n_packed {
  int N, K, depth, panels;
  int pair;         /* panels for 32 columns of y: 2 where the layer is gated, else 1 */
  size_t panel, at; /* bytes of a panel; where the first one lies inside the weights */
} m4n_packed;

/* Up to 32 rows of x as tiles read them, [rows/16][row/64][16][64 bytes], where `row` is bytes of a row. Bytes from … to
 * are multiplied, whole pieces of 64: the first piece of a row begins the sums, later ones go on from c. */
typedef struct m4n_tiled_rows {
  const char *x;
  size_t row, from, to;
  int rows;
} m4n_tiled_rows;

/* The processor's matrix tiles (amx.c), where it has them: c[16 or 32][32] = x·panel, as float32 of bf16 or int32 of int8;
 * c_row is bytes from a row of c to the next. */
typedef struct m4n_tile_unit {
  void (*begin)(void); /* before a thread's first product … */
  void (*end)(void);   /* … and after its last: the system then has no tiles to save */
  void (*bf16)(void *c, size_t c_row, const m4n_tiled_rows *x, const char *panel);
  void (*int8)(void *c, size_t c_row, const m4n_tiled_rows *x, const char *panel);
} m4n_tile_unit;

/* NULL where the processor has none or the system does not lend it. */
const m4n_tile_unit *m4n_tile_unit_here(void);

#endif
