#include "agent/model/svd.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum { EXACT = 640, OVERSAMPLE = 10, POWER_ITERATIONS = 2, MAX_SWEEPS = 60 };

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a decomposition");
}

// ---- products ------------------------------------------------------------------------------------------------------------

typedef struct product {
  double *c;
  const double *a, *b;
  int m, k, n, a_row, a_col; // element (i, j) of a lies at i·a_row + j·a_col
  bool transposed;           // b is [n][k]
} product;

// Rows of c in tiles of 8, so that a row of b serves eight of them.
enum { TILE = 8 };

static void product_tile(void *self, int index) {
  const product *p = self;
  const int begin = index * TILE, end = begin + TILE < p->m ? begin + TILE : p->m;
  for (int i = begin; i < end; i++) memset(p->c + (size_t)i * (size_t)p->n, 0, (size_t)p->n * sizeof *p->c);
  if (p->transposed) {
    for (int j = 0; j < p->n; j++)
      for (int i = begin; i < end; i++) {
        const double *a = p->a + (size_t)i * (size_t)p->k, *b = p->b + (size_t)j * (size_t)p->k;
        double sum[8] = {0};
        int l = 0;
        for (; l + 8 <= p->k; l += 8)
          for (int t = 0; t < 8; t++) sum[t] += a[l + t] * b[l + t];
        for (; l < p->k; l++) sum[0] += a[l] * b[l];
        p->c[(size_t)i * (size_t)p->n + (size_t)j] =
            ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
      }
    return;
  }
  for (int l = 0; l < p->k; l++)
    for (int i = begin; i < end; i++) {
      const double a = p->a[(size_t)i * (size_t)p->a_row + (size_t)l * (size_t)p->a_col];
      const double *b = p->b + (size_t)l * (size_t)p->n;
      double *c = p->c + (size_t)i * (size_t)p->n;
      for (int j = 0; j < p->n; j++) c[j] += a * b[j];
    }
}

void m4n_product(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool) {
  product p = {c, a, b, m, k, n, k, 1, false};
  m4n_pool_run(pool, (m + TILE - 1) / TILE, product_tile, &p);
}

void m4n_product_nt(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool) {
  product p = {c, a, b, m, k, n, k, 1, true};
  m4n_pool_run(pool, (m + TILE - 1) / TILE, product_tile, &p);
}

void m4n_product_tn(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool) {
  product p = {c, a, b, m, k, n, 1, m, false};
  m4n_pool_run(pool, (m + TILE - 1) / TILE, product_tile, &p);
}

