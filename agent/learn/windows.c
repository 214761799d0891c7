#include "agent/learn/windows.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

// An episode, and how many places there are where a window of an episode before it may begin.
typedef struct place {
  int64_t before;
  int source, episode;
} place;

struct m4n_windows {
  const m4n_trajectories **pool;
  int *stride;
  place *place;
  int n, w;
  uint32_t total;
};

static int take(m4n_windows *windows, const m4n_window_source *source, int n) {
  int64_t episodes = 0, total = 0;
  for (int i = 0; i < n; i++) episodes += source[i].pool->n;
  windows->pool = malloc((size_t)n * sizeof *windows->pool);
  windows->stride = malloc((size_t)n * sizeof *windows->stride);
  windows->place = malloc((size_t)episodes * sizeof *windows->place);
  if (!windows->pool || !windows->stride || !windows->place)
    return m4n_fail(M4N_ENOMEM, "no memory for the windows of %lld episodes", (long long)episodes);
  for (int i = 0; i < n; i++) {
    windows->pool[i] = source[i].pool;
    windows->stride[i] = source[i].stride;
    for (int e = 0; e < source[i].pool->n; e++) {
      windows->place[windows->n++] = (place){total, i, e};
      total += source[i].pool->episode[e].steps + windows->w - 1;
    }
  }
  if (total > UINT32_MAX)
    return m4n_fail(M4N_EARG, "a pool of %lld places for windows: expected at most 2^32", (long long)total);
  windows->total = (uint32_t)total;
  return M4N_OK;
}

int m4n_windows_open(m4n_windows **out, const m4n_window_source *source, int n, int w) {
  m4n_windows *windows = *out = calloc(1, sizeof *windows);
  if (!windows) return m4n_fail(M4N_ENOMEM, "no memory for windows");
  windows->w = w;
  int status = take(windows, source, n);
  if (!status) return M4N_OK;
  m4n_windows_close(windows);
  *out = NULL;
  return status;
}

void m4n_windows_close(m4n_windows *windows) {
  if (!windows) return;
  free(windows->pool);
  free(windows->stride);
  free(windows->place);
  free(windows);
}

// The last place with before ≤ x.
static const place *find(const m4n_windows *windows, int64_t x) {
  int low = 0, high = windows->n - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (windows->place[middle].before <= x)
      low = middle;
    else
      high = middle - 1;
  }
  return &windows->place[low];
}

void m4n_windows_draw(const m4n_windows *windows, m4n_rng *rng, int n, m4n_window *to) {
  const int w = windows->w;
  for (int i = 0; i < n; i++) {
    const int64_t x = m4n_rng_below(rng, windows->total);
    const place *p = find(windows, x);
    const int steps = windows->pool[p->source]->episode[p->episode].steps,
              stride = windows->stride[p->source];
    const int last = steps > w ? steps - w : 0, drawn = (int)(x - p->before) - (w - 1);
    const int start = drawn < 0 ? 0 : drawn < last ? drawn : last;
    to[i].source = p->source;
    to[i].episode = p->episode;
    m4n_window_at(&to[i], start == last ? m4n_windows_of(steps, w, stride) - 1 : start / stride, steps, w,
                  stride);
  }
}

void m4n_window_fill(m4n_net *net, int b, const m4n_trajectories *pool, const m4n_window *window) {
  const size_t row = (size_t)net->features;
  const int w = net->options.steps;
  const int64_t first = pool->episode[window->episode].first + window->start;
  m4n_real *to = m4n_net_row(net, b, 0, w);
  memcpy(to, m4n_trajectories_row(pool, first), (size_t)window->steps * row * sizeof *to);
  memset(to + (size_t)window->steps * row, 0, (size_t)(w - window->steps) * row * sizeof *to);
  for (int t = 0; t < w; t++) m4n_net_set_step(net, b, t, w, t < window->steps ? window->start + t : -1);
}
