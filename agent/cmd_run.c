// mamba4net run: agent and simulator in one process, as two threads that talk over the bridge.
#include <stdio.h>
#include <stdlib.h>

#include "agent/commands.h"
#include "agent/evaluation.h"
#include "agent/models.h"
#include "agent/options.h"
#include "agent/scenario_keys.h"
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

static int run(const m4n_scenario *scenario, const char *endpoint, const char *out, int threads,
               const char *device, bool json) {
  m4n_simulator simulator;
  m4n_evaluation evaluation;
  M4N_TRY(m4n_simulator_open(&simulator, scenario, scenario->bridge.lanes, threads));
  const m4n_evaluation_options options = {.scenario = scenario,
                                          .endpoint = endpoint,
                                          .slots = scenario->bridge.lanes,
                                          .out = out,
                                          .threads = threads,
                                          .device = device,
                                          .json = json,
                                          .simulator = &simulator};
  int status = m4n_evaluation_open(&evaluation, &options);
  if (!status)
    status = m4n_evaluation_close(&evaluation, m4n_evaluation_serve(&evaluation, &m4n_interrupted));
  m4n_simulator_close(&simulator);
  return status;
}

int m4n_cmd_run(int argc, char **argv) {
  m4n_option_list sets = {0};
  const char *out = NULL, *seed = NULL, *device = NULL;
  int64_t threads = 0;
  bool json = false, quiet = false, help_keys = false;
  const m4n_option options[] = {
      M4N_OPTION_SET(&sets),
      {"out", "DIR", "folder of the run (default: runs/<name>-<UTC time>)", M4N_OPTION_TEXT, &out, 0, 0},
      {"seed", "N", "the same as --set seed=N", M4N_OPTION_TEXT, &seed, 0, 0},
      M4N_OPTION_THREADS(&threads),
      M4N_OPTION_DEVICE(&device),
      M4N_OPTION_JSON(&json),
      M4N_OPTION_QUIET(&quiet),
      M4N_OPTION_HELP_KEYS(&help_keys)};
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
  M4N_TRY(m4n_options_device(&device));
  M4N_TRY(m4n_models_scenario(&scenario, arguments.item[0], &sets, seed));
  int status = m4n_endpoint_resolve(&endpoint, scenario->bridge.endpoint);
  if (!status) status = run(scenario, endpoint, out, (int)threads, device, json);
  m4n_scenario_free(scenario);
  free(endpoint);
  return status;
}
