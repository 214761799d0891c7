/* A request to stop, set by a signal handler or another thread and looked at by loops that may run long. */
#ifndef M4N_BASE_STOP_H
#define M4N_BASE_STOP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct m4n_stop {
  int requested; /* only through the two functions below */
  const struct m4n_stop
      *also; /* a wider one that stops this too (a signal's, for one piece of work); NULL: none */
} m4n_stop;

static inline void m4n_stop_request(m4n_stop *stop) {
  __atomic_store_n(&stop->requested, 1, __ATOMIC_RELEASE);
}
/* NULL: nobody will ever ask. */
static inline bool m4n_stop_requested(const m4n_stop *stop) {
  for (; stop; stop = stop->also)
    if (__atomic_load_n(&stop->requested, __ATOMIC_ACQUIRE)) return true;
  return false;
}

#endif
