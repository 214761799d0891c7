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
 * Most values are rates, and share = value / limit says how much of the possible is reached; where the unit is a time,
 * share = limit / value says the same. Measure the best of several passes: whatever else runs on a machine only ever slows
 * one down.
 */
#ifndef M4N_AGENT_BENCH_BENCH_H
#define M4N_AGENT_BENCH_BENCH_H

#include "agent/bench/emit.h"
#include "agent/bench/kernels.h"
#include "agent/scenario.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The world that is played: abr on the demo data, or on traces and a video of the user's (NULL: demo). `set` is one more
 * override, "bridge.lanes=64"; may be NULL. */
int m4n_bench_scenario(m4n_scenario **scenario, const char *traces, const char *video, const char *set);

/* Steps a second of the abr world on one core, observations written, levels in a cycle. The limit is a plain loop over
 * the same downloads with nothing around it: no task, no reward, no observation. */
int m4n_bench_sim(const char *traces, const char *video);

/* Lane-steps a second through simulator, bridge and agent with a policy that does not think: inproc between threads, ipc
 * between processes, not recording and recording; and the time of a single lane's round trip. The limits are libzmq's
 * own: messages of the same sizes sent to and fro by the same processes, with nothing in them. */
int m4n_bench_bridge(const char *traces, const char *video);

/* Decisions a second of every rule, one core. `robust-mpc` has as its limit the work that no exact planner can
 * leave out: read the row, estimate the rate, work out the download times and value one plan.
 * `robust-mpc-enumerated` is the same rule trying every plan. */
int m4n_bench_policy(void);

#ifdef __cplusplus
}
#endif
#endif
