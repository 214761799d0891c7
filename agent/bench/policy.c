// Decisions a second of the rules, on rows as streaming clients meet them.
//
// The rows come from 64 clients in closed loop: robust-mpc chooses, each link's rate wanders around 1.3 Mbit/s as
// broadband and 3G traces do, and the buffer follows. Every rule then answers the same rows, 64 at a time, so that
// the figures do not depend on what a rule makes of its own world.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/bench/bench.h"
#include "agent/policy.h"
#include "agent/rules/estimate.h"
#include "agent/rules/mpc_rule.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

enum { LANES = 64, CHUNKS = 48, STEPS = CHUNKS - 1, LEVELS = 6 };
static const double ladder[LEVELS] = {300, 750, 1200, 1850, 2850, 4300};
static const double chunk_s = 4, rtt_s = 0.08, cap_s = 60, rebuffer = 4.3, smooth = 1;
static const double mean_mbps = 1.3, persistence = 0.9,
                    spread = 0.3;  // of a link's rate, its logarithm by chunk
static const double least_s = 0.3; // measured at least so long

/* An observation; make_spec declares the fields in this order. */
typedef struct row {
  double throughput[M4N_ABR_HISTORY], buffer, last_level, chunks_left;
  double next_sizes[M4N_ABR_LOOKAHEAD][LEVELS];
} row;

typedef struct client {
  m4n_rng rng;
  double wander; /* logarithm of the link's rate over its mean */
  double size[CHUNKS + M4N_ABR_LOOKAHEAD][LEVELS];
  row now;
} client;

typedef struct scene {
  m4n_spec spec;
  client client[LANES];
  row row[STEPS][LANES];
  int32_t slot[LANES], action[LANES][2];
} scene;

static int make_spec(m4n_spec *spec) {
  double utility[LEVELS], chunks = CHUNKS;
  for (int l = 0; l < LEVELS; l++) utility[l] = ladder[l] / 1000;
  *spec = (m4n_spec){.task = "abr", .reward = "qoe-linear 4.3 1.0"};
  m4n_spec_add_obs(spec, M4N_ABR_THROUGHPUT, M4N_F64, "MB/s", 0, HUGE_VAL, 1, M4N_ABR_HISTORY);
  m4n_spec_add_obs(spec, M4N_ABR_BUFFER, M4N_F64, "s", 0, HUGE_VAL, 0);
  m4n_spec_add_obs(spec, M4N_ABR_LAST_LEVEL, M4N_F64, "index", 0, LEVELS - 1, 0);
  m4n_spec_add_obs(spec, M4N_ABR_CHUNKS_LEFT, M4N_F64, "chunks", 0, CHUNKS, 0);
  m4n_spec_add_obs(spec, M4N_ABR_NEXT_SIZES, M4N_F64, "byte", 0, HUGE_VAL, 2, M4N_ABR_LOOKAHEAD, LEVELS);
  m4n_spec_add_choice(spec, "level", LEVELS);
  m4n_spec_add_constant(spec, M4N_ABR_LADDER, LEVELS, ladder);
  m4n_spec_add_constant(spec, M4N_ABR_UTILITY, LEVELS, utility);
  m4n_spec_add_constant(spec, M4N_ABR_CHUNKS, 1, &chunks);
  m4n_spec_add_constant(spec, M4N_ABR_CHUNK_SECONDS, 1, &chunk_s);
  m4n_spec_add_constant(spec, M4N_ABR_REBUFFER, 1, &rebuffer);
  m4n_spec_add_constant(spec, M4N_ABR_SMOOTH, 1, &smooth);
  return m4n_spec_layout(spec);
}

/* Downloads `chunk` at `level`; what the client sees then is in `now`. */
static void fetch(client *c, int chunk, int level) {
  row *r = &c->now;
  c->wander = persistence * c->wander + spread * m4n_rng_normal(&c->rng);
  double bytes = c->size[chunk][level];
  double delay = bytes * 8 / (1e6 * mean_mbps * exp(c->wander)) + rtt_s;
  memmove(r->throughput, r->throughput + 1, sizeof r->throughput - sizeof *r->throughput);
  r->throughput[M4N_ABR_HISTORY - 1] = bytes / delay / 1e6;
  r->buffer = fmin(fmax(r->buffer - delay, 0) + chunk_s, cap_s);
  r->last_level = level;
  r->chunks_left = CHUNKS - (chunk + 1);
  memcpy(r->next_sizes, c->size[chunk + 1], sizeof r->next_sizes);
}

static void prepare_client(client *c, int lane) {
  c->rng = m4n_rng_make(1, (uint64_t)lane, M4N_RNG_GENERATE);
  for (int chunk = 0; chunk < CHUNKS; chunk++) {
    double content = 0.8 + 0.4 * m4n_rng_uniform(&c->rng); // how much there is to see
    for (int l = 0; l < LEVELS; l++) c->size[chunk][l] = floor(ladder[l] * 125 * chunk_s * content);
  }
  fetch(c, 0, 0);
}

static void begin(const m4n_policy *policy, const scene *s) {
  for (int lane = 0; lane < LANES; lane++)
    policy->kind->begin(policy->self, &(m4n_start){.slot = s->slot[lane], .episode = lane, .seed = 1}, 1);
}

