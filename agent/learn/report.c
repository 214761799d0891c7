#include "agent/learn/report.h"

#include <stdlib.h>

#include "agent/learn/report_data.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

static int write_in(const char *out, const char *name, char **path) {
  *path = m4n_path_join(out, name);
  return *path ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for a path");
}

static int write_csv(const m4n_report *r, const char *out) {
  char *path;
  M4N_TRY(write_in(out, "episodes.csv", &path));
  int status = m4n_report_csv(r, path);
  free(path);
  return status;
}

static int write_summary(const m4n_report *r, const char *out, FILE *copy) {
  char *path;
  M4N_TRY(write_in(out, "summary.json", &path));
  int status = m4n_report_summary(r, path, copy);
  free(path);
  return status;
}

static int write_html(m4n_report *r, const char *out, const m4n_report_options *options) {
  m4n_report_plot plots[M4N_MAX_PLOTS];
  int n = 0;
  char *path;
  if (options->plots) M4N_TRY(m4n_report_plots(r, out, options->gnuplot, plots, &n));
  M4N_TRY(write_in(out, "report.html", &path));
  int status = m4n_report_html(r, path, plots, n);
  free(path);
  return status;
}

int m4n_report_write(const char *out, const char *const *folders, int n_folders,
                     const m4n_report_options *options) {
  m4n_report r;
  int status = m4n_report_collect(&r, folders, n_folders);
  if (!status) status = m4n_report_analyse(&r, options->resamples);
  if (!status) status = m4n_mkdirs(out);
  if (!status) status = write_csv(&r, out);
  if (!status) status = write_summary(&r, out, options->json);
  if (!status) status = write_html(&r, out, options);
  if (!status && options->table) m4n_report_table(&r, options->table);
  m4n_report_free(&r);
  return status;
}
