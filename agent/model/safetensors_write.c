#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/half.h"
#include "agent/model/safetensors.h"
#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

struct m4n_safetensors_writer {
  m4n_writer out;
  m4n_arena names;
  const char *bad; // the first tensor with a value that is not finite
  int n, current;
  int64_t left; // of the current tensor
  struct place {
    const char *name;
    int type;
    int64_t count;
  } tensor[];
};

static const struct {
  const char *name;
  size_t size;
} types[] = {
    [M4N_TENSOR_F32] = {"F32", 4},
    [M4N_TENSOR_F64] = {"F64", 8},
    [M4N_TENSOR_F16] = {"F16", 2},
    [M4N_TENSOR_BF16] = {"BF16", 2},
};

// {"__metadata__": {…}, name: {"dtype", "shape", "data_offsets"}, …}; NULL for lack of memory.
static json_t *header_of(const m4n_tensor_shape *tensors, int n_tensors, const m4n_metadata *metadata,
                         int n_metadata) {
  json_t *root = json_object(), *about = json_object();
  bool failed = !root || !about;
  for (int i = 0; i < n_metadata && !failed; i++)
    failed = json_object_set_new(about, metadata[i].key, json_string(metadata[i].value)) != 0;
  failed = failed || (n_metadata && json_object_set(root, "__metadata__", about));
  json_decref(about);
  json_int_t offset = 0;
  for (int i = 0; i < n_tensors && !failed; i++) {
    const m4n_tensor_shape *t = &tensors[i];
    json_int_t size = (json_int_t)types[t->type].size;
    json_t *shape = json_array();
    for (int k = 0; k < t->rank; k++) {
      size *= t->shape[k];
      failed |= json_array_append_new(shape, json_integer(t->shape[k])) != 0;
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[t->type].name, "shape", shape,
                              "data_offsets", offset, offset + size);
    offset += size;
    failed = failed || !entry || json_object_set_new(root, t->name, entry);
  }
  if (!failed) return root;
  json_decref(root);
  return NULL;
}

static int start(m4n_safetensors_writer *w, const char *path, const m4n_tensor_shape *tensors,
                 int n_tensors) {
  w->n = n_tensors;
  w->current = -1;
  for (int i = 0; i < n_tensors; i++) {
    struct place *t = &w->tensor[i];
    *t = (struct place){m4n_arena_strdup(&w->names, tensors[i].name), tensors[i].type, 1};
    if (!t->name) return M4N_ENOMEM;
    for (int k = 0; k < tensors[i].rank; k++) t->count *= tensors[i].shape[k];
  }
  return m4n_writer_open(&w->out, path);
}

int m4n_safetensors_create(m4n_safetensors_writer **writer, const char *path, const m4n_tensor_shape *tensors,
                           int n_tensors, const m4n_metadata *metadata, int n_metadata) {
  m4n_safetensors_writer *w = *writer = calloc(1, sizeof *w + (size_t)n_tensors * sizeof w->tensor[0]);
  json_t *root = header_of(tensors, n_tensors, metadata, n_metadata);
  char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
  json_decref(root);
  int status = w && text ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for the header of %s", path);
  if (!status) status = start(w, path, tensors, n_tensors);
  if (!status) {
    // Blanks behind the JSON, so that the data begins at a multiple of 8.
    size_t size = strlen(text), padded = (size + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) fputc((int)(padded >> 8 * i & 255), w->out.stream);
    fprintf(w->out.stream, "%s%*s", text, (int)(padded - size), "");
  } else {
    m4n_safetensors_abort(w);
    *writer = NULL;
  }
  free(text);
  return status;
}

// Returns false if a value is not finite in its type.
static bool put(FILE *out, int type, const m4n_real *values, int64_t count) {
  enum { CHUNK = 1024 };
  union {
    float f[CHUNK];
    double d[CHUNK];
    uint16_t h[CHUNK];
  } chunk;
  bool finite = true;
  for (int64_t at = 0; at < count; at += CHUNK) {
    size_t n = (size_t)(count - at < CHUNK ? count - at : CHUNK);
    for (size_t i = 0; i < n; i++) {
      double value = (double)values[at + (int64_t)i];
      if (type == M4N_TENSOR_F64) {
        chunk.d[i] = value;
      } else if (type == M4N_TENSOR_F32) {
        value = (double)(chunk.f[i] = (float)value);
      } else if (type == M4N_TENSOR_F16) {
        value = (double)m4n_half_value(chunk.h[i] = m4n_half_bits((float)value));
      } else {
        value = (double)m4n_bf16_value(chunk.h[i] = m4n_bf16_bits((float)value));
      }
      finite &= isfinite(value) != 0;
    }
    fwrite(&chunk, types[type].size, n, out);
  }
  return finite;
}

void m4n_safetensors_put(m4n_safetensors_writer *w, const m4n_real *values, int64_t count) {
  while (count) {
    while (!w->left) {
      assert(w->current + 1 < w->n); // more values than the shapes say
      w->left = w->tensor[++w->current].count;
    }
    int64_t n = count < w->left ? count : w->left;
    struct place *t = &w->tensor[w->current];
    if (!put(w->out.stream, t->type, values, n) && !w->bad) w->bad = t->name;
    w->left -= n;
    values += n;
    count -= n;
  }
}

int m4n_safetensors_commit(m4n_safetensors_writer *w) {
  int status = w->bad ? m4n_fail_at(M4N_EFORMAT, w->out.path, 0, w->bad,
                                    "not written: it holds values that are not finite in the file's type")
                      : M4N_OK;
  if (status) {
    m4n_safetensors_abort(w);
    return status;
  }
  assert(!w->left);
  status = m4n_writer_commit(&w->out);
  m4n_safetensors_abort(w);
  return status;
}

void m4n_safetensors_abort(m4n_safetensors_writer *w) {
  if (!w) return;
  m4n_writer_abort(&w->out);
  m4n_arena_close(&w->names);
  free(w);
}
