// `trace convert`, `gen`, `fit` and `models`: what writes files, or tells what could.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/options.h"
#include "agent/trace_command.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "traces/throughput/model.h"
#include "traces/video/model.h"

// ---- a folder that appears whole or not at all ------------------------------------------------------------

typedef int fill_folder(void *self, const char *folder);

static void remove_folder(const char *folder) {
  m4n_names names;
  if (m4n_list_dir(&names, folder)) return;
  for (int i = 0; i < names.count; i++) {
    char *path = m4n_path_join(folder, names.name[i]);
    if (path) unlink(path);
    free(path);
  }
  m4n_names_free(&names);
  rmdir(folder);
}

static int refuse_filled(const char *folder) {
  if (!m4n_exists(folder)) return M4N_OK;
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, folder));
  int count = names.count;
  m4n_names_free(&names);
  return count ? m4n_fail_at(M4N_EARG, folder, 0, NULL, "holds files already: name a new folder") : M4N_OK;
}

// Fills a hidden folder beside `folder` and renames it; what was written is removed where anything fails.
static int make_folder(const char *folder, fill_folder *fill, void *self) {
  M4N_TRY(refuse_filled(folder));
  size_t n = strlen(folder);
  while (n > 1 && folder[n - 1] == '/') n--;
  char *name = strndup(folder, n), *parent = name ? m4n_path_dir(name) : NULL, *hidden = NULL;
  int status = M4N_OK;
  if (!parent || asprintf(&hidden, "%s/.%s.part-%ld", parent, m4n_path_base(name), (long)getpid()) < 0)
    status = m4n_fail(M4N_ENOMEM, "no memory for a path");
  if (!status) status = m4n_mkdirs(hidden);
  if (!status) {
    status = fill(self, hidden);
    if (!status && rename(hidden, name))
      status = m4n_fail_at(M4N_EIO, folder, 0, NULL, "cannot make the folder");
    if (status) remove_folder(hidden);
  }
  free(hidden);
  free(parent);
  free(name);
  return status;
}

static int write_in(const m4n_trace *trace, const char *folder, int format) {
  char *path = m4n_path_join(folder, trace->name);
  if (!path) return m4n_fail(M4N_ENOMEM, "no memory for a path");
  int status = m4n_trace_write(trace, path, format);
  free(path);
  return status;
}

static int need_out(const char *out) {
  return out ? M4N_OK : m4n_fail(M4N_EARG, "--out: expected where to write");
}

static int writable(int format) {
  if (format == M4N_TRACE_COOKED || format == M4N_TRACE_MAHIMAHI || format == M4N_TRACE_SABRE) return M4N_OK;
  return m4n_fail(M4N_EARG, "expected a format that is written: cooked, mahimahi or sabre");
}

// ---- convert ----------------------------------------------------------------------------------------------

typedef struct conversion {
  m4n_traces set;
  int to;
} conversion;

static int fill_converted(void *self, const char *folder) {
  const conversion *c = self;
  for (int i = 0; i < c->set.count; i++) M4N_TRY(write_in(&c->set.trace[i], folder, c->to));
  return M4N_OK;
}

