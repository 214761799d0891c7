/* Linear layers (algorithms.md §1): y = x·wᵀ + b, x̄ = ȳ·w, w̄ += ȳᵀ·x, cut into tiles of library products. */
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

typedef struct convert {
  const m4n_cpu_linear *plan;
  const m4n_real *x;
  int rows, width, padded, ld, step; /* rows and columns that exist; columns of the copy */
} convert;

/* The largest magnitude/127 of a row of x or w; not a number if one of them is not finite. */
static m4n_real int8_scale(const m4n_real *x, int n) {
  m4n_real most[M4N_LANES] = {0}, poison[M4N_LANES] = {0};
  for (int at = 0; at < n; at += M4N_LANES) {
    const int lanes = m4n_min(M4N_LANES, n - at);
    for (int i = 0; i < lanes; i++) {
      const m4n_real size = x[at + i] < 0 ? -x[at + i] : x[at + i];
      most[i] = size > most[i] ? size : most[i];
      poison[i] += 0 * x[at + i];
    }
  }
  for (int i = 1; i < M4N_LANES; i++) most[0] = most[i] > most[0] ? most[i] : most[0], poison[0] += poison[i];
  return most[0] / 127 + poison[0];
}

/* One row: copied, rounded to bf16, or divided by its scale into −127 … 127. The library takes bf16 as such and int8 as
 * uint8 around 128; where weights are expanded, it takes the same numbers as m4n_real. Zeros behind the width. */
static void convert_row(const convert *c, int row) {
  const m4n_cpu_linear *l = c->plan;
  const m4n_real *x = c->x + (size_t)row * c->ld;
  char *to = (char *)l->work->rows + (size_t)row * c->padded * m4n_x_size(l->type);
  m4n_real *real = (m4n_real *)(void *)to;
  uint16_t *half = (uint16_t *)(void *)to;
  uint8_t *byte = (uint8_t *)to;
  const int format = l->linear.shape.format, n = row < c->rows ? c->width : 0, rest = c->padded - n;
  m4n_real inverse = 0;
  if (format == M4N_W_INT8) {
    const m4n_real scale = int8_scale(x, n);
    l->work->row_scale[row] = scale;
    inverse = scale > 0 ? 1 / scale : 0;
  }
  if (l->type == M4N_GEMM_INT8) {
    if (inverse > 0)
      for (int i = 0; i < n; i++) byte[i] = (uint8_t)(128 + (int)m4n_round(x[i] * inverse));
    else
      memset(byte, 128, (size_t)n);
    memset(byte + n, 128, (size_t)rest);
  } else if (l->type == M4N_GEMM_BF16) {
    for (int i = 0; i < n; i++) half[i] = m4n_bf16_of((float)x[i]);
    memset(half + n, 0, (size_t)rest * sizeof *half);
  } else {
    if (format == M4N_W_INT8)
      for (int i = 0; i < n; i++) real[i] = inverse > 0 ? m4n_round(x[i] * inverse) : 0;
    else if (format == M4N_W_BF16)
      for (int i = 0; i < n; i++) real[i] = m4n_of_bf16(m4n_bf16_of((float)x[i]));
    else
      memcpy(real, x, (size_t)n * sizeof *x);
    memset(real + n, 0, (size_t)rest * sizeof *real);
  }
}

static void convert_tile(void *self, int index) {
  const convert *c = self;
  M4N_TILE_RANGE(int, begin, end, index, c->step, m4n_ceil_div(c->rows, M4N_PIECE) * M4N_PIECE);
  for (int row = begin; row < end; row++) convert_row(c, row);
}

static void convert_rows(m4n_stream *s, const m4n_cpu_linear *l, const m4n_real *x, int rows, int width,
                         int ld) {
  convert c = {l, x, rows, width, m4n_padded(l->type, width), ld, m4n_tile_rows(width)};
  m4n_cpu_run(s, m4n_ceil_div(m4n_ceil_div(rows, M4N_PIECE) * M4N_PIECE, c.step), convert_tile, &c);
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
  const char *x, *w, *tail; /* x dense; its last rows where they are not 16 */
  size_t x_row;             /* bytes */
  int y_ld, rows, add, back;
  pieces pieces;
} multiply;

/* Numbers `from` … of weights in any plain format, as m4n_real. */
static void expand_row(m4n_real *to, const m4n_cpu_linear *l, const char *w, size_t from, int count) {
  const m4n_real *real = (const m4n_real *)(const void *)w + from;
  const uint16_t *half = (const uint16_t *)(const void *)(w + l->at_forward) + from;
  const int8_t *byte = (const int8_t *)(w + l->at_forward) + from;
  if (l->linear.shape.format == M4N_W_REAL)
    memcpy(to, real, (size_t)count * sizeof *to);
  else if (l->linear.shape.format == M4N_W_BF16)
    for (int j = 0; j < count; j++) to[j] = m4n_of_bf16(half[j]);
  else
    for (int j = 0; j < count; j++) to[j] = byte[j];
}

