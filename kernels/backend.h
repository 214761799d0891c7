/* Backends: where the ops run, and the memory they run on.
 *
 *     m4n_backend *backend;
 *     m4n_stream *s;
 *     M4N_TRY(m4n_backend_open(&backend, "cpu", pool));
 *     M4N_TRY(m4n_stream_open(&s, backend));
 *     m4n_real *x = m4n_alloc(backend, n * sizeof *x);                 // NULL: the error record says why
 *     m4n_copy_in(s, x, host, n * sizeof *x);
 *     m4n_silu_fwd(s, x, x, n);
 *     m4n_copy_out(s, host, x, n * sizeof *x);
 *     M4N_TRY(m4n_sync(s));                                            // now `host` is good; device errors show here
 *
 * One thread uses a backend and its streams at a time; two threads that work at once open a backend each.
 */
#ifndef M4N_KERNELS_BACKEND_H
#define M4N_KERNELS_BACKEND_H

#include <stdbool.h>

#include "kernels/base/pool.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_backend m4n_backend;

/* device: "cpu", "cuda" (EUNSUPPORTED where it was not built in, EDEVICE where no card answers), "cuda-tf32" (float32
 * products by TF32: faster, factors have 10 bits), or "auto" (cuda if it opens, else cpu). `pool` runs the tiles of the CPU's ops; may be NULL (one thread); it outlives the backend. */
int m4n_backend_open(m4n_backend **backend, const char *device, m4n_pool *pool);
void m4n_backend_close(
    m4n_backend *backend); /* its streams and memory must have been given back; NULL is fine */
const char *m4n_backend_name(const m4n_backend *backend); /* "cpu" or "cuda" */
const char *
m4n_backend_description(const m4n_backend *backend); /* for a log: "cpu x86-64-v4, oneDNN 2.6, 2 threads" */
bool m4n_backend_on_host(
    const m4n_backend *backend); /* its memory can be read and written as the host's own */

/* Memory of the backend, aligned for its widest access (64 bytes at least), zeroed. NULL: ENOMEM or EDEVICE with what
 * was asked and what is free. Size 0 gives a valid address. */
void *m4n_alloc(m4n_backend *backend, size_t bytes);
void m4n_free(m4n_backend *backend, void *memory);
/* Host memory that copies can stream from and to (pinned on CUDA). */
void *m4n_alloc_host(m4n_backend *backend, size_t bytes);
void m4n_free_host(m4n_backend *backend, void *memory);

/* A queue of ops that run in order. */
int m4n_stream_open(m4n_stream **stream, m4n_backend *backend);
void m4n_stream_close(m4n_stream *stream); /* NULL is fine */
m4n_backend *m4n_stream_backend(const m4n_stream *stream);

/* Copies in the order of the stream; host memory must stay as it is until m4n_sync. Failures show in m4n_sync. */
void m4n_copy_in(m4n_stream *stream, void *to, const void *host, size_t bytes);
void m4n_copy_out(m4n_stream *stream, void *host, const void *from, size_t bytes);
void m4n_copy(m4n_stream *stream, void *to, const void *from, size_t bytes);
void m4n_zero(m4n_stream *stream, void *at, size_t bytes);

/* Waits until all that was put on the stream is done; EDEVICE with the first failure since the last call. */
int m4n_sync(m4n_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
