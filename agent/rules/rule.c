#include "agent/rules/rule.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/arena.h"
#include "kernels/base/status.h"

/* Rows that one thread takes at a time: fixed numbers, so that the split never depends on the threads. Waking a
 * thread costs as much as some hundred quick decisions. */
enum { SLOW_TILE = 16, QUICK_TILE = 1024, MEMORY_ALIGN = 16 };

typedef struct adapter {
  const m4n_rule *rule;
  m4n_abr_constants constants;
  uint32_t throughput, buffer, last_level, next_sizes, chunks_left; /* offsets in a row */
  uint32_t obs_size, act_size, action;
  m4n_pool *pool;
  int slots;
  size_t stride; /* of the lanes' memories */
  uint8_t *memory;
  void *plan;
  m4n_arena arena;
} adapter;

static void describe(char *out, size_t size, int dtype, int rank, const int32_t *shape) {
  int used = snprintf(out, size, "%s", m4n_dtype_name(dtype) ? m4n_dtype_name(dtype) : "?");
  for (int i = 0; i < rank; i++) used += snprintf(out + used, size - (size_t)used, "[%d]", shape[i]);
}

static int find_field(uint32_t *offset, const m4n_policy_setup *setup, const char *name, int rank, int rows,
                      int columns) {
  const int32_t shape[2] = {rows, columns};
  const m4n_field *f = m4n_spec_obs(setup->spec, name);
  char wanted[64], found[64];
  describe(wanted, sizeof wanted, M4N_F64, rank, shape);
  if (!f)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s' needs the observation '%s' (%s), which task '%s' does not have", setup->name,
                    name, wanted, setup->spec->task);
  if (f->dtype != M4N_F64 || f->rank != rank || memcmp(f->shape, shape, (size_t)rank * sizeof *shape) != 0) {
    describe(found, sizeof found, f->dtype, f->rank, f->shape);
    return m4n_fail(M4N_EUNSUPPORTED, "policy '%s' needs the observation '%s' as %s, task '%s' has it as %s",
                    setup->name, name, wanted, setup->spec->task, found);
  }
  *offset = f->offset;
  return M4N_OK;
}

static int find_fields(adapter *a, const m4n_policy_setup *setup) {
  uint32_t needs = a->rule->needs;
  int levels = a->constants.levels;
  if (needs & M4N_NEED_THROUGHPUT)
    M4N_TRY(find_field(&a->throughput, setup, M4N_ABR_THROUGHPUT, 1, M4N_ABR_HISTORY, 0));
  if (needs & M4N_NEED_BUFFER) M4N_TRY(find_field(&a->buffer, setup, M4N_ABR_BUFFER, 0, 0, 0));
  if (needs & M4N_NEED_LAST_LEVEL) M4N_TRY(find_field(&a->last_level, setup, M4N_ABR_LAST_LEVEL, 0, 0, 0));
  if (needs & M4N_NEED_NEXT_SIZES)
    M4N_TRY(find_field(&a->next_sizes, setup, M4N_ABR_NEXT_SIZES, 2, M4N_ABR_LOOKAHEAD, levels));
  if (needs & M4N_NEED_CHUNKS_LEFT) M4N_TRY(find_field(&a->chunks_left, setup, M4N_ABR_CHUNKS_LEFT, 0, 0, 0));
  return M4N_OK;
}

/* `least` is the smallest value that makes sense, above which (`strictly`) or from which on it is taken. */
static int find_constant(double *out, const m4n_policy_setup *setup, const char *name, int count,
                         double least, int strictly) {
  int found;
  const double *value = m4n_spec_constant(setup->spec, name, &found);
  if (!value || found != count)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s' needs the constant '%s' (%d number%s), of which task '%s' states %d",
                    setup->name, name, count, count == 1 ? "" : "s", setup->spec->task, value ? found : 0);
  for (int i = 0; i < count; i++) {
    if (!isfinite(value[i]) || value[i] < least || (strictly && value[i] == least))
      return m4n_fail(M4N_EUNSUPPORTED,
                      "policy '%s': task '%s' states the constant '%s' as %g, expected %s %g", setup->name,
                      setup->spec->task, name, value[i], strictly ? "more than" : "at least", least);
    out[i] = value[i];
  }
  return M4N_OK;
}

static int find_constants(m4n_abr_constants *c, uint32_t needs, const m4n_policy_setup *setup) {
  if (needs & M4N_NEED_LADDER) {
    M4N_TRY(find_constant(c->ladder, setup, M4N_ABR_LADDER, c->levels, 0, 1));
    for (int l = 1; l < c->levels; l++)
      if (c->ladder[l] <= c->ladder[l - 1])
        return m4n_fail(M4N_EUNSUPPORTED, "policy '%s' needs a rising ladder: '%s' has %g behind %g",
                        setup->name, M4N_ABR_LADDER, c->ladder[l], c->ladder[l - 1]);
  }
  if (needs & M4N_NEED_CHUNKS) M4N_TRY(find_constant(&c->chunks, setup, M4N_ABR_CHUNKS, 1, 1, 0));
  if (needs & M4N_NEED_CHUNK_SECONDS)
    M4N_TRY(find_constant(&c->chunk_s, setup, M4N_ABR_CHUNK_SECONDS, 1, 0, 1));
  if (needs & M4N_NEED_QOE) {
    M4N_TRY(find_constant(c->utility, setup, M4N_ABR_UTILITY, c->levels, -1e9, 0));
    M4N_TRY(find_constant(&c->rebuffer, setup, M4N_ABR_REBUFFER, 1, 0, 0));
    M4N_TRY(find_constant(&c->smooth, setup, M4N_ABR_SMOOTH, 1, 0, 0));
  }
  return M4N_OK;
}

