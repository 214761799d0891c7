/* What a report is made of, once the logs are read: internal to report*.c.
 *
 *     collect   logs -> rows (episodes) and the table [units][policies x figures]
 *     analyse   table -> a cell for every policy and figure, pairs, the order of the policies
 *     csv, summary, table, plots, html: each writes its own from this
 *
 * A **unit** is an episode that policies have in common: set, number and name. A **figure** is what is measured
 * of an episode: the spec's metrics, or the rewards. The first figure is the one compared.
 */
#ifndef M4N_LEARN_REPORT_DATA_H
#define M4N_LEARN_REPORT_DATA_H

#include "agent/learn/report.h"
#include "agent/learn/stats.h"
#include "agent/learn/store.h"
#include "kernels/base/arena.h"

enum {
  M4N_MAX_FIGURES = M4N_MAX_METRICS + 2,
  M4N_ALL_PAIRS = 16 /* policies of which all pairs are compared */
};

typedef struct m4n_report_figure {
  const char *name, *unit;
  int better; /* 1: higher is better, -1: lower, 0: neither */
  bool
      condition; /* neither, and an episode's is the same whoever plays it: what it was like, not how it went */
} m4n_report_figure;

typedef struct m4n_report_row {
  int policy, unit; /* unit -1: lost, not in the table */
  int set;
  int64_t episode;
  const char *label;
  int steps;
  uint32_t flags;
  double reward_mean, reward_total;
  double metric[M4N_MAX_METRICS];
} m4n_report_row;

/* A policy's values of a figure over its episodes. */
typedef struct m4n_report_cell {
  int n;
  double mean, median, p5, p95;
  m4n_interval ci;
} m4n_report_cell;

typedef struct m4n_report_policy {
  const char *name, *about; /* about: how it was made, "" where nobody says */
  const char *own_name;     /* without the folder */
  int folder, index;        /* where it comes from */
  int episodes, lost;       /* ended and lost */
  int64_t fallbacks;        /* decisions that the fallback made */
  bool bound;               /* an oracle: it uses what no policy can know */
  m4n_report_cell cell[M4N_MAX_FIGURES];
} m4n_report_policy;

/* Policy a minus policy b by the first figure, over the n units that both played; a leads in the order. */
typedef struct m4n_report_pair {
  int a, b, n;
  double mean;
  m4n_interval ci;
  double p, p_holm;
} m4n_report_pair;

typedef struct m4n_report {
  m4n_arena arena; /* strings and lists */
  const char *const *folder;
  int n_folders;
  m4n_spec spec; /* the first folder's, names cleaned */
  const char *scenario, *scenario_text;
  uint64_t seed;
  bool seeds_differ, truncated;
  m4n_report_figure figure[M4N_MAX_FIGURES];
  int n_figures;
  m4n_report_policy *policy;
  int n_policies;
  m4n_report_row *row; /* sorted by policy, set, episode, label */
  int n_rows, n_units;
  double *table; /* [n_units][n_policies][n_figures], NaN where there is no value */
  m4n_report_pair *pair;
  int n_pairs;
  int *order; /* policies, the best first; bounds at their place */
  int best;   /* the best that is no bound; -1: there is none */
} m4n_report;

int m4n_report_collect(m4n_report *report, const char *const *folders, int n_folders);
int m4n_report_analyse(m4n_report *report, int resamples);
void m4n_report_free(m4n_report *report);

static inline const double *m4n_report_value(const m4n_report *r, int unit, int policy, int figure) {
  return &r->table[((size_t)unit * (size_t)r->n_policies + (size_t)policy) * (size_t)r->n_figures +
                   (size_t)figure];
}
/* The figure's index, -1: there is none of that name. */
int m4n_report_find(const m4n_report *report, const char *figure);
/* Whether it belongs into a table of policies: a column of one number tells none of them from the others. */
static inline bool m4n_report_shown(const m4n_report *r, int figure) {
  return !r->figure[figure].condition || r->n_policies == 1;
}
/* How large the figure's means (or their intervals) are: the middle one, so that an outlier costs the others no digits. */
double m4n_report_scale(const m4n_report *report, int figure);
/* 1 where the pair's interval is above 0, -1 below, 0: not distinguishable. */
int m4n_report_verdict(const m4n_report_pair *pair);

int m4n_report_csv(const m4n_report *report, const char *path);
int m4n_report_summary(const m4n_report *report, const char *path, FILE *copy);
void m4n_report_table(const m4n_report *report, FILE *out);
/* A sentence on a pair: "robust-mpc is better than rate by 0.21 (95 % interval 0.15 to 0.27; …)". */
void m4n_report_sentence(const m4n_report *report, const m4n_report_pair *pair, bool from_b, char *out,
                         size_t size);

/* The plots in the order of the report; `svg` in the arena, without the XML prologue. */
typedef struct m4n_report_plot {
  const char *name, *title, *caption, *svg;
  int height; /* of its view box, m4n_plot_begin knows the width */
} m4n_report_plot;
enum { M4N_MAX_PLOTS = 10 };
/* Writes plots/ and has gnuplot draw. *n is 0 where gnuplot is missing or fails: that is a warning. */
int m4n_report_plots(m4n_report *report, const char *out, const char *gnuplot, m4n_report_plot *plots,
                     int *n);
int m4n_report_html(const m4n_report *report, const char *path, const m4n_report_plot *plots, int n_plots);

/* ---- text that comes from strangers, and numbers (report_text.c) */
/* A copy in the arena that is UTF-8 without control characters: what is not becomes '?'. NULL: no memory. */
const char *m4n_text_clean(m4n_arena *arena, const char *text);
/* The shortest digits that read back as the same number; "" for NaN. */
const char *m4n_text_number(char out[32], double value);
/* Nine digits, as much as a plot needs; "" for NaN. */
const char *m4n_text_plot(char out[32], double value);
/* With as many decimals as a table wants of numbers about as large as `scale`. "-" for NaN. */
const char *m4n_text_short(char out[32], double value, double scale);
void m4n_text_csv(FILE *out, const char *text);  /* quoted where needed */
void m4n_text_html(FILE *out, const char *text); /* & < > " ' as entities */

#endif
