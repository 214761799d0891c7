/* Planning of linear layers: everything that allocates or can fail. */
#include "kernels/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cpu/cpu.h"

enum { ALIGN = 64, COLUMN = 128, MAIN_ROWS = 320, WEIGHT_OUT = 128, WEIGHT_IN = 512 };

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

int m4n_cpu_workspace_open(m4n_cpu_workspace *work, int threads, const m4n_tile_unit *tiles) {
  *work = (m4n_cpu_workspace){.threads = threads, .tiles = tiles};
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

/* Numbers of either sign around 1, the same every 16 rows. */
static void fill(m4n_real *at, int rows, int width) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < width; j++) {
      const uint32_t hash = ((uint32_t)(i % M4N_PIECE) * 8191u + (uint32_t)j) * 2654435761u;
      at[(size_t)i * (size_t)width + (size_t)j] = (m4n_real)(int32_t)hash / (m4n_real)1073741824;
    }
}

/* Memory of a trial. */
typedef struct trial {
  m4n_real *x, *w, *sixteen, *result;
} trial;

static void run_sixteen(trial *t, const m4n_gemm *sixteen, const m4n_gemm_shape *s, size_t rows) {
  const int w_rows = s->w_transposed ? s->N : s->K, w_width = s->w_transposed ? s->K : s->N;
  fill(t->x, (int)rows, s->K);
  fill(t->w, w_rows, w_width);
  m4n_gemm_run(sixteen, 0, t->sixteen, t->x, t->w);
}

/* Runs one piece: the same bytes as of 16 rows, again and again? */
static bool agrees(trial *t, const m4n_gemm *gemm, const m4n_gemm_shape *s, int rows) {
  const size_t row = (size_t)s->N;
  m4n_gemm_run(gemm, 0, t->result, t->x, t->w);
  for (int i = 0; i < rows; i++)
    if (memcmp(t->result + (size_t)i * row, t->sixteen + (size_t)(i % M4N_PIECE) * row,
               row * sizeof *t->result))
      return false;
  return true;
}

static int drop_pieces_that_differ(m4n_product *p, const m4n_gemm_shape *s, int end) {
  const m4n_gemm *sixteen = p->gemm[M4N_ROWS_16][end];
  const size_t K = (size_t)s->K, N = (size_t)s->N;
  size_t rows = M4N_PIECE;
  for (int piece = 0; piece < M4N_ROW_SIZES; piece++) rows = largest(rows, (size_t)p->rows[piece]);
  trial t = {.x = calloc(rows * K, sizeof(m4n_real)),
             .w = calloc(K * N, sizeof(m4n_real)),
             .sixteen = calloc(M4N_PIECE * N, sizeof(m4n_real)),
             .result = calloc(rows * N, sizeof(m4n_real))};
  int status = M4N_OK;
  if (t.x && t.w && t.sixteen && t.result) {
    run_sixteen(&t, sixteen, s, rows);
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++)
      if (piece != M4N_ROWS_16 && p->rows[piece] && !agrees(&t, p->gemm[piece][end], s, p->rows[piece]))
        p->rows[piece] = 0;
  } else {
    status = m4n_fail(M4N_ENOMEM, "no memory to try a product");
  }
  free(t.x), free(t.w), free(t.sixteen), free(t.result);
  return status;
}

/* ---- products ------------------------------------------------------------------------------------------------------------------- */

/* A tile of columns: wider where K is small, so that a tile is worth its call. */
static int column_width(int K) {
  const int width = COLUMN * (512 / (K < 128 ? 128 : K));
  return width < COLUMN ? COLUMN : width;
}

/* The largest piece: 320 rows or a little less, so that max_rows are whole pieces. */
static int main_rows(int max_rows) {
  const int pieces = ceil_div(max_rows, MAIN_ROWS);
  return ceil_div(ceil_div(max_rows, pieces), M4N_PIECE) * M4N_PIECE;
}

