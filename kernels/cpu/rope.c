/* Rotary embedding (algorithms.md §2.2): pairs of a head's elements turn by pos·freq. */
#include "kernels/cpu/cpu.h"

#include <math.h>

typedef struct rope {
  m4n_rope n;
  m4n_real *y;
  const m4n_real *x, *table;
  int step;
  m4n_real sign; /* −1 turns back */
} rope;

// u'_i = u_i cos φ − u_j sin φ, u'_j = u_j cos φ + u_i sin φ; j = i + D/2, or pairs (2i, 2i+1)
static void rope_tile(void *self, int index) {
  const rope *a = self;
  const m4n_rope *n = &a->n;
  const int half = n->D / 2;
  M4N_TILE_RANGE(int, begin, end, index, a->step, n->B * n->T);
  for (int r = begin; r < end; r++) {
    const m4n_real *cosine = a->table + (size_t)(n->per_batch ? r : r % n->T) * n->D, *sine = cosine + half;
    for (int h = 0; h < n->H; h++) {
      const m4n_real *x = a->x + (size_t)r * n->x_ld + (size_t)h * n->D;
      m4n_real *y = a->y + (size_t)r * n->x_ld + (size_t)h * n->D;
      if (n->interleaved) {
        M4N_EACH
        for (int i = 0; i < half; i++) {
          const m4n_real u = x[2 * i], w = x[2 * i + 1], turn = a->sign * sine[i];
          y[2 * i] = u * cosine[i] - w * turn;
          y[2 * i + 1] = w * cosine[i] + u * turn;
        }
      } else {
        M4N_EACH
        for (int i = 0; i < half; i++) {
          const m4n_real u = x[i], w = x[i + half], turn = a->sign * sine[i];
          y[i] = u * cosine[i] - w * turn;
          y[i + half] = w * cosine[i] + u * turn;
        }
      }
    }
  }
}

static void turn(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *table, const m4n_rope *shape,
                 m4n_real sign) {
  rope a = {.n = *shape, .y = y, .x = x, .table = table, .sign = sign};
  if (!a.n.x_ld) a.n.x_ld = shape->H * shape->D;
  a.step = m4n_tile_rows(shape->H * shape->D);
  m4n_cpu_run(s, m4n_ceil_div(shape->B * shape->T, a.step), rope_tile, &a);
}
void M4N_CPU(rope_fwd)(m4n_stream *s, m4n_real *y, const m4n_real *x, const m4n_real *table,
                       const m4n_rope *shape) {
  turn(s, y, x, table, shape, 1);
}
void M4N_CPU(rope_bwd)(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *table,
                       const m4n_rope *shape) {
  turn(s, dx, dy, table, shape, -1);
}

typedef struct angles {
  m4n_real *table;
  const m4n_real *freq;
  const int32_t *pos;
  int rows, half, step;
} angles;

static void table_tile(void *self, int index) {
  const angles *a = self;
  M4N_TILE_RANGE(int, begin, end, index, a->step, a->rows);
  for (int r = begin; r < end; r++) {
    m4n_real *cosine = a->table + (size_t)r * 2 * a->half, *sine = cosine + a->half;
    for (int i = 0; i < a->half; i++) {
      const m4n_real angle = (m4n_real)(a->pos ? a->pos[r] : r) * a->freq[i];
      cosine[i] = (m4n_real)cos(angle), sine[i] = (m4n_real)sin(angle);
    }
  }
}
void M4N_CPU(rope_table)(m4n_stream *s, m4n_real *table, const m4n_real *freq, const int32_t *pos, int rows,
                         int half) {
  angles a = {table, freq, pos, rows, half, m4n_tile_rows(64 * half)};
  m4n_cpu_run(s, m4n_ceil_div(rows, a.step), table_tile, &a);
}
