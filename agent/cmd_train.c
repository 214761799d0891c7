// mamba4net train: from experience to a distilled student and its report.
#include <stdio.h>

#include "agent/commands.h"
#include "agent/options.h"
#include "agent/scenario_keys.h"
#include "agent/training.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "train", "SCENARIO",
    "Runs the stages of learning that the scenario needs, one after another, in one folder:\n"
    "  expert    a policy trained by PPO in the simulator     model/expert.safetensors\n"
    "  collect   episodes of behaviour policies               collect/events.bin\n"
    "  adapt     a Transformer teacher                        model/teacher.safetensors\n"
    "  reuse     a Mamba student that has its weights         model/student-start.safetensors\n"
    "  label     the teacher's (or others') answers           label/labels.safetensors\n"
    "  distil    the student                                  model/student.safetensors\n"
    "  tune      the student, by PPO in the simulator         model/tuned.safetensors\n"
    "  evaluate  everybody on traces nobody has seen          events.bin, report.html, …\n"
    "A stage whose outputs are there, made with these options and from these inputs, is skipped; what was\n"
    "interrupted (even by kill -9) or deleted goes on with --out DIR --resume. Loss and agreement are in\n"
    "adapt/train.csv, distil/train.csv and tune/train.csv.\n",
    0, 1};

int m4n_cmd_train(int argc, char **argv) {
  m4n_option_list sets = {0}, stages = {0};
  const char *out = NULL, *seed = NULL, *device = NULL;
  int64_t threads = 0, lanes = 0;
  bool resume = false, external = false, json = false, quiet = false, help_keys = false;
  const m4n_option options[] = {
      {"stage", "S", "this stage alone; may stand several times", M4N_OPTION_LIST, &stages, 0, 0},
      {"resume", NULL, "go on with what is in --out", M4N_OPTION_FLAG, &resume, 0, 0},
      {"out", "DIR", "folder of the training (default: runs/<name>-<UTC time>)", M4N_OPTION_TEXT, &out, 0, 0},
      M4N_OPTION_SET(&sets),
      {"seed", "N", "the same as --set seed=N", M4N_OPTION_TEXT, &seed, 0, 0},
      M4N_OPTION_THREADS(&threads),
      M4N_OPTION_DEVICE(&device),
      {"external", NULL, "simulators connect to bridge.endpoint (mamba4net sim --stay); none plays here",
       M4N_OPTION_FLAG, &external, 0, 0},
      {"lanes", "N", "with --external: lanes of all simulators together (default: 1024)", M4N_OPTION_INT,
       &lanes, 1, M4N_MAX_LANES},
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
  if (!arguments.n) return m4n_fail(M4N_EARG, "expected a SCENARIO (see mamba4net train --help)");
  if ((resume || stages.n) && !out)
    return m4n_fail(M4N_EARG, "--resume and --stage need --out DIR (see mamba4net train --help)");
  if (lanes && !external) return m4n_fail(M4N_EARG, "--lanes belongs to --external; else it is bridge.lanes");
  M4N_TRY(m4n_options_device(&device));
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);

  m4n_scenario *scenario;
  M4N_TRY(m4n_options_scenario(&scenario, arguments.item[0], &sets, seed));
  const m4n_training_options training = {.scenario = scenario,
                                         .out = out,
                                         .resume = resume,
                                         .stage = stages.item,
                                         .n_stages = stages.n,
                                         .device = device,
                                         .threads = (int)threads,
                                         .external = external,
                                         .lanes = (int)lanes,
                                         .json = json};
  int status = m4n_training_run(&training, &m4n_interrupted);
  m4n_scenario_free(scenario);
  return status;
}