static void decide(const m4n_policy *policy, scene *s, int step) {
  m4n_batch batch = {.n = LANES, .slot = s->slot, .obs = (const uint8_t *)s->row[step]};
  policy->kind->decide(policy->self, &batch, &(m4n_decisions){.action = (uint8_t *)s->action});
}

static int play_scene(scene *s) {
  M4N_TRY(make_spec(&s->spec));
  m4n_policy policy;
  M4N_TRY(m4n_policy_open(&policy, "robust-mpc", &(m4n_policy_setup){.spec = &s->spec, .slots = LANES}));
  for (int lane = 0; lane < LANES; lane++) {
    s->slot[lane] = lane;
    prepare_client(&s->client[lane], lane);
  }
  begin(&policy, s);
  for (int step = 0; step < STEPS; step++) {
    for (int lane = 0; lane < LANES; lane++) s->row[step][lane] = s->client[lane].now;
    decide(&policy, s, step);
    for (int lane = 0; lane < LANES; lane++) fetch(&s->client[lane], step + 1, s->action[lane][0]);
  }
  m4n_policy_close(&policy);
  return M4N_OK;
}

/* The best of many passes over all rows, as decisions a second. */
static double best_rate(void (*pass)(void *), void *self) {
  double best = HUGE_VAL;
  for (double start = m4n_bench_clock(), now = start; now - start < least_s;) {
    pass(self);
    double end = m4n_bench_clock();
    best = fmin(best, end - now);
    now = end;
  }
  return STEPS * LANES / best;
}

typedef struct policy_pass {
  scene *scene;
  m4n_policy policy;
} policy_pass;

static void pass_policy(void *self) {
  policy_pass *p = self;
  begin(&p->policy, p->scene);
  for (int step = 0; step < STEPS; step++) decide(&p->policy, p->scene, step);
}

/* robust-mpc without the policy around it, planning by `plan`. */
typedef struct planner_pass {
  const scene *scene;
  m4n_mpc_qoe qoe;
  int (*plan)(const m4n_mpc_problem *problem);
  volatile int level; /* keeps the compiler from leaving a plan out */
} planner_pass;

static int plan_every_one(const m4n_mpc_problem *problem) {
  return m4n_mpc_enumerate(problem, LEVELS);
}

static int plan_only_one(const m4n_mpc_problem *problem) {
  return m4n_mpc_enumerate(problem, 0); // steps of 0: the plan that stays where it is
}

static void pass_planner(void *self) {
  planner_pass *p = self;
  m4n_robust memories[LANES] = {0};
  for (int step = 0; step < STEPS; step++)
    for (int lane = 0; lane < LANES; lane++) {
      const row *r = &p->scene->row[step][lane];
      m4n_abr_view view = {.throughput = r->throughput,
                           .next_sizes = &r->next_sizes[0][0],
                           .buffer = r->buffer,
                           .last_level = (int)r->last_level,
                           .chunks_left = r->chunks_left};
      double rate = m4n_robust_estimate(&memories[lane], view.throughput, 0);
      m4n_mpc_problem problem = m4n_mpc_problem_make(&p->qoe, &view, rate);
      p->level = p->plan(&problem);
    }
}

static double planner_rate(const scene *s, int (*plan)(const m4n_mpc_problem *problem)) {
  planner_pass p = {.scene = s, .plan = plan};
  double utility[LEVELS];
  for (int l = 0; l < LEVELS; l++) utility[l] = ladder[l] / 1000;
  p.qoe = m4n_mpc_qoe_make(LEVELS, utility, rebuffer, smooth, chunk_s);
  return best_rate(pass_planner, &p);
}

static int measure(scene *s) {
  for (int i = 0; m4n_policy_at(i); i++) {
    const m4n_policy_kind *kind = m4n_policy_at(i);
    // Of an oracle the simulator does the work; models have a benchmark of their own.
    if (kind->wants_advice || kind->match >= M4N_MATCH_MODEL) continue;
    const char *name = kind->match == M4N_MATCH_NUMBERED ? "level-3" : kind->name;
    policy_pass p = {.scene = s};
    M4N_TRY(m4n_policy_open(&p.policy, name, &(m4n_policy_setup){.spec = &s->spec, .slots = LANES}));
    double rate = best_rate(pass_policy, &p);
    m4n_policy_close(&p.policy);
    double limit = strcmp(name, "robust-mpc") ? 0 : planner_rate(s, plan_only_one);
    m4n_bench_emit(&(m4n_bench_result){"policy", name, rate, "decisions/s", limit});
  }
  m4n_bench_emit(&(m4n_bench_result){"policy", "robust-mpc-enumerated", planner_rate(s, plan_every_one),
                                     "decisions/s", 0});
  return M4N_OK;
}

int m4n_bench_policy(void) {
  scene *s = calloc(1, sizeof *s);
  if (!s) return m4n_fail(M4N_ENOMEM, "no memory for the benchmark's rows");
  int status = play_scene(s);
  if (!status) status = measure(s);
  free(s);
  return status;
}
