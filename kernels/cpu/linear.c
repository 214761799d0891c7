/* Linear layers (algorithms.md §1): y = x·wᵀ + b, x̄ = ȳ·w, w̄ += ȳᵀ·x, cut into tiles of library products; where weights
 * are packed, packed.c has them. */
#include "kernels/cpu/linear.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/math.h"

/* ---- rows: pieces of the plan's own size, then of 64, then of 16, of which the last may be padded ----------------------------------------- */

typedef struct piece {
  int first, count,
      size; /* rows [first, first + count); size is an M4N_ROWS_…, which only the last may not fill */
} piece;

/* Of `rows` rows, how many pieces there are of each size. */
typedef struct pieces {
  int main, main_rows, sixty_four, sixteen, eight;
} pieces;

static pieces cut(const m4n_product *p, int rows) {
  pieces c = {.main_rows = p->rows[M4N_ROWS_MAIN]}; // sizes of 0 rows are not used
  if (c.main_rows) c.main = rows / c.main_rows, rows -= c.main * c.main_rows;
  if (p->rows[M4N_ROWS_64]) c.sixty_four = rows / 64, rows -= c.sixty_four * 64;
  c.sixteen = rows / M4N_PIECE, rows -= c.sixteen * M4N_PIECE;
  c.eight = rows > 0 && rows <= p->rows[M4N_ROWS_8];
  c.sixteen += rows > 0 && !c.eight;
  return c;
}
static int count_of(const pieces *c) {
  return c->main + c->sixty_four + c->sixteen + c->eight;
}
static piece piece_at(const pieces *c, int rows, int index) {
  if (index < c->main) return (piece){index * c->main_rows, c->main_rows, M4N_ROWS_MAIN};
  index -= c->main;
  int first = c->main * c->main_rows;
  if (index < c->sixty_four) return (piece){first + 64 * index, 64, M4N_ROWS_64};
  index -= c->sixty_four;
  first += 64 * c->sixty_four + M4N_PIECE * index;
  return (piece){first, m4n_min(M4N_PIECE, rows - first), index < c->sixteen ? M4N_ROWS_16 : M4N_ROWS_8};
}

/* ---- x on its way to the library ------------------------------------------------------------------------------------------------ */

typedef struct copying {
  m4n_real *to;
  const m4n_real *x;
  int rows, width, ld, step;
} copying;

static void copy_tile(void *self, int index) {
  const copying *c = self;
  M4N_TILE_RANGE(int, begin, end, index, c->step, m4n_ceil_div(c->rows, M4N_PIECE) * M4N_PIECE);
  for (int row = begin; row < end; row++) {
    m4n_real *to = c->to + (size_t)row * c->width;
    if (row < c->rows)
      memcpy(to, c->x + (size_t)row * c->ld, (size_t)c->width * sizeof *to);
    else
      memset(to, 0, (size_t)c->width * sizeof *to);
  }
}

/* The last rows, fewer than 16, of a dense operand, with zeros below. */
static void pad_rows(m4n_real *to, const m4n_real *x, int first, int rows, int width) {
  const size_t n = (size_t)(rows - first) * width, all = (size_t)M4N_PIECE * width;
  memcpy(to, x + (size_t)first * width, n * sizeof *to);
  memset(to + n, 0, (all - n) * sizeof *to);
}

/* ---- products with weights: the forward, and dx ----------------------------------------------------------------------------------- */

typedef struct multiply {
  const m4n_cpu_linear *plan;
  const m4n_product *p;
  m4n_real *y;
  const m4n_real *bias;
  const m4n_real *x, *w, *tail; /* x dense; its last rows where they are not 16 */
  int y_ld, rows, add, back;
  pieces pieces;
} multiply;

/* The weights of a column: forward as they lie, backward a dense copy in scratch. */
static const void *column_weights(const multiply *a, int column, int width, m4n_real *scratch) {
  const m4n_linear_shape *n = &a->plan->linear.shape;
  const size_t first = (size_t)column * a->p->column, in = (size_t)n->in;
  if (!a->back) return a->w + first * in;
  for (int i = 0; i < n->out; i++)
    memcpy(scratch + (size_t)i * width, a->w + (size_t)i * in + first, (size_t)width * sizeof *scratch);
  return scratch;
}

/* From a thread's result to y; then the bias. */
static void put_rows(const multiply *a, const m4n_real *result, const piece *rows, int first, int width) {
  for (int i = 0; i < rows->count; i++) {
    const m4n_real *restrict from = result + (size_t)i * width;
    m4n_real *restrict y = a->y + (size_t)(rows->first + i) * a->y_ld + first;
    if (a->add)
      for (int c = 0; c < width; c++) y[c] += from[c];
    else
      memcpy(y, from, (size_t)width * sizeof *y);
    if (a->bias)
      for (int c = 0; c < width; c++) y[c] += a->bias[first + c];
  }
}

static void multiply_tile(void *self, int index) {
  const multiply *a = self;
  const m4n_product *p = a->p;
  const int column = index % p->columns, first = column * p->column, thread = m4n_pool_thread();
  const int width = m4n_min(p->column, p->N - first);
  const piece rows = piece_at(&a->pieces, a->rows, index / p->columns);
  char *scratch = a->plan->work->tile[thread];
  const void *w = column_weights(a, column, width, (m4n_real *)(void *)(scratch + a->plan->at_weights));
  const m4n_real *x = rows.count < p->rows[rows.size] ? a->tail : a->x + (size_t)rows.first * p->K;
  m4n_gemm_run(p->gemm[rows.size][width != p->column], thread, scratch, x, w);
  put_rows(a, (const m4n_real *)(void *)scratch, &rows, first, width);
}

