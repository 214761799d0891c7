// mamba4net bench: what this machine does, beside what it could do.
#include <string.h>

#include "agent/bench/bench.h"
#include "agent/bench/model.h"
#include "agent/commands.h"
#include "agent/options.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "bench", "[GROUP…]",
    "Groups: sim (environment steps), bridge (the loop over ZeroMQ), policy (decisions), model (the\n"
    "students small and paper: passes, training, decisions; a minute), kernels (every op that models\n"
    "compute with); without one, all of them. Every figure is the best of several passes, beside what\n"
    "the machine can do at best in the same run (the limit) and the share of it that is reached. The\n"
    "world is abr on the demo data.\n",
    0, 8};

static const char *traces, *video, *device = "auto";

static int sim(void) {
  return m4n_bench_sim(traces, video);
}

static int bridge(void) {
  return m4n_bench_bridge(traces, video);
}

static int model(void) {
  return m4n_bench_model(device, 0);
}

static int kernels(void) {
  return m4n_bench_kernels(device, 0);
}

static const struct {
  const char *name;
  int (*run)(void);
} groups[] = {
    {"sim", sim}, {"bridge", bridge}, {"policy", m4n_bench_policy}, {"model", model}, {"kernels", kernels}};
enum { GROUPS = sizeof groups / sizeof *groups };

static int run_group(const char *name) {
  for (int i = 0; i < GROUPS; i++)
    if (!strcmp(name, groups[i].name)) return groups[i].run();
  return m4n_fail(M4N_EARG, "%s: no group of figures (see mamba4net bench --help)", name);
}

int m4n_cmd_bench(int argc, char **argv) {
  bool json = false;
  const m4n_option options[] = {
      {"json", NULL, "one object a line: bench, name, value, unit, limit, share", M4N_OPTION_FLAG, &json, 0,
       0},
      {"traces", "DIR", "sim and bridge: traces in place of the demo's", M4N_OPTION_TEXT, &traces, 0, 0},
      {"video", "DIR", "sim and bridge: a video in place of the demo's", M4N_OPTION_TEXT, &video, 0, 0},
      {"device", "NAME", "kernels and model: cpu, cuda, cuda-tf32 or auto", M4N_OPTION_TEXT, &device, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  m4n_bench_json(json);
  m4n_log_set_level(M4N_LOG_WARN);
  for (int i = 0; i < arguments.n; i++) M4N_TRY(run_group(arguments.item[i]));
  for (int i = 0; i < GROUPS && !arguments.n; i++) M4N_TRY(groups[i].run());
  return M4N_OK;
}
