/* Checkpoints in the safetensors format: named arrays in one file, nothing that could be executed.
 *
 * Reading maps the file, so opening costs nothing and a tensor is converted when it is read. Everything in the file is
 * a stranger's: sizes, offsets and names are checked when it is opened, values (no NaN, no infinity) when they are read.
 *
 *     m4n_safetensors *file;
 *     M4N_TRY(m4n_safetensors_open(&file, "llama-2-7b-hf"));           // a file, or a folder with one or with shards
 *     const m4n_tensor *t;
 *     M4N_TRY(m4n_safetensors_need(&t, file, "model.norm.weight", 1, (int64_t[]){4096}));
 *     M4N_TRY(m4n_tensor_read(t, 0, t->count, real));
 *     m4n_safetensors_close(file);
 *
 * Writing is whole or not at all: names and shapes first, then the values in the same order.
 *
 *     m4n_safetensors_writer *w;
 *     M4N_TRY(m4n_safetensors_create(&w, "student.safetensors", tensors, n, metadata, n_metadata));
 *     for (int i = 0; i < n; i++) m4n_safetensors_put(w, values[i], tensors[i].count);
 *     M4N_TRY(m4n_safetensors_commit(w));                              // or m4n_safetensors_abort(w)
 */
#ifndef M4N_MODEL_SAFETENSORS_H
#define M4N_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_TENSOR_RANK = 8 };

/* The four that can be read as numbers; OTHER (integers, truth values, 8-bit floats …) can only be looked at. */
enum m4n_tensor_type { M4N_TENSOR_F32, M4N_TENSOR_F64, M4N_TENSOR_F16, M4N_TENSOR_BF16, M4N_TENSOR_OTHER };

typedef struct m4n_tensor {
  const char *name, *file; /* the file that holds it, for messages */
  const char *type_name;   /* as written, "BF16" */
  int type;                /* enum m4n_tensor_type */
  int rank;                /* 0: a single number */
  int64_t shape[M4N_TENSOR_RANK];
  int64_t count; /* elements */
  const uint8_t *data;
  size_t bytes;
} m4n_tensor;

typedef struct m4n_metadata {
  const char *key, *value;
} m4n_metadata;

typedef struct m4n_safetensors m4n_safetensors;

/* `path`: a .safetensors file, an index of shards (….index.json), or a folder with model.safetensors or
 * model.safetensors.index.json. ENOTFOUND, EIO, ENOMEM, EFORMAT with file and tensor. */
int m4n_safetensors_open(m4n_safetensors **file, const char *path);
/* The same from memory, which must outlive it; `name` is for messages. */
int m4n_safetensors_parse(m4n_safetensors **file, const char *name, const void *data, size_t size);
void m4n_safetensors_close(m4n_safetensors *file); /* NULL is fine */

int m4n_safetensors_count(const m4n_safetensors *file);
const m4n_tensor *m4n_safetensors_at(const m4n_safetensors *file, int index);          /* sorted by name */
const m4n_tensor *m4n_safetensors_find(const m4n_safetensors *file, const char *name); /* NULL: not there */
/* Finds a tensor of a known shape; a dimension < 0 may be anything. ENOTFOUND, EFORMAT if the shape is another. */
int m4n_safetensors_need(const m4n_tensor **tensor, const m4n_safetensors *file, const char *name, int rank,
                         const int64_t *shape);
/* A string of `__metadata__` (of a shard's first file); NULL: not there. Lives as long as the file. */
const char *m4n_safetensors_metadata(const m4n_safetensors *file, const char *key);
const m4n_metadata *m4n_safetensors_all_metadata(const m4n_safetensors *file, int *n); /* [n] */

/* Converts elements first … first+count−1. EUNSUPPORTED for OTHER; EFORMAT for NaN, infinity, or what float cannot
 * hold. */
int m4n_tensor_read(const m4n_tensor *tensor, int64_t first, int64_t count, m4n_real *to);
int m4n_tensor_read_double(const m4n_tensor *tensor, int64_t first, int64_t count, double *to);

/* "[4096, 11008]" into `text`; returns it. */
char *m4n_shape_text(char *text, size_t size, int rank, const int64_t *shape);

/* ---- writing ---------------------------------------------------------------------------------------------------- */

typedef struct m4n_tensor_shape {
  const char *name;
  int type; /* F32, F64, F16 or BF16; values are rounded to nearest even */
  int rank;
  int64_t shape[M4N_TENSOR_RANK];
} m4n_tensor_shape;

typedef struct m4n_safetensors_writer m4n_safetensors_writer;

int m4n_safetensors_create(m4n_safetensors_writer **writer, const char *path, const m4n_tensor_shape *tensors,
                           int n_tensors, const m4n_metadata *metadata, int n_metadata);
/* The next `count` values; in all as many as the shapes say, in their order. Failures show in commit. */
void m4n_safetensors_put(m4n_safetensors_writer *writer, const m4n_real *values, int64_t count);
int m4n_safetensors_commit(m4n_safetensors_writer *writer); /* frees the writer, also on failure */
void m4n_safetensors_abort(m4n_safetensors_writer *writer); /* leaves nothing behind; NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
