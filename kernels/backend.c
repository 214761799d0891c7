/* Which backend a device name means, and the calls that go to it. */
#include "kernels/backend.h"

#include <string.h>

#include "kernels/backend_kind.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_backend_kind *const kinds[] = {
    &m4n_cpu_kind,
#ifdef M4N_WITH_CUDA
    &m4n_cuda_kind,
#endif
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* "cpu" or "cpu-v3": the kind's name, then nothing or '-' and the kind's own word. */
static const m4n_backend_kind *kind_of(const char *device, const char **variant) {
  for (int i = 0; i < KINDS; i++) {
    size_t n = strlen(kinds[i]->name);
    if (strncmp(device, kinds[i]->name, n) || (device[n] && device[n] != '-')) continue;
    *variant = device[n] ? device + n + 1 : "";
    return kinds[i];
  }
  return NULL;
}

int m4n_backend_open(m4n_backend **backend, const char *device, m4n_pool *pool) {
  *backend = NULL;
  if (!strcmp(device, "auto")) {
    // The last kind is the fastest; what it lacks is told, since "auto" is no promise of a card.
    for (int i = KINDS - 1; i > 0; i--) {
      if (kinds[i]->open(backend, "", pool) == M4N_OK) return M4N_OK;
      m4n_log(M4N_LOG_INFO, "no %s: %s", kinds[i]->name, m4n_error_message());
    }
    return kinds[0]->open(backend, "", pool);
  }
  const char *variant = "";
  const m4n_backend_kind *kind = kind_of(device, &variant);
  if (kind) return kind->open(backend, variant, pool);
  if (!strcmp(device, "cuda") || !strcmp(device, "cuda-tf32"))
    return m4n_fail(M4N_EUNSUPPORTED,
                    "device cuda: this build has no CUDA backend (configure with M4N_CUDA=ON)");
  return m4n_fail(M4N_EARG, "device %.40s: expected cpu, cuda, cuda-tf32 or auto", device);
}

void m4n_backend_close(m4n_backend *backend) {
  if (backend) backend->kind->close(backend);
}
const char *m4n_backend_name(const m4n_backend *backend) {
  return backend->kind->name;
}
const char *m4n_backend_description(const m4n_backend *backend) {
  return backend->description;
}
bool m4n_backend_on_host(const m4n_backend *backend) {
  return backend->kind->on_host;
}

void *m4n_alloc(m4n_backend *backend, size_t bytes) {
  return backend->kind->alloc(backend, bytes);
}
void m4n_free(m4n_backend *backend, void *memory) {
  if (memory) backend->kind->free(backend, memory);
}
void *m4n_alloc_host(m4n_backend *backend, size_t bytes) {
  return backend->kind->alloc_host(backend, bytes);
}
void m4n_free_host(m4n_backend *backend, void *memory) {
  if (memory) backend->kind->free_host(backend, memory);
}

int m4n_stream_open(m4n_stream **stream, m4n_backend *backend) {
  return backend->kind->stream_open(stream, backend);
}
void m4n_stream_close(m4n_stream *stream) {
  if (stream) stream->backend->kind->stream_close(stream);
}
m4n_backend *m4n_stream_backend(const m4n_stream *stream) {
  return stream->backend;
}

void m4n_copy_in(m4n_stream *stream, void *to, const void *host, size_t bytes) {
  stream->backend->kind->copy_in(stream, to, host, bytes);
}
void m4n_copy_out(m4n_stream *stream, void *host, const void *from, size_t bytes) {
  stream->backend->kind->copy_out(stream, host, from, bytes);
}
void m4n_copy(m4n_stream *stream, void *to, const void *from, size_t bytes) {
  stream->backend->kind->copy(stream, to, from, bytes);
}
void m4n_zero(m4n_stream *stream, void *at, size_t bytes) {
  stream->backend->kind->zero(stream, at, bytes);
}
int m4n_sync(m4n_stream *stream) {
  return stream->backend->kind->sync(stream);
}

int m4n_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *given) {
  *plan = NULL;
  m4n_linear_shape shape = *given;
  if (shape.out < 1 || shape.in < 1 || shape.max_rows < 1)
    return m4n_fail(M4N_EARG, "linear layer %d → %d, up to %d rows: sizes must be at least 1", shape.in,
                    shape.out, shape.max_rows);
  const int width = shape.gated ? shape.out / 2 : shape.out;
  if (!shape.x_ld) shape.x_ld = shape.in;
  if (!shape.y_ld) shape.y_ld = width;
  if (shape.x_ld < 1 || shape.y_ld < width)
    return m4n_fail(M4N_EARG, "linear layer %d → %d: row distances %d and %d are too short", shape.in,
                    shape.out, shape.x_ld, shape.y_ld);
  int possible = shape.format == M4N_W_REAL   ? M4N_GRAD_X | M4N_GRAD_W
                 : shape.format == M4N_W_BF16 ? M4N_GRAD_X
                                              : 0;
  if (shape.format < M4N_W_REAL || shape.format > M4N_W_INT8 || (shape.grads & ~possible))
    return m4n_fail(M4N_EARG, "linear layer %d → %d: weight format %d has no gradients %d", shape.in,
                    shape.out, shape.format, shape.grads);
  if (shape.gated && (shape.out % 2 || shape.grads))
    return m4n_fail(M4N_EARG, "gated linear layer %d → %d: two equal halves and no gradients", shape.in,
                    shape.out);
  if (shape.x_ld < shape.in && (shape.grads & M4N_GRAD_X))
    return m4n_fail(M4N_EARG,
                    "linear layer %d → %d: rows of x overlap (distance %d), so dx cannot be written",
                    shape.in, shape.out, shape.x_ld);
  return stream->backend->kind->linear_plan(plan, stream, &shape);
}
size_t m4n_linear_bytes(const m4n_linear *plan) {
  return plan->bytes;
}
const m4n_linear_shape *m4n_linear_shape_of(const m4n_linear *plan) {
  return &plan->shape;
}
