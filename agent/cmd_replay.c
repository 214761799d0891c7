// mamba4net replay: is a recorded run what the program gives today?
#include <stdio.h>
#include <stdlib.h>

#include "agent/commands.h"
#include "agent/models.h"
#include "agent/options.h"
#include "agent/replay.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "replay", "DIR",
    "Re-runs every episode of DIR/events.bin as DIR/scenario.yaml describes it, simulator and\n"
    "policies without the bridge, and compares every observation, action, reward, figure and flag\n"
    "bit for bit. Exit status 0 if all are the same; 1 with the first difference: policy, episode,\n"
    "step, field and both values.\n",
    1, 1};

static int replay(const char *folder, const m4n_option_list *sets, const char *device,
                  m4n_replay_counts *counts) {
  char *yaml = m4n_path_join(folder, "scenario.yaml"), *events = m4n_path_join(folder, "events.bin");
  m4n_scenario *scenario = NULL;
  m4n_models models = {0};
  int status = yaml && events ? m4n_options_scenario(&scenario, yaml, sets, NULL)
                              : m4n_fail(M4N_ENOMEM, "no memory for a path");
  if (!status) status = m4n_models_open(&models, scenario, folder, device);
  if (!status) status = m4n_replay(events, scenario, &models.known, counts, &m4n_interrupted);
  m4n_models_close(&models);
  m4n_scenario_free(scenario);
  free(yaml);
  free(events);
  return status;
}

int m4n_cmd_replay(int argc, char **argv) {
  m4n_option_list sets = {0};
  const char *device = "cpu";
  bool quiet = false;
  const m4n_option options[] = {{"set", "KEY=VALUE",
                                 "override a key, as where traces lie; may stand several times",
                                 M4N_OPTION_LIST, &sets, 0, 0},
                                {"device", "D", "where models run: cpu (default), cuda, cuda-tf32 or auto",
                                 M4N_OPTION_TEXT, &device, 0, 0},
                                {"quiet", NULL, "no progress", M4N_OPTION_FLAG, &quiet, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  M4N_TRY(m4n_options_device(&device));
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);
  m4n_replay_counts counts;
  M4N_TRY(replay(arguments.item[0], &sets, device, &counts));
  printf("same: %lld episodes, %lld decisions\n", (long long)counts.episodes, (long long)counts.decisions);
  if (counts.fallback)
    m4n_log(M4N_LOG_WARN, "in %lld episodes a fallback decided: there the actions were taken from the record",
            (long long)counts.fallback);
  if (counts.lost)
    m4n_log(M4N_LOG_WARN, "%lld episodes were lost with their simulators", (long long)counts.lost);
  if (counts.truncated) m4n_log(M4N_LOG_WARN, "the log was not closed: episodes may be missing at its end");
  return M4N_OK;
}
