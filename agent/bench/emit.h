/* How the benchmarks tell their figures, and the clock they take them with. */
#ifndef M4N_AGENT_BENCH_EMIT_H
#define M4N_AGENT_BENCH_EMIT_H

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
/* The same with the time of one call beside the rate, "us". */
void m4n_bench_emit_call(const m4n_bench_result *result, double us);
void m4n_bench_json(bool on); /* off at start */

/* Seconds of a monotonic clock. */
double m4n_bench_clock(void);

#ifdef __cplusplus
}
#endif
#endif
