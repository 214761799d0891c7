/* Planning of linear layers: everything that allocates or can fail. */
#include "kernels/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cpu/cpu.h"

enum { ALIGN = 64, COLUMN = 128, PACKED_COLUMN = 64, MAIN_ROWS = 320, WEIGHT_OUT = 128, WEIGHT_IN = 512 };

static int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
static size_t largest(size_t a, size_t b) {
  return a > b ? a : b;
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

/* ---- do pieces agree? ------------------------------------------------------------------------------------------------
 *
 * A row's result must not depend on the piece that it comes to lie in. Nothing but a trial tells: the same 16 rows again
 * and again in another piece must give the bytes of the piece of 16. Pieces that do not are not used. */

static size_t element_size(int type) {
  return type == M4N_GEMM_REAL ? sizeof(m4n_real) : type == M4N_GEMM_BF16 ? 2 : 1;
}

/* Numbers of either sign around 1 (of the type), the same every 16 rows. */
static void fill(void *at, int type, int rows, int width) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < width; j++) {
      const size_t to = (size_t)i * (size_t)width + (size_t)j;
      const uint32_t hash = ((uint32_t)(i % M4N_PIECE) * 8191u + (uint32_t)j) * 2654435761u;
      const m4n_real value = (m4n_real)(int32_t)hash / (m4n_real)1073741824;
      if (type == M4N_GEMM_REAL)
        ((m4n_real *)at)[to] = value;
      else if (type == M4N_GEMM_BF16)
        ((uint16_t *)at)[to] = (uint16_t)((hash & 0x80ff) | 0x3f00); // ±0.5 … ±2
      else
        ((int8_t *)at)[to] = (int8_t)(hash >> 24);
    }
}

/* Memory of a trial. */
typedef struct trial {
  void *x, *w, *packed;
  m4n_real *sixteen, *result;
} trial;

static void run_sixteen(trial *t, const m4n_gemm *sixteen, const m4n_gemm_shape *s, size_t rows) {
  const int w_rows = s->w_transposed ? s->N : s->K, w_width = s->w_transposed ? s->K : s->N;
  fill(t->x, s->type, (int)rows, s->K);
  fill(t->w, s->type, w_rows, w_width);
  if (s->packed) m4n_gemm_pack(sixteen, 0, t->packed, t->w);
  m4n_gemm_run(sixteen, 0, t->sixteen, t->x, s->packed ? t->packed : t->w);
}

/* Runs one piece: the same bytes as of 16 rows, again and again? */
static bool agrees(trial *t, const m4n_gemm *gemm, const m4n_gemm_shape *s, int rows) {
  const size_t row = (size_t)s->N * (s->type == M4N_GEMM_REAL ? sizeof(m4n_real) : 4);
  m4n_gemm_run(gemm, 0, t->result, t->x, s->packed ? t->packed : t->w);
  for (int i = 0; i < rows; i++)
    if (memcmp((char *)t->result + (size_t)i * row, (char *)t->sixteen + (size_t)(i % M4N_PIECE) * row, row))
      return false;
  return true;
}

static int drop_pieces_that_differ(m4n_product *p, const m4n_gemm_shape *s, int end) {
  const m4n_gemm *sixteen = p->gemm[M4N_ROWS_16][end];
  const size_t K = (size_t)s->K, N = (size_t)s->N;
  size_t rows = M4N_PIECE;
  for (int piece = 0; piece < M4N_ROW_SIZES; piece++) rows = largest(rows, (size_t)p->rows[piece]);
  trial t = {.x = calloc(rows * K, element_size(s->type)),
             .w = calloc(K * N, element_size(s->type)),
             .packed = calloc(1, m4n_gemm_packed_bytes(sixteen)),
             .sixteen = calloc(M4N_PIECE * N, sizeof(m4n_real)),
             .result = calloc(rows * N, sizeof(m4n_real))};
  int status = M4N_OK;
  if (t.x && t.w && t.packed && t.sixteen && t.result) {
    run_sixteen(&t, sixteen, s, rows);
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++)
      if (piece != M4N_ROWS_16 && p->rows[piece] && !agrees(&t, p->gemm[piece][end], s, p->rows[piece]))
        p->rows[piece] = 0;
  } else {
    status = m4n_fail(M4N_ENOMEM, "no memory to try a product");
  }
  free(t.x), free(t.w), free(t.packed), free(t.sixteen), free(t.result);
  return status;
}

