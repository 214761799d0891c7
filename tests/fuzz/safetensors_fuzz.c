/* Any bytes: either refused, or every tensor that is listed can be read to its end. */
#include <stdlib.h>

#include "agent/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  m4n_safetensors *file;
  if (m4n_safetensors_parse(&file, "fuzz", data, size)) return 0;
  for (int i = 0; i < m4n_safetensors_count(file); i++) {
    const m4n_tensor *t = m4n_safetensors_at(file, i);
    if (m4n_safetensors_find(file, t->name) != t) abort();
    double values[16];
    for (int64_t at = 0; at < t->count && at < 4096; at += 16) {
      int64_t n = t->count - at < 16 ? t->count - at : 16;
      if (m4n_tensor_read_double(t, at, n, values)) break;
    }
  }
  m4n_safetensors_close(file);
  return 0;
}
