/* Windows: w successive steps of one episode, what a model is trained on.
 *
 * Windows never straddle episodes. One that is drawn begins anywhere from w − 1 steps before its episode to the last
 * step, and is then moved inside. So the first and last steps of an episode, of which few windows hold any, are seen as
 * often as those in the middle (those w steps from an end up to twice as often), a policy's first decisions, which know
 * little, are learned as the later ones are, and no place in a batch is wasted. Episodes shorter than w give one window of
 * all their steps; the rest of its places is padding.
 *
 * Window number i of an episode begins at step i·stride, the last one w steps before the end. With a stride of 1 all there
 * are; with a larger one those that somebody has labelled.
 *
 *     m4n_windows *windows;
 *     M4N_TRY(m4n_windows_open(&windows, &(m4n_window_source){pool, 1}, 1, 20));
 *     m4n_rng rng = m4n_rng_make(seed, step, M4N_RNG_DATA);    // batch k is the same whatever happened before
 *     m4n_windows_draw(windows, &rng, 32, window);
 */
#ifndef M4N_LEARN_WINDOWS_H
#define M4N_LEARN_WINDOWS_H

#include "agent/learn/trajectories.h"
#include "agent/model/net.h"
#include "kernels/base/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_window {
  int source;  /* which pool */
  int episode; /* of the pool */
  int number;  /* of the episode's windows */
  int start, steps;
} m4n_window;

/* How many windows an episode of `steps` steps has, and the number-th of them (source and episode stay as they are). */
static inline int m4n_windows_of(int steps, int w, int stride) {
  return steps <= w ? 1 : (steps - w + stride - 1) / stride + 1;
}
static inline void m4n_window_at(m4n_window *window, int number, int steps, int w, int stride) {
  const int64_t start = (int64_t)number * stride;
  const int last = steps > w ? steps - w : 0;
  window->number = number;
  window->start = start < last ? (int)start : last;
  window->steps = steps < w ? steps : w;
}

typedef struct m4n_window_source {
  const m4n_trajectories *pool;
  int stride;
} m4n_window_source;

typedef struct m4n_windows m4n_windows;

/* ENOMEM, EARG. The pools outlive it. */
int m4n_windows_open(m4n_windows **windows, const m4n_window_source *source, int n, int w);
void m4n_windows_close(m4n_windows *windows); /* NULL is fine */

/* n windows of all pools alike. Does not allocate. */
void m4n_windows_draw(const m4n_windows *windows, m4n_rng *rng, int n, m4n_window *to);

/* Makes a window sequence b of the net's next batch, whose sequences have net->options.steps steps: its rows, then padding. */
void m4n_window_fill(m4n_net *net, int b, const m4n_trajectories *pool, const m4n_window *window);

#ifdef __cplusplus
}
#endif
#endif