/* ---- products ------------------------------------------------------------------------------------------------------------------- */

/* A tile of columns: wider where K is small, so that a tile is worth its call. Packed weights are for few rows, of which
 * more threads shall have something; and of other widths than 64, oneDNN chooses bf16 kernels by the number of rows. */
static int column_width(const m4n_gemm_shape *s) {
  if (s->type != M4N_GEMM_REAL) return PACKED_COLUMN;
  const int least = s->packed ? PACKED_COLUMN : COLUMN, width = least * (512 / (s->K < 128 ? 128 : s->K));
  return width < least ? least : width;
}

/* The largest piece: 320 rows or a little less, so that max_rows are whole pieces. */
static int main_rows(int max_rows) {
  const int pieces = ceil_div(max_rows, MAIN_ROWS);
  return ceil_div(ceil_div(max_rows, pieces), M4N_PIECE) * M4N_PIECE;
}

/* Opens the products of one direction: of `all`, type, N, K, and the order of w count. */
static int open_product(m4n_product *p, m4n_gemm_library *library, const m4n_gemm_shape *all, int max_rows) {
  const bool narrow = all->type != M4N_GEMM_REAL;
  p->N = all->N, p->K = all->K;
  p->column = column_width(all);
  if (!narrow && p->column > p->N) p->column = p->N; // narrow types pad their last column instead
  p->columns = ceil_div(p->N, p->column);
  p->rows[M4N_ROWS_MAIN] = main_rows(max_rows);
  p->rows[M4N_ROWS_64] = p->rows[M4N_ROWS_MAIN] > 64 ? 64 : 0;
  p->rows[M4N_ROWS_16] = M4N_PIECE, p->rows[M4N_ROWS_8] = M4N_PIECE / 2;
  const int last = narrow ? p->column : p->N - (p->columns - 1) * p->column;
  for (int end = 0; end < 1 + (last != p->column); end++) {
    const m4n_gemm *order = NULL; // all products of a column read the same packed weights
    m4n_gemm_shape shape = *all;
    shape.N = shape.y_ld = end ? last : p->column;
    shape.x_ld = shape.K, shape.w_ld = shape.w_transposed ? shape.K : shape.N;
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++) {
      if (!p->rows[piece]) continue;
      shape.M = p->rows[piece];
      M4N_TRY(m4n_gemm_open(&p->gemm[piece][end], library, &shape, order));
      if (!order) order = p->gemm[piece][end];
    }
    M4N_TRY(drop_pieces_that_differ(p, &shape, end));
  }
  // A narrower last column takes no more than a full one.
  if (all->packed) p->packed = align(m4n_gemm_packed_bytes(p->gemm[M4N_ROWS_16][0]));
  return M4N_OK;
}

