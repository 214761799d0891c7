/* The parameters of a model: what a file calls them, where they lie, how they start, who trains them.
 *
 * A **weight** is one array that ops read: a vector, or a matrix [rows][cols] of one product. A **part** is what a file
 * calls a tensor: some rows of a weight. So q, k and v are three tensors of a file and one product here.
 *
 * Everything is declared first, then placed once: trainable weights behind one another in one vector (so the optimiser,
 * the norm and the average over steps are one call each), their gradients in a second, frozen ones in a third block,
 * packed as their product wants them. Then filled: from a seed, from a file, from another model.
 *
 *     m4n_params *params;
 *     M4N_TRY(m4n_params_open(&params, stream));
 *     … blocks declare what they need …
 *     M4N_TRY(m4n_params_place(params));
 *     M4N_TRY(m4n_params_start(params, M4N_ALL_SETS, seed));
 *     M4N_TRY(m4n_params_load(params, M4N_SET_BACKBONE, file, ""));
 */
#ifndef M4N_MODEL_PARAMS_H
#define M4N_MODEL_PARAMS_H

#include <stdbool.h>

#include "agent/model/safetensors.h"
#include "kernels/backend.h"
#include "kernels/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who a weight belongs to: what one file holds together. */
enum m4n_param_set {
  M4N_SET_BACKBONE = 1,
  M4N_SET_ADAPTER = 2, /* LoRA */
  M4N_SET_TASK = 4,    /* encoder and head */
  M4N_SET_VALUE = 8,   /* value head of reinforcement learning: in no model's file */
  M4N_ALL_SETS = 15
};

/* How a part starts. Numbers are drawn from Philox keyed by (seed, the part's name): neither the order of declaration
 * nor threads nor the rest of the model change them. */
enum m4n_start_kind {
  M4N_START_CONSTANT, /* value */
  M4N_START_UNIFORM,  /* −value … value */
  M4N_START_NORMAL,   /* mean 0, deviation value */
  M4N_START_A_LOG,    /* row c: ln 1, ln 2, …, ln N (A = −1 … −N) */
  M4N_START_DT_BIAS   /* softplus of it is log-uniform in 0.001 … 0.1 */
};
typedef struct m4n_init {
  int kind; /* enum m4n_start_kind */
  double value;
} m4n_init;

typedef struct m4n_weight {
  int rows, cols; /* [rows][cols]; a vector is one column */
  int set;        /* enum m4n_param_set */
  int format;     /* enum m4n_weight_format; trainable ones are M4N_W_REAL */
  bool trainable;
  bool decay;             /* weight decay: matrices only */
  const m4n_linear *plan; /* that packs it; NULL: M4N_W_REAL */
  void *w;                /* on the backend, after placing */
  m4n_real *g;            /* its gradient, NULL where frozen */
  int64_t offset;         /* where trainable: elements into m4n_params.w; else bytes into the frozen block */
  const m4n_real *given;  /* constants: values to start from, never saved */
} m4n_weight;

typedef struct m4n_part {
  const char *name;
  m4n_weight *of;
  int64_t first, count; /* elements of the weight */
  int rank;
  int64_t shape[M4N_TENSOR_RANK];
  m4n_init init;
  bool fresh; /* set by weight reuse: has nothing from the teacher, and may learn faster */
} m4n_part;

typedef struct m4n_params {
  m4n_stream *stream;
  m4n_weight **weight; /* in the order of declaration */
  int n_weights;
  m4n_part *part;
  int n_parts;
  /* After placing. */
  m4n_real *w, *g; /* all trainable weights and their gradients; NULL where there are none */
  int64_t n;       /* elements of each, a multiple of M4N_ADAMW_CHUNK; gaps are 0 and stay so */
  void *frozen;
  size_t frozen_bytes;
  struct m4n_params_private *private_;
} m4n_params;

int m4n_params_open(m4n_params **params, m4n_stream *stream);
void m4n_params_close(m4n_params *params); /* NULL is fine */

/* ---- declaring ---------------------------------------------------------------------------------------------------- */

/* A weight without parts yet, its rows grow with them; NULL: ENOMEM is recorded. */
m4n_weight *m4n_params_add(m4n_params *params, int cols, int set, bool trainable);
/* Appends rows·cols elements to the weight, called `name` in files ("PREFIXname" is what is kept) and of that shape. */
int m4n_params_part(m4n_params *params, m4n_weight *weight, const char *prefix, const char *name, int rank,
                    const int64_t *shape, m4n_init init);
/* Rows that belong to no file: zeros that stay zeros. */
void m4n_params_gap(m4n_weight *weight, int rows);
/* An array of n values that is no parameter (a table of frequencies); copies `values`, NULL: zeros. NULL: ENOMEM. */
m4n_weight *m4n_params_constant(m4n_params *params, int64_t n, const m4n_real *values);

int m4n_params_place(m4n_params *params); /* ENOMEM, EDEVICE */

/* ---- filling and reading ------------------------------------------------------------------------------------------ */

/* Writes the `count` values of a part. */
typedef int (*m4n_part_fill)(void *self, const m4n_part *part, m4n_real *values);
/* Calls `fill` for every part of the sets and puts what it wrote in place (packed where the weight is). */
int m4n_params_fill(m4n_params *params, int sets, m4n_part_fill fill, void *self);

int m4n_params_start(m4n_params *params, int sets, uint64_t seed);
/* From tensors called prefix + the part's name. ENOTFOUND, EFORMAT name file and tensor. */
int m4n_params_load(m4n_params *params, int sets, const m4n_safetensors *file, const char *prefix);
/* From another model that has parts of the same names and sizes, unpacked. `values`: NULL, or a vector of from->n
 * elements on the backend to be read instead of from->w (an average over steps). */
int m4n_params_copy(m4n_params *params, int sets, const m4n_params *from, const m4n_real *values);

/* The part of that name; NULL: there is none. */
m4n_part *m4n_params_find(const m4n_params *params, const char *name);
/* A part's values on the host, from the weight or from `values` (as above); EUNSUPPORTED where packed. */
int m4n_part_read(const m4n_params *params, const m4n_part *part, const m4n_real *values, m4n_real *to);
int m4n_part_write(m4n_params *params, const m4n_part *part, const m4n_real *from);

/* Writes all parts of the sets, as `type` (M4N_TENSOR_F32, BF16 …). */
int m4n_params_save(const m4n_params *params, int sets, const m4n_real *values, const char *path, int type,
                    const m4n_metadata *metadata, int n_metadata);

/* Values in files (what a paper calls the number of parameters), all or the trainable ones. */
int64_t m4n_params_count(const m4n_params *params, int sets, bool trainable_only);

/* The optimiser's group of each chunk of M4N_ADAMW_CHUNK trainable elements, on the host: bit 0 weight decay, bit 1
 * fresh. n/M4N_ADAMW_CHUNK entries. */
void m4n_params_groups(const m4n_params *params, uint8_t *group_of);

#ifdef __cplusplus
}
#endif
#endif
