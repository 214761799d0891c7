/* Scenario files: YAML, read through libcyaml's schema into these structs; everything unknown, mistyped or
 * out of range is refused with file, line, key and what was expected.
 *
 *     m4n_scenario *s;
 *     M4N_TRY(m4n_scenario_load(&s, "scenarios/abr-baselines.yaml", sets, n_sets));   // sets:
 * "abr.test.traces=my/traces" … m4n_scenario_free(s);
 */
#ifndef M4N_AGENT_SCENARIO_H
#define M4N_AGENT_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/abr/options.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_delay_kind { M4N_DELAY_ZERO, M4N_DELAY_FIXED, M4N_DELAY_MEASURED };

typedef struct m4n_scenario {
  const char *path; /* as given */
  const char *name, *task;
  uint64_t seed;
  m4n_abr_options abr; /* paths resolved */
  struct {
    const char **policies;
    int n_policies;
    int episodes; /* 0: all */
    int set;      /* m4n_set, test by default */
    struct {
      int kind;  /* m4n_delay_kind */
      double ms; /* FIXED */
    } delay;
    bool record; /* write events.bin; default true */
  } evaluate;
  struct {
    const char *endpoint; /* inproc, ipc, tcp or a URI */
    int lanes;
    bool lockstep; /* mode: lockstep (default) or async */
    int connect_ms, first_ms, act_ms, resends, idle_ms;
    const char *fallback; /* policy that answers when the policy's decision is late; NULL: none */
  } bridge;
  const char *resolved; /* the YAML as resolved, with defaults, for the run's folder */
} m4n_scenario;

int m4n_scenario_load(m4n_scenario **scenario, const char *path, const char *const *sets, int n_sets);
/* The same from text; `path` is for messages and for relative paths. What the fuzzer calls. */
int m4n_scenario_parse(m4n_scenario **scenario, const char *path, const char *text, size_t size,
                       const char *const *sets, int n_sets);
void m4n_scenario_free(m4n_scenario *scenario);

#ifdef __cplusplus
}
#endif
#endif
