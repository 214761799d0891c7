/* A product of small matrices that lie in cache: c[M][N] = a·b, or += with `add`. Attention is made of it.
 *
 * a is read as a[i·ai + k·ak], so it may be transposed; b and c are row-major. M is a multiple of 4, N of M4N_VECTOR; the
 * callers' buffers are padded with zeros. Accumulators are of the compilers' vector type, since gcc and clang do not
 * keep an array of plain loops in registers reliably (measured: 2 to 145 GFLOP/s for the same loop, against 160). */
#ifndef M4N_KERNELS_CPU_BLOCK_H
#define M4N_KERNELS_CPU_BLOCK_H

#include "kernels/ops.h"

#if defined(__AVX512F__)
#define M4N_VECTOR_BYTES 64
#elif defined(__AVX__)
#define M4N_VECTOR_BYTES 32
#else
#define M4N_VECTOR_BYTES 16
#endif
enum { M4N_VECTOR = M4N_VECTOR_BYTES / sizeof(m4n_real), M4N_BLOCK_ROWS = 4 };

typedef m4n_real m4n_vector __attribute__((vector_size(M4N_VECTOR_BYTES)));
/* The same at any address. */
typedef m4n_real m4n_vector_at
    __attribute__((vector_size(M4N_VECTOR_BYTES), aligned(sizeof(m4n_real)), may_alias));

/* `rows` rows and `columns` vectors: 4 by 2 or 8 by 1, so that eight sums hide how long an addition takes, or 4 by 1;
 * constants where it is called. */
static inline __attribute__((always_inline)) void m4n_block_step(m4n_real *c, int ldc, const m4n_real *a,
                                                                 int ai, int ak, const m4n_real *b, int ldb,
                                                                 int K, int add, const int rows,
                                                                 const int columns) {
  m4n_vector sum[8][2];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      sum[i][j] = (m4n_vector){0};
      if (add) sum[i][j] = *(m4n_vector_at *)(c + i * ldc + j * M4N_VECTOR);
    }
  for (int k = 0; k < K; k++) {
    m4n_vector right[2];
    for (int j = 0; j < columns; j++) right[j] = *(const m4n_vector_at *)(b + k * ldb + j * M4N_VECTOR);
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < columns; j++) sum[i][j] += a[i * ai + k * ak] * right[j];
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) *(m4n_vector_at *)(c + i * ldc + j * M4N_VECTOR) = sum[i][j];
}

static inline void m4n_block_product(m4n_real *c, int ldc, const m4n_real *a, int ai, int ak,
                                     const m4n_real *b, int ldb, int M, int N, int K, int add) {
  const int pairs = N / (2 * M4N_VECTOR) * (2 * M4N_VECTOR);
  for (int i = 0; i < M; i += M4N_BLOCK_ROWS)
    for (int j = 0; j < pairs; j += 2 * M4N_VECTOR)
      m4n_block_step(c + i * ldc + j, ldc, a + i * ai, ai, ak, b + j, ldb, K, add, 4, 2);
  for (int j = pairs; j < N; j += M4N_VECTOR) {
    int i = 0;
    for (; i + 8 <= M; i += 8)
      m4n_block_step(c + i * ldc + j, ldc, a + i * ai, ai, ak, b + j, ldb, K, add, 8, 1);
    for (; i < M; i += M4N_BLOCK_ROWS)
      m4n_block_step(c + i * ldc + j, ldc, a + i * ai, ai, ak, b + j, ldb, K, add, 4, 1);
  }
}

static inline m4n_vector m4n_vector_load(const m4n_real *x) {
  return *(const m4n_vector_at *)x;
}
static inline void m4n_vector_store(m4n_real *x, m4n_vector v) {
  *(m4n_vector_at *)x = v;
}

/* Sums of neighbours: a0+a1, a2+a3, …, b0+b1, …. As many vectors as there are lanes become one vector of their sums. */
static inline m4n_vector m4n_vector_pairs(m4n_vector a, m4n_vector b) {
#define M4N_EVERY_OTHER_2(i) i, i + 2
#define M4N_EVERY_OTHER_4(i) M4N_EVERY_OTHER_2(i), M4N_EVERY_OTHER_2(i + 4)
#define M4N_EVERY_OTHER_8(i) M4N_EVERY_OTHER_4(i), M4N_EVERY_OTHER_4(i + 8)
#define M4N_EVERY_OTHER_16(i) M4N_EVERY_OTHER_8(i), M4N_EVERY_OTHER_8(i + 16)
#ifdef M4N_REAL_F64
#define M4N_LANES_OF_16 M4N_EVERY_OTHER_2
#define M4N_LANES_OF_32 M4N_EVERY_OTHER_4
#define M4N_LANES_OF_64 M4N_EVERY_OTHER_8
#else
#define M4N_LANES_OF_16 M4N_EVERY_OTHER_4
#define M4N_LANES_OF_32 M4N_EVERY_OTHER_8
#define M4N_LANES_OF_64 M4N_EVERY_OTHER_16
#endif
#if M4N_VECTOR_BYTES == 64
#define M4N_EVERY_OTHER M4N_LANES_OF_64
#elif M4N_VECTOR_BYTES == 32
#define M4N_EVERY_OTHER M4N_LANES_OF_32
#else
#define M4N_EVERY_OTHER M4N_LANES_OF_16
#endif
  return __builtin_shufflevector(a, b, M4N_EVERY_OTHER(0)) +
         __builtin_shufflevector(a, b, M4N_EVERY_OTHER(1));
}

/* The next multiple of `step`. */
static inline int m4n_round_up(int n, int step) {
  return (n + step - 1) / step * step;
}

#endif