/* The weights of a column as the library takes them: as they lie, packed or plain, or a dense copy in scratch. */
static const void *column_weights(const multiply *a, int column, int width, m4n_real *scratch) {
  const m4n_cpu_linear *l = a->plan;
  const int first = column * a->p->column, in = l->linear.shape.in;
  if (a->p->packed) return a->w + (a->back ? l->at_back : l->at_forward) + (size_t)column * a->p->packed;
  if (a->back)
    for (int i = 0; i < l->linear.shape.out; i++)
      expand_row(scratch + (size_t)i * width, l, a->w, (size_t)i * in + first, width);
  else if (l->expand)
    for (int i = 0; i < width; i++)
      expand_row(scratch + (size_t)i * in, l, a->w, (size_t)(first + i) * in, in);
  else
    return a->w + (size_t)first * in * sizeof(m4n_real);
  return scratch;
}

/* From a thread's result to y, with what belongs to a sum: int8 takes off the 128 of x and has scales; then the bias and
 * the old y. */
static void put_rows(const multiply *a, const void *result, int ld, const piece *rows, int first, int width) {
#define PUT(expression)                                                                                      \
  if (a->add)                                                                                                \
    for (int c = 0; c < width; c++) y[c] += (expression);                                                    \
  else                                                                                                       \
    for (int c = 0; c < width; c++) y[c] = (expression)

  const m4n_cpu_linear *l = a->plan;
  const int int8 = l->linear.shape.format == M4N_W_INT8;
  const m4n_real *scale = (const m4n_real *)(const void *)(a->w + l->at_scale) + first;
  const int32_t *sum = (const int32_t *)(const void *)(a->w + l->at_sum) + first;
  for (int i = 0; i < rows->count; i++) {
    const m4n_real *restrict real = (const m4n_real *)result + (size_t)i * ld;
    const int32_t *restrict whole = (const int32_t *)result + (size_t)i * ld;
    m4n_real *restrict y = a->y + (size_t)(rows->first + i) * a->y_ld + first;
    const m4n_real of_row = int8 ? l->work->row_scale[rows->first + i] : 1;
    if (l->type == M4N_GEMM_INT8) {
      PUT(of_row * scale[c] * (m4n_real)(whole[c] - 128 * sum[c]));
    } else if (int8) {
      PUT(of_row * scale[c] * real[c]);
    } else {
      PUT(real[c]);
    }
    if (a->bias)
      for (int c = 0; c < width; c++) y[c] += a->bias[first + c];
  }
#undef PUT
}

static void multiply_tile(void *self, int index) {
  const multiply *a = self;
  const m4n_product *p = a->p;
  const int column = index % p->columns, first = column * p->column, thread = m4n_pool_thread();
  const int width = m4n_min(p->column, p->N - first);
  const int end = width != p->column && a->plan->type == M4N_GEMM_REAL; // narrow types pad their last column
  const piece rows = piece_at(&a->pieces, a->rows, index / p->columns);
  char *scratch = a->plan->work->tile[thread];
  const void *w = column_weights(a, column, width, (m4n_real *)(void *)(scratch + a->plan->at_weights));
  const void *x = rows.count < p->rows[rows.size] ? a->tail : a->x + (size_t)rows.first * a->x_row;
  m4n_gemm_run(p->gemm[rows.size][end], thread, scratch, x, w);
  put_rows(a, scratch, end ? width : p->column, &rows, first, width);
}

/* x is [rows][width] with distance ld: `in` wide and x forward, `out` wide and dy backward. */
static void run_product(m4n_stream *s, multiply *a, const m4n_real *x, int width, int ld) {
  const m4n_cpu_linear *l = a->plan;
  m4n_cpu_workspace *work = l->work;
  const int last = a->rows / M4N_PIECE * M4N_PIECE;
  a->pieces = cut(a->p, a->rows);
  if (a->back ? l->copy_dy : l->copy_x) {
    convert_rows(s, l, x, a->rows, width, ld);
    a->x_row = (size_t)m4n_padded(l->type, width) * m4n_x_size(l->type);
    a->x = work->rows, a->tail = a->x + (size_t)last * a->x_row;
  } else {
    a->x_row = (size_t)width * sizeof *x;
    a->x = (const char *)x, a->tail = work->tail;
    if (last < a->rows) pad_rows(work->tail, x, last, a->rows, width);
  }
  m4n_cpu_run(s, count_of(&a->pieces) * a->p->columns, multiply_tile, a);
}

void M4N_CPU(linear_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const void *w, const m4n_real *bias,
                         const m4n_linear *plan, int rows, int add) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
  multiply a = {
      .plan = l, .p = &l->forward, .y = y, .bias = bias, .w = w, .y_ld = plan->shape.y_ld, .rows = rows};
  a.add = add != 0;
  run_product(s, &a, x, plan->shape.in, plan->shape.x_ld);
}
void M4N_CPU(linear_bwd_x)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const void *w,
                           const m4n_linear *plan, int rows, int add) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
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

