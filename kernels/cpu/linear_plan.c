/* Planning of linear layers: everything that allocates or can fail. */
#include "kernels/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cpu/cpu.h"

enum { ALIGN = 64, COLUMN = 64, MAIN_ROWS = 256, WEIGHT_OUT = 128, WEIGHT_IN = 256 };

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
 * and again in a larger piece must give the bytes of the smallest one. Pieces that do not are not used. */

static size_t element_size(int type) {
  return type == M4N_GEMM_REAL ? sizeof(m4n_real) : type == M4N_GEMM_BF16 ? 2 : 1;
}

/* Numbers of either sign around 1 (of the type), the same every 16 rows. */
static void fill(void *at, int type, int rows, int width, int ld) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < width; j++) {
      const size_t to = (size_t)i * (size_t)ld + (size_t)j;
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

/* Memory of a trial; results begin as the same numbers, for products that add. */
typedef struct trial {
  void *x, *w, *packed;
  m4n_real *smallest, *result;
} trial;

static void prepare_trial(trial *t, const m4n_product *p, const m4n_gemm_shape *s, size_t rows, int end) {
  const int w_rows = s->w_transposed ? s->N : s->K, w_width = s->w_transposed ? s->K : s->N;
  fill(t->x, s->type, (int)rows, s->K, s->x_ld);
  fill(t->w, s->type, w_rows, w_width, s->w_ld);
  if (s->packed) m4n_gemm_pack(p->gemm[M4N_ROWS_16][0][end], 0, t->packed, t->w);
}

/* Runs one piece; the same bytes as the smallest piece, for every 16 rows? */
static bool agrees(trial *t, const m4n_product *p, const m4n_gemm_shape *s, int piece, int add, int end) {
  const void *w = s->packed ? t->packed : t->w;
  const size_t row = (size_t)s->N * (s->type == M4N_GEMM_REAL ? sizeof(m4n_real) : 4);
  fill(t->smallest, M4N_GEMM_REAL, M4N_PIECE, s->N, s->y_ld);
  fill(t->result, M4N_GEMM_REAL, p->rows[piece], s->N, s->y_ld);
  m4n_gemm_run(p->gemm[M4N_ROWS_16][add][end], 0, t->smallest, t->x, w);
  m4n_gemm_run(p->gemm[piece][add][end], 0, t->result, t->x, w);
  for (int i = 0; i < p->rows[piece]; i++)
    if (memcmp(t->result + (size_t)i * (size_t)s->y_ld,
               t->smallest + (size_t)(i % M4N_PIECE) * (size_t)s->y_ld, row))
      return false;
  return true;
}

static int drop_pieces_that_differ(m4n_product *p, const m4n_gemm_shape *s, int end) {
  size_t rows = M4N_PIECE, w_rows = (size_t)(s->w_transposed ? s->N : s->K);
  for (int piece = 0; piece < M4N_ROW_SIZES; piece++) rows = largest(rows, (size_t)p->rows[piece]);
  trial t = {.x = calloc(rows * (size_t)s->x_ld + (size_t)s->K, element_size(s->type)),
             .w = calloc(w_rows * (size_t)s->w_ld + (size_t)s->N, element_size(s->type)),
             .packed = calloc(1, s->packed ? m4n_gemm_packed_bytes(p->gemm[M4N_ROWS_16][0][end]) : 1),
             .smallest = calloc(M4N_PIECE * (size_t)s->y_ld, sizeof(m4n_real)),
             .result = calloc(rows * (size_t)s->y_ld, sizeof(m4n_real))};
  int status = M4N_OK;
  if (t.x && t.w && t.packed && t.smallest && t.result) {
    prepare_trial(&t, p, s, rows, end);
    for (int piece = M4N_ROWS_MAIN; piece < M4N_ROWS_16; piece++)
      for (int add = 0; add < 2; add++)
        if (p->rows[piece] && p->gemm[piece][add][end] && !agrees(&t, p, s, piece, add, end))
          p->rows[piece] = 0;
  } else {
    status = m4n_fail(M4N_ENOMEM, "no memory to try a product");
  }
  free(t.x), free(t.w), free(t.packed), free(t.smallest), free(t.result);
  return status;
}

/* ---- products ------------------------------------------------------------------------------------------------------------------- */

/* A tile of columns: 64 wide, wider where K is small, so that a tile is worth its call. */
static int column_width(int K) {
  const int width = COLUMN * (512 / (K < 128 ? 128 : K));
  return width < COLUMN ? COLUMN : width;
}

/* The largest piece: 256 rows or a little less, so that max_rows are whole pieces. */
static int main_rows(int max_rows) {
  const int pieces = ceil_div(max_rows, MAIN_ROWS);
  return ceil_div(ceil_div(max_rows, pieces), M4N_PIECE) * M4N_PIECE;
}

/* Opens the products of one direction. `plain` says what all of them have in common; its w_ld 0 is a dense column. */
static int open_product(m4n_product *p, m4n_gemm_library *library, const m4n_gemm_shape *plain, bool dense_y,
                        int max_rows) {
  const bool narrow = plain->type != M4N_GEMM_REAL;
  p->N = plain->N, p->K = plain->K;
  // Narrow types have columns of 64 alone, the last one padded: of other widths oneDNN chooses kernels by the rows.
  p->column = narrow || column_width(p->K) < p->N ? (narrow ? COLUMN : column_width(p->K)) : p->N;
  p->columns = ceil_div(p->N, p->column);
  p->rows[M4N_ROWS_MAIN] = main_rows(max_rows);
  p->rows[M4N_ROWS_64] = p->rows[M4N_ROWS_MAIN] > 64 ? 64 : 0;
  p->rows[M4N_ROWS_16] = M4N_PIECE;
  const int last = p->N - (p->columns - 1) * p->column;
  for (int end = 0; end < 2; end++) {
    if (end ? last == p->column : p->columns == 1 && last != p->column) continue; // there is no such column
    const m4n_gemm *order = NULL;                  // all products of a column read the same packed weights
    const bool dense = dense_y || (narrow && end); // these go to scratch, and from there to y
    m4n_gemm_shape shape = *plain;
    shape.N = end && !narrow ? last : p->column;
    if (dense) shape.y_ld = p->column;
    if (!shape.w_ld) shape.w_ld = shape.w_transposed ? shape.K : shape.N;
    for (int piece = 0; piece < M4N_ROW_SIZES; piece++)
      for (int add = 0; add < (dense ? 1 : 2); add++) {
        if (!p->rows[piece]) continue;
        shape.M = p->rows[piece], shape.add = add;
        M4N_TRY(m4n_gemm_open(&p->gemm[piece][add][end], library, &shape, order));
        if (!order) order = p->gemm[piece][add][end];
      }
    M4N_TRY(drop_pieces_that_differ(p, &shape, end));
  }
  // A narrower last column takes no more than a full one.
  const m4n_gemm *any = p->gemm[M4N_ROWS_16][0][0] ? p->gemm[M4N_ROWS_16][0][0] : p->gemm[M4N_ROWS_16][0][1];
  if (plain->packed) p->packed = align(m4n_gemm_packed_bytes(any));
  return M4N_OK;
}

static int open_weight_product(m4n_weight_product *p, m4n_gemm_library *library, const m4n_linear_shape *s) {
  p->tile_out = s->out < WEIGHT_OUT ? s->out : WEIGHT_OUT, p->tiles_out = ceil_div(s->out, p->tile_out);
  p->tile_in = s->in < WEIGHT_IN ? s->in : WEIGHT_IN, p->tiles_in = ceil_div(s->in, p->tile_in);
  const int outs[2] = {p->tile_out, s->out - (p->tiles_out - 1) * p->tile_out};
  const int ins[2] = {p->tile_in, s->in - (p->tiles_in - 1) * p->tile_in};
  const bool dense_x = s->x_ld < s->in; // overlapping rows are copied first
  for (int size = 0; size < 2; size++)
    for (int o = 0; o < 1 + (outs[1] != outs[0]); o++)
      for (int i = 0; i < 1 + (ins[1] != ins[0]); i++) {
        const m4n_gemm_shape shape = {.type = M4N_GEMM_REAL,
                                      .M = outs[o],
                                      .N = ins[i],
                                      .K = size ? M4N_PIECE : M4N_SUM_ROWS,
                                      .x_ld = s->y_ld,
                                      .w_ld = dense_x ? s->in : s->x_ld,
                                      .y_ld = s->in,
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

  const int x_ld = s->x_ld < s->in ? s->in : s->x_ld;
  const size_t width = largest((size_t)in, s->grads ? (size_t)out : 0), real = sizeof(m4n_real);
  if (l->copy_x) M4N_TRY(grow(&work->rows, &work->rows_bytes, (size_t)rows * width * m4n_x_size(l->type)));
  M4N_TRY(grow(&work->tail, &work->tail_bytes, M4N_PIECE * (size_t)(x_ld + s->y_ld) * real));
  if (s->format == M4N_W_INT8) {
    void *scale = work->row_scale;
    M4N_TRY(grow(&scale, &work->scale_bytes, (size_t)rows * real));
    work->row_scale = scale;
  }
  // A thread's tile: a dense result of the largest piece or a padded one of 16 rows; and behind it a column of weights
  // on its way into or out of the packed form.
  const size_t column = largest((size_t)l->forward.column, (size_t)l->back.column);
  const size_t sixteen = M4N_PIECE * largest((size_t)x_ld, (size_t)s->y_ld) * real;
  const size_t result = largest((size_t)main_rows(s->max_rows) * column * real, sixteen);
  const size_t weights = s->format == M4N_W_REAL ? 0 : column * width * real;
  l->at_weights = align(result);
  return grow_tiles(work, l->at_weights + align(weights));
}

static void close_plan(m4n_cpu_linear *l) {
  for (int i = 0; i < M4N_ROW_SIZES; i++)
    for (int j = 0; j < 4; j++) {
      m4n_gemm_close(l->forward.gemm[i][j / 2][j % 2]);
      m4n_gemm_close(l->back.gemm[i][j / 2][j % 2]);
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
