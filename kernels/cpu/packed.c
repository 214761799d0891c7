/* Linear layers with packed weights (packed.h): y = x·wᵀ + b or its two halves as silu(a)·b, and, for bf16, x̄ = ȳ·w. Panels are the processor's tiles' where
 * it has them, else loops over blocks of rows with sums in registers. */
#include "kernels/cpu/packed.h"

#include <assert.h>

#include "kernels/cpu/block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/math.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* ---- blocks: c[BLOCK][32] = x[BLOCK][depth]·panel ---------------------------------------------------------------------
 *
 * Two vectors of columns times BLOCK rows of sums, with what they are made of, fill the registers. Weights are fetched
 * ahead of their use: a core that waits for its own loads reads memory at a third of what it can. */
#if M4N_VECTOR_BYTES == 64
enum { BLOCK = 8 };
#else
enum { BLOCK = 4 };
#endif
enum { NEAR = 1024, FAR = 4096, WIDE = 2 };

static inline void fetch(const void *w) {
  __builtin_prefetch((const char *)w + FAR, 0, 2);
  __builtin_prefetch((const char *)w + NEAR);
}

typedef struct rows_of_x {
  const char *row[BLOCK];
} rows_of_x;

static inline m4n_real real_at(const rows_of_x *x, int i, int k) {
  return ((const m4n_real *)(const void *)x->row[i])[k];
}

static void block_real(m4n_real *c, rows_of_x x, const m4n_real *w, int depth) {
  for (int j = 0; j < M4N_PANEL; j += WIDE * M4N_VECTOR) {
    m4n_vector sum[BLOCK][WIDE] = {{{0}}};
    for (int k = 0; k < depth; k++) {
      const m4n_vector *right = (const m4n_vector *)(const void *)(w + (size_t)k * M4N_PANEL + j);
      for (int v = 0; v < WIDE; v++) fetch(right + v);
      for (int i = 0; i < BLOCK; i++)
        for (int v = 0; v < WIDE; v++) sum[i][v] += real_at(&x, i, k) * right[v];
    }
    for (int i = 0; i < BLOCK; i++)
      for (int v = 0; v < WIDE; v++) m4n_vector_store(c + i * M4N_PANEL + j + v * M4N_VECTOR, sum[i][v]);
  }
}

/* Two bf16 in 32 bits: the upper one is a float32 with the lower as its last digits. */
typedef uint32_t pairs __attribute__((vector_size(4 * M4N_VECTOR), may_alias));
typedef float floats __attribute__((vector_size(4 * M4N_VECTOR)));

static void block_bf16(m4n_real *c, rows_of_x x, const uint16_t *w, int depth) {
  for (int j = 0; j < M4N_PANEL; j += WIDE * M4N_VECTOR) {
    m4n_vector sum[BLOCK][WIDE] = {{{0}}};
    for (int k = 0; k < depth; k += 2) {
      const pairs *right = (const pairs *)(const void *)(w + (size_t)k * M4N_PANEL + 2 * j);
      m4n_vector even[WIDE], odd[WIDE];
      for (int v = 0; v < WIDE; v++) {
        fetch(right + v);
        even[v] = __builtin_convertvector((floats)(right[v] << 16), m4n_vector);
        odd[v] = __builtin_convertvector((floats)(right[v] & 0xffff0000), m4n_vector);
      }
      for (int i = 0; i < BLOCK; i++)
        for (int v = 0; v < WIDE; v++) {
          sum[i][v] += real_at(&x, i, k) * even[v];
          sum[i][v] += real_at(&x, i, k + 1) * odd[v];
        }
    }
    for (int i = 0; i < BLOCK; i++)
      for (int v = 0; v < WIDE; v++) m4n_vector_store(c + i * M4N_PANEL + j + v * M4N_VECTOR, sum[i][v]);
  }
}

