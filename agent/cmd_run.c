// mamba4net run: agent and simulator in one process, as two threads that talk over the bridge.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/evaluation.h"
#include "agent/options.h"
#include "agent/scenario_keys.h"
#include "agent/simulator.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "run", "SCENARIO",
    "Plays every policy of the scenario on every trace of its set, agent and simulator in this\n"
    "process, and writes the run's folder: scenario.yaml (as resolved), events.bin (every\n"
    "observation, action and reward), episodes.csv, summary.json, report.html, log.jsonl.\n"
    "The table goes to standard output.\n"
    "\n"
    "The results depend on the scenario and its seed alone, not on threads, lanes or endpoint.\n"
    "Interrupted, the run leaves what it recorded so far in events.bin, for `mamba4net report`.\n",
    0, 1};

typedef struct player {
  m4n_simulator simulator;
  const m4n_scenario *scenario;
  const char *endpoint;
  void *context;
  int status;
  bool told; // to stop, before it ended
  m4n_error error;
} player;

static void *play(void *self) {
  player *p = self;
  p->status = m4n_simulator_play(&p->simulator, p->scenario, p->endpoint, p->context, &m4n_interrupted);
  p->told = m4n_stop_requested(&m4n_interrupted);
  p->error = *m4n_last_error();
  if (p->status) m4n_stop_request(&m4n_interrupted); // nobody else will come: the server need not wait
  return NULL;
}

static int run_both(const m4n_evaluation_options *options, player *p) {
  m4n_evaluation evaluation;
  pthread_t thread;
  M4N_TRY(m4n_evaluation_open(&evaluation, options));
  p->endpoint = m4n_server_endpoint(evaluation.server);
  p->context = m4n_server_context(evaluation.server);
  if (pthread_create(&thread, NULL, play, p))
    return m4n_evaluation_close(&evaluation, m4n_fail(M4N_ENOMEM, "cannot start the simulator's thread"));
  int status = m4n_evaluation_serve(&evaluation, &m4n_interrupted);
  m4n_error why = *m4n_last_error();
  if (status) m4n_stop_request(&m4n_interrupted);
  pthread_join(thread, NULL);
  // The server stops when told to; if no signal did, it was for what happened to the simulator.
  if (p->status && !p->told && status == M4N_ECANCELLED) {
    status = p->status;
    why = p->error;
  }
  if (status) m4n_set_error(&why);
  return m4n_evaluation_close(&evaluation, status);
}

int m4n_cmd_run(int argc, char **argv) {
  m4n_option_list sets = {0};
  const char *out = NULL, *seed = NULL;
  int64_t threads = 0;
  bool json = false, quiet = false, help_keys = false;
  const m4n_option options[] = {
      {"set", "KEY=VALUE", "override a key of the scenario; may stand several times", M4N_OPTION_LIST, &sets,
       0, 0},
      {"out", "DIR", "folder of the run (default: runs/<name>-<UTC time>)", M4N_OPTION_TEXT, &out, 0, 0},
      {"seed", "N", "the same as --set seed=N", M4N_OPTION_TEXT, &seed, 0, 0},
      {"threads", "N", "threads (default: one a processor)", M4N_OPTION_INT, &threads, 1, 256},
      {"json", NULL, "summary.json on standard output in place of the table", M4N_OPTION_FLAG, &json, 0, 0},
      {"quiet", NULL, "no progress, only warnings", M4N_OPTION_FLAG, &quiet, 0, 0},
      {"help-keys", NULL, "every key of a scenario: meaning, values, default", M4N_OPTION_FLAG, &help_keys, 0,
       0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (help_keys) {
    m4n_key_print(stdout, false);
    return M4N_OK;
  }
  if (!arguments.n) return m4n_fail(M4N_EARG, "expected a SCENARIO (see mamba4net run --help)");
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);

  m4n_scenario *scenario;
  char *endpoint = NULL;
  M4N_TRY(m4n_options_scenario(&scenario, arguments.item[0], &sets, seed));
  player p = {.scenario = scenario};
  int status = m4n_endpoint_resolve(&endpoint, scenario->bridge.endpoint);
  if (!status) status = m4n_simulator_open(&p.simulator, scenario, (int)threads);
  if (!status) {
    const m4n_evaluation_options evaluation = {.scenario = scenario,
                                               .endpoint = endpoint,
                                               .slots = scenario->bridge.lanes,
                                               .out = out,
                                               .threads = (int)threads,
                                               .json = json,
                                               .spec = m4n_vec_spec(p.simulator.vec)};
    status = run_both(&evaluation, &p);
  }
  m4n_simulator_close(&p.simulator);
  m4n_scenario_free(scenario);
  free(endpoint);
  return status;
}
