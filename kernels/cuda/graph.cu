/* Rows by number: embeddings, edges of a graph, sums over segments (algorithms.md §4.3).
 *
 * Backward ops add rows of equal number, in the order of the index and without atomics: the first row of a number adds
 * up all that follow it, the others find an earlier one and leave. */
#include "kernels/cuda/device.cuh"

static __global__ void gather_kernel(float *y, const float *table, const int32_t *index, int rows, int C,
                                     int64_t ld, int add) {
  M4N_WARP_ROW(row, rows);
  const int64_t from = index[row];
  if (from < 0 && add) return;
  M4N_EACH_COLUMN(c, C) {
    const float x = from < 0 ? 0 : table[from * C + c];
    y[row * ld + c] = add ? y[row * ld + c] + x : x;
  }
}

/* Does an entry before `at` have the same number? The same answer in all lanes. */
__device__ static inline bool seen_before(const int32_t *index, int at, int number) {
  const int lane = threadIdx.x % WARP;
  for (int from = at / WARP * WARP; from >= 0; from -= WARP) // the nearest first
    if (__ballot_sync(ALL_LANES, from + lane < at && index[from + lane] == number)) return true;
  return false;
}

/* The rows of x that entries of the index are about: their own, or that of their segment. */
struct source {
  const float *x;
  int64_t ld;
  const int32_t *offset; /* NULL: entry e has row e */
  int segments;
};
/* The segment k with offset[k] ≤ e < offset[k + 1]. */
__device__ static inline int segment_of(const source *from, int e) {
  int low = 0, high = from->segments;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (from->offset[middle] <= e)
      low = middle;
    else
      high = middle;
  }
  return low;
}

enum { COLUMNS = 4 * WARP }; /* of a warp, four to a lane */

/* y[index[e]] += row of entry e, in the order of e. A warp is an entry and COLUMNS columns. */
static __global__ void scatter_kernel(float *y, source from, const int32_t *index, int entries, int C) {
  if (from.offset) entries = from.offset[from.segments];
  const int lane = threadIdx.x % WARP, c0 = blockIdx.y * COLUMNS + lane;
  for (int first = blockIdx.x * ROWS_A_BLOCK + threadIdx.x / WARP; first < entries;
       first += gridDim.x * ROWS_A_BLOCK) {
    const int number = index[first];
    if (number < 0 || seen_before(index, first, number)) continue;
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = c0 + i * WARP < C ? y[(int64_t)number * C + c0 + i * WARP] : 0;
    for (int at = first / WARP * WARP; at < entries; at += WARP) {
      unsigned same =
          __ballot_sync(ALL_LANES, at + lane >= first && at + lane < entries && index[at + lane] == number);
      for (; same; same &= same - 1) {
        const int e = at + __ffs(same) - 1;
        const float *x = from.x + (from.offset ? segment_of(&from, e) : e) * from.ld;
        for (int i = 0; i < 4; i++)
          if (c0 + i * WARP < C) sum[i] += x[c0 + i * WARP];
      }
    }
    for (int i = 0; i < 4; i++)
      if (c0 + i * WARP < C) y[(int64_t)number * C + c0 + i * WARP] = sum[i];
  }
}

// y_k = Σ x over the rows that segment k names
static __global__ void segment_sum_kernel(float *y, const float *x, const int32_t *offset,
                                          const int32_t *index, int segments, int C, int add) {
  M4N_WARP_ROW(k, segments);
  const int first = offset[k], end = offset[k + 1];
  M4N_EACH_COLUMN(c, C) {
    float sum = add ? y[k * C + c] : 0;
    for (int e = first; e < end; e++) sum += x[(int64_t)(index ? index[e] : e) * C + c];
    y[k * C + c] = sum;
  }
}
// Without an index every row belongs to one segment.
static __global__ void segment_spread_kernel(float *dx, const float *dy, const int32_t *offset, int segments,
                                             int C) {
  M4N_WARP_ROW(k, segments);
  for (int64_t e = offset[k]; e < offset[k + 1]; e++) M4N_EACH_COLUMN(c, C) dx[e * C + c] += dy[k * C + c];
}

extern "C" {

void m4n_cuda_gather_fwd(m4n_stream *s, m4n_real *y, const m4n_real *table, const int32_t *index, int rows,
                         int C, int y_ld, int add) {
  if (rows > 0)
    M4N_LAUNCH(s, gather_kernel, row_blocks(rows), THREADS, y, table, index, rows, C,
               (int64_t)(y_ld ? y_ld : C), add);
}
void m4n_cuda_gather_bwd(m4n_stream *s, m4n_real *dtable, const m4n_real *dy, const int32_t *index, int rows,
                         int C, int dy_ld) {
  const source from = {dy, dy_ld ? dy_ld : C, NULL, 0};
  if (rows > 0)
    M4N_LAUNCH(s, scatter_kernel, dim3(row_blocks(rows), (unsigned)ceil_div(C, COLUMNS)), THREADS, dtable,
               from, index, rows, C);
}
void m4n_cuda_segment_sum_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, const int32_t *offset,
                              const int32_t *index, int segments, int C, int add) {
  if (segments > 0)
    M4N_LAUNCH(s, segment_sum_kernel, row_blocks(segments), THREADS, y, x, offset, index, segments, C, add);
}
void m4n_cuda_segment_sum_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const int32_t *offset,
                              const int32_t *index, int segments, int C) {
  const source from = {dy, C, offset, segments};
  if (segments < 1) return;
  // How many entries there are only the card knows: blocks go on to their next until none is left.
  if (index)
    M4N_LAUNCH(s, scatter_kernel, dim3(row_blocks(segments), (unsigned)ceil_div(C, COLUMNS)), THREADS, dx,
               from, index, 0, C);
  else
    M4N_LAUNCH(s, segment_spread_kernel, row_blocks(segments), THREADS, dx, dy, offset, segments, C);
}

} // extern "C"
