/* Scenario files: YAML, read through libcyaml's schema into these structs; everything unknown, mistyped or
 * out of range is refused with file, line, key and what was expected.
 *
 *     m4n_scenario *s;
 *     const char *sets[] = {"abr.test.traces=my/traces"};
 *     M4N_TRY(m4n_scenario_load(&s, "scenarios/abr-baselines.yaml", sets, 1));
 *     …
 *     m4n_scenario_free(s);
 *
 * The keys, with meaning, range and default, are the table in scenario_keys.c; `mamba4net run --help-keys`
 * prints it.
 */
#ifndef M4N_AGENT_SCENARIO_H
#define M4N_AGENT_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/learn/expert_options.h"
#include "agent/learn/stages.h"
#include "sim/abr/options.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_LABEL_NONE = 100 }; /* label.by: beside those of stages.h */

enum m4n_delay_kind { M4N_DELAY_ZERO, M4N_DELAY_FIXED, M4N_DELAY_MEASURED };

typedef struct m4n_scenario {
  const char *path;   /* as given */
  const char *folder; /* that it lies in */
  const char *name, *task;
  uint64_t seed;
  m4n_abr_options abr;   /* paths resolved; of the task abr */
  int n_scale[M4N_SETS]; /* 0 or 2: items of abr.set[].scale that were given */
  /* What is learned from whom. Of the stages' options only what keys say is set here: no files, no surroundings. */
  struct {
    const char *preset, *base;
    const char *checkpoint, *context, *weights;
    double target;
    struct {
      int rank;
      double alpha, dropout;
      const char **targets;
      int n_targets;
    } lora;
  } teacher;
  struct {
    const char *preset;
    int mamba_layers, attention_layers; /* -1: the preset's */
    const char *checkpoint, *context, *weights;
    double target;
  } student;
  struct {
    const char *checkpoint;
    m4n_expert_options ppo; /* steps 0: there is none */
  } expert;
  struct {
    const char **policies;
    int n_policies;
    const double *shares; /* [n_shares]; n_shares 0: all alike */
    int n_shares;
    int64_t episodes;
    bool together, advice;
  } collect;
  m4n_adapt_options adapt;
  struct {
    int by;             /* enum m4n_labeller or M4N_LABEL_NONE */
    const char *expert; /* a policy's name; NULL: the expert */
    int stride, batch;
  } label;
  struct {
    const char *mode;
  } reuse;
  m4n_distil_options distil;
  struct {
    const char *checkpoint;
    m4n_tune_options ppo; /* fit.steps 0: the student is not tuned */
  } tune;
  struct {
    const char **variants; /* "name key=value key=value" */
    int n_variants, seeds;
    const char *policy; /* NULL: the student */
  } ablation;
  struct {
    const char **policies;
    int n_policies;
    int episodes; /* 0: all */
    int set;      /* m4n_set, test by default */
    struct {
      int kind;  /* m4n_delay_kind */
      double ms; /* FIXED */
    } delay;
  } evaluate;
  struct {
    const char *endpoint; /* inproc, ipc, tcp or a URI */
    int lanes;
    bool lockstep;                             /* mode: lockstep (default) or async */
    int connect_ms, first_ms, act_ms, resends; /* the simulator's patience */
    int idle_ms, wait_ms; /* the agent's: with a silent simulator, and with nobody there */
    const char *fallback; /* policy that answers when the policy's decision is late; NULL: none */
    int decide_ms;        /* late is what takes longer than this */
  } bridge;
  const char *resolved; /* the YAML with every default written out and paths absolute, for the run's folder */
} m4n_scenario;

/* `sets` are "a.b=c" and win over the file: lists as "[x, y]" or, but for paths, "x,y"; text as it stands, without
 * quotes.
 * Paths in the file are relative to the file's folder, paths in `sets` to the working directory; both may
 * begin with "demo:", the folder of the demo data that the build made.
 * ENOTFOUND or EIO: no such file. EFORMAT, EARG: refused, with line and key. */
int m4n_scenario_load(m4n_scenario **scenario, const char *path, const char *const *sets, int n_sets);
/* The same from text; `path` is for messages and for relative paths. What the fuzzer calls. */
int m4n_scenario_parse(m4n_scenario **scenario, const char *path, const char *text, size_t size,
                       const char *const *sets, int n_sets);
void m4n_scenario_free(m4n_scenario *scenario);

/* Shows every key that begins with `prefix`, with its n values as resolved (a list's items; 1 otherwise), until `see`
 * returns a status, which is then returned. For whoever wants to know what a scenario says without a struct's members. */
struct m4n_key;
int m4n_scenario_each(const m4n_scenario *scenario, const char *prefix,
                      int (*see)(void *self, const struct m4n_key *key, const char *const *value, int n),
                      void *self);

#ifdef __cplusplus
}
#endif
#endif
