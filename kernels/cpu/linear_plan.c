/* Planning of linear layers: everything that allocates or can fail. */
#include "kernels/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cpu/cpu.h"

enum { ALIGN = 64, MAIN_ROWS = 256, WEIGHT_OUT = 128, WEIGHT_IN = 256 };

static int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
static size_t align(size_t bytes) {
  return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- the workspace ------------------------------------------------------------------------------------------------------------ */

int m4n_cpu_workspace_open(m4n_cpu_workspace *work, int threads) {
  *work = (m4n_cpu_workspace){.threads = threads};
  work->tile = calloc((size_t)threads, sizeof *work->tile);
  if (!work->tile) return m4n_fail(M4N_ENOMEM, "no memory for %d threads", threads);
  return m4n_gemm_library_open(&work->library, threads);
}

static int grow(void **memory, size_t *have, size_t want) {
  if (want <= *have) return M4N_OK;
  void *larger = aligned_alloc(ALIGN, align(want));
  if (!larger) return m4n_fail(M4N_ENOMEM, "no memory for %zu bytes of scratch for a linear layer", want);
  memset(larger, 0, align(want));
  free(*memory);
  *memory = larger, *have = want;
  return M4N_OK;
}

static int grow_tiles(m4n_cpu_workspace *work, size_t want) {
  if (want <= work->tile_bytes) return M4N_OK;
  for (int i = 0; i < work->threads; i++) {
    size_t had = work->tile_bytes;
    M4N_TRY(grow(&work->tile[i], &had, want));
  }
  work->tile_bytes = want;
  return M4N_OK;
}

/* ---- products ------------------------------------------------------------------------------------------------------------------- */

/* A tile of columns: 64 wide, wider where K is small, so that a tile is worth its call. */
static int column_width(int K) {
  const int width = 64 * (512 / (K < 128 ? 128 : K));
  return width < 64 ? 64 : width;
}

/* The largest piece: 256 rows or a little less, so that max_rows are whole pieces. */
static int main_rows(int max_rows) {
  const int pieces = ceil_div(max_rows, MAIN_ROWS);
  return ceil_div(ceil_div(max_rows, pieces), M4N_PIECE) * M4N_PIECE;
}

/* Opens the products of one direction. `plain` says what all of them have in common; its w_ld 0 is a dense column. */
static int open_product(m4n_product *p, m4n_gemm_library *library, const m4n_gemm_shape *plain, int dense_y,
                        int max_rows) {
  p->N = plain->N, p->K = plain->K;
  p->column = column_width(p->K) < p->N ? column_width(p->K) : p->N;
  p->columns = ceil_div(p->N, p->column);
  p->rows[M4N_ROWS_MAIN] = main_rows(max_rows);
  p->rows[M4N_ROWS_64] = 64, p->rows[M4N_ROWS_16] = M4N_PIECE;
  p->y_ld = dense_y ? p->column : plain->y_ld;
  // What goes by way of a thread's scratch: all pieces, or the one that is not full.
  p->result =
      align((size_t)(dense_y ? p->rows[M4N_ROWS_MAIN] : M4N_PIECE) * (size_t)p->y_ld * sizeof(m4n_real));
  const int last = p->N - (p->columns - 1) * p->column;
  for (int end = 0; end < 1 + (last != p->column); end++) {
    const m4n_gemm *order = NULL; // all products of a column read the same packed weights
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++)
      for (int add = 0; add < 2; add++) {
        if (piece == M4N_ROWS_64 && p->rows[M4N_ROWS_MAIN] <= 64) continue;
        if (add && dense_y) continue; // added to y on the way out of scratch
        m4n_gemm_shape shape = *plain;
        shape.M = p->rows[piece], shape.N = end ? last : p->column, shape.add = add, shape.y_ld = p->y_ld;
        if (!shape.w_ld) shape.w_ld = shape.w_transposed ? shape.K : shape.N;
        M4N_TRY(m4n_gemm_open(&p->gemm[piece][add][end], library, &shape, order));
        if (!order) order = p->gemm[piece][add][end];
      }
  }
  // A narrower last column takes no more than a full one.
  if (plain->packed) p->packed = align(m4n_gemm_packed_bytes(p->gemm[M4N_ROWS_16][0][0]));
  return M4N_OK;
}