static double dot(const double *a, const double *b, int n) {
  double sum[4] = {0};
  int i = 0;
  for (; i + 4 <= n; i += 4)
    for (int t = 0; t < 4; t++) sum[t] += a[i + t] * b[i + t];
  for (; i < n; i++) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// ---- orthonormal rows ------------------------------------------------------------------------------------------------------

// Gram-Schmidt, each row twice: once is not enough where rows are nearly dependent.
void m4n_orthonormalise(double *q, int k, int n) {
  for (int i = 0; i < k; i++) {
    double *row = q + (size_t)i * (size_t)n;
    const double before = sqrt(dot(row, row, n));
    for (int round = 0; round < 2; round++)
      for (int j = 0; j < i; j++) {
        const double *other = q + (size_t)j * (size_t)n, along = dot(row, other, n);
        for (int t = 0; t < n; t++) row[t] -= along * other[t];
      }
    const double size = sqrt(dot(row, row, n));
    const double factor = size > 1e-13 * before ? 1 / size : 0;
    for (int t = 0; t < n; t++) row[t] *= factor;
  }
}

// ---- one-sided Jacobi ------------------------------------------------------------------------------------------------------

// Turns rows x and y of length n (and rows p, q of length k beside them) so that x·y = 0; returns whether it had to.
static bool turn(double *x, double *y, int n, double *p, double *q, int k) {
  const double xx = dot(x, x, n), yy = dot(y, y, n), xy = dot(x, y, n);
  if (fabs(xy) <= 1e-15 * sqrt(xx * yy)) return false;
  const double zeta = (yy - xx) / (2 * xy);
  const double t = copysign(1, zeta) / (fabs(zeta) + sqrt(1 + zeta * zeta));
  const double c = 1 / sqrt(1 + t * t), s = c * t;
  for (int i = 0; i < n; i++) {
    const double xi = x[i];
    x[i] = c * xi - s * y[i];
    y[i] = s * xi + c * y[i];
  }
  for (int i = 0; i < k; i++) {
    const double pi = p[i];
    p[i] = c * pi - s * q[i];
    q[i] = s * pi + c * q[i];
  }
  return true;
}

// rows[k][n], k ≤ n: turned until they are orthogonal to each other, by `turns`[k][k], which starts as the unit matrix:
// turns·rows_before = rows_after, so rows_before = turnsᵀ·rows_after.
static void jacobi(double *rows, double *turns, int k, int n) {
  memset(turns, 0, (size_t)k * (size_t)k * sizeof *turns);
  for (int i = 0; i < k; i++) turns[(size_t)i * (size_t)k + (size_t)i] = 1;
  for (int sweep = 0, again = 1; again && sweep < MAX_SWEEPS; sweep++) {
    again = 0;
    for (int i = 0; i < k - 1; i++)
      for (int j = i + 1; j < k; j++)
        again |= turn(rows + (size_t)i * (size_t)n, rows + (size_t)j * (size_t)n, n,
                      turns + (size_t)i * (size_t)k, turns + (size_t)j * (size_t)k, k);
  }
}

typedef struct ranked {
  double size;
  int row;
} ranked;

static int by_size(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->size != y->size ? (x->size < y->size) - (x->size > y->size) : x->row - y->row;
}

// a[m][n], m ≤ n. left[r][m], right[r][n].
static int exact_wide(double *left, double *s, double *right, const double *a, int m, int n, int r) {
  double *rows = malloc((size_t)m * (size_t)n * sizeof *rows),
         *turns = malloc((size_t)m * (size_t)m * sizeof *turns);
  ranked *order = malloc((size_t)m * sizeof *order);
  const bool ready = rows && turns && order;
  if (ready) {
    memcpy(rows, a, (size_t)m * (size_t)n * sizeof *rows);
    jacobi(rows, turns, m, n);
    for (int i = 0; i < m; i++) {
      const double *row = rows + (size_t)i * (size_t)n;
      order[i] = (ranked){sqrt(dot(row, row, n)), i};
    }
    qsort(order, (size_t)m, sizeof *order, by_size);
    // a = turnsᵀ·rows: a row's length is the singular value, its direction the right vector, `turns` has the left one.
    for (int k = 0; k < r; k++) {
      const double size = s[k] = order[k].size, *row = rows + (size_t)order[k].row * (size_t)n;
      for (int j = 0; j < n; j++) right[(size_t)k * (size_t)n + (size_t)j] = size > 0 ? row[j] / size : 0;
      memcpy(left + (size_t)k * (size_t)m, turns + (size_t)order[k].row * (size_t)m,
             (size_t)m * sizeof *left);
    }
  }
  free(rows);
  free(turns);
  free(order);
  return ready ? M4N_OK : no_memory();
}

static void transpose(double *to, const double *from, int m, int n) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++)
      to[(size_t)j * (size_t)m + (size_t)i] = from[(size_t)i * (size_t)n + (size_t)j];
}

static int exact(double *u, double *s, double *v, const double *a, int m, int n, int r) {
  if (m <= n) return exact_wide(u, s, v, a, m, n, r);
  double *turned = malloc((size_t)m * (size_t)n * sizeof *turned);
  if (!turned) return no_memory();
  transpose(turned, a, m, n);
  int status = exact_wide(v, s, u, turned, n, m, r);
  free(turned);
  return status;
}

