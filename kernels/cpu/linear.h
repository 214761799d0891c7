/* The CPU's plan of a linear layer: linear_plan.c makes it; linear.c runs it where weights are plain (M4N_W_REAL), and
 * packed.c where they are packed.
 *
 * A product with plain weights is cut into fixed tiles, each one call of a single-threaded library product (gemm.h): columns of a fixed
 * width times rows in pieces of the plan's own size, then of 64, then of 16; what is left is padded to 16 or 8 rows.
 * A row's result must not depend on how many rows there are, but libraries take other kernels for other numbers of rows:
 * so the plan tries its pieces, and uses those that give the bytes of the piece of 16. Operands of the library are dense,
 * always: copies are made where they are not, and results go by way of scratch, since oneDNN's fast products take no
 * distances between rows. */
#ifndef M4N_KERNELS_CPU_LINEAR_H
#define M4N_KERNELS_CPU_LINEAR_H

#include "kernels/backend_kind.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/packed.h"

enum { M4N_PIECE = 16 };
enum { M4N_ROWS_MAIN, M4N_ROWS_64, M4N_ROWS_16, M4N_ROWS_8, M4N_ROW_SIZES };

/* y[rows][N] = x[rows][K]·w: the forward, or dx from dy. */
typedef struct m4n_product {
  int N, K;
  int column, columns;     /* width of a tile of columns (the last may be narrower), and their number */
  int rows[M4N_ROW_SIZES]; /* of a piece; 0: not used */
  m4n_gemm *gemm[M4N_ROW_SIZES][2]; /* [piece][0: full width, 1: the last column] */
} m4n_product;

/* dw[out][in] += dyᵀ·x: tiles of dw, each summed over pieces of 128, then of 16 rows. */
typedef struct m4n_weight_product {
  int tile_out, tile_in, tiles_out, tiles_in;
  m4n_gemm *gemm[2][2][2]; /* [128 rows, 16][last tile of out][last tile of in] */
} m4n_weight_product;
enum { M4N_SUM_ROWS = 128 };

typedef struct m4n_cpu_linear {
  m4n_linear linear;
  struct m4n_cpu_linear *next;
  struct m4n_cpu_workspace *work;
  /* Plain weights. */
  bool copy_x, copy_dy; /* the product reads a dense copy in the workspace */
  m4n_product forward, back;
  m4n_weight_product weight;
  size_t at_weights; /* offset inside a thread's tile: operands, behind the result */
  /* Packed ones. */
  m4n_packed ahead, reverse; /* of y and of dx; reverse.panels 0: none */
  size_t at_scale;           /* int8: the scales of rows, inside the weights */
} m4n_cpu_linear;

/* Scratch that all plans of a backend share, as large as the largest of them needs. One op runs at a time. */
typedef struct m4n_cpu_workspace {
  m4n_gemm_library *library;
  const m4n_tile_unit *tiles; /* NULL: none */
  m4n_cpu_linear *plans;
  int threads;
  void *rows, *tail;   /* copied or converted rows of x or dy; the last rows of an operand, padded to 16 */
  m4n_real *row_scale; /* int8: what a row was divided by */
  void **tile;         /* per thread: a tile's result and its operands where they are copied */
  size_t rows_bytes, tail_bytes, scale_bytes, tile_bytes;
} m4n_cpu_workspace;

int m4n_cpu_workspace_open(m4n_cpu_workspace *work, int threads, const m4n_tile_unit *tiles);
void m4n_cpu_workspace_close(m4n_cpu_workspace *work);
m4n_cpu_workspace *m4n_cpu_stream_workspace(m4n_stream *stream);

#ifdef M4N_VARIANT
/* The ops for packed weights; arguments as in ops.def. */
void M4N_CPU(packed_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const void *w, const m4n_real *bias,
                         const m4n_cpu_linear *plan, int rows, int add);
void M4N_CPU(packed_bwd_x)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const void *w,
                           const m4n_cpu_linear *plan, int rows, int add);
void M4N_CPU(packed_pack)(m4n_stream *s, void *packed, const m4n_real *w, const m4n_cpu_linear *plan);
#endif

#endif