static int open_weight_product(m4n_weight_product *p, m4n_gemm_library *library, const m4n_linear_shape *s) {
  p->tile_out = s->out < WEIGHT_OUT ? s->out : WEIGHT_OUT, p->tiles_out = ceil_div(s->out, p->tile_out);
  p->tile_in = s->in < WEIGHT_IN ? s->in : WEIGHT_IN, p->tiles_in = ceil_div(s->in, p->tile_in);
  const int outs[2] = {p->tile_out, s->out - (p->tiles_out - 1) * p->tile_out};
  const int ins[2] = {p->tile_in, s->in - (p->tiles_in - 1) * p->tile_in};
  const bool dense_x = s->x_ld < s->in; // overlapping rows are copied first
  for (int size = 0; size < 3; size++)
    for (int o = 0; o < 1 + (outs[1] != outs[0]); o++)
      for (int i = 0; i < 1 + (ins[1] != ins[0]); i++) {
        const m4n_gemm_shape shape = {.type = M4N_GEMM_REAL,
                                      .M = outs[o],
                                      .N = ins[i],
                                      .K = size ? M4N_PIECE : M4N_SUM_ROWS,
                                      .x_ld = size == 2 ? s->out : s->y_ld,
                                      .w_ld = size == 2 || dense_x ? s->in : s->x_ld,
                                      .y_ld = s->in,
                                      .x_transposed = true,
                                      .add = true};
        M4N_TRY(m4n_gemm_open(&p->gemm[size][o][i], library, &shape, NULL));
      }
  return M4N_OK;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------------------------- */

static size_t largest(size_t a, size_t b) {
  return a > b ? a : b;
}

/* Where the parts of packed weights lie. Scales (and sums over a row, for int8) come first. */
static void lay_out(m4n_cpu_linear *l) {
  const m4n_linear_shape *s = &l->linear.shape;
  const size_t elements = (size_t)s->out * (size_t)s->in;
  size_t at = 0;
  if (s->format == M4N_W_INT8) {
    l->at_scale = at, at += align((size_t)s->out * sizeof(m4n_real));
    l->at_sum = at, at += align((size_t)s->out * sizeof(int32_t));
  }
  l->at_forward = at;
  if (s->format == M4N_W_REAL)
    at += elements * sizeof(m4n_real);
  else if (l->expand)
    at += align(elements * (s->format == M4N_W_BF16 ? 2 : 1));
  else
    at += (size_t)l->forward.columns * l->forward.packed;
  l->at_back = at;
  if (!l->expand && s->format == M4N_W_BF16 && s->grads) at += (size_t)l->back.columns * l->back.packed;
  l->linear.bytes = at;
}

static int make(m4n_cpu_linear *l) {
  m4n_cpu_workspace *work = l->work;
  const m4n_linear_shape *s = &l->linear.shape;
  const int rows = ceil_div(s->max_rows, M4N_PIECE) * M4N_PIECE;
  const int narrow = s->format == M4N_W_BF16 ? M4N_GEMM_BF16 : s->format == M4N_W_INT8 ? M4N_GEMM_INT8 : 0;
  l->type = m4n_gemm_has(work->library, narrow) ? narrow : M4N_GEMM_REAL;
  l->expand = narrow && l->type == M4N_GEMM_REAL;
  l->copy_x = narrow || s->x_ld < s->in;
  const bool packed = s->format != M4N_W_REAL && !l->expand;
  const int in = m4n_padded(l->type, s->in), out = m4n_padded(l->type, s->out);
  const m4n_gemm_shape forward = {.type = l->type,
                                  .N = s->out,
                                  .K = in,
                                  .x_ld = l->copy_x ? in : s->x_ld,
                                  .y_ld = s->y_ld,
                                  .w_transposed = true,
                                  .packed = packed};
  M4N_TRY(open_product(&l->forward, work->library, &forward, narrow == M4N_GEMM_INT8, s->max_rows));
  const m4n_gemm_shape back = {.type = l->type,
                               .N = s->in,
                               .K = out,
                               .x_ld = narrow ? out : s->y_ld,
                               .w_ld = s->format == M4N_W_REAL ? s->in : 0,
                               .y_ld = s->x_ld,
                               .packed = packed};
  if (s->grads & M4N_GRAD_X) M4N_TRY(open_product(&l->back, work->library, &back, 0, s->max_rows));
  if (s->grads & M4N_GRAD_W) M4N_TRY(open_weight_product(&l->weight, work->library, s));
  lay_out(l);

  const size_t width = largest((size_t)in, s->grads ? (size_t)out : 0), real = sizeof(m4n_real);
  if (l->copy_x) M4N_TRY(grow(&work->rows, &work->rows_bytes, (size_t)rows * width * m4n_x_size(l->type)));
  M4N_TRY(grow(&work->tail, &work->tail_bytes,
               M4N_PIECE * ((size_t)s->x_ld + (size_t)s->in + (size_t)s->y_ld) * real));
  if (s->format == M4N_W_INT8) {
    void *scale = work->row_scale;
    M4N_TRY(grow(&scale, &work->scale_bytes, (size_t)rows * real));
    work->row_scale = scale;
  }
  // A thread's tile: a result of the largest piece, or a column of weights on its way into or out of the packed form.
  const size_t column = (size_t)largest((size_t)l->forward.column, (size_t)l->back.column);
  const size_t weights = s->format == M4N_W_REAL ? 0 : column * width * real;
  return grow_tiles(work, largest(l->forward.result, l->back.result) + align(weights));
}

static void close_plan(m4n_cpu_linear *l) {
  for (int i = 0; i < M4N_ROW_SIZES; i++)
    for (int j = 0; j < 4; j++) {
      m4n_gemm_close(l->forward.gemm[i][j / 2][j % 2]);
      m4n_gemm_close(l->back.gemm[i][j / 2][j % 2]);
    }
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 4; j++) m4n_gemm_close(l->weight.gemm[i][j / 2][j % 2]);
  free(l);
}