typedef int16_t shorts __attribute__((vector_size(M4N_VECTOR_BYTES), may_alias));
typedef int32_t wholes __attribute__((vector_size(M4N_VECTOR_BYTES), may_alias));
enum { WHOLES = M4N_VECTOR_BYTES / 4 };

/* Products of neighbours, added: 16 bits by 16 bits to 32. */
static inline wholes multiply_pairs(shorts a, shorts b) {
#if M4N_VECTOR_BYTES == 64 && defined(__AVX512BW__)
  return (wholes)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif M4N_VECTOR_BYTES == 32 && defined(__AVX2__)
  return (wholes)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif M4N_VECTOR_BYTES == 16 && defined(__SSE2__)
  return (wholes)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const wholes x = (wholes)a, y = (wholes)b;
  return (x >> 16) * (y >> 16) + (x << 16 >> 16) * (y << 16 >> 16);
#endif
}

/* Four int8 in 32 bits become (k, k + 2) and (k + 1, k + 3); x comes in that order, as 16 bits. Rows of sums are as far
 * apart as rows of m4n_real. */
static void block_int8(int32_t *c, rows_of_x x, const int8_t *w, int depth) {
  enum { ROW = M4N_PANEL * sizeof(m4n_real) / sizeof *c };
  for (int j = 0; j < M4N_PANEL; j += WIDE * WHOLES) {
    wholes sum[BLOCK][WIDE] = {{{0}}};
    for (int k = 0; k < depth; k += 4) {
      const shorts *right = (const shorts *)(const void *)(w + (size_t)k * M4N_PANEL + 4 * j);
      shorts even[WIDE], odd[WIDE];
      for (int v = 0; v < WIDE; v++) {
        fetch(right + v);
        even[v] = right[v] << 8 >> 8, odd[v] = right[v] >> 8;
      }
      for (int i = 0; i < BLOCK; i++) {
        const int32_t *pair = (const int32_t *)(const void *)(x.row[i] + 2 * k);
        for (int v = 0; v < WIDE; v++) {
          sum[i][v] += multiply_pairs((shorts)(pair[0] - (wholes){0}), even[v]);
          sum[i][v] += multiply_pairs((shorts)(pair[1] - (wholes){0}), odd[v]);
        }
      }
    }
    for (int i = 0; i < BLOCK; i++)
      for (int v = 0; v < WIDE; v++) memcpy(c + i * ROW + j + v * WHOLES, &sum[i][v], sizeof sum[i][v]);
  }
}

/* ---- rows of x as a product reads them --------------------------------------------------------------------------------- */

/* The largest magnitude/127 of a row of x or w; not a number if one of them is not finite. */
static m4n_real int8_scale(const m4n_real *x, int n) {
  m4n_real most[M4N_LANES] = {0}, poison[M4N_LANES] = {0};
#define LOOK(lane, value)                                                                                    \
  do {                                                                                                       \
    const m4n_real size = (value) < 0 ? -(value) : (value);                                                  \
    most[lane] = size > most[lane] ? size : most[lane];                                                      \
    poison[lane] += 0 * (value);                                                                             \
  } while (0)
  int at = 0;
  for (; at + M4N_LANES <= n; at += M4N_LANES)
    for (int i = 0; i < M4N_LANES; i++) LOOK(i, x[at + i]);
  for (; at < n; at++) LOOK(0, x[at]);
#undef LOOK
  for (int half = M4N_LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) most[i] = most[i + half] > most[i] ? most[i + half] : most[i];
  return most[0] / 127 + m4n_lanes_total(poison);
}

/* Blocks read rows of m4n_real (bf16, rounded) or of 16 bits (int8). Tiles read 16 rows of 64 bytes that lie behind one
 * another, [row/16][depth/64][16][64]: at a distance of whole rows they would fight for a few lines of the cache. */
typedef struct copying {
  const m4n_cpu_linear *plan;
  const m4n_real *x;
  int rows, width, ld, step;
  size_t row; /* bytes of a row of the copy */
} copying;

