// mamba4net report: tables and plots from what runs recorded.
#include <stdio.h>

#include "agent/commands.h"
#include "agent/learn/report.h"
#include "agent/options.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "report", "DIR…",
    "Reads events.bin of a run's folder and writes episodes.csv, summary.json and report.html\n"
    "there, or into --out. With several folders their policies are compared by episode, as\n"
    "\"folder/policy\"; then --out is needed, and tasks and rewards must agree.\n",
    1, M4N_OPTION_MOST};

int m4n_cmd_report(int argc, char **argv) {
  const char *out = NULL;
  bool json = false, quiet = false, no_plots = false;
  const m4n_option options[] = {{"out", "DIR", "where the report goes (default: into the one folder given)",
                                 M4N_OPTION_TEXT, &out, 0, 0},
                                {"no-plots", NULL, "tables alone", M4N_OPTION_FLAG, &no_plots, 0, 0},
                                M4N_OPTION_JSON(&json),
                                {"quiet", NULL, "only warnings", M4N_OPTION_FLAG, &quiet, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (quiet) m4n_log_set_level(M4N_LOG_WARN);
  if (!out && arguments.n > 1)
    return m4n_fail(M4N_EARG, "several folders: expected --out DIR for what compares them");
  if (!out) out = arguments.item[0];
  for (int i = 0; i < arguments.n; i++)
    if (!m4n_is_dir(arguments.item[i]))
      return m4n_fail_at(M4N_ENOTFOUND, arguments.item[i], 0, NULL, "expected a run's folder");
  M4N_TRY(m4n_mkdirs(out));
  const m4n_report_options report = {
      .plots = !no_plots, .table = json ? NULL : stdout, .json = json ? stdout : NULL};
  M4N_TRY(m4n_report_write(out, arguments.item, arguments.n, &report));
  m4n_log(M4N_LOG_INFO, "report: %s/report.html", out);
  return M4N_OK;
}
