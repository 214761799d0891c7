/* A scenario's simulated world with its lanes, ready to play against an agent: what `run` and `sim` share.
 *
 *     m4n_simulator simulator;
 *     M4N_TRY(m4n_simulator_open(&simulator, scenario, 64, threads));
 *     int status = m4n_simulator_play(&simulator, scenario, endpoint, NULL, &m4n_interrupted);
 *     m4n_simulator_close(&simulator);
 */
#ifndef M4N_AGENT_SIMULATOR_H
#define M4N_AGENT_SIMULATOR_H

#include "agent/scenario.h"
#include "bridge/client.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_simulator {
  const m4n_task *task;
  m4n_world *world;
  m4n_pool *pool;
  m4n_vec *vec;
  m4n_client_stats stats; /* of the last play */
} m4n_simulator;

/* The world that the scenario describes; what its files have wrong is said with file and line. */
int m4n_simulator_world(const m4n_task **task, m4n_world **world, const m4n_scenario *scenario);

/* `lanes` episodes at once; threads 0: one a processor. */
int m4n_simulator_open(m4n_simulator *simulator, const m4n_scenario *scenario, int lanes, int threads);
/* Until the agent has enough (see m4n_client_run). `context` as there. */
int m4n_simulator_play(m4n_simulator *simulator, const m4n_scenario *scenario, const char *endpoint,
                       void *context, const m4n_stop *stop);
void m4n_simulator_close(m4n_simulator *simulator); /* harmless on a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