enum { PIECE = 64, TILE_HEIGHT = 16 }; /* bytes; rows of a tile */

/* Bytes of a number of x in the copy. */
static size_t size_in_copy(const m4n_cpu_linear *l) {
  const bool int8 = l->linear.shape.format == M4N_W_INT8;
  return l->work->tiles ? (int8 ? 1 : 2) : (int8 ? 2 : sizeof(m4n_real));
}

/* 64 bytes of a row: numbers divided by the row's scale into −127 … 127, or rounded to bf16. */
static void write_int8(void *restrict to, bool tiles, const m4n_real *restrict x, m4n_real inverse) {
  int8_t *restrict byte = to;
  int16_t *restrict half = to;
  if (tiles) M4N_EACH
  for (int i = 0; i < PIECE; i++) byte[i] = (int8_t)(int)m4n_round(x[i] * inverse);
  else for (int i = 0; i < PIECE / 2; i += 4) for (int k = 0; k < 4; k++) // in the order 0, 2, 1, 3
      half[i + k] = (int16_t)(int)m4n_round(x[i + ((k & 1) << 1 | k >> 1)] * inverse);
}
static void write_bf16(void *restrict to, bool tiles, const m4n_real *restrict x) {
  uint16_t *restrict half = to;
  m4n_real *restrict real = to;
  if (tiles) M4N_EACH
  for (int i = 0; i < PIECE / 2; i++) half[i] = m4n_bf16_of((float)x[i]);
  else M4N_EACH
  for (int i = 0; i < PIECE / (int)sizeof *real; i++) real[i] = m4n_of_bf16(m4n_bf16_of((float)x[i]));
}

static void copy_row(const copying *c, int row) {
  const m4n_cpu_linear *l = c->plan;
  const m4n_real *x = c->x + (size_t)row * c->ld;
  const bool int8 = l->linear.shape.format == M4N_W_INT8, tiles = l->work->tiles;
  const size_t apart = tiles ? PIECE * TILE_HEIGHT : PIECE;
  char *to = (char *)l->work->rows;
  to += tiles ? row / TILE_HEIGHT * TILE_HEIGHT * c->row + row % TILE_HEIGHT * PIECE : row * c->row;
  const m4n_real scale = int8 ? int8_scale(x, c->width) : 0, inverse = scale > 0 ? 1 / scale : 0;
  if (int8) l->work->row_scale[row] = scale; // says so where the row is not finite
  const int each = PIECE / (int)size_in_copy(l), pieces = (int)(c->row / PIECE);
  for (int i = 0; i < pieces; i++, to += apart) {
    const int n = m4n_min(each, c->width - i * each);
    const m4n_real *from = x + i * each;
    m4n_real last[PIECE] = {0};
    if (n < each) from = memcpy(last, from, (size_t)(n > 0 ? n : 0) * sizeof *last);
    if (!int8)
      write_bf16(to, tiles, from);
    else if (inverse > 0)
      write_int8(to, tiles, from, inverse);
    else
      memset(to, 0, PIECE);
  }
}

static void copy_tile(void *self, int index) {
  const copying *c = self;
  M4N_TILE_RANGE(int, begin, end, index, c->step, c->rows);
  for (int row = begin; row < end; row++) copy_row(c, row);
}

/* ---- the product ---------------------------------------------------------------------------------------------------------- */

/* A tile of the pool: up to eight panels, so that they stay near while blocks of rows pass. Of few rows, which do not make
 * tiles enough, a sixteenth of all panels, but 64 KB at least, since each tile ends with a wait for its sums, and 256 KB at
 * most. Tiles of the same panels follow one another. */
enum { TILE_LEAST = 65536, TILE_MOST = 262144, TILE_PANELS = 8, TILES = 16, TILE_ROWS = 320 };

