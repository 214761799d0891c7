/* One function that places arrays, used twice: without memory it counts bytes, with memory it hands out addresses.
 *
 *     static m4n_real *place(work *w, m4n_layout *at) { w->a = m4n_place(at, rows * d); w->r = m4n_place(at, rows); … }
 *
 *     m4n_layout dry = {0};  place(&w, &dry);                       // dry.used: how much memory
 *     m4n_layout at = {.base = memory};  place(&w, &at);            // now w.a is an address
 *
 * So a plan and a run cannot disagree, and nothing needs to be allocated after the plan.
 */
#ifndef M4N_MODEL_LAYOUT_H
#define M4N_MODEL_LAYOUT_H

#include <stddef.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_layout {
  char *base; /* NULL: count only */
  size_t used;
} m4n_layout;

/* `bytes` at the next multiple of 64; NULL while counting. */
static inline void *m4n_place_bytes(m4n_layout *at, size_t bytes) {
  void *here = at->base ? at->base + at->used : NULL;
  at->used += (bytes + 63) / 64 * 64;
  return here;
}

static inline m4n_real *m4n_place(m4n_layout *at, size_t n) {
  return (m4n_real *)m4n_place_bytes(at, n * sizeof(m4n_real));
}

#ifdef __cplusplus
}
#endif
#endif
