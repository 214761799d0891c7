// The feasible offline optimum (algorithms.md §9.1): a dynamic programme over real simulator states that knows the trace.
//
// A state is the end of a chunk. One state is kept for each (chunk, last level, floor(trace time used / 0.1 s)); the states of a
// chunk are expanded in the order in which their cells were first filled, levels ascending; a filled cell is replaced, in its
// place, only by a strictly larger reward; the answer is the first of the largest rewards at the end. It is a schedule that can be
// played, so a lower bound of the true optimum. The order matters: single traces move by up to 0.009 under another one.
#include <math.h>
#include <string.h>

#include "kernels/base/status.h"
#include "sim/abr/world.h"

static const double CELL_S = 0.1;
enum { MAX_CELLS = 1 << 23 }; // 9.7 days of trace: beyond it something is wrong with the trace

typedef struct node {
  abr_cursor at;
  double buffer_ms, used_s, reward;
  int32_t level;
} node;

// How a state of one chunk was reached.
typedef struct step {
  int32_t parent, level;
} step;

typedef struct layer {
  step *step; // one a state
} layer;

// A plan is followed while the lane does what it says: the state must be the one that the plan foresaw.
typedef struct plan {
  int32_t first, last; // chunks that are planned: first … last
  uint8_t *level;      // [last − first + 1]
  int32_t chunk;       // the next decision
  abr_state expected;  // state before it; only what the future depends on is compared
} plan;

// Which cell holds which state of the next chunk: entries below `base` are left over from earlier chunks and mean "empty".
typedef struct grid {
  int32_t *at; // [cells][levels]
  int64_t cells, base;
} grid;

// What stays the same from chunk to chunk.
typedef struct problem {
  const m4n_world *world;
  const abr_row *row;
  abr_client client;
  double scale;
  const double *noise; // [world chunks]; NULL without noise
  grid grid;
  m4n_arena *scratch;
} problem;

static int grow(problem *p, int64_t cells) {
  grid *g = &p->grid;
  size_t levels = (size_t)p->world->levels;
  if (cells > MAX_CELLS)
    return m4n_fail(M4N_EUNSUPPORTED, "oracle: an episode of more than %g s of trace", MAX_CELLS * CELL_S);
  int64_t more = g->cells ? g->cells : 4096;
  while (more < cells) more *= 2;
  int32_t *at =
      m4n_arena_alloc(p->scratch, (size_t)more * levels * sizeof *at); // zeroed: all empty, since base ≥ 1
  if (!at) return M4N_ENOMEM;
  if (g->at) memcpy(at, g->at, (size_t)g->cells * levels * sizeof *at);
  g->at = at, g->cells = more;
  return M4N_OK;
}

// A list of states, and of how they were reached, that is used again for every second chunk.
typedef struct states {
  node *node;
  step *step;
  size_t room;
} states;

// Expands the n states before `chunk` by every level; `next` has room for all.
static int expand(problem *p, int chunk, const node *now, int32_t n, states *next, int32_t *found) {
  const m4n_world *w = p->world;
  const double *size = w->size + (size_t)chunk * (size_t)w->levels;
  double noise = p->noise ? p->noise[chunk] : 1;
  int32_t count = 0;
  for (int32_t i = 0; i < n; i++) {
    for (int level = 0; level < w->levels; level++) {
      node s = now[i];
      abr_chunk c = abr_play(p->row, &p->client, size[level], noise, p->scale, &s.at, &s.buffer_ms);
      s.used_s += c.fetch_s + c.sleep_ms / 1000;
      s.reward += abr_reward(w, level, now[i].level, c.rebuffer_s);
      s.level = level;
      int64_t cell = (int64_t)(s.used_s / CELL_S);
      if (cell >= p->grid.cells) M4N_TRY(grow(p, cell + 1));
      int32_t *slot = &p->grid.at[cell * w->levels + level];
      int32_t k = *slot >= p->grid.base ? (int32_t)(*slot - p->grid.base) : count;
      if (k == count) {
        *slot = (int32_t)(p->grid.base + count++);
      } else if (!(s.reward > next->node[k].reward)) {
        continue;
      }
      next->node[k] = s;
      next->step[k] = (step){i, level};
    }
  }
  *found = count;
  return M4N_OK;
}

