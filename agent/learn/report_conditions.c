/* What the first figure depends on: each episode's value against a condition of the episode (a trace's mean rate, say),
 * policy by policy, and the means of bands that hold equally many episodes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_plots.h"
#include "kernels/base/status.h"

enum {
  PLOTS = 2,   // conditions that are drawn, the first ones
  BANDS = 5,   // of a condition's range …
  IN_BAND = 6, // … or fewer, so that each has at least so many episodes
  POINTS = 400 // drawn of each policy; the CSV has all
};

typedef struct place {
  double x;
  int unit;
} place;

static int by_place(const void *a, const void *b) {
  const place *p = a, *q = b;
  return p->x < q->x ? -1 : p->x > q->x ? 1 : p->unit - q->unit;
}

// Episodes with a known condition, in its order; *n of them. NULL: no memory.
static place *find_places(const m4n_report *r, int figure, int *n) {
  place *all = malloc(((size_t)r->n_units + 1) * sizeof *all);
  *n = 0;
  for (int u = 0; all && u < r->n_units; u++) {
    double x = NAN;
    for (int p = 0; p < r->n_policies && isnan(x); p++) x = *m4n_report_value(r, u, p, figure);
    if (!isnan(x)) all[(*n)++] = (place){x, u};
  }
  if (*n) qsort(all, (size_t)*n, sizeof *all, by_place);
  return all;
}

// A hopeless policy would flatten all others: it is left out, and named.
static int choose(const m4n_report *r, int *policy, char *outside, size_t size) {
  double sign = r->figure[0].better < 0 ? 1 : -1, worse[M4N_PLOT_POLICIES];
  int n = m4n_plot_drawn(r, policy), kept = 0;
  for (int i = 0; i < n; i++) worse[i] = sign * r->policy[policy[i]].cell[0].mean;
  double reach = m4n_plot_reach(worse, n);
  outside[0] = 0;
  for (int i = 0; i < n; i++) {
    size_t used = strlen(outside);
    if (worse[i] <= reach)
      policy[kept++] = policy[i];
    else
      snprintf(outside + used, size - used, "%s%s",
               used ? ", " : " Too far off to be shown: ", r->policy[policy[i]].name);
  }
  return kept;
}

// A row an episode: its condition, then each policy's value.
static int write_points(const m4n_drawing *d, const char *name, int figure, const int *policy, int n_policies,
                        const place *at, int n) {
  const m4n_report *r = d->report;
  m4n_writer csv;
  char number[32];
  M4N_TRY(m4n_plot_csv(d, &csv, name));
  m4n_text_csv(csv.stream, r->figure[figure].name);
  for (int p = 0; p < n_policies; p++)
    m4n_plot_heading(csv.stream, false, r->policy[policy[p]].name, r->figure[0].name);
  for (int i = 0; i < n; i++) {
    fprintf(csv.stream, "\n%s", m4n_text_plot(number, at[i].x));
    for (int p = 0; p < n_policies; p++)
      fprintf(csv.stream, ",%s", m4n_text_plot(number, *m4n_report_value(r, at[i].unit, policy[p], 0)));
  }
  putc('\n', csv.stream);
  return m4n_writer_commit(&csv);
}

// A row a band: the means of the condition and of each policy's values over its episodes.
static int write_bands(const m4n_drawing *d, const char *name, int figure, const int *policy, int n_policies,
                       const place *at, int n, int bands) {
  const m4n_report *r = d->report;
  m4n_writer csv;
  char number[32];
  M4N_TRY(m4n_plot_csv(d, &csv, name));
  fputs("from,to,episodes,", csv.stream);
  m4n_text_csv(csv.stream, r->figure[figure].name);
  for (int p = 0; p < n_policies; p++)
    m4n_plot_heading(csv.stream, false, r->policy[policy[p]].name, r->figure[0].name);
  for (int b = 0; b < bands; b++) {
    int from = (int)((int64_t)b * n / bands), to = (int)((int64_t)(b + 1) * n / bands);
    double x = 0;
    for (int i = from; i < to; i++) x += at[i].x / (to - from);
    fprintf(csv.stream, "\n%s", m4n_text_plot(number, at[from].x));
    fprintf(csv.stream, ",%s,%d", m4n_text_plot(number, at[to - 1].x), to - from);
    fprintf(csv.stream, ",%s", m4n_text_plot(number, x));
    for (int p = 0; p < n_policies; p++) {
      double sum = 0;
      int known = 0;
      for (int i = from; i < to; i++) {
        double y = *m4n_report_value(r, at[i].unit, policy[p], 0);
        if (!isnan(y)) sum += y, known++;
      }
      fprintf(csv.stream, ",%s", m4n_text_plot(number, known ? sum / known : NAN));
    }
  }
  putc('\n', csv.stream);
  return m4n_writer_commit(&csv);
}

// The y range without the far tails, as the other plots have it. True: something is cut off.
static bool set_range(m4n_drawing *d, const int *policy, int n_policies, const place *at, int n) {
  double *y = malloc(((size_t)n * (size_t)n_policies + 1) * sizeof *y);
  if (!y) return false; // gnuplot's own range will do
  int known = 0;
  for (int i = 0; i < n; i++)
    for (int p = 0; p < n_policies; p++) y[known++] = *m4n_report_value(d->report, at[i].unit, policy[p], 0);
  known = m4n_sort(y, known);
  double low = m4n_quantile(y, known, 0.02), high = m4n_quantile(y, known, 0.98), room = (high - low) / 3;
  bool cut = known && (y[0] < low - room || y[known - 1] > high + room);
  if (cut)
    fprintf(d->script, "set yrange [%.6g:%.6g]\n", fmax(y[0], low - room), fmin(y[known - 1], high + room));
  free(y);
  return cut;
}

static void script_points(m4n_drawing *d, const char *name, const char *bands_name, const int *policy, int n,
                          int every, bool bands) {
  const m4n_report *r = d->report;
  char text[80];
  fputs("plot ", d->script);
  for (int i = 0; i < n; i++) {
    const char *colour = m4n_plot_colour(r, policy[i]);
    const char *title = m4n_plot_text(text, r->policy[policy[i]].name);
    fprintf(d->script, "%s\\\n  '%s.csv' skip 1 every %d using 1:%d with points pt 7 ps 0.4 lc rgb '#90%s' ",
            i ? ", " : "", name, every, i + 2, colour + 1);
    if (bands)
      fprintf(d->script,
              "notitle, \\\n  '%s.csv' skip 1 using 4:%d with linespoints pt 7 ps 0.7 lw 2 dt %d lc rgb '%s' "
              "title '%s'",
              bands_name, i + 5, m4n_plot_dashes(r, policy[i]), colour, title);
    else
      fprintf(d->script, "title '%s'", title);
  }
  putc('\n', d->script);
}

static int condition(m4n_drawing *d, int figure, const char *name, const char *bands_name,
                     const char *title) {
  m4n_report *r = d->report;
  int policy[M4N_PLOT_POLICIES], n, bands;
  char outside[256], text[160], caption[640];
  int n_policies = choose(r, policy, outside, sizeof outside);
  place *at = find_places(r, figure, &n);
  if (!at) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
  bands = n / IN_BAND < BANDS ? n / IN_BAND : BANDS;
  // What does not vary explains nothing.
  int status = M4N_OK;
  if (n < 2 || at[0].x == at[n - 1].x || !n_policies) goto done;
  status = write_points(d, name, figure, policy, n_policies, at, n);
  if (!status && bands > 1) status = write_bands(d, bands_name, figure, policy, n_policies, at, n, bands);
  if (status) goto done;
  m4n_plot_begin(d, name, title, NULL, 460);
  bool cut = set_range(d, policy, n_policies, at, n);
  if (bands > 1)
    snprintf(caption, sizeof caption,
             "A point an episode; the lines join the means of %d bands of equally many episodes "
             "(plots/%s.csv).%s%s",
             bands, bands_name, cut ? " The axis leaves out the far tails." : "", outside);
  else
    snprintf(caption, sizeof caption, "A point an episode.%s%s",
             cut ? " The axis leaves out the far tails." : "", outside);
  d->plots[d->n - 1].caption = m4n_text_clean(&r->arena, caption);
  if (!d->plots[d->n - 1].caption) status = m4n_fail(M4N_ENOMEM, "no memory for a plot");
  fprintf(d->script, "set xlabel '%s of an episode'\n", m4n_plot_axis(text, &r->figure[figure]));
  fprintf(d->script, "set ylabel '%s'\nset key above horizontal\n", m4n_plot_axis(text, &r->figure[0]));
  script_points(d, name, bands_name, policy, n_policies, 1 + (n - 1) / POINTS, bands > 1);
done:
  free(at);
  return status;
}

int m4n_plot_conditions(m4n_drawing *d) {
  static const char *const name[PLOTS][2] = {{"condition1", "condition1_bands"},
                                             {"condition2", "condition2_bands"}};
  m4n_report *r = d->report;
  int drawn = 0;
  for (int f = 0; f < r->n_figures && drawn < PLOTS; f++) {
    if (!r->figure[f].condition) continue;
    char title[128];
    snprintf(title, sizeof title, "%s against %s", r->figure[0].name, r->figure[f].name);
    const char *kept = m4n_arena_strdup(&r->arena, title);
    if (!kept) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
    M4N_TRY(condition(d, f, name[drawn][0], name[drawn][1], kept));
    drawn++;
  }
  return M4N_OK;
}
