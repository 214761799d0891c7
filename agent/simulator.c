#include "agent/simulator.h"

#include <string.h>

#include "kernels/base/status.h"

int m4n_simulator_world(const m4n_task **task, m4n_world **world, const m4n_scenario *scenario) {
  *world = NULL;
  *task = m4n_task_find(scenario->task);
  if (!*task) return m4n_fail(M4N_ENOTFOUND, "no task '%s'", scenario->task);
  // A task without options takes none; abr's are the scenario's section.
  return (*task)->world_open(world, strcmp(scenario->task, "abr") ? NULL : &scenario->abr);
}

int m4n_simulator_open(m4n_simulator *simulator, const m4n_scenario *scenario, int lanes, int threads) {
  *simulator = (m4n_simulator){0};
  int status = m4n_simulator_world(&simulator->task, &simulator->world, scenario);
  if (!status) status = m4n_pool_open(&simulator->pool, threads);
  if (!status)
    status = m4n_vec_open(&simulator->vec, simulator->task, simulator->world, lanes, simulator->pool);
  if (status) m4n_simulator_close(simulator);
  return status;
}

int m4n_simulator_play(m4n_simulator *simulator, const m4n_scenario *scenario, const char *endpoint,
                       void *context, const m4n_stop *stop) {
  const m4n_client_options options = {.endpoint = endpoint,
                                      .context = context,
                                      .connect_ms = scenario->bridge.connect_ms,
                                      .first_ms = scenario->bridge.first_ms,
                                      .act_ms = scenario->bridge.act_ms,
                                      .resends = scenario->bridge.resends,
                                      .patient = context != NULL};
  return m4n_client_run(&options, simulator->vec, &simulator->stats, stop);
}

void m4n_simulator_close(m4n_simulator *simulator) {
  m4n_vec_close(simulator->vec);
  if (simulator->world) simulator->task->world_close(simulator->world);
  if (simulator->pool) m4n_pool_close(simulator->pool);
  *simulator = (m4n_simulator){0};
}