/* x is [rows][width] with distance ld: `in` wide and x forward, `out` wide and dy backward. */
static void run_product(m4n_stream *s, multiply *a, const m4n_real *x, int width, int ld) {
  const m4n_cpu_linear *l = a->plan;
  m4n_cpu_workspace *work = l->work;
  const int last = a->rows / M4N_PIECE * M4N_PIECE;
  a->pieces = cut(a->p, a->rows);
  if (a->back ? l->copy_dy : l->copy_x) {
    copying c = {work->rows, x, a->rows, width, ld, m4n_tile_rows(width)};
    m4n_cpu_run(s, m4n_ceil_div(m4n_ceil_div(a->rows, M4N_PIECE) * M4N_PIECE, c.step), copy_tile, &c);
    a->x = work->rows, a->tail = a->x + (size_t)last * width;
  } else {
    a->x = x, a->tail = work->tail;
    if (last < a->rows) pad_rows(work->tail, x, last, a->rows, width);
  }
  m4n_cpu_run(s, count_of(&a->pieces) * a->p->columns, multiply_tile, a);
}

void M4N_CPU(linear_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const void *w, const m4n_real *bias,
                         const m4n_linear *plan, int rows, int add) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
  if (plan->shape.format != M4N_W_REAL) {
    M4N_CPU(packed_fwd)(s, y, x, w, bias, l, rows, add != 0);
    return;
  }
  multiply a = {
      .plan = l, .p = &l->forward, .y = y, .bias = bias, .w = w, .y_ld = plan->shape.y_ld, .rows = rows};
  a.add = add != 0;
  run_product(s, &a, x, plan->shape.in, plan->shape.x_ld);
}
void M4N_CPU(linear_bwd_x)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const void *w,
                           const m4n_linear *plan, int rows, int add) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
  if (plan->shape.format != M4N_W_REAL) {
    M4N_CPU(packed_bwd_x)(s, dx, dy, w, l, rows, add != 0);
    return;
  }
  multiply a = {.plan = l, .p = &l->back, .y = dx, .w = w, .y_ld = plan->shape.x_ld, .rows = rows, .back = 1};
  a.add = add != 0;
  run_product(s, &a, dy, plan->shape.out, plan->shape.y_ld);
}

/* ---- dw += dyᵀ·x -------------------------------------------------------------------------------------------------------------------- */

typedef struct weigh {
  const m4n_cpu_linear *plan;
  m4n_real *dw;
  const m4n_real *dy, *x;
  int rows;
} weigh;

/* `rows` rows and `width` columns of x, densely, of which `count` rows exist: x itself or a copy. */
static const m4n_real *dense_block(m4n_real *copy, const m4n_real *x, int ld, int count, int rows,
                                   int width) {
  if (ld == width && count == rows) return x;
  for (int i = 0; i < count; i++)
    memcpy(copy + (size_t)i * width, x + (size_t)i * ld, (size_t)width * sizeof *copy);
  memset(copy + (size_t)count * width, 0, (size_t)(rows - count) * width * sizeof *copy);
  return copy;
}

static void weigh_tile(void *self, int index) {
  const weigh *a = self;
  const m4n_linear_shape *n = &a->plan->linear.shape;
  const m4n_weight_product *p = &a->plan->weight;
  const int o = index / p->tiles_in, i = index % p->tiles_in, thread = m4n_pool_thread();
  const int out = o * p->tile_out, in = i * p->tile_in;
  const int outs = m4n_min(p->tile_out, n->out - out), ins = m4n_min(p->tile_in, n->in - in);
  char *scratch = a->plan->work->tile[thread];
  m4n_real *sum = (m4n_real *)(void *)scratch, *dy_copy = (m4n_real *)(void *)(scratch + a->plan->at_weights);
  m4n_real *x_copy = dy_copy + (size_t)M4N_SUM_ROWS * p->tile_out;
  memset(sum, 0, (size_t)outs * ins * sizeof *sum);
  for (int row = 0; row < a->rows;) {
    const int size = a->rows - row < M4N_SUM_ROWS, rows = size ? M4N_PIECE : M4N_SUM_ROWS;
    const int count = m4n_min(rows, a->rows - row);
    const m4n_real *dy = a->dy + (size_t)row * n->y_ld + out, *x = a->x + (size_t)row * n->x_ld + in;
    m4n_gemm_run(p->gemm[size][outs != p->tile_out][ins != p->tile_in], thread, sum,
                 dense_block(dy_copy, dy, n->y_ld, count, rows, outs),
                 dense_block(x_copy, x, n->x_ld, count, rows, ins));
    row += count;
  }
  for (int r = 0; r < outs; r++) {
    m4n_real *dw = a->dw + (size_t)(out + r) * n->in + in;
    for (int c = 0; c < ins; c++) dw[c] += sum[(size_t)r * ins + c];
  }
}

void M4N_CPU(linear_bwd_w)(m4n_stream *s, m4n_real *dw, const m4n_real *dy, const m4n_real *x,
                           const m4n_linear *plan, int rows) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
  weigh a = {.plan = l, .dw = dw, .dy = dy, .x = x, .rows = rows};
  m4n_cpu_run(s, l->weight.tiles_out * l->weight.tiles_in, weigh_tile, &a);
}

void M4N_CPU(linear_pack)(m4n_stream *s, void *packed, const m4n_real *w, const m4n_linear *plan) {
  if (plan->shape.format == M4N_W_REAL)
    memcpy(packed, w, plan->bytes);
  else
    M4N_CPU(packed_pack)(s, packed, w, (const m4n_cpu_linear *)plan);
}
