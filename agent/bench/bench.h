/* `mamba4net bench`: figures of this machine, each beside what the machine can do at best in the same run.
 *
 * A group of figures is one function that measures and emits them one by one:
 *
 *     int m4n_bench_sim(void) {
 *       …
 *       m4n_bench_emit(&(m4n_bench_result){"sim", "abr-step", steps / seconds, "steps/s", copies / seconds});
 *       return M4N_OK;
 *     }
 *
 * All values are rates, so that share = value / limit says how much of the possible is reached. Measure the best of
 * several passes: whatever else runs on a machine only ever slows one down.
 */
#ifndef M4N_AGENT_BENCH_BENCH_H
#define M4N_AGENT_BENCH_BENCH_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_bench_result {
  const char *bench; /* the group, "policy" */
  const char *name;  /* "robust-mpc" */
  double value;
  const char *unit; /* "decisions/s" */
  double limit;     /* what the machine can do, in the same unit and the same run; 0: none known */
} m4n_bench_result;

/* Prints one line on standard output: of a table, or an object
 * {"bench", "name", "value", "unit", "limit", "share"} with null for what is not known. */
void m4n_bench_emit(const m4n_bench_result *result);
void m4n_bench_json(bool on); /* off at start */

/* Seconds of a monotonic clock. */
double m4n_bench_clock(void);

/* Decisions a second of every rule, one core. `robust-mpc` has as its limit the work that no exact planner can
 * leave out: read the row, estimate the rate, work out the download times and value one plan.
 * `robust-mpc-enumerated` is the same rule trying every plan. */
int m4n_bench_policy(void);

#ifdef __cplusplus
}
#endif
#endif
