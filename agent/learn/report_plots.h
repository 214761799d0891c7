/* What the plots of all tasks and of one task share. */
#ifndef M4N_LEARN_REPORT_PLOTS_H
#define M4N_LEARN_REPORT_PLOTS_H

#include "agent/learn/report_data.h"
#include "kernels/base/file.h"

enum { M4N_PLOT_WIDTH = 720, M4N_PLOT_POLICIES = 24 /* more lines nobody tells apart */ };

typedef struct m4n_drawing {
  m4n_report *report;
  const char *folder; /* the CSV files and the script are there, gnuplot works there */
  FILE *script;
  m4n_report_plot *plots;
  int height[M4N_MAX_PLOTS], n;
} m4n_drawing;

const char *m4n_plot_colour(const m4n_report *report, int policy); /* "#0072B2"; a bound is grey */
/* "qoe (per chunk)" */
const char *m4n_plot_axis(char out[160], const m4n_report_figure *figure);
/* Policies of which there is something to draw, the best first; how many. */
int m4n_plot_drawn(const m4n_report *report, int policy[M4N_PLOT_POLICIES]);
int m4n_plot_dashes(const m4n_report *report, int policy); /* gnuplot's dt: colours repeat dashed */
/* Text for gnuplot's single quotes: what means anything to gnuplot or XML becomes '_'. */
const char *m4n_plot_text(char out[80], const char *text);
int m4n_plot_csv(const m4n_drawing *d, m4n_writer *writer, const char *name);
void m4n_plot_heading(FILE *out, bool first, const char *policy, const char *what);
/* Lists the plot and begins its part of the script. The texts must last. */
void m4n_plot_begin(m4n_drawing *d, const char *name, const char *title, const char *caption, int height);
void m4n_plot_names(m4n_drawing *d, const int *policy, int n);
/* How far an axis goes on which lower values are better: to the worst of the n values, but not further from the
 * best than four times the middle one, so that a hopeless policy does not flatten all others. */
double m4n_plot_reach(const double *value, int n);

/* Breakdown, trade-off and timeline, where the task reports what they need. */
int m4n_plot_abr(m4n_drawing *d);
/* The first figure against what the episodes were like. */
int m4n_plot_conditions(m4n_drawing *d);
/* Loss and agreement, where the run's folder holds a training. */
int m4n_plot_training(m4n_drawing *d);

#endif