static int open_weight_product(m4n_weight_product *p, m4n_gemm_library *library, const m4n_linear_shape *s) {
  p->tile_out = s->out < WEIGHT_OUT ? s->out : WEIGHT_OUT, p->tiles_out = ceil_div(s->out, p->tile_out);
  p->tile_in = s->in < WEIGHT_IN ? s->in : WEIGHT_IN, p->tiles_in = ceil_div(s->in, p->tile_in);
  const int outs[2] = {p->tile_out, s->out - (p->tiles_out - 1) * p->tile_out};
  const int ins[2] = {p->tile_in, s->in - (p->tiles_in - 1) * p->tile_in};
  for (int size = 0; size < 2; size++)
    for (int o = 0; o < 1 + (outs[1] != outs[0]); o++)
      for (int i = 0; i < 1 + (ins[1] != ins[0]); i++) {
        const m4n_gemm_shape shape = {.type = M4N_GEMM_REAL,
                                      .M = outs[o],
                                      .N = ins[i],
                                      .K = size ? M4N_PIECE : M4N_SUM_ROWS,
                                      .x_ld = outs[o],
                                      .w_ld = ins[i],
                                      .y_ld = ins[i],
                                      .x_transposed = true,
                                      .add = true};
        M4N_TRY(m4n_gemm_open(&p->gemm[size][o][i], library, &shape, NULL));
      }
  return M4N_OK;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------------------------- */

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

static int make_products(m4n_cpu_linear *l) {
  const m4n_linear_shape *s = &l->linear.shape;
  m4n_gemm_library *library = l->work->library;
  const m4n_gemm_shape forward = {.type = l->type,
                                  .N = s->out,
                                  .K = m4n_padded(l->type, s->in),
                                  .w_transposed = true,
                                  .packed = s->format != M4N_W_REAL && !l->expand};
  const m4n_gemm_shape back = {
      .type = l->type, .N = s->in, .K = m4n_padded(l->type, s->out), .packed = forward.packed};
  M4N_TRY(open_product(&l->forward, library, &forward, s->max_rows));
  if (s->grads & M4N_GRAD_X) M4N_TRY(open_product(&l->back, library, &back, s->max_rows));
  if (s->grads & M4N_GRAD_W) M4N_TRY(open_weight_product(&l->weight, library, s));
  return M4N_OK;
}

/* Rows of the largest call, rounded up, as they are copied; the last 16 of an operand; a thread's result and operands. */
static int make_workspace(m4n_cpu_linear *l) {
  m4n_cpu_workspace *work = l->work;
  const m4n_linear_shape *s = &l->linear.shape;
  const size_t rows = (size_t)ceil_div(s->max_rows, M4N_PIECE) * M4N_PIECE, real = sizeof(m4n_real);
  const size_t in = (size_t)m4n_padded(l->type, s->in), out = (size_t)m4n_padded(l->type, s->out);
  const size_t width = largest(in, s->grads ? out : 0);
  M4N_TRY(grow(&work->rows, &work->rows_bytes, rows * width * m4n_x_size(l->type)));
  M4N_TRY(grow(&work->tail, &work->tail_bytes, M4N_PIECE * largest((size_t)s->in, (size_t)s->out) * real));
  void *scale = work->row_scale;
  M4N_TRY(grow(&scale, &work->scale_bytes, rows * real));
  work->row_scale = scale;
  const size_t column = largest((size_t)l->forward.column, (size_t)l->back.column);
  const size_t tile_out = (size_t)l->weight.tile_out, tile_in = (size_t)l->weight.tile_in;
  l->at_weights = align(largest((size_t)main_rows(s->max_rows) * column, tile_out * tile_in) * real);
  const size_t operands = largest(column * width, M4N_SUM_ROWS * (tile_out + tile_in)) * real;
  return grow_tiles(work, l->at_weights + align(operands));
}

static int make(m4n_cpu_linear *l) {
  const m4n_linear_shape *s = &l->linear.shape;
  const int narrow = s->format == M4N_W_BF16 ? M4N_GEMM_BF16 : s->format == M4N_W_INT8 ? M4N_GEMM_INT8 : 0;
  l->type = m4n_gemm_has(l->work->library, narrow) ? narrow : M4N_GEMM_REAL;
  l->expand = narrow && l->type == M4N_GEMM_REAL;
  l->copy_x = narrow || s->x_ld != s->in;
  l->copy_dy = narrow || s->y_ld != s->out;
  M4N_TRY(make_products(l));
  lay_out(l);
  return make_workspace(l);
}

static void close_plan(m4n_cpu_linear *l) {
  for (int i = 0; i < M4N_ROW_SIZES; i++)
    for (int end = 0; end < 2; end++) {
      m4n_gemm_close(l->forward.gemm[i][end]);
      m4n_gemm_close(l->back.gemm[i][end]);
    }
  for (int i = 0; i < 2; i++)
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
