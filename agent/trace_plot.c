// The plot of `trace info`: gnuplot reads a script with the data in it and writes SVG.
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/trace_command.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/throughput/stats.h"

enum { SHOWN = 3, POINTS = 400 }; // traces a set over time; points of a distribution

// A title in gnuplot's single quotes, where a quote is written twice and nothing else is special.
static void put_title(FILE *script, const char *label) {
  fputc('\'', script);
  for (const char *c = label; *c; c++)
    if ((unsigned char)*c >= ' ') fprintf(script, *c == '\'' ? "''" : "%c", *c);
  fputc('\'', script);
}

// The traces of a set that are shown over time: evenly spread over the set.
static int shown(const m4n_traces *set) {
  return set->count < SHOWN ? set->count : SHOWN;
}
static const m4n_trace *pick(const m4n_traces *set, int i) {
  return &set->trace[set->count <= SHOWN ? i : (int)((2LL * i + 1) * set->count / (2 * SHOWN))];
}

static void put_traces(FILE *script, const m4n_traces *set, int sets) {
  for (int s = 0; s < sets; s++)
    for (int i = 0; i < shown(&set[s]); i++) {
      const m4n_trace *t = pick(&set[s], i);
      fprintf(script, "$t%d_%d << EOD\n0 %.10g\n", s, i, t->mbps[1]);
      for (int k = 1; k < t->rows; k++) fprintf(script, "%.10g %.10g\n", t->time[k] - t->time[0], t->mbps[k]);
      fputs("EOD\n", script);
    }
}

// The share of the pooled time below a rate, at POINTS equal shares.
static int put_distribution(FILE *script, const m4n_traces *set, int index) {
  size_t pairs = 0;
  m4n_trace_pair *pair = m4n_trace_pool(set->trace, set->count, &pairs);
  if (!pair) return M4N_ENOMEM;
  double total = 0, below = 0;
  for (size_t i = 0; i < pairs; i++) total += pair[i].seconds;
  fprintf(script, "$d%d << EOD\n", index);
  int next = 0;
  for (size_t i = 0; i < pairs; i++) {
    below += pair[i].seconds;
    for (; next <= POINTS && below >= total * next / POINTS; next++)
      fprintf(script, "%.10g %.10g\n", pair[i].mbps, (double)next / POINTS);
  }
  fputs("EOD\n", script);
  free(pair);
  return M4N_OK;
}

static void put_plots(FILE *script, const m4n_traces *set, const char *const *label, int sets) {
  fputs("set terminal svg noenhanced size 900,760 dynamic background 'white'\n"
        "set multiplot layout 2,1\nset grid\nset key outside below\n"
        "set xlabel 'time / s'\nset ylabel 'rate / Mbit/s'\nset yrange [0:*]\nplot ",
        script);
  for (int s = 0; s < sets; s++)
    for (int i = 0; i < shown(&set[s]); i++) {
      fprintf(script, "%s$t%d_%d using 1:2 with fsteps lc %d dt %d title ", s || i ? ", " : "", s, i, s + 1,
              i + 1);
      put_title(script, pick(&set[s], i)->name);
    }
  fputs("\nset xlabel 'rate / Mbit/s'\nset ylabel 'share of the time below'\nset yrange [0:1]\nplot ",
        script);
  for (int s = 0; s < sets; s++) {
    fprintf(script, "%s$d%d using 1:2 with lines lw 2 lc %d title ", s ? ", " : "", s, s + 1);
    put_title(script, label[s]);
  }
  fputs("\nunset multiplot\n", script);
}

// Runs gnuplot with `script` as its input and `out` as its output.
static int run_gnuplot(FILE *script, FILE *out) {
  posix_spawn_file_actions_t files;
  char *const argv[] = {"gnuplot", "-", NULL};
  extern char **environ;
  pid_t child;
  if (posix_spawn_file_actions_init(&files)) return m4n_fail(M4N_ENOMEM, "no memory to start gnuplot");
  posix_spawn_file_actions_adddup2(&files, fileno(script), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, fileno(out), STDOUT_FILENO);
  int failed = posix_spawnp(&child, "gnuplot", &files, NULL, argv, environ), result = 0;
  posix_spawn_file_actions_destroy(&files);
  if (failed)
    return m4n_fail(M4N_EUNSUPPORTED, "--plot needs gnuplot, which cannot be started: %s", strerror(failed));
  if (waitpid(child, &result, 0) != child || !WIFEXITED(result) || WEXITSTATUS(result))
    return m4n_fail(M4N_EIO, "gnuplot did not make the plot");
  return M4N_OK;
}

static int plot(FILE *script, FILE *out, const m4n_traces *set, const char *const *label, int sets) {
  put_traces(script, set, sets);
  for (int s = 0; s < sets; s++) M4N_TRY(put_distribution(script, &set[s], s));
  put_plots(script, set, label, sets);
  if (fflush(script) || fseek(script, 0, SEEK_SET))
    return m4n_fail(M4N_EIO, "cannot write the plot's script");
  return run_gnuplot(script, out);
}

int m4n_trace_plot(const char *path, const m4n_traces *set, const char *const *label, int sets) {
  m4n_writer file;
  FILE *script = tmpfile();
  if (!script) return m4n_fail(M4N_EIO, "cannot make a temporary file for gnuplot");
  int status = m4n_writer_open(&file, path);
  if (!status) {
    status = plot(script, file.stream, set, label, sets);
    if (status)
      m4n_writer_abort(&file);
    else
      status = m4n_writer_commit(&file);
  }
  fclose(script);
  return status;
}
