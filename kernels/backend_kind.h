/* What a backend supplies; for backend.c and the backends themselves, never for models. */
#ifndef M4N_KERNELS_BACKEND_KIND_H
#define M4N_KERNELS_BACKEND_KIND_H

#include "kernels/backend.h"
#include "kernels/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One exported struct a backend. Functions as in backend.h and linear.h. `open` gets what stands behind the name
 * and a '-' in the device string ("cpu-v3"), or "". */
typedef struct m4n_backend_kind {
  const char *name;
  bool on_host;
  int (*open)(m4n_backend **backend, const char *variant, m4n_pool *pool);
  void (*close)(m4n_backend *backend);
  void *(*alloc)(m4n_backend *backend, size_t bytes);
  void (*free)(m4n_backend *backend, void *memory);
  void *(*alloc_host)(m4n_backend *backend, size_t bytes);
  void (*free_host)(m4n_backend *backend, void *memory);
  int (*stream_open)(m4n_stream **stream, m4n_backend *backend);
  void (*stream_close)(m4n_stream *stream);
  void (*copy_in)(m4n_stream *stream, void *to, const void *host, size_t bytes);
  void (*copy_out)(m4n_stream *stream, void *host, const void *from, size_t bytes);
  void (*copy)(m4n_stream *stream, void *to, const void *from, size_t bytes);
  void (*zero)(m4n_stream *stream, void *at, size_t bytes);
  int (*sync)(m4n_stream *stream);
  int (*linear_plan)(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape);
} m4n_backend_kind;

extern const m4n_backend_kind m4n_cpu_kind;
#ifdef M4N_WITH_CUDA
extern const m4n_backend_kind m4n_cuda_kind;
#endif

/* The heads that every backend's own structs begin with. */
struct m4n_backend {
  const m4n_backend_kind *kind;
  char description[128];
};
struct m4n_stream {
  struct m4n_stream_head head; /* the op table, what ops.h looks up */
  m4n_backend *backend;
};
struct m4n_linear {
  m4n_linear_shape shape; /* distances filled in */
  size_t bytes;           /* of the weights */
};

#ifdef __cplusplus
}
#endif
#endif