static int make_room(states *list, size_t most, m4n_arena *scratch) {
  if (list->room >= most) return M4N_OK;
  list->room = 2 * most;
  list->node = m4n_arena_alloc(scratch, list->room * sizeof *list->node);
  list->step = m4n_arena_alloc(scratch, list->room * sizeof *list->step);
  return list->node && list->step ? M4N_OK : M4N_ENOMEM;
}

// The noise that the lane will draw for its next chunks.
static int foresee_noise(problem *p, const abr_state *s) {
  const abr_set *set = &p->world->set[s->set];
  if (!(set->noise > 0)) return M4N_OK;
  m4n_rng rng = s->noise;
  double *noise = m4n_arena_alloc(p->scratch, (size_t)p->world->chunks * sizeof *noise);
  if (!noise) return M4N_ENOMEM;
  for (int k = s->chunk; k < p->world->chunks; k++) noise[k] = abr_noise(set, &rng);
  p->noise = noise;
  return M4N_OK;
}

// The best levels for chunks s->chunk … last. The plan goes to `keep`; what the search needs meanwhile, a hundred times as
// much, to `scratch`.
static int search(const m4n_world *w, const abr_state *s, m4n_arena *keep, m4n_arena *scratch, plan **out) {
  const abr_trace *trace = &w->set[s->set].trace[s->trace];
  problem p = {.world = w,
               .row = trace->row,
               .client = w->client,
               .scale = s->scale,
               .grid = {.base = 1},
               .scratch = scratch};
  p.client.rtt_ms = trace->rtt_ms;
  int first = s->chunk, chunks = w->chunks - first;
  plan *found = m4n_arena_alloc(keep, sizeof *found);
  uint8_t *level = m4n_arena_alloc(keep, (size_t)chunks);
  layer *layers = m4n_arena_alloc(scratch, (size_t)chunks * sizeof *layers);
  if (!found || !layers || !level) return M4N_ENOMEM;
  M4N_TRY(foresee_noise(&p, s));
  M4N_TRY(grow(&p, 1));

  states now = {0}, next = {0};
  M4N_TRY(make_room(&now, 1, scratch));
  now.node[0] = (node){s->at, s->buffer_ms, s->used_s, 0, s->level};
  int32_t n = 1;
  for (int k = 0; k < chunks; k++) {
    size_t most = (size_t)n * (size_t)w->levels;
    if (most >= (size_t)INT32_MAX - (size_t)p.grid.base)
      return m4n_fail(M4N_EUNSUPPORTED, "oracle: too many states");
    M4N_TRY(make_room(&next, most, scratch));
    M4N_TRY(expand(&p, first + k, now.node, n, &next, &n));
    // Most expansions fall into cells that are taken: only what was kept is kept.
    layers[k].step = m4n_arena_alloc(scratch, (size_t)n * sizeof *layers[k].step);
    if (!layers[k].step) return M4N_ENOMEM;
    memcpy(layers[k].step, next.step, (size_t)n * sizeof *layers[k].step);
    p.grid.base += n;
    states spare = now;
    now = next, next = spare;
  }

  int32_t best = 0;
  for (int32_t i = 1; i < n; i++)
    if (now.node[i].reward > now.node[best].reward) best = i;
  for (int k = chunks - 1; k >= 0; k--) {
    level[k] = (uint8_t)layers[k].step[best].level;
    best = layers[k].step[best].parent;
  }
  *found = (plan){.first = first, .last = w->chunks - 1, .level = level, .chunk = first, .expected = *s};
  *out = found;
  return M4N_OK;
}

static int same_future(const abr_state *a, const abr_state *b) {
  return a->chunk == b->chunk && a->level == b->level && a->at.p == b->at.p && a->at.cursor == b->at.cursor &&
         a->buffer_ms == b->buffer_ms && memcmp(&a->noise, &b->noise, sizeof a->noise) == 0;
}

int abr_oracle(const void *state, const m4n_world *world, m4n_arena *scratch, void **kept, void *action) {
  const abr_state *s = state;
  plan *p = *kept;
  if (!p || !same_future(&p->expected, s)) { // the first decision, or the lane left the plan
    m4n_arena work = {0};
    m4n_arena_reset(scratch);
    *kept = NULL;
    int status = search(world, s, scratch, &work, &p);
    m4n_arena_close(&work);
    M4N_TRY(status);
    *kept = p;
  }
  int level = p->level[p->chunk - p->first];
  *(int32_t *)action = level;

  // Foresee where this action leads.
  if (p->chunk < p->last) {
    abr_advance(world, &p->expected, level);
    p->chunk++;
  }
  return M4N_OK;
}