// ---- randomised ------------------------------------------------------------------------------------------------------------

// q[k][m]: rows that span nearly what the columns of a[m][n] with the largest singular values span; then the small
// t = q·a [k][n] is decomposed.
static int randomised(double *u, double *s, double *v, const double *a, int m, int n, int r, uint64_t seed,
                      m4n_pool *pool) {
  const int k = r + OVERSAMPLE < (m < n ? m : n) ? r + OVERSAMPLE : (m < n ? m : n);
  double *q = malloc((size_t)k * (size_t)m * sizeof *q), *t = malloc((size_t)k * (size_t)n * sizeof *t);
  double *left = malloc((size_t)k * (size_t)k * sizeof *left);
  int status = q && t && left ? M4N_OK : no_memory();
  if (!status) {
    m4n_rng rng = m4n_rng_make(seed, 0, M4N_RNG_INIT);
    for (size_t i = 0; i < (size_t)k * (size_t)n; i++) t[i] = m4n_rng_normal(&rng);
    for (int round = 0; round <= POWER_ITERATIONS; round++) {
      m4n_product_nt(q, t, a, k, n, m, pool); // (a·tᵀ)ᵀ
      m4n_orthonormalise(q, k, m);
      m4n_product(t, q, a, k, m, n, pool);
      if (round < POWER_ITERATIONS) m4n_orthonormalise(t, k, n);
    }
    status = exact(left, s, v, t, k, n, r); // t = Σ s·left·v, so a ≈ Σ s·(qᵀ·left)·v
  }
  if (!status) m4n_product(u, left, q, r, k, m, pool);
  free(q);
  free(t);
  free(left);
  return status;
}

static void fix_signs(double *u, double *v, int m, int n, int r) {
  for (int k = 0; k < r; k++) {
    double *left = u + (size_t)k * (size_t)m, *right = v + (size_t)k * (size_t)n, most = 0;
    for (int i = 0; i < m; i++)
      if (fabs(left[i]) > fabs(most)) most = left[i];
    if (most >= 0) continue;
    for (int i = 0; i < m; i++) left[i] = -left[i];
    for (int j = 0; j < n; j++) right[j] = -right[j];
  }
}

int m4n_svd(double *u, double *s, double *v, const double *a, int m, int n, int r, uint64_t seed,
            m4n_pool *pool) {
  const int least = m < n ? m : n;
  M4N_TRY(least <= EXACT ? exact(u, s, v, a, m, n, r) : randomised(u, s, v, a, m, n, r, seed, pool));
  fix_signs(u, v, m, n, r);
  return M4N_OK;
}

int m4n_svd_block(double *out, int rows, int cols, const double *a, int m, int n, int r, uint64_t seed,
                  m4n_pool *pool) {
  const int least = m < n ? m : n;
  if (r >= least) { // nothing is left out: the block itself
    for (int i = 0; i < rows; i++)
      memcpy(out + (size_t)i * (size_t)cols, a + (size_t)i * (size_t)n, (size_t)cols * sizeof *out);
    return M4N_OK;
  }
  double *u = malloc((size_t)r * (size_t)m * sizeof *u), *v = malloc((size_t)r * (size_t)n * sizeof *v);
  double *s = malloc((size_t)r * sizeof *s);
  int status = u && v && s ? m4n_svd(u, s, v, a, m, n, r, seed, pool) : no_memory();
  if (!status) {
    memset(out, 0, (size_t)rows * (size_t)cols * sizeof *out);
    for (int k = 0; k < r; k++)
      for (int i = 0; i < rows; i++) {
        const double left = s[k] * u[(size_t)k * (size_t)m + (size_t)i];
        const double *right = v + (size_t)k * (size_t)n;
        for (int j = 0; j < cols; j++) out[(size_t)i * (size_t)cols + (size_t)j] += left * right[j];
      }
  }
  free(u);
  free(v);
  free(s);
  return status;
}