static int tile_panels(const m4n_packed *p, int rows) {
  if (rows > TILE_ROWS) return TILE_PANELS;
  const int least = m4n_ceil_div(TILE_LEAST, (int)p->panel), most = m4n_ceil_div(TILE_MOST, (int)p->panel);
  const int share = m4n_min(m4n_ceil_div(p->panels, TILES), most), panels = least > share ? least : share;
  return m4n_min(TILE_PANELS, m4n_ceil_div(panels, p->pair) * p->pair);
}

typedef struct multiply {
  const m4n_cpu_linear *plan;
  const m4n_packed *p;
  m4n_real *y;
  const m4n_real *bias;
  const char *x, *w;
  size_t x_row;              /* bytes */
  int y_ld, rows, add, step; /* step: panels of a tile */
} multiply;

/* From sums of a row and a panel to y: int8 has scales of x's row and of w's; then the old y and the bias. */
static void put_row(const multiply *a, const void *sums, int row, int column, int width) {
#define PUT(expression)                                                                                      \
  if (a->add)                                                                                                \
    for (int c = 0; c < width; c++) y[c] += (expression);                                                    \
  else                                                                                                       \
    for (int c = 0; c < width; c++) y[c] = (expression)

  const m4n_cpu_linear *l = a->plan;
  const m4n_real *restrict real = sums,
                           *scale = (const m4n_real *)(const void *)(a->w + l->at_scale) + column;
  const int32_t *restrict whole = sums;
  m4n_real *restrict y = a->y + (size_t)row * a->y_ld + column;
  if (l->linear.shape.format == M4N_W_INT8) {
    const m4n_real of_row = l->work->row_scale[row];
    PUT(of_row * scale[c] * (m4n_real)whole[c]);
  } else {
    PUT(real[c]);
  }
  if (a->bias)
    for (int c = 0; c < width; c++) y[c] += a->bias[column + c];
#undef PUT
}

/* y = silu(gate)·(what it lets through), of a pair of panels. */
static void put_gated(const multiply *a, const void *gates, const void *through, int row, int column,
                      int width) {
  const m4n_cpu_linear *l = a->plan;
  const m4n_real *restrict g = gates, *restrict t = through;
  const int32_t *restrict whole_g = gates, *restrict whole_t = through;
  m4n_real *restrict y = a->y + (size_t)row * a->y_ld + column;
  if (l->linear.shape.format == M4N_W_INT8) {
    const m4n_real *scale_g = (const m4n_real *)(const void *)(a->w + l->at_scale) + column,
                   *scale_t = scale_g + a->p->N, of_row = l->work->row_scale[row];
    M4N_EACH
    for (int c = 0; c < width; c++)
      y[c] =
          m4n_silu(of_row * scale_g[c] * (m4n_real)whole_g[c]) * (of_row * scale_t[c] * (m4n_real)whole_t[c]);
  } else {
    M4N_EACH
    for (int c = 0; c < width; c++) y[c] = m4n_silu(g[c]) * t[c];
  }
}

/* Rows `first` … of a panel by blocks; of a last block that is not full, a row is taken again and not kept. */
static void multiply_block(const multiply *a, void *sums, const char *panel, int first) {
  rows_of_x x;
  for (int i = 0; i < BLOCK; i++) x.row[i] = a->x + (size_t)m4n_min(first + i, a->rows - 1) * a->x_row;
  switch (a->plan->linear.shape.format) {
  case M4N_W_INT8:
    block_int8(sums, x, (const int8_t *)panel, a->p->depth);
    break;
  case M4N_W_BF16:
    block_bf16(sums, x, (const uint16_t *)(const void *)panel, a->p->depth);
    break;
  default:
    block_real(sums, x, (const m4n_real *)(const void *)panel, a->p->depth);
  }
}

/* Sums of a tile: of 32 rows at most for each panel. */
typedef m4n_real tile_sums[TILE_PANELS][M4N_TILE_ROWS][M4N_PANEL];

static const char *panel_of(const multiply *a, int panel) {
  return a->w + a->p->at + (size_t)panel * a->p->panel;
}

