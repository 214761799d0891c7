/* An adaptive-bitrate rule and what makes a policy of it.
 *
 * A rule is one function from what a client sees to a level, with a few bytes of memory a lane. Its file
 * exports one symbol, a policy kind built with M4N_RULE; everything that rules share (fields of the spec,
 * memory of the lanes, batches, threads) is in rule.c.
 *
 *     static int level(const m4n_abr_constants *c, const void *plan, void *memory, const m4n_abr_view *view) {
 *       return view->buffer < 10 ? 0 : c->levels - 1;
 *     }
 *     static const m4n_rule rule = {.needs = M4N_NEED_BUFFER, .level = level};
 *     const m4n_policy_kind m4n_policy_careful = M4N_RULE("careful", "lowest below 10 s of buffer, else highest", rule);
 */
#ifndef M4N_AGENT_RULES_RULE_H
#define M4N_AGENT_RULES_RULE_H

#include "agent/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a rule reads of a simulator. One that lacks it is refused by name. */
enum m4n_rule_need {
  M4N_NEED_THROUGHPUT = 1,
  M4N_NEED_BUFFER = 2,
  M4N_NEED_LAST_LEVEL = 4,
  M4N_NEED_NEXT_SIZES = 8,
  M4N_NEED_CHUNKS_LEFT = 16,
  M4N_NEED_LADDER = 32, /* constants from here on */
  M4N_NEED_CHUNKS = 64,
  M4N_NEED_CHUNK_SECONDS = 128,
  M4N_NEED_QOE = 256
};

/* The spec's constants; only what the rule needs is set. */
typedef struct m4n_abr_constants {
  int levels;                         /* 1 … 16: choices of the action */
  int number;                         /* the 3 of "level-3"; -1 for a rule without one */
  double ladder[M4N_ABR_MAX_LEVELS];  /* kbit/s, positive and rising */
  double chunks;                      /* of an episode, the forced first one included */
  double chunk_s;                     /* positive */
  double utility[M4N_ABR_MAX_LEVELS]; /* QoE: what a chunk at the level pays, */
  double rebuffer, smooth; /* what a second of rebuffering and a unit of change cost; not negative */
} m4n_abr_constants;

/* One lane's observation; only what the rule needs is set. */
typedef struct m4n_abr_view {
  const double *throughput; /* [8] MB/s, oldest first, 0 where there is none */
  const double *next_sizes; /* [5][levels] bytes */
  double buffer;            /* s */
  int last_level;           /* 0 … levels-1 */
  double chunks_left;
} m4n_abr_view;

typedef struct m4n_rule {
  uint32_t needs;     /* m4n_rule_need bits */
  size_t plan_size;   /* bytes that prepare fills once and every decision reads */
  size_t memory_size; /* bytes a lane, zero at the start of an episode */
  int slow; /* 1: a decision takes long enough (a microsecond) for small batches to be spread over threads */
  int (*prepare)(void *plan, const m4n_abr_constants *constants); /* may refuse; NULL: nothing to prepare */
  int (*level)(const m4n_abr_constants *constants, const void *plan, void *memory, const m4n_abr_view *view);
} m4n_rule;

int m4n_rule_open(void **self, const m4n_policy_setup *setup);
void m4n_rule_begin(void *self, const m4n_start *rows, int n);
void m4n_rule_decide(void *self, const m4n_batch *batch, m4n_decisions *out);
void m4n_rule_close(void *self);

#define M4N_RULE(NAME, SUMMARY, RULE)                                                                        \
  {                                                                                                          \
    .name = NAME, .summary = SUMMARY, .open = m4n_rule_open, .begin = m4n_rule_begin,                        \
    .decide = m4n_rule_decide, .close = m4n_rule_close, .detail = &(RULE)                                    \
  }

/* The same for a name that a number follows: "level-" stands for level-0, level-1, … */
#define M4N_NUMBERED_RULE(NAME, SUMMARY, RULE)                                                               \
  {                                                                                                          \
    .name = NAME, .summary = SUMMARY, .match = M4N_MATCH_NUMBERED, .open = m4n_rule_open,                    \
    .begin = m4n_rule_begin, .decide = m4n_rule_decide, .close = m4n_rule_close, .detail = &(RULE)           \
  }

#ifdef __cplusplus
}
#endif
#endif