/* Opens the products of one direction: of `all`, N, K, and the order of w count. */
static int open_product(m4n_product *p, m4n_gemm_library *library, const m4n_gemm_shape *all, int max_rows) {
  p->N = all->N, p->K = all->K;
  p->column = column_width(all->K);
  if (p->column > p->N) p->column = p->N;
  p->columns = ceil_div(p->N, p->column);
  p->rows[M4N_ROWS_MAIN] = main_rows(max_rows);
  p->rows[M4N_ROWS_64] = p->rows[M4N_ROWS_MAIN] > 64 ? 64 : 0;
  p->rows[M4N_ROWS_16] = M4N_PIECE, p->rows[M4N_ROWS_8] = M4N_PIECE / 2;
  const int last = p->N - (p->columns - 1) * p->column;
  for (int end = 0; end < 1 + (last != p->column); end++) {
    m4n_gemm_shape shape = *all;
    shape.N = shape.y_ld = end ? last : p->column;
    shape.x_ld = shape.K, shape.w_ld = shape.w_transposed ? shape.K : shape.N;
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++) {
      if (!p->rows[piece]) continue;
      shape.M = p->rows[piece];
      M4N_TRY(m4n_gemm_open(&p->gemm[piece][end], library, &shape, NULL));
    }
    M4N_TRY(drop_pieces_that_differ(p, &shape, end));
  }
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

/* Plain weights: products of the library. */
static int plan_products(m4n_cpu_linear *l) {
  const m4n_linear_shape *s = &l->linear.shape;
  m4n_gemm_library *library = l->work->library;
  const m4n_gemm_shape forward = {.N = s->out, .K = s->in, .w_transposed = true},
                       back = {.N = s->in, .K = s->out};
  l->linear.bytes = (size_t)s->out * (size_t)s->in * sizeof(m4n_real);
  l->copy_x = s->x_ld != s->in;
  l->copy_dy = s->y_ld != s->out;
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
  const size_t in = (size_t)s->in, out = (size_t)s->out, width = largest(in, s->grads ? out : 0);
  if (l->copy_x || l->copy_dy) M4N_TRY(grow(&work->rows, &work->rows_bytes, rows * width * real));
  M4N_TRY(grow(&work->tail, &work->tail_bytes, M4N_PIECE * largest(in, out) * real));
  const size_t column = largest((size_t)l->forward.column, (size_t)l->back.column);
  const size_t tile_out = (size_t)l->weight.tile_out, tile_in = (size_t)l->weight.tile_in;
  l->at_weights = align(largest((size_t)main_rows(s->max_rows) * column, tile_out * tile_in) * real);
  const size_t operands = largest(column * width, M4N_SUM_ROWS * (tile_out + tile_in)) * real;
  return grow_tiles(work, l->at_weights + align(operands));
}

/* Packed weights (packed.h): where the panels lie, of which int8's scales come first. */
static size_t lay_out(m4n_packed *p, int N, int K, int format, int gated, size_t at) {
  const int row = 64, size = format == M4N_W_INT8 ? 1 : format == M4N_W_BF16 ? 2 : (int)sizeof(m4n_real);
  const int depth = format == M4N_W_PACKED ? K : ceil_div(K * size, row) * row / size;
  *p = (m4n_packed){.N = gated ? N / 2 : N, .K = K, .depth = depth, .at = at, .pair = gated ? 2 : 1};
  p->panels = ceil_div(p->N, M4N_PANEL) * p->pair;
  p->panel = (size_t)depth * M4N_PANEL * (size_t)size;
  return at + (size_t)p->panels * p->panel;
}

static int plan_packed(m4n_cpu_linear *l) {
  m4n_cpu_workspace *work = l->work;
  const m4n_linear_shape *s = &l->linear.shape;
  const size_t rows = (size_t)ceil_div(s->max_rows, M4N_TILE_ROWS) * M4N_TILE_ROWS, real = sizeof(m4n_real);
  size_t bytes = s->format == M4N_W_INT8 ? align((size_t)s->out * real) : 0;
  bytes = lay_out(&l->ahead, s->out, s->in, s->format, s->gated, bytes);
  if (s->grads & M4N_GRAD_X) bytes = lay_out(&l->reverse, s->in, s->out, s->format, 0, bytes);
  l->linear.bytes = bytes;
  if (s->format == M4N_W_PACKED) return M4N_OK; // x is read where it lies
  const size_t depth = largest((size_t)l->ahead.depth, (size_t)l->reverse.depth);
  M4N_TRY(grow(&work->rows, &work->rows_bytes, rows * depth * real));
  void *scale = work->row_scale;
  M4N_TRY(grow(&scale, &work->scale_bytes, rows * real));
  work->row_scale = scale;
  return M4N_OK;
}

static int make(m4n_cpu_linear *l) {
  if (l->linear.shape.format != M4N_W_REAL) return plan_packed(l);
  if (l->linear.shape.gated) return m4n_fail(M4N_EUNSUPPORTED, "plain weights have no gated product");
  M4N_TRY(plan_products(l));
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
         a->grads == b->grads && a->x_ld == b->x_ld && a->y_ld == b->y_ld && a->gated == b->gated;
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