/* Sums of panels from … to − 1, of a tile that begins at panel `left`, to y. */
static void put(const multiply *a, tile_sums sums, int left, int from, int to, int first, int rows) {
  const int pair = a->p->pair;
  for (int i = 0; i < rows; i++)
    for (int panel = from; panel < to; panel += pair) {
      const int column = panel / pair * M4N_PANEL, width = m4n_min(M4N_PANEL, a->p->N - column);
      const void *of_panel = sums[panel - left][i], *of_next = sums[panel - left + pair - 1][i];
      if (pair == 2)
        put_gated(a, of_panel, of_next, first + i, column, width);
      else
        put_row(a, of_panel, first + i, column, width);
    }
}

/* Few rows wait for their weights, and sums of all the panels come to y together: a line here and a line there, between
 * reads of weights, cost a fifth of the time of eight rows. Many rows come a piece of K at a time, so that 32 of them stay
 * in the first cache while the panels pass, and their sums need not come by way of another array if they are y. */
static void multiply_on_tiles(const multiply *a, tile_sums sums, int left, int right, int first, int rows) {
  enum { DEPTH = 1024 };
  const m4n_tile_unit *unit = a->plan->work->tiles;
  const bool int8 = a->plan->linear.shape.format == M4N_W_INT8, few = rows <= TILE_HEIGHT;
  const int pair = a->p->pair;
  const bool whole = rows == M4N_TILE_ROWS && !int8 && !a->add && !a->bias && pair == 1;
  for (size_t from = 0, to; from < a->x_row; from = to) {
    to = few || from + DEPTH > a->x_row ? a->x_row : from + DEPTH;
    const m4n_tiled_rows x = {a->x + (size_t)first * a->x_row, a->x_row, from, to, rows};
    for (int panel = left; panel < right; panel++) {
      const bool is_y = whole && (panel + 1) * M4N_PANEL <= a->p->N;
      if (is_y)
        unit->bf16((void *)(a->y + (size_t)first * a->y_ld + panel * M4N_PANEL),
                   (size_t)a->y_ld * sizeof *a->y, &x, panel_of(a, panel));
      else
        (int8 ? unit->int8 : unit->bf16)(sums[panel - left], sizeof sums[0][0], &x, panel_of(a, panel));
      if (!few && !is_y && to == a->x_row && (panel + 1) % pair == 0)
        put(a, sums, left, panel + 1 - pair, panel + 1, first, rows);
    }
  }
  if (few) put(a, sums, left, left, right, first, rows);
}

static void multiply_in_blocks(const multiply *a, tile_sums sums, int left, int right, int first, int rows) {
  for (int panel = left; panel < right; panel++)
    multiply_block(a, sums[panel - left], panel_of(a, panel), first);
  put(a, sums, left, left, right, first, rows);
}

static void multiply_tile(void *self, int index) {
  const multiply *a = self;
  const m4n_packed *p = a->p;
  const int down = m4n_ceil_div(a->rows, TILE_ROWS);
  const bool tiles = a->plan->work->tiles && a->plan->linear.shape.format != M4N_W_PACKED;
  const int most = tiles ? M4N_TILE_ROWS : BLOCK;
  M4N_TILE_RANGE(int, left, right, index / down, a->step, p->panels);
  M4N_TILE_RANGE(int, top, bottom, index % down, TILE_ROWS, a->rows);
  tile_sums sums __attribute__((aligned(64)));
  if (tiles) a->plan->work->tiles->begin();
  for (int first = top; first < bottom; first += most) {
    const int rows = m4n_min(most, bottom - first);
    (tiles ? multiply_on_tiles : multiply_in_blocks)(a, sums, left, right, first, rows);
  }
  if (tiles) a->plan->work->tiles->end();
}