static bool same_shape(const m4n_linear_shape *a, const m4n_linear_shape *b) {
  return a->out == b->out && a->in == b->in && a->max_rows == b->max_rows && a->format == b->format &&
         a->grads == b->grads && a->x_ld == b->x_ld && a->y_ld == b->y_ld;
}

int m4n_cpu_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape) {
  m4n_cpu_workspace *work = m4n_cpu_stream_workspace(stream);
  for (m4n_cpu_linear *l = work->plans; l; l = l->next)
    if (same_shape(&l->linear.shape, shape)) {
      *plan = &l->linear;
      return M4N_OK;
    }
  m4n_cpu_linear *l = calloc(1, sizeof *l);
  if (!l) return m4n_fail(M4N_ENOMEM, "no memory for the plan of a linear layer");
  l->linear.shape = *shape, l->work = work;
  const int status = make(l);
  if (status) {
    close_plan(l);
    return m4n_context(status, "linear layer %d → %d", shape->in, shape->out);
  }
  l->next = work->plans, work->plans = l;
  *plan = &l->linear;
  return M4N_OK;
}

void m4n_cpu_workspace_close(m4n_cpu_workspace *work) {
  for (m4n_cpu_linear *l = work->plans, *next; l; l = next) {
    next = l->next;
    close_plan(l);
  }
  m4n_gemm_library_close(work->library);
  for (int i = 0; work->tile && i < work->threads; i++) free(work->tile[i]);
  free(work->tile), free(work->rows), free(work->tail), free(work->row_scale);
}
