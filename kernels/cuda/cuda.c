/* The CUDA backend: the card's memory, its queue, and the op table. The card is the first that CUDA_VISIBLE_DEVICES
 * leaves; "cuda-tf32" rounds the factors of float32 products to TF32, which is faster and has 10 bits. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cuda/gemm.h"

static const m4n_ops ops = {
#define OP(name, parameters, arguments) .name = m4n_cuda_##name,
#include "kernels/ops.def"
#undef OP
};

int m4n_cuda_fail(cudaError_t error, const char *what) {
  (void)cudaGetLastError(); // what is reported is not to show up again
  return m4n_fail(M4N_EDEVICE, "%s: %s", what, cudaGetErrorString(error));
}
#define CUDA_TRY(call, what)                                                                                 \
  do {                                                                                                       \
    const cudaError_t cuda_try_error = (call);                                                               \
    if (cuda_try_error != cudaSuccess) return m4n_cuda_fail(cuda_try_error, what);                           \
  } while (0)

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static const double MIB = 1024.0 * 1024.0;

static int no_memory(const char *kind, size_t bytes) {
  size_t free_bytes = 0, all = 0;
  (void)cudaGetLastError();
  if (cudaMemGetInfo(&free_bytes, &all) != cudaSuccess)
    return m4n_fail(M4N_EDEVICE, "device cuda: no %.1f MiB of %s memory, and the card does not answer",
                    (double)bytes / MIB, kind);
  return m4n_fail(M4N_ENOMEM,
                  "device cuda: no memory for %.1f MiB (%s); %.1f of the card's %.1f MiB are free: lower "
                  "adapt.batch, distil.batch or label.batch, bridge.lanes, or take a smaller preset",
                  (double)bytes / MIB, kind, (double)free_bytes / MIB, (double)all / MIB);
}

static void *cuda_alloc(m4n_backend *backend, size_t bytes) {
  m4n_cuda_backend *cuda = (m4n_cuda_backend *)backend;
  void *memory = NULL;
  const cudaError_t error = cudaMalloc(&memory, bytes ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    no_memory("on the card", bytes);
    return NULL;
  }
  if (error != cudaSuccess) {
    m4n_cuda_fail(error, "device cuda: taking memory");
    return NULL;
  }
  // In order with the ops, so nothing waits.
  m4n_cuda_note(cuda, cudaMemsetAsync(memory, 0, bytes ? bytes : 1, cuda->queue), "zeroing memory");
  return memory;
}
static void cuda_free(m4n_backend *backend, void *memory) {
  m4n_cuda_note((m4n_cuda_backend *)backend, cudaFree(memory), "giving memory back");
}

static void *cuda_alloc_host(m4n_backend *backend, size_t bytes) {
  (void)backend;
  void *memory = NULL;
  const cudaError_t error = cudaMallocHost(&memory, bytes ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    no_memory("pinned on the host", bytes);
    return NULL;
  }
  if (error != cudaSuccess) {
    m4n_cuda_fail(error, "device cuda: taking pinned memory");
    return NULL;
  }
  return memset(memory, 0, bytes ? bytes : 1);
}
static void cuda_free_host(m4n_backend *backend, void *memory) {
  m4n_cuda_note((m4n_cuda_backend *)backend, cudaFreeHost(memory), "giving pinned memory back");
}

int m4n_cuda_grow(m4n_cuda_backend *cuda, void **memory, size_t *have, size_t want) {
  if (want <= *have) return M4N_OK;
  void *larger = cuda_alloc(&cuda->backend, want);
  if (!larger) return m4n_last_error()->status;
  if (*memory) cuda_free(&cuda->backend, *memory);
  *memory = larger, *have = want;
  return M4N_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void cuda_close(m4n_backend *backend) {
  m4n_cuda_backend *cuda = (m4n_cuda_backend *)backend;
  m4n_cuda_linear_close(cuda);
  m4n_cuda_gemm_library_close(cuda->library);
  if (cuda->parts) cuda_free(backend, cuda->parts);
  if (cuda->rows) cuda_free(backend, cuda->rows);
  if (cuda->row_scale) cuda_free(backend, cuda->row_scale);
  if (cuda->queue) (void)cudaStreamDestroy(cuda->queue);
  free(cuda);
}

/* Finds the card and takes what all ops share. */
static int start(m4n_cuda_backend *cuda) {
  int cards = 0;
  struct cudaDeviceProp card;
  CUDA_TRY(cudaGetDeviceCount(&cards), "device cuda: no card answers");
  if (cards < 1) return m4n_fail(M4N_EDEVICE, "device cuda: no card answers");
  CUDA_TRY(cudaSetDevice(0), "device cuda");
  CUDA_TRY(cudaGetDeviceProperties(&card, 0), "device cuda");
  if (card.major < 8)
    return m4n_fail(M4N_EDEVICE, "device cuda: %s has compute capability %d.%d, expected 8.0 or later",
                    card.name, card.major, card.minor);
  CUDA_TRY(cudaStreamCreateWithFlags(&cuda->queue, cudaStreamNonBlocking), "device cuda: opening a stream");
  M4N_TRY(m4n_cuda_gemm_library_open(&cuda->library, cuda->queue, cuda->tf32));
  if (!(cuda->parts = cuda_alloc(&cuda->backend, M4N_CUDA_PARTS * sizeof(float))))
    return m4n_last_error()->status;
  snprintf(cuda->backend.description, sizeof cuda->backend.description, "cuda %.60s (%d.%d), %.1f GiB, %s%s",
           card.name, card.major, card.minor, (double)card.totalGlobalMem / 1024 / MIB,
           m4n_cuda_gemm_library_name(), cuda->tf32 ? ", TF32" : "");
  return M4N_OK;
}

