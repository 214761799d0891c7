/* The CPU's plan of a linear layer: linear_plan.c makes it, linear.c runs it.
 *
 * A product is cut into fixed tiles, each one call of a single-threaded library product (gemm.h): columns of a fixed
 * width times rows in pieces of the plan's own size, then of 64, then of 16; what is left is padded to 16 or 8 rows.
 * A row's result must not depend on how many rows there are, but libraries take other kernels for other numbers of rows:
 * so the plan tries its pieces, and uses those that give the bytes of the piece of 16. Operands of the library are dense, always: copies are made where they are not, and results go by way of
 * scratch, since oneDNN's fast products (and on AMX its fastest by six times) take no distances between rows. */
#ifndef M4N_KERNELS_CPU_LINEAR_H
#define M4N_KERNELS_CPU_LINEAR_H

#include "kernels/backend_kind.h"
#include "kernels/cpu/gemm.h"

enum { M4N_PIECE = 16 };
enum { M4N_ROWS_MAIN, M4N_ROWS_64, M4N_ROWS_16, M4N_ROWS_8, M4N_ROW_SIZES };

/* y[rows][N] = x[rows][K]·w: the forward, or dx from dy. */
typedef struct m4n_product {
  int N, K;                /* K as x is handed to the library: `in` or `out`, padded for bf16 and int8 */
  int column, columns;     /* width of a tile of columns (the last may be narrower), and their number */
  int rows[M4N_ROW_SIZES]; /* of a piece; 0: not used */
  m4n_gemm *gemm[M4N_ROW_SIZES][2]; /* [piece][0: full width, 1: the last column] */
  size_t packed;                    /* bytes of a full column's packed weights; 0: plain weights */
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
  int type;             /* of the library's products */
  bool expand;          /* weights are stored as bf16 or int8, but the library multiplies m4n_real */
  bool copy_x, copy_dy; /* the product reads a converted, or only a dense, copy in the workspace */
  m4n_product forward, back;
  m4n_weight_product weight;
  /* Offsets inside the weights: int8's scales and sums of rows, then packed columns. */
  size_t at_scale, at_sum, at_forward, at_back;
  size_t at_weights; /* offset inside a thread's tile: operands, behind the result */
} m4n_cpu_linear;

/* Scratch that all plans of a backend share, as large as the largest of them needs. One op runs at a time. */
typedef struct m4n_cpu_workspace {
  m4n_gemm_library *library;
  m4n_cpu_linear *plans;
  int threads;
  void *rows, *tail;   /* copied rows of x or dy; the last rows of an operand, padded to 16 */
  m4n_real *row_scale; /* int8: what a row was divided by */
  void **tile;         /* per thread: a tile's result and its operands where they are copied */
  size_t rows_bytes, tail_bytes, scale_bytes, tile_bytes;
} m4n_cpu_workspace;

int m4n_cpu_workspace_open(m4n_cpu_workspace *work, int threads);
void m4n_cpu_workspace_close(m4n_cpu_workspace *work);
m4n_cpu_workspace *m4n_cpu_stream_workspace(m4n_stream *stream);

/* Rows of an operand as the library takes it, and bytes of an element of it. */
static inline int m4n_padded(int type, int K) {
  return type == M4N_GEMM_REAL ? K : (K + 63) / 64 * 64;
}
static inline size_t m4n_x_size(int type) {
  return type == M4N_GEMM_REAL ? sizeof(m4n_real) : type == M4N_GEMM_BF16 ? 2 : 1;
}

#endif
