#include "agent/model/reuse_cut.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/svd.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

double *m4n_cut_array(const m4n_cut *cut, size_t n) {
  return m4n_arena_alloc(cut->arena, n * sizeof(double));
}

double *m4n_cut_inputs(const m4n_cut *cut, const double *w, int rows) {
  const size_t from = (size_t)cut->from, to = (size_t)cut->to;
  double *out = m4n_cut_array(cut, (size_t)rows * to);
  if (!out) return NULL;
  if (cut->basis)
    m4n_product_nt(out, w, cut->basis, rows, cut->from, cut->to, cut->pool); // W·Pᵀ
  else
    for (size_t i = 0; i < (size_t)rows; i++) memcpy(out + i * to, w + i * from, to * sizeof *out);
  return out;
}

double *m4n_cut_outputs(const m4n_cut *cut, const double *w, int cols) {
  const size_t n = (size_t)cut->to * (size_t)cols;
  double *out = m4n_cut_array(cut, n);
  if (!out) return NULL;
  if (cut->basis)
    m4n_product(out, cut->basis, w, cut->to, cut->from, cols, cut->pool); // P·W
  else
    memcpy(out, w, n * sizeof *out);
  return out;
}

double m4n_energy(const double *w, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += w[i] * w[i];
  return sum;
}

static void scale(double *w, size_t n, double factor) {
  for (size_t i = 0; i < n; i++) w[i] *= factor;
}

void m4n_cut_gain(double *w, int rows, int cols, double energy, int teacher_rows) {
  const size_t n = (size_t)rows * (size_t)cols;
  const double ours = m4n_energy(w, n) / rows, theirs = energy / teacher_rows;
  if (ours > 0) scale(w, n, sqrt(theirs / ours));
}

// a = r·q with q the orthonormal rows that span a's.
static int factor(const m4n_cut *cut, double **q, double **r, const double *a, int width, int n) {
  *q = m4n_cut_array(cut, (size_t)width * (size_t)n);
  *r = m4n_cut_array(cut, (size_t)width * (size_t)width);
  if (!*q || !*r) return M4N_ENOMEM;
  memcpy(*q, a, (size_t)width * (size_t)n * sizeof **q);
  m4n_orthonormalise(*q, width, n);
  m4n_product_nt(*r, a, *q, width, n, width, cut->pool);
  return M4N_OK;
}

// AᵀB = Q_Aᵀ·(R_AᵀR_B)·Q_B, and the small matrix in the middle is decomposed.
int m4n_cut_map(const m4n_cut *cut, double *left, double *right, const double *a, const double *b, int width,
                int n, int first, int count) {
  double *qa, *ra, *qb, *rb;
  M4N_TRY(factor(cut, &qa, &ra, a, width, n));
  M4N_TRY(factor(cut, &qb, &rb, b, width, n));
  const size_t square = (size_t)width * (size_t)width;
  double *middle = m4n_cut_array(cut, square), *u = m4n_cut_array(cut, square),
         *v = m4n_cut_array(cut, square), *s = m4n_cut_array(cut, (size_t)width);
  if (!middle || !u || !v || !s) return M4N_ENOMEM;
  m4n_product_tn(middle, ra, rb, width, width, width, cut->pool);
  M4N_TRY(m4n_svd(u, s, v, middle, width, width, width, cut->seed, cut->pool));
  m4n_product(left, u + (size_t)first * (size_t)width, qa, count, width, n, cut->pool);
  m4n_product(right, v + (size_t)first * (size_t)width, qb, count, width, n, cut->pool);
  for (int k = 0; k < count; k++) {
    scale(left + (size_t)k * (size_t)n, (size_t)n, sqrt(s[first + k]));
    scale(right + (size_t)k * (size_t)n, (size_t)n, sqrt(s[first + k]));
  }
  return M4N_OK;
}

// ‖AᵀB‖² = tr(AAᵀ·BBᵀ)
int m4n_cut_map_energy(const m4n_cut *cut, double *energy, const double *a, const double *b, int width,
                       int n) {
  const size_t square = (size_t)width * (size_t)width;
  double *aa = m4n_cut_array(cut, square), *bb = m4n_cut_array(cut, square);
  if (!aa || !bb) return M4N_ENOMEM;
  m4n_product_nt(aa, a, a, width, n, width, cut->pool);
  m4n_product_nt(bb, b, b, width, n, width, cut->pool);
  *energy = 0;
  for (size_t i = 0; i < square; i++) *energy += aa[i] * bb[i];
  return M4N_OK;
}

typedef struct ranked {
  double value;
  int index;
} ranked;

static int by_value(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->value != y->value ? (x->value < y->value) - (x->value > y->value) : x->index - y->index;
}

static int by_index(const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

int *m4n_cut_largest(const m4n_cut *cut, const double *value, int n, int count) {
  ranked *all = m4n_arena_alloc(cut->arena, (size_t)n * sizeof *all);
  int *chosen = m4n_arena_alloc(cut->arena, (size_t)n * sizeof *chosen);
  if (!all || !chosen) return NULL;
  for (int i = 0; i < n; i++) all[i] = (ranked){value[i], i};
  qsort(all, (size_t)n, sizeof *all, by_value);
  for (int i = 0; i < count; i++) chosen[i] = all[i].index;
  qsort(chosen, (size_t)count, sizeof *chosen, by_index);
  return chosen;
}

static double *rotation(const m4n_cut *cut, int n, const char *name, uint64_t which) {
  uint64_t h = 14695981039346656037u + which;
  for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
  m4n_rng rng = m4n_rng_make(cut->seed, h, M4N_RNG_INIT);
  double *q = m4n_cut_array(cut, (size_t)n * (size_t)n);
  if (!q) return NULL;
  for (size_t i = 0; i < (size_t)n * (size_t)n; i++) q[i] = m4n_rng_normal(&rng);
  m4n_orthonormalise(q, n, n);
  return q;
}

int m4n_cut_rotate(const m4n_cut *cut, double *w, int rows, int cols, const char *name) {
  const double *left = rotation(cut, rows, name, 0), *right = rotation(cut, cols, name, 1);
  double *middle = m4n_cut_array(cut, (size_t)rows * (size_t)cols);
  if (!left || !right || !middle) return M4N_ENOMEM;
  m4n_product(middle, left, w, rows, rows, cols, cut->pool);
  m4n_product_nt(w, middle, right, rows, cols, cols, cut->pool);
  return M4N_OK;
}
