// mamba4net sim: the simulator alone.
#include <stdlib.h>

#include "agent/commands.h"
#include "agent/options.h"
#include "agent/simulator.h"
#include "bridge/server.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "sim", "SCENARIO",
    "Opens the scenario's world and plays it against the agent at bridge.endpoint (mamba4net\n"
    "serve, or anybody who speaks bridge/PROTOCOL.md) until the agent has enough. The agent says\n"
    "which episodes are played.\n",
    1, 1};

// For an agent that plays now and learns then: its address comes and goes.
static int play_again_and_again(m4n_simulator *simulator, const m4n_scenario *scenario, const char *uri) {
  int64_t episodes = 0, steps = 0;
  int status = M4N_OK;
  while (!status) {
    status = m4n_simulator_play(simulator, scenario, uri, NULL, &m4n_interrupted);
    episodes += simulator->stats.episodes, steps += simulator->stats.steps;
    if (status == M4N_ETIMEOUT && !simulator->stats.messages) status = M4N_OK; // nobody is there, yet
  }
  m4n_log(M4N_LOG_INFO, "%lld episodes, %lld steps", (long long)episodes, (long long)steps);
  return status == M4N_ECANCELLED ? M4N_OK : status;
}

int m4n_cmd_sim(int argc, char **argv) {
  m4n_option_list sets = {0};
  const char *endpoint = NULL;
  int64_t lanes = 0, threads = 0;
  bool quiet = false, stay = false;
  const m4n_option options[] = {
      M4N_OPTION_SET(&sets),
      {"endpoint", "E", "ipc (default), tcp or a URI", M4N_OPTION_TEXT, &endpoint, 0, 0},
      {"lanes", "N", "episodes that are played at once (default: bridge.lanes)", M4N_OPTION_INT, &lanes, 1,
       M4N_MAX_LANES},
      M4N_OPTION_THREADS(&threads),
      {"stay", NULL, "connect again when the agent has enough, until SIGINT (for train --external)",
       M4N_OPTION_FLAG, &stay, 0, 0},
      {"quiet", NULL, "only warnings", M4N_OPTION_FLAG, &quiet, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);

  m4n_scenario *scenario;
  char *uri = NULL;
  m4n_simulator simulator = {0};
  M4N_TRY(m4n_options_scenario(&scenario, arguments.item[0], &sets, NULL));
  if (lanes) scenario->bridge.lanes = (int)lanes;
  int status = m4n_options_endpoint(&uri, endpoint, scenario);
  if (!status) status = m4n_simulator_open(&simulator, scenario, scenario->bridge.lanes, (int)threads);
  if (!status && stay) status = play_again_and_again(&simulator, scenario, uri);
  if (!status && !stay) status = m4n_simulator_play(&simulator, scenario, uri, NULL, &m4n_interrupted);
  if (!status && !stay)
    m4n_log(M4N_LOG_INFO, "%lld episodes, %lld steps with '%s'", (long long)simulator.stats.episodes,
            (long long)simulator.stats.steps, simulator.stats.policy);
  m4n_simulator_close(&simulator);
  m4n_scenario_free(scenario);
  free(uri);
  return status;
}
