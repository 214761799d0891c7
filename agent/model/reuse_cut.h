/* How weight reuse cuts a matrix: the arithmetic of algorithms.md §6, without files or models. All in double; results lie
 * in the cut's arena. NULL: ENOMEM is recorded. */
#ifndef M4N_MODEL_REUSE_CUT_H
#define M4N_MODEL_REUSE_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/arena.h"
#include "kernels/base/pool.h"

typedef struct m4n_cut {
  m4n_arena *arena;
  m4n_pool *pool;
  int from, to;        /* width of the teacher's and of the student's stream */
  const double *basis; /* [to][from] orthonormal rows; NULL: the first `to` coordinates */
  uint64_t seed;
} m4n_cut;

double *m4n_cut_array(const m4n_cut *cut, size_t n); /* zeros */

/* A matrix that reads the stream, w[rows][from] → [rows][to]; and one that writes it, w[from][cols] → [to][cols]. */
double *m4n_cut_inputs(const m4n_cut *cut, const double *w, int rows);
double *m4n_cut_outputs(const m4n_cut *cut, const double *w, int cols);

/* Σ w² */
double m4n_energy(const double *w, size_t n);

/* Scales w so that inputs of rms 1 give outputs of the mean square per coordinate that the teacher's matrix gives (§6.3):
 * ‖w‖²/rows = energy/teacher_rows. Nothing for a matrix of zeros. */
void m4n_cut_gain(double *w, int rows, int cols, double energy, int teacher_rows);

/* Of the map AᵀB, A and B [width][n]: singular triples first … first+count−1, split evenly between two factors:
 * left[count][n], right[count][n] with Σ_k left_kᵀ·right_k the best approximation. */
int m4n_cut_map(const m4n_cut *cut, double *left, double *right, const double *a, const double *b, int width,
                int n, int first, int count);
/* ‖AᵀB‖² */
int m4n_cut_map_energy(const m4n_cut *cut, double *energy, const double *a, const double *b, int width,
                       int n);

/* The `count` of n numbers that are largest, their indices rising. */
int *m4n_cut_largest(const m4n_cut *cut, const double *value, int n, int count);

/* w[rows][cols] between two random rotations: the same singular values (§6.9). Whose: `name` and the seed. */
int m4n_cut_rotate(const m4n_cut *cut, double *w, int rows, int cols, const char *name);

#endif