int m4n_trace_convert(int argc, char **argv) {
  static const m4n_usage usage = {"trace convert", "FILE|DIR",
                                  "Writes a trace, or every trace of a folder under its own name, as cooked "
                                  "(exact), mahimahi (one line a packet,\n"
                                  "exact to half a packet a second) or sabre (with the trace's round trip, "
                                  "or 80 ms where it states none).\n"
                                  "A folder appears whole or not at all, so it must be new or empty.\n",
                                  1, 1};
  const char *to = NULL, *out = NULL, *from = NULL;
  const m4n_option options[] = {
      {"to", "FORMAT", "cooked, mahimahi or sabre", M4N_OPTION_TEXT, &to, 0, 0},
      {"out", "FILE|DIR", "where to write", M4N_OPTION_TEXT, &out, 0, 0},
      {"format", "FORMAT", "what the input is (default: auto)", M4N_OPTION_TEXT, &from, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  conversion c = {.to = M4N_TRACE_AUTO};
  int format = M4N_TRACE_AUTO;
  M4N_TRY(m4n_trace_option_format("to", to, &c.to));
  M4N_TRY(m4n_trace_option_format("format", from, &format));
  M4N_TRY(writable(c.to));
  M4N_TRY(need_out(out));
  const char *in = arguments.item[0];
  M4N_TRY(m4n_traces_open(&c.set, in, format));
  int status =
      m4n_is_dir(in) ? make_folder(out, fill_converted, &c) : m4n_trace_write(&c.set.trace[0], out, c.to);
  if (!status) printf("%d trace%s written to %s\n", c.set.count, c.set.count == 1 ? "" : "s", out);
  m4n_traces_close(&c.set);
  return status;
}

// ---- gen --------------------------------------------------------------------------------------------------

typedef struct generation {
  m4n_trace_model model;
  m4n_arena arena;
  int64_t n;
  uint64_t seed;
  double seconds;
  int format;
} generation;

static int fill_generated(void *self, const char *folder) {
  generation *g = self;
  for (int64_t i = 0; i < g->n; i++) {
    m4n_trace trace;
    m4n_arena_reset(&g->arena);
    M4N_TRY(m4n_trace_generate(&trace, &g->arena, &g->model, g->seed, (uint64_t)i, g->seconds));
    M4N_TRY(write_in(&trace, folder, g->format));
  }
  return M4N_OK;
}

static int fill_video(void *self, const char *folder) {
  return m4n_video_write(self, folder);
}

static int gen_video(const char *name, uint64_t seed, const char *out) {
  m4n_video_model model;
  m4n_video video;
  M4N_TRY(m4n_video_model_open(&model, name));
  M4N_TRY(m4n_video_generate(&video, &model, seed, 0));
  int status = make_folder(out, fill_video, &video);
  if (!status) printf("%d chunks at %d levels written to %s\n", video.chunks, video.levels, out);
  m4n_video_close(&video);
  return status;
}

int m4n_trace_gen(int argc, char **argv) {
  static const m4n_usage usage = {
      "trace gen", "",
      "Writes synthetic traces, or with --video a folder of video_size_N. The same model, seed and number "
      "give the\n"
      "same trace, whatever --n is. A folder appears whole or not at all, so it must be new or empty.\n",
      0, 0};
  const char *model = NULL, *out = NULL, *seed = NULL, *seconds = NULL, *format = NULL;
  generation g = {.n = 100, .seed = 1, .format = M4N_TRACE_COOKED};
  bool video = false;
  const m4n_option options[] = {
      {"model", "NAME|FILE", "a name of `trace models`, or a JSON file that `trace fit` wrote",
       M4N_OPTION_TEXT, &model, 0, 0},
      {"out", "DIR", "the folder to make", M4N_OPTION_TEXT, &out, 0, 0},
      {"n", "N", "how many traces (default: 100)", M4N_OPTION_INT, &g.n, 1, M4N_TRACE_MAX_FILES},
      {"seed", "N", "the set's seed (default: 1)", M4N_OPTION_TEXT, &seed, 0, 0},
      {"seconds", "T", "how long a trace is (default: the median of what was fitted)", M4N_OPTION_TEXT,
       &seconds, 0, 0},
      {"format", "FORMAT", "cooked, mahimahi or sabre (default: cooked)", M4N_OPTION_TEXT, &format, 0, 0},
      {"video", NULL, "a video, from a video model", M4N_OPTION_FLAG, &video, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (!model) return m4n_fail(M4N_EARG, "--model: expected a name of `mamba4net trace models` or a file");
  M4N_TRY(need_out(out));
  if (seed) M4N_TRY(m4n_options_seed(&g.seed, seed));
  if (video) return gen_video(model, g.seed, out);
  M4N_TRY(m4n_trace_option_format("format", format, &g.format));
  M4N_TRY(writable(g.format));
  M4N_TRY(m4n_trace_model_open(&g.model, model));
  g.seconds = g.model.seconds;
  if (seconds && (!m4n_span_double((m4n_span){seconds, strlen(seconds)}, &g.seconds) || !(g.seconds > 0)))
    return m4n_fail(M4N_EARG, "--seconds: '%.40s' is refused: expected a number above 0", seconds);
  int status = make_folder(out, fill_generated, &g);
  m4n_arena_close(&g.arena);
  if (!status) printf("%lld traces of %g s written to %s\n", (long long)g.n, g.seconds, out);
  return status;
}

// ---- fit --------------------------------------------------------------------------------------------------

static int fit_traces(const char *const *path, int paths, int format, const char *name, const char *out) {
  m4n_traces *set = calloc((size_t)paths, sizeof *set);
  m4n_trace *all = NULL;
  m4n_trace_model model;
  int status = set ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for %d sets", paths), count = 0;
  for (int i = 0; i < paths && !status; i++) {
    status = m4n_traces_open(&set[i], path[i], format);
    count += set[i].count;
  }
  if (!status && !(all = calloc((size_t)count, sizeof *all)))
    status = m4n_fail(M4N_ENOMEM, "no memory for %d traces", count);
  if (!status) {
    m4n_trace *at = all;
    for (int i = 0; i < paths; at += set[i++].count)
      memcpy(at, set[i].trace, (size_t)set[i].count * sizeof *at);
    status = m4n_trace_model_fit(&model, all, count, name);
  }
  if (!status) status = m4n_trace_model_write(&model, out);
  if (!status) printf("model %s of %d traces written to %s\n", name, count, out);
  for (int i = 0; set && i < paths; i++) m4n_traces_close(&set[i]);
  free(all);
  free(set);
  return status;
}

static int fit_videos(const char *const *path, int paths, const char *name, const char *out) {
  m4n_video *video = calloc((size_t)paths, sizeof *video);
  m4n_video_model model;
  int status = video ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for %d videos", paths);
  for (int i = 0; i < paths && !status; i++) status = m4n_video_open(&video[i], path[i]);
  if (!status) status = m4n_video_model_fit(&model, video, paths, name);
  if (!status) status = m4n_video_model_write(&model, out);
  if (!status) printf("model %s of %d videos written to %s\n", name, paths, out);
  for (int i = 0; video && i < paths; i++) m4n_video_close(&video[i]);
  free(video);
  return status;
}

int m4n_trace_fit(int argc, char **argv) {
  static const m4n_usage usage = {"trace fit", "DIR|FILE…",
                                  "Fits one model (traces/throughput/model.h) to all the traces together and "
                                  "writes it. With --video: one model\n"
                                  "of chunk sizes (traces/video/model.h) to all the videos.\n",
                                  1, M4N_OPTION_MOST};
  const char *out = NULL, *name = NULL, *from = NULL;
  bool video = false;
  const m4n_option options[] = {
      {"out", "FILE", "the JSON file to write", M4N_OPTION_TEXT, &out, 0, 0},
      {"name", "NAME", "the model's name, prefix of generated traces (default: the file's)", M4N_OPTION_TEXT,
       &name, 0, 0},
      {"format", "FORMAT", "what the traces are (default: auto)", M4N_OPTION_TEXT, &from, 0, 0},
      {"video", NULL, "fit to videos", M4N_OPTION_FLAG, &video, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  int format = M4N_TRACE_AUTO;
  M4N_TRY(need_out(out));
  M4N_TRY(m4n_trace_option_format("format", from, &format));
  char own[M4N_TRACE_NAME];
  snprintf(own, sizeof own, "%s", m4n_path_base(out));
  char *dot = strstr(own, ".json");
  if (dot) *dot = 0;
  if (!name) name = own;
  return video ? fit_videos(arguments.item, arguments.n, name, out)
               : fit_traces(arguments.item, arguments.n, format, name, out);
}

// ---- models -----------------------------------------------------------------------------------------------

int m4n_trace_list_models(int argc, char **argv) {
  static const m4n_usage usage = {"trace models", "",
                                  "Lists the models for `trace gen --model` that are built in.\n", 0, 0};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, NULL, 0, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  printf("%-16s %8s %7s %9s %15s %10s\n", "throughput", "fitted on", "step s", "seconds", "median Mbit/s",
         "max");
  for (int i = 0; m4n_trace_model_builtin(i); i++) {
    m4n_trace_model m;
    M4N_TRY(m4n_trace_model_open(&m, m4n_trace_model_builtin(i)));
    printf("%-16s %9g %7g %9g %15.4g %10.4g\n", m.name, m.traces, m.period_s, m.seconds,
           exp(m.log_mean[M4N_TRACE_QUANTILES / 2]), m.max_mbps);
  }
  printf("\n%-16s %9s %7s %9s %15s\n", "video", "fitted on", "levels", "chunks", "chunk s");
  for (int i = 0; m4n_video_model_builtin(i); i++) {
    m4n_video_model m;
    M4N_TRY(m4n_video_model_open(&m, m4n_video_model_builtin(i)));
    printf("%-16s %9g %7g %9g %15g\n", m.name, m.videos, m.levels, m.chunks, m.chunk_s);
  }
  return M4N_OK;
}
