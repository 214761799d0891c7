/* Small dense decompositions in double, for weight reuse: plain loops, deterministic, no library.
 *
 * Matrices are row-major. Signs are fixed: the entry of largest magnitude in each left vector is positive.
 */
#ifndef M4N_MODEL_SVD_H
#define M4N_MODEL_SVD_H

#include <stdint.h>

#include "kernels/base/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* a[m][n] = Σ_k s[k]·u[k][m]·v[k][n], k < r ≤ min(m, n): the r largest singular values and their vectors, one a row of u
 * and v. Exact (one-sided Jacobi) where min(m, n) is at most 640; larger ones by a randomised range of r + 10 dimensions
 * and two power iterations (Halko, Martinsson, Tropp 2011), drawn from `seed`. `pool` may be NULL. ENOMEM. */
int m4n_svd(double *u, double *s, double *v, const double *a, int m, int n, int r, uint64_t seed,
            m4n_pool *pool);

/* out[rows][cols] = the upper left block of the best approximation of a[m][n] with rank r (algorithms.md §6.2). */
int m4n_svd_block(double *out, int rows, int cols, const double *a, int m, int n, int r, uint64_t seed,
                  m4n_pool *pool);

/* The rows of q[k][n] made orthonormal, in order, in place; a row that depends on those before becomes 0. */
void m4n_orthonormalise(double *q, int k, int n);

/* c[m][n] = a[m][k]·b[k][n]; with _nt b is [n][k] and its transpose is taken, with _tn a is [k][m]. */
void m4n_product(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool);
void m4n_product_nt(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool);
void m4n_product_tn(double *c, const double *a, const double *b, int m, int k, int n, m4n_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
