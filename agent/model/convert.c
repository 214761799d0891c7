#include "agent/model/convert.h"

#include <stdlib.h>

#include "agent/model/safetensors.h"
#include "kernels/base/status.h"

enum { BLOCK = 4096 };

static int copy_values(m4n_safetensors_writer *to, const m4n_tensor *t) {
  m4n_real value[BLOCK];
  for (int64_t at = 0; at < t->count; at += BLOCK) {
    const int64_t n = t->count - at < BLOCK ? t->count - at : BLOCK;
    M4N_TRY(m4n_tensor_read(t, at, n, value));
    m4n_safetensors_put(to, value, n);
  }
  return M4N_OK;
}

static int write_all(const m4n_safetensors *from, const char *to, int type, m4n_tensor_shape *shape) {
  const int n = m4n_safetensors_count(from);
  m4n_safetensors_writer *writer;
  for (int i = 0; i < n; i++) {
    const m4n_tensor *t = m4n_safetensors_at(from, i);
    shape[i] =
        (m4n_tensor_shape){.name = t->name, .type = t->rank < 2 ? M4N_TENSOR_F32 : type, .rank = t->rank};
    for (int k = 0; k < t->rank; k++) shape[i].shape[k] = t->shape[k];
  }
  int n_metadata;
  const m4n_metadata *metadata = m4n_safetensors_all_metadata(from, &n_metadata);
  M4N_TRY(m4n_safetensors_create(&writer, to, shape, n, metadata, n_metadata));
  int status = M4N_OK;
  for (int i = 0; i < n && !status; i++) status = copy_values(writer, m4n_safetensors_at(from, i));
  if (!status) return m4n_safetensors_commit(writer);
  m4n_safetensors_abort(writer);
  return status;
}

int m4n_model_convert(const char *from, const char *to, int type) {
  m4n_safetensors *file;
  if (type != M4N_TENSOR_F32 && type != M4N_TENSOR_F16 && type != M4N_TENSOR_BF16)
    return m4n_fail(M4N_EARG, "a model is converted to f32, f16 or bf16");
  M4N_TRY(m4n_safetensors_open(&file, from));
  m4n_tensor_shape *shape = calloc((size_t)m4n_safetensors_count(file) + 1, sizeof *shape);
  int status =
      shape ? write_all(file, to, type, shape) : m4n_fail(M4N_ENOMEM, "no memory for a model's tensors");
  free(shape);
  m4n_safetensors_close(file);
  return status;
}
