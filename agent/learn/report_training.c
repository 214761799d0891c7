/* How a training went, where a run's folder has one: loss and agreement over the optimiser's steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_plots.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

enum { MAX_TABLE = 64 << 20, COLUMNS = 3, HEIGHT = 330 };
static const char *const wanted[COLUMNS] = {"step", "loss", "agreement"};

typedef struct stage {
  const char *name, *title, *colour; // name: also its folder
} stage;
static const stage stages[] = {{"adapt", "teacher (adapt)", "#0072B2"},
                               {"distil", "student (distil)", "#D55E00"},
                               {"tune", "student (tune)", "#009E73"}};
enum { STAGES = sizeof stages / sizeof *stages };

// Which column of the table each wanted one is; false if one is missing.
static bool find_columns(m4n_span heading, int at[COLUMNS]) {
  m4n_span name;
  for (int i = 0; i < COLUMNS; i++) at[i] = -1;
  for (int c = 0; m4n_span_split(&heading, ',', &name); c++)
    for (int i = 0; i < COLUMNS; i++)
      if (m4n_span_is(name, wanted[i])) at[i] = c;
  return at[0] >= 0 && at[1] >= 0 && at[2] >= 0;
}

// A row's numbers; false for a row that is cut off or holds what is no number, as a killed run may leave its last.
static bool read_row(m4n_span row, const int at[COLUMNS], double value[COLUMNS]) {
  m4n_span cell;
  int found = 0;
  for (int c = 0; m4n_span_split(&row, ',', &cell); c++)
    for (int i = 0; i < COLUMNS; i++)
      if (at[i] == c) found += m4n_span_double(cell, &value[i]) && isfinite(value[i]);
  return found == COLUMNS;
}

static int copy_rows(FILE *loss, FILE *agreement, const m4n_map *map, const char *name) {
  m4n_lines lines = m4n_lines_of(map->data, map->size);
  m4n_span line;
  int at[COLUMNS], rows = 0;
  double value[COLUMNS];
  if (!m4n_lines_next(&lines, &line) || !find_columns(line, at)) return 0;
  while (m4n_lines_next(&lines, &line)) {
    if (!read_row(line, at, value)) continue;
    fprintf(loss, "%s,%.0f,%.9g\n", name, value[0], value[1]);
    fprintf(agreement, "%s,%.0f,%.9g\n", name, value[0], 100 * value[2]);
    rows++;
  }
  return rows;
}

// What the stage's table has, if the run has one, into the plots' tables.
static int take_table(FILE *loss, FILE *agreement, const char *run, const stage *s, int *rows) {
  char name[64];
  m4n_map map = {0};
  snprintf(name, sizeof name, "%s/train.csv", s->name);
  char *path = m4n_path_join(run, name);
  if (!path) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
  int status = m4n_exists(path) ? m4n_map_open(&map, path, MAX_TABLE) : M4N_OK;
  free(path);
  *rows = status || !map.data ? 0 : copy_rows(loss, agreement, &map, s->name);
  m4n_map_close(&map);
  return status;
}

static int write_tables(const m4n_drawing *d, int rows[STAGES]) {
  m4n_writer loss, agreement;
  M4N_TRY(m4n_plot_csv(d, &loss, "loss"));
  int status = m4n_plot_csv(d, &agreement, "agreement");
  if (status) {
    m4n_writer_abort(&loss);
    return status;
  }
  fputs("stage,step,loss\n", loss.stream);
  fputs("stage,step,agreement (%)\n", agreement.stream);
  for (int i = 0; i < STAGES && !status; i++)
    status = take_table(loss.stream, agreement.stream, d->report->folder[0], &stages[i], &rows[i]);
  if (status) {
    m4n_writer_abort(&loss);
    m4n_writer_abort(&agreement);
    return status;
  }
  status = m4n_writer_commit(&loss);
  int other = m4n_writer_commit(&agreement);
  return status ? status : other;
}

static bool is_training(const char *run) {
  bool any = false;
  for (int i = 0; i < STAGES && !any; i++) {
    char *folder = m4n_path_join(run, stages[i].name);
    any = folder && m4n_is_dir(folder);
    free(folder);
  }
  return any;
}

static void put_plot(m4n_drawing *d, const char *name, const char *title, const char *caption,
                     const char *label, const int rows[STAGES]) {
  m4n_plot_begin(d, name, title, caption, HEIGHT);
  fprintf(d->script, "set xlabel 'step of the optimiser'\nset ylabel '%s'\nset key above horizontal\nplot ",
          label);
  bool first = true;
  for (int i = 0; i < STAGES; i++) {
    if (!rows[i]) continue;
    fprintf(d->script,
            "%s'%s.csv' skip 1 using (strcol(1) eq '%s' ? $2 : 1/0):3 with lines lw 2 lc rgb '%s' title '%s'",
            first ? "" : ", \\\n  ", name, stages[i].name, stages[i].colour, stages[i].title);
    first = false;
  }
  putc('\n', d->script);
}

int m4n_plot_training(m4n_drawing *d) {
  int rows[STAGES] = {0}, all = 0;
  if (d->report->n_folders != 1 || !is_training(d->report->folder[0]))
    return M4N_OK; // comparing runs is another report
  M4N_TRY(write_tables(d, rows));
  for (int i = 0; i < STAGES; i++) all += rows[i];
  if (!all) return M4N_OK;
  put_plot(d, "loss", "Training: loss", "Mean loss of the steps since the line before, all parts together.",
           "loss", rows);
  put_plot(d, "agreement", "Training: agreement",
           "Share of decisions in which the model's likeliest choice is that of what it learns from: the "
           "log's for "
           "the teacher, the labels' for the student.",
           "agreement (%)", rows);
  return M4N_OK;
}
