// mamba4net ablate: what each part of a method is worth.
#include "agent/ablation.h"
#include "agent/commands.h"
#include "agent/scenario_keys.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "ablate", "SCENARIO",
    "Trains the scenario as it is and each of its ablation.variants, with ablation.seeds seeds, and "
    "compares\n"
    "their students in one table: mean, interval, and the difference to the full method episode by episode.\n"
    "What variants have in common (experience, teacher, labels) is made once. --out DIR --resume goes on\n"
    "after an interruption (even by kill -9). DIR/seed-N/VARIANT is a training like any other, with its "
    "report.\n",
    0, 1};

int m4n_cmd_ablate(int argc, char **argv) {
  m4n_option_list sets = {0};
  m4n_ablation_options ablation = {.set = &sets};
  int64_t threads = 0;
  bool quiet = false, help_keys = false;
  const m4n_option options[] = {
      {"resume", NULL, "go on with what is in --out", M4N_OPTION_FLAG, &ablation.resume, 0, 0},
      {"out", "DIR", "folder of the ablation (default: runs/<name>-<UTC time>)", M4N_OPTION_TEXT,
       &ablation.out, 0, 0},
      M4N_OPTION_SET(&sets),
      {"seed", "N", "the first seed", M4N_OPTION_TEXT, &ablation.seed, 0, 0},
      M4N_OPTION_THREADS(&threads),
      M4N_OPTION_DEVICE(&ablation.device),
      M4N_OPTION_QUIET(&quiet),
      M4N_OPTION_HELP_KEYS(&help_keys)};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (help_keys) {
    m4n_key_print(stdout, false);
    return M4N_OK;
  }
  if (!arguments.n) return m4n_fail(M4N_EARG, "expected a SCENARIO (see mamba4net ablate --help)");
  if (ablation.resume && !ablation.out)
    return m4n_fail(M4N_EARG, "--resume needs --out DIR (see mamba4net ablate --help)");
  M4N_TRY(m4n_options_device(&ablation.device));
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);
  ablation.path = arguments.item[0];
  ablation.threads = (int)threads;
  return m4n_ablation_run(&ablation, &m4n_interrupted);
}
