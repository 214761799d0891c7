/* Re-runs a recorded run without the bridge, simulator and policies called directly, and compares every observation,
 * action, reward, figure and flag with the record, bit for bit.
 *
 *     m4n_replay_counts counts;
 *     int status = m4n_replay("runs/x/events.bin", scenario, &models.known, &counts, &m4n_interrupted);   // EDIFFERS: not the same
 */
#ifndef M4N_AGENT_REPLAY_H
#define M4N_AGENT_REPLAY_H

#include "agent/policy.h"
#include "agent/scenario.h"
#include "kernels/base/stop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_replay_counts {
  int64_t episodes, decisions;
  int64_t fallback; /* episodes in which a fallback decided: their actions are taken from the record */
  int64_t lost;     /* episodes that were cut off: replayed as far as they go */
  bool truncated;   /* the log was not closed: episodes may be missing */
} m4n_replay_counts;

/* EDIFFERS names the first difference: policy, episode, step, field, both values. What the clock decided (measured
 * delays, which decisions were late) is taken from the record. */
int m4n_replay(const char *events, const m4n_scenario *scenario, const m4n_policy_models *models,
               m4n_replay_counts *counts, const m4n_stop *stop);

#ifdef __cplusplus
}
#endif
#endif
