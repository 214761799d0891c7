// mamba4net trace: finds the part that is asked for.
#include <stdio.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/trace_command.h"
#include "kernels/base/status.h"

static const struct {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} parts[] = {
    {"info", "what traces are like: count, duration, mean, quartiles, outages; a plot on request",
     m4n_trace_info},
    {"convert", "a trace or a folder of traces in another format", m4n_trace_convert},
    {"gen", "synthetic traces, or a video, from a model", m4n_trace_gen},
    {"fit", "a model from folders of real traces, or from videos", m4n_trace_fit},
    {"models", "the models that are built in", m4n_trace_list_models},
};
enum { PARTS = sizeof parts / sizeof *parts };

static void print_help(void) {
  puts("mamba4net trace COMMAND [OPTION]… [ARGUMENT]…\n\n"
       "Throughput traces, what a network could carry over time.\n\n"
       "Commands (mamba4net trace COMMAND --help tells more):");
  for (int i = 0; i < PARTS; i++) printf("  %-8s %s\n", parts[i].name, parts[i].summary);
  puts("\nFormats, told apart by content or named: cooked (s Mbit/s), mahimahi (packet times in ms), sabre "
       "(JSON),\n"
       "nyu (value,unit), oboe (ms kbit/s in pairs), ucc (CSV).");
}

int m4n_cmd_trace(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
    print_help();
    return M4N_OK;
  }
  for (int i = 0; i < PARTS; i++)
    if (!strcmp(name, parts[i].name)) return parts[i].run(argc - 1, argv + 1);
  return m4n_fail(M4N_EARG,
                  "trace %s: expected info, convert, gen, fit or models (see mamba4net trace --help)", name);
}

int m4n_trace_option_format(const char *option, const char *text, int *format) {
  if (!text) return M4N_OK;
  *format = m4n_trace_format_of(text);
  if (*format >= 0) return M4N_OK;
  return m4n_fail(M4N_EARG,
                  "--%s: '%.40s' is refused: expected auto, cooked, mahimahi, sabre, nyu, oboe or ucc",
                  option, text);
}