static int resolve(adapter *a, const m4n_policy_setup *setup) {
  const m4n_spec *spec = setup->spec;
  const m4n_field *action = &spec->act[0];
  if (spec->n_act != 1 || action->mask[0] || action->high >= M4N_ABR_MAX_LEVELS)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "policy '%s' needs one unmasked action with at most %d choices, task '%s' has another",
                    setup->name, M4N_ABR_MAX_LEVELS, spec->task);
  a->constants.levels = (int)action->high + 1;
  a->constants.number = setup->kind->match == M4N_MATCH_NUMBERED
                            ? (int)strtol(setup->name + strlen(setup->kind->name), NULL, 10)
                            : -1;
  a->action = action->offset;
  a->obs_size = spec->obs_size;
  a->act_size = spec->act_size;
  M4N_TRY(find_fields(a, setup));
  M4N_TRY(find_constants(&a->constants, a->rule->needs, setup));
  a->stride = (a->rule->memory_size + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
  a->memory = m4n_arena_alloc(&a->arena, a->stride * (size_t)a->slots);
  a->plan = m4n_arena_alloc(&a->arena, a->rule->plan_size);
  if (!a->memory || !a->plan) return M4N_ENOMEM;
  return a->rule->prepare ? a->rule->prepare(a->plan, &a->constants) : M4N_OK;
}

int m4n_rule_open(void **self, const m4n_policy_setup *setup) {
  adapter *a = calloc(1, sizeof *a);
  if (!a) return m4n_fail(M4N_ENOMEM, "no memory for policy '%s'", setup->name);
  a->rule = setup->kind->detail;
  a->pool = setup->pool;
  a->slots = setup->slots;
  int status = resolve(a, setup);
  if (status) {
    m4n_rule_close(a);
    return status;
  }
  *self = a;
  return M4N_OK;
}

void m4n_rule_begin(void *self, const m4n_start *rows, int n) {
  adapter *a = self;
  for (int i = 0; i < n; i++) {
    assert(rows[i].slot >= 0 && rows[i].slot < a->slots);
    memset(a->memory + a->stride * (size_t)rows[i].slot, 0, a->stride);
  }
}

static double number_at(const uint8_t *row, uint32_t offset) {
  return *(const double *)(row + offset);
}

/* A stranger's simulator may send a level that its ladder does not have: it must not become an index. */
static int level_at(const uint8_t *row, uint32_t offset, int levels) {
  double level = number_at(row, offset);
  return level <= 0 ? 0 : level >= levels - 1 ? levels - 1 : (int)level;
}

static m4n_abr_view view_of(const adapter *a, const uint8_t *row) {
  uint32_t needs = a->rule->needs;
  m4n_abr_view view = {0};
  if (needs & M4N_NEED_THROUGHPUT) view.throughput = (const double *)(row + a->throughput);
  if (needs & M4N_NEED_NEXT_SIZES) view.next_sizes = (const double *)(row + a->next_sizes);
  if (needs & M4N_NEED_BUFFER) view.buffer = number_at(row, a->buffer);
  if (needs & M4N_NEED_LAST_LEVEL) view.last_level = level_at(row, a->last_level, a->constants.levels);
  if (needs & M4N_NEED_CHUNKS_LEFT) view.chunks_left = number_at(row, a->chunks_left);
  return view;
}

typedef struct job {
  adapter *adapter;
  const m4n_batch *batch;
  m4n_decisions *out;
  int tile;
} job;

static void decide_tile(void *self, int index) {
  const job *j = self;
  adapter *a = j->adapter;
  const m4n_batch *batch = j->batch;
  m4n_decisions *out = j->out;
  int levels = a->constants.levels;
  int end = batch->n - index * j->tile < j->tile ? batch->n : (index + 1) * j->tile;
  for (int i = index * j->tile; i < end; i++) {
    assert(batch->slot[i] >= 0 && batch->slot[i] < a->slots);
    m4n_abr_view view = view_of(a, batch->obs + (size_t)i * a->obs_size);
    int32_t level =
        a->rule->level(&a->constants, a->plan, a->memory + a->stride * (size_t)batch->slot[i], &view);
    uint8_t *action = out->action + (size_t)i * a->act_size;
    memset(action, 0, a->act_size);
    memcpy(action + a->action, &level, sizeof level);
    // A rule is certain of what it does and values nothing.
    if (out->logp) out->logp[i] = 0;
    if (out->value) out->value[i] = 0;
    if (out->distribution)
      for (int l = 0; l < levels; l++) out->distribution[i * levels + l] = l == level;
  }
}

void m4n_rule_decide(void *self, const m4n_batch *batch, m4n_decisions *out) {
  adapter *a = self;
  int tile = a->rule->slow ? SLOW_TILE : QUICK_TILE;
  job j = {.adapter = a, .batch = batch, .out = out, .tile = tile};
  m4n_pool_run(a->pool, (batch->n + tile - 1) / tile, decide_tile, &j);
}

void m4n_rule_close(void *self) {
  adapter *a = self;
  if (!a) return;
  m4n_arena_close(&a->arena);
  free(a);
}