/* ---- packing ------------------------------------------------------------------------------------------------------------------------- */

typedef struct packing {
  const m4n_cpu_linear *plan;
  char *packed;
  const m4n_real *w;
} packing;

/* A number of w in the plan's type; int8 by the scale of its row. */
static void narrow(void *to, const m4n_cpu_linear *l, const m4n_real *w, int n, m4n_real scale) {
  const m4n_real inverse = scale > 0 ? 1 / scale : 0;
  switch (l->linear.shape.format) {
  case M4N_W_INT8:
    for (int i = 0; i < n; i++)
      ((int8_t *)to)[i] = (int8_t)(inverse > 0 ? (int)m4n_round(w[i] * inverse) : 0);
    break;
  case M4N_W_BF16:
    for (int i = 0; i < n; i++) ((uint16_t *)to)[i] = m4n_bf16_of((float)w[i]);
    break;
  default:
    memcpy(to, w, (size_t)n * sizeof *w);
  }
}
static size_t narrow_size(const m4n_cpu_linear *l) {
  const int format = l->linear.shape.format;
  return format == M4N_W_INT8 ? 1 : format == M4N_W_BF16 ? 2 : sizeof(m4n_real);
}

/* A column of the forward: `width` rows of w, each `in` long and padded. */
static void pack_forward_tile(void *self, int column) {
  const packing *a = self;
  const m4n_cpu_linear *l = a->plan;
  const m4n_product *p = &l->forward;
  const int in = l->linear.shape.in, first = column * p->column, width = m4n_min(p->column, p->N - first);
  const int thread = m4n_pool_thread();
  const size_t size = narrow_size(l), row = (size_t)(l->expand ? in : p->K) * size;
  const int rows_of_tile =
      l->type == M4N_GEMM_REAL ? width : p->column; // a narrow type's last column is padded
  char *rows = l->expand ? a->packed + l->at_forward + (size_t)first * row : l->work->tile[thread];
  for (int i = 0; i < width; i++) {
    const m4n_real *w = a->w + (size_t)(first + i) * in;
    char *to = rows + (size_t)i * row;
    m4n_real scale = 0;
    if (l->linear.shape.format == M4N_W_INT8) {
      scale = int8_scale(w, in);
      ((m4n_real *)(void *)(a->packed + l->at_scale))[first + i] = scale;
    }
    narrow(to, l, w, in, scale);
    memset(to + (size_t)in * size, 0, row - (size_t)in * size);
    if (l->linear.shape.format != M4N_W_INT8) continue;
    int32_t sum = 0;
    for (int j = 0; j < in; j++) sum += ((int8_t *)to)[j];
    ((int32_t *)(void *)(a->packed + l->at_sum))[first + i] = sum;
  }
  if (rows_of_tile > width) memset(rows + (size_t)width * row, 0, (size_t)(rows_of_tile - width) * row);
  if (!l->expand)
    m4n_gemm_pack(p->gemm[M4N_ROWS_16][l->type == M4N_GEMM_REAL && width != p->column], thread,
                  a->packed + l->at_forward + (size_t)column * p->packed, rows);
}

/* A column of dx (bf16): `width` columns of w, all `out` rows, padded on both sides. */
static void pack_back_tile(void *self, int column) {
  const packing *a = self;
  const m4n_cpu_linear *l = a->plan;
  const m4n_product *p = &l->back;
  const int in = l->linear.shape.in, first = column * p->column, width = m4n_min(p->column, p->N - first);
  const int thread = m4n_pool_thread();
  const size_t row = (size_t)p->column * narrow_size(l);
  char *rows = l->work->tile[thread];
  memset(rows, 0, (size_t)p->K * row);
  for (int i = 0; i < l->linear.shape.out; i++)
    narrow(rows + (size_t)i * row, l, a->w + (size_t)i * in + first, width, 0);
  m4n_gemm_pack(p->gemm[M4N_ROWS_16][l->type == M4N_GEMM_REAL && width != p->column], thread,
                a->packed + l->at_back + (size_t)column * p->packed, rows);
}

void M4N_CPU(linear_pack)(m4n_stream *s, void *packed, const m4n_real *w, const m4n_linear *plan) {
  const m4n_cpu_linear *l = (const m4n_cpu_linear *)plan;
  packing a = {l, packed, w};
  if (plan->shape.format == M4N_W_REAL) {
    memcpy(packed, w, plan->bytes);
    return;
  }
  m4n_cpu_run(s, l->forward.columns, pack_forward_tile, &a);
  if (!l->expand && plan->shape.grads) m4n_cpu_run(s, l->back.columns, pack_back_tile, &a);
}
