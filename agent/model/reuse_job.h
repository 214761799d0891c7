/* One reuse at work; shared by the files that cut mixers, and everything else. Functions return a status; matrices are in
 * double and live until the layer is done. */
#ifndef M4N_MODEL_REUSE_JOB_H
#define M4N_MODEL_REUSE_JOB_H

#include "agent/model/reuse.h"
#include "agent/model/reuse_cut.h"

#define M4N_LAYER "model.layers.%d."

typedef struct m4n_reuse_job {
  m4n_net *student;
  const m4n_teacher *teacher;
  const m4n_reuse_options *o;
  const m4n_backbone *S, *T;
  m4n_arena kept, layer; /* for all of it; for a layer, whose matrices `cut` makes */
  m4n_cut cut;
  const double *variance; /* pca: of the stream along the kept directions [S->d] */
  bool gain;
  m4n_real *values; /* a tensor on its way in or out */
  size_t most;
  m4n_reuse_report *report;
} m4n_reuse_job;

/* A teacher's tensor [rows][cols] (cols 0: a vector), from the backbone or, `task`, from encoder and head. */
int m4n_reuse_read(m4n_reuse_job *j, double **to, bool task, int rows, int cols, const char *format, ...);
/* A student's part of that name gets w; where only spectra are wanted, matrices are rotated on the way. */
int m4n_reuse_write(m4n_reuse_job *j, double *w, const char *format, ...);
/* A student's part as it is. */
int m4n_reuse_current(m4n_reuse_job *j, double **w, int64_t *count, const char *format, ...);

/* pca: the norm's gain[T->d] goes into the columns of w, which reads what the norm gives. Else nothing. */
void m4n_reuse_fold(const m4n_reuse_job *j, double *w, int rows, const double *gain);
/* A student's norm from the teacher's norm number `norm` (as in m4n_moments_read). */
int m4n_reuse_norm(m4n_reuse_job *j, const double *gain, int norm, const char *format, ...);

/* Literally (§6.2): the upper left block of the best approximation, with its gain. NULL: ENOMEM. */
double *m4n_reuse_slice(m4n_reuse_job *j, const double *w, int rows, int cols, int teacher_rows,
                        int teacher_cols);
void m4n_reuse_multiply(double *w, size_t n, double factor);
/* What a matrix that writes the stream is scaled by where layers are left out (§6.6). */
double m4n_reuse_skip_factor(const m4n_reuse_job *j);

/* reuse_mixer.c. A student's layer from a teacher's. */
int m4n_reuse_mamba(m4n_reuse_job *j, int layer, int from);
int m4n_reuse_attention(m4n_reuse_job *j, int layer, int from);
/* The first rotary pair of a teacher's head that a student's narrower head keeps: the slowest ones stay (§6.4). */
int m4n_reuse_first_pair(const m4n_backbone *S, const m4n_backbone *T);

#endif