static int cuda_open(m4n_backend **out, const char *variant, m4n_pool *pool) {
  (void)pool;
  if (*variant && strcmp(variant, "tf32"))
    return m4n_fail(M4N_EARG, "device cuda-%.20s: expected cuda or cuda-tf32", variant);
  m4n_cuda_backend *cuda = calloc(1, sizeof *cuda);
  if (!cuda) return m4n_fail(M4N_ENOMEM, "no memory for the CUDA backend");
  cuda->backend.kind = &m4n_cuda_kind;
  cuda->tf32 = *variant != 0;
  const int status = start(cuda);
  if (status)
    cuda_close(&cuda->backend);
  else
    *out = &cuda->backend;
  return status;
}

/* ---- streams ------------------------------------------------------------------------------------------------------ */

static int cuda_stream_open(m4n_stream **stream, m4n_backend *backend) {
  *stream = calloc(1, sizeof **stream);
  if (!*stream) return m4n_fail(M4N_ENOMEM, "no memory for a stream");
  **stream = (m4n_stream){.head = {&ops}, .backend = backend};
  return M4N_OK;
}
static void cuda_stream_close(m4n_stream *stream) {
  free(stream);
}

static void copy(m4n_stream *stream, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                 const char *what) {
  m4n_cuda_backend *cuda = m4n_cuda_of(stream);
  if (bytes) m4n_cuda_note(cuda, cudaMemcpyAsync(to, from, bytes, kind, cuda->queue), what);
}
static void cuda_copy_in(m4n_stream *stream, void *to, const void *host, size_t bytes) {
  copy(stream, to, host, bytes, cudaMemcpyHostToDevice, "copying to the card");
}
static void cuda_copy_out(m4n_stream *stream, void *host, const void *from, size_t bytes) {
  copy(stream, host, from, bytes, cudaMemcpyDeviceToHost, "copying from the card");
}
static void cuda_copy(m4n_stream *stream, void *to, const void *from, size_t bytes) {
  copy(stream, to, from, bytes, cudaMemcpyDeviceToDevice, "copying on the card");
}
static void cuda_zero(m4n_stream *stream, void *at, size_t bytes) {
  m4n_cuda_backend *cuda = m4n_cuda_of(stream);
  if (bytes) m4n_cuda_note(cuda, cudaMemsetAsync(at, 0, bytes, cuda->queue), "zeroing memory");
}

static int cuda_sync(m4n_stream *stream) {
  m4n_cuda_backend *cuda = m4n_cuda_of(stream);
  m4n_cuda_note(cuda, cudaStreamSynchronize(cuda->queue), "an op");
  const cudaError_t error = cuda->error;
  cuda->error = cudaSuccess;
  if (error == cudaSuccess) return M4N_OK;
  char what[96];
  snprintf(what, sizeof what, "device cuda: %.60s", cuda->error_at);
  return m4n_cuda_fail(error, what);
}

const m4n_backend_kind m4n_cuda_kind = {.name = "cuda",
                                        .on_host = false,
                                        .open = cuda_open,
                                        .close = cuda_close,
                                        .alloc = cuda_alloc,
                                        .free = cuda_free,
                                        .alloc_host = cuda_alloc_host,
                                        .free_host = cuda_free_host,
                                        .stream_open = cuda_stream_open,
                                        .stream_close = cuda_stream_close,
                                        .copy_in = cuda_copy_in,
                                        .copy_out = cuda_copy_out,
                                        .copy = cuda_copy,
                                        .zero = cuda_zero,
                                        .sync = cuda_sync,
                                        .linear_plan = m4n_cuda_linear_plan};