/* x is [rows][p->K] with distance ld. */
static void run(m4n_stream *s, multiply *a, const m4n_real *x, int ld) {
  const m4n_cpu_linear *l = a->plan;
  const m4n_packed *p = a->p;
  a->step = tile_panels(p, a->rows);
  a->x = (const char *)x, a->x_row = (size_t)ld * sizeof *x;
  if (l->linear.shape.format != M4N_W_PACKED) {
    a->x = l->work->rows, a->x_row = (size_t)p->depth * size_in_copy(l);
    copying c = {l, x, a->rows, p->K, ld, m4n_tile_rows(p->K), a->x_row};
    m4n_cpu_run(s, m4n_ceil_div(a->rows, c.step), copy_tile, &c);
  }
  m4n_cpu_run(s, m4n_ceil_div(p->panels, a->step) * m4n_ceil_div(a->rows, TILE_ROWS), multiply_tile, a);
}

void M4N_CPU(packed_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const void *w, const m4n_real *bias,
                         const m4n_cpu_linear *l, int rows, int add) {
  assert(l->ahead.pair == 1 || (!bias && !add));
  multiply a = {.plan = l, .p = &l->ahead, .y = y, .bias = bias, .w = w, .rows = rows, .add = add};
  a.y_ld = l->linear.shape.y_ld;
  run(s, &a, x, l->linear.shape.x_ld);
}
void M4N_CPU(packed_bwd_x)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const void *w,
                           const m4n_cpu_linear *l, int rows, int add) {
  multiply a = {.plan = l, .p = &l->reverse, .y = dx, .w = w, .rows = rows, .add = add};
  a.y_ld = l->linear.shape.x_ld;
  run(s, &a, dy, l->linear.shape.y_ld);
}

/* ---- packing -------------------------------------------------------------------------------------------------------------- */

typedef struct packing {
  const m4n_cpu_linear *plan;
  const m4n_packed *p;
  char *packed;
  const m4n_real *w;
  size_t of_column, of_depth; /* distances of w's numbers */
} packing;

static void pack_tile(void *self, int index) {
  const packing *a = self;
  const m4n_packed *p = a->p;
  const int column = index / p->pair * M4N_PANEL, width = m4n_min(M4N_PANEL, p->N - column);
  const int row = column + index % p->pair * p->N; // of w
  const int format = a->plan->linear.shape.format, group = format == M4N_W_INT8   ? 4
                                                           : format == M4N_W_BF16 ? 2
                                                                                  : 1;
  char *panel = a->packed + p->at + (size_t)index * p->panel;
  memset(panel, 0, p->panel);
  for (int c = 0; c < width; c++) {
    const m4n_real *w = a->w + (size_t)(row + c) * a->of_column;
    m4n_real inverse = 0;
    if (format == M4N_W_INT8) {
      const m4n_real scale = int8_scale(w, p->K);
      ((m4n_real *)(void *)(a->packed + a->plan->at_scale))[row + c] = scale;
      inverse = scale > 0 ? 1 / scale : 0;
    }
    for (int k = 0; k < p->K; k++) {
      const m4n_real value = w[(size_t)k * a->of_depth];
      const size_t at = ((size_t)(k / group) * M4N_PANEL + (size_t)c) * (size_t)group + (size_t)(k % group);
      if (format == M4N_W_INT8)
        ((int8_t *)panel)[at] = (int8_t)(inverse > 0 ? (int)m4n_round(value * inverse) : 0);
      else if (format == M4N_W_BF16)
        ((uint16_t *)(void *)panel)[at] = m4n_bf16_of((float)value);
      else
        ((m4n_real *)(void *)panel)[at] = value;
    }
  }
}

void M4N_CPU(packed_pack)(m4n_stream *s, void *packed, const m4n_real *w, const m4n_cpu_linear *l) {
  const size_t in = (size_t)l->linear.shape.in;
  packing ahead = {l, &l->ahead, packed, w, in, 1}, reverse = {l, &l->reverse, packed, w, 1, in};
  m4n_cpu_run(s, l->ahead.panels, pack_tile, &ahead);
  m4n_cpu_run(s, l->reverse.panels, pack_tile, &reverse);
}
