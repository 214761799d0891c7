// `trace info`: a line for each file or folder, or JSON, and a plot on request.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/options.h"
#include "agent/trace_command.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/throughput/stats.h"

static const char *format_of(const m4n_traces *set) {
  for (int i = 1; i < set->count; i++)
    if (set->trace[i].format != set->trace[0].format) return "mixed";
  return m4n_trace_format_name(set->trace[0].format);
}

// The end of a path that tells sets apart: "…/fcc-cooked/test".
static const char *tail(const char *path, size_t size) {
  size_t n = strlen(path);
  return n <= size ? path : path + n - size;
}

static void print_table(const char *const *path, const m4n_traces *set, const m4n_trace_stats *about,
                        int sets) {
  printf("%-36s %-8s %6s  %22s %8s  %26s %8s %7s %6s\n", "", "", "", "duration s", "mean", "quartiles", "max",
         "outage", "lag-1");
  printf("%-36s %-8s %6s  %6s %8s %6s %8s  %8s %8s %8s %8s %7s %6s\n", "traces", "format", "count", "min",
         "median", "max", "Mbit/s", "25 %", "50 %", "75 %", "Mbit/s", "%", "");
  for (int i = 0; i < sets; i++) {
    const m4n_trace_stats *s = &about[i];
    printf("%-36s %-8s %6d  %6.0f %8.0f %6.0f %8.4g  %8.4g %8.4g %8.4g %8.4g %7.2f %6.3f\n",
           tail(path[i], 36), format_of(&set[i]), s->traces, s->shortest_s, s->median_s, s->longest_s,
           s->mean, s->quartile[0], s->quartile[1], s->quartile[2], s->max, 100 * s->outage_share, s->lag1);
  }
  printf("outage: share of the time below %g Mbit/s; lag-1: autocorrelation of samples 1 s apart\n",
         M4N_TRACE_OUTAGE);
}

static int print_json(const char *const *path, const m4n_traces *set, const m4n_trace_stats *about,
                      int sets) {
  json_t *list = json_array();
  for (int i = 0; i < sets; i++) {
    const m4n_trace_stats *s = &about[i];
    json_array_append_new(
        list,
        json_pack("{s:s, s:s, s:i, s:{s:f, s:f, s:f}, s:f, s:[f, f], s:f, s:[f, f, f], s:f, s:f, s:f, s:f}",
                  "path", path[i], "format", format_of(&set[i]), "traces", s->traces, "seconds", "min",
                  s->shortest_s, "median", s->median_s, "max", s->longest_s, "mean_mbps", s->mean,
                  "trace_means_mbps", s->lowest, s->highest, "min_mbps", s->min, "quartiles_mbps",
                  s->quartile[0], s->quartile[1], s->quartile[2], "max_mbps", s->max, "outage_below_mbps",
                  M4N_TRACE_OUTAGE, "outage_share", s->outage_share, "lag1_1s", s->lag1));
  }
  bool complete = json_array_size(list) == (size_t)sets;
  if (complete) json_dumpf(list, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
  json_decref(list);
  if (!complete) return m4n_fail(M4N_EARG, "a path is no UTF-8 text, which JSON needs");
  putchar('\n');
  return M4N_OK;
}

static int describe(const char *const *path, m4n_traces *set, m4n_trace_stats *about, int sets, int format,
                    bool json, const char *plot) {
  for (int i = 0; i < sets; i++) {
    M4N_TRY(m4n_traces_open(&set[i], path[i], format));
    M4N_TRY(m4n_trace_stats_of(&about[i], set[i].trace, set[i].count, 1));
  }
  if (plot) M4N_TRY(m4n_trace_plot(plot, set, path, sets));
  if (json) return print_json(path, set, about, sets);
  print_table(path, set, about, sets);
  return M4N_OK;
}

int m4n_trace_info(int argc, char **argv) {
  static const m4n_usage usage = {"trace info", "FILE|DIR…",
                                  "A line for each FILE or DIR: number of traces, durations, mean of the "
                                  "traces' means, quartiles and maximum of the\n"
                                  "rate over the pooled time, share of the time below 0.1 Mbit/s, "
                                  "autocorrelation of samples 1 s apart.\n",
                                  1, M4N_OPTION_MOST};
  const char *from = NULL, *plot = NULL;
  bool json = false;
  const m4n_option options[] = {
      {"format", "FORMAT", "cooked, mahimahi, sabre, nyu, oboe or ucc (default: auto)", M4N_OPTION_TEXT,
       &from, 0, 0},
      {"json", NULL, "the same as JSON", M4N_OPTION_FLAG, &json, 0, 0},
      {"plot", "FILE.svg", "some traces over time, and the share of time below a rate", M4N_OPTION_TEXT,
       &plot, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  int format = M4N_TRACE_AUTO, sets = arguments.n;
  M4N_TRY(m4n_trace_option_format("format", from, &format));
  m4n_traces *set = calloc((size_t)sets, sizeof *set);
  m4n_trace_stats *about = calloc((size_t)sets, sizeof *about);
  int status = set && about ? describe(arguments.item, set, about, sets, format, json, plot)
                            : m4n_fail(M4N_ENOMEM, "no memory for %d sets", sets);
  for (int i = 0; set && i < sets; i++) m4n_traces_close(&set[i]);
  free(about);
  free(set);
  return status;
}
