// Uniform over the choices that are allowed, for every component of an action on its own. Works for any task.

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rules/rules.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

typedef struct component {
  uint32_t action;       /* offset of the choice in an action row */
  uint32_t choices;      /* there are at most */
  const m4n_field *mask; /* u8, one a choice; NULL: all are allowed */
} component;

typedef struct random_policy {
  int n, slots;
  component component[M4N_MAX_ACTIONS];
  size_t obs_size, act_size;
  m4n_rng *rng; /* [slots] */
} random_policy;

static int open_random(void **self, const m4n_policy_setup *setup) {
  const m4n_spec *spec = setup->spec;
  random_policy *r = calloc(1, sizeof *r);
  m4n_rng *rng = calloc((size_t)setup->slots, sizeof *rng);
  if (!r || !rng) {
    free(r);
    free(rng);
    return m4n_fail(M4N_ENOMEM, "no memory for policy '%s' with %d slots", setup->name, setup->slots);
  }
  *r = (random_policy){.n = spec->n_act,
                       .slots = setup->slots,
                       .obs_size = spec->obs_size,
                       .act_size = spec->act_size,
                       .rng = rng};
  for (int i = 0; i < spec->n_act; i++)
    r->component[i] =
        (component){.action = spec->act[i].offset,
                    .choices = (uint32_t)spec->act[i].high + 1,
                    .mask = spec->act[i].mask[0] ? m4n_spec_obs(spec, spec->act[i].mask) : NULL};
  *self = r;
  return M4N_OK;
}

static void begin(void *self, const m4n_start *rows, int n) {
  random_policy *r = self;
  for (int i = 0; i < n; i++) {
    assert(rows[i].slot >= 0 && rows[i].slot < r->slots);
    r->rng[rows[i].slot] = m4n_rng_make(rows[i].seed, (uint64_t)rows[i].episode, M4N_RNG_ACTION);
  }
}

/* The mask of a row and how many choices it speaks of; what lies behind them is not allowed. */
static const uint8_t *mask_of(const component *c, const uint8_t *row, uint32_t *stated) {
  const m4n_field *mask = c->mask;
  const uint8_t *at = row + mask->offset;
  *stated = mask->count;
  if (mask->rank > 0 && mask->shape[0] == -1) {
    uint32_t rows;
    memcpy(&rows, at, sizeof rows);
    uint32_t width = mask->count / (uint32_t)mask->max_rows;
    *stated = rows < (uint32_t)mask->max_rows ? rows * width : mask->count;
    at += 8;
  }
  if (*stated > c->choices) *stated = c->choices;
  return at;
}

/* Draws one component; `share` is set to the probability of each allowed choice. Nothing allowed: choice 0. */
static int32_t draw(const component *c, const uint8_t *row, m4n_rng *rng, double *share) {
  uint32_t stated = c->choices, allowed = c->choices;
  const uint8_t *mask = NULL;
  if (c->mask) {
    mask = mask_of(c, row, &stated);
    allowed = 0;
    for (uint32_t i = 0; i < stated; i++) allowed += mask[i] != 0;
  }
  *share = allowed ? 1.0 / allowed : 1;
  if (!allowed) return 0;
  uint32_t wanted = m4n_rng_below(rng, allowed);
  if (!mask) return (int32_t)wanted;
  uint32_t i = 0;
  for (;; i++)
    if (mask[i] && wanted-- == 0) return (int32_t)i;
}

static void fill_distribution(const component *c, const uint8_t *row, double share, int32_t chosen,
                              float *out) {
  uint32_t stated = c->choices;
  const uint8_t *mask = c->mask ? mask_of(c, row, &stated) : NULL;
  for (uint32_t i = 0; i < c->choices; i++) out[i] = i < stated && (!mask || mask[i]) ? (float)share : 0;
  if (share == 1) out[chosen] = 1; // a single choice, allowed or not
}

static void decide(void *self, const m4n_batch *batch, m4n_decisions *out) {
  random_policy *r = self;
  for (int i = 0; i < batch->n; i++) {
    assert(batch->slot[i] >= 0 && batch->slot[i] < r->slots);
    const uint8_t *row = batch->obs + (size_t)i * r->obs_size;
    uint8_t *action = out->action + (size_t)i * r->act_size;
    memset(action, 0, r->act_size);
    double logp = 0;
    for (int k = 0; k < r->n; k++) {
      const component *c = &r->component[k];
      double share;
      int32_t chosen = draw(c, row, &r->rng[batch->slot[i]], &share);
      memcpy(action + c->action, &chosen, sizeof chosen);
      logp += log(share);
      if (k == 0 && out->distribution)
        fill_distribution(c, row, share, chosen, out->distribution + (size_t)i * c->choices);
    }
    if (out->logp) out->logp[i] = (float)logp;
    if (out->value) out->value[i] = 0;
  }
}

static void close_random(void *self) {
  random_policy *r = self;
  if (!r) return;
  free(r->rng);
  free(r);
}

const m4n_policy_kind m4n_policy_random = {.name = "random",
                                           .summary = "uniform over the choices that are allowed",
                                           .open = open_random,
                                           .begin = begin,
                                           .decide = decide,
                                           .close = close_random};
