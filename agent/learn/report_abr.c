/* Plots for tasks that report what a streaming client does: drawn where the names are there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_plots.h"
#include "kernels/base/status.h"

static bool known(const m4n_report *r, int policy, const int *figure, int n) {
  for (int i = 0; i < n; i++)
    if (!r->policy[policy].cell[figure[i]].n) return false;
  return true;
}

// Policies whose figures are all known, the best first.
static int with_figures(const m4n_report *r, const int *figure, int n_figures, int *policy) {
  int n = 0;
  for (int i = 0; i < n_figures; i++)
    if (figure[i] < 0) return 0;
  for (int i = 0; i < r->n_policies && n < M4N_PLOT_POLICIES; i++)
    if (known(r, r->order[i], figure, n_figures)) policy[n++] = r->order[i];
  return n;
}

/* ---- what the first figure is made of: utility, minus what rebuffering and switching cost */

static int breakdown(m4n_drawing *d) {
  m4n_report *r = d->report;
  const int figure[] = {m4n_report_find(r, "quality"), m4n_report_find(r, "rebuffer_s"),
                        m4n_report_find(r, "smooth")};
  double weight[2];
  int policy[M4N_PLOT_POLICIES], n = with_figures(r, figure, 3, policy), count;
  const char *const constant[] = {M4N_ABR_REBUFFER, M4N_ABR_SMOOTH};
  for (int i = 0; i < 2; i++) {
    const double *value = m4n_spec_constant(&r->spec, constant[i], &count);
    if (!value || count != 1) return M4N_OK;
    weight[i] = *value;
  }
  if (!n) return M4N_OK;
  char a[32], b[32], c[32], e[32];
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "breakdown"));
  fputs("policy,utility,rebuffering,smoothness,sum\n", csv.stream);
  for (int i = 0; i < n; i++) {
    const m4n_report_cell *cell = r->policy[policy[i]].cell;
    double utility = cell[figure[0]].mean, stall = weight[0] * cell[figure[1]].mean,
           smooth = weight[1] * cell[figure[2]].mean;
    m4n_text_csv(csv.stream, r->policy[policy[i]].name);
    fprintf(csv.stream, ",%s,%s,%s,%s\n", m4n_text_number(a, utility), m4n_text_number(b, stall),
            m4n_text_number(c, smooth), m4n_text_number(e, utility - stall - smooth));
  }
  M4N_TRY(m4n_writer_commit(&csv));
  m4n_plot_begin(
      d, "breakdown", "What it is made of",
      "Means per chunk: the utility of the bitrates to the right, what rebuffering and switching cost to "
      "the left; the diamond is what is left.",
      140 + 34 * n);
  m4n_plot_names(d, policy, n);
  fputs("set xlabel 'reward per chunk'\nset style fill solid 0.85 noborder\nset key below\nset xzeroaxis\n"
        "set arrow from 0, graph 0 to 0, graph 1 nohead lc rgb '#444444'\n"
        "plot 'breakdown.csv' skip 1 using 2:0:(0):2:($0-0.36):($0+0.36) with boxxyerror lc rgb '#56B4E9' "
        "title 'bitrate utility', \\\n"
        "  '' skip 1 using (-$3):0:(-$3):(0):($0-0.36):($0+0.36) with boxxyerror lc rgb '#D55E00' title "
        "'rebuffering penalty', \\\n"
        "  '' skip 1 using (-$3):0:(-$3-$4):(-$3):($0-0.36):($0+0.36) with boxxyerror lc rgb '#E69F00' title "
        "'smoothness penalty', \\\n"
        "  '' skip 1 using 5:0 with points pt 13 ps 1.1 lc rgb '#000000' title 'sum'\n",
        d->script);
  return M4N_OK;
}

/* ---- quality against the share of time stalled */

static int tradeoff(m4n_drawing *d) {
  m4n_report *r = d->report;
  const int figure[] = {m4n_report_find(r, "rebuffer_ratio"), m4n_report_find(r, "quality")};
  int policy[M4N_PLOT_POLICIES], n = with_figures(r, figure, 2, policy);
  if (!n) return M4N_OK;
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "tradeoff"));
  fputs("policy,stalled_percent,low,high,utility,low,high\n", csv.stream);
  for (int i = 0; i < n; i++) {
    m4n_text_csv(csv.stream, r->policy[policy[i]].name);
    for (int f = 0; f < 2; f++) {
      const m4n_report_cell *c = &r->policy[policy[i]].cell[figure[f]];
      double unit = f ? 1 : 100, values[] = {c->mean * unit, c->ci.low * unit, c->ci.high * unit};
      char number[32];
      for (int v = 0; v < 3; v++) fprintf(csv.stream, ",%s", m4n_text_number(number, values[v]));
    }
    putc('\n', csv.stream);
  }
  M4N_TRY(m4n_writer_commit(&csv));
  m4n_plot_begin(d, "tradeoff", "Quality against stalls",
                 "Means over episodes with 95 % intervals; better is up and to the right.", 480);
  fputs("set xlabel 'share of time stalled (%), less to the right'\nset ylabel 'bitrate utility per chunk'\n"
        "set xrange [*:0] reverse\nset xrange [] reverse\nset key below\nset offsets graph 0.03, graph 0.06, "
        "graph 0.06, graph 0.06\nplot ",
        d->script);
  for (int i = 0; i < n; i++) {
    char name[80];
    fprintf(d->script,
            "%s\\\n  'tradeoff.csv' skip 1 every ::%d::%d using 2:5:3:4:6:7 with xyerrorbars pt %d ps 1 lw "
            "1.6 lc rgb '%s' title '%s'",
            i ? ", " : "", i, i, (const int[]){7, 5, 9, 13, 11, 6, 4, 8}[i % 8], m4n_plot_colour(policy[i]),
            m4n_plot_text(name, r->policy[policy[i]].name));
  }
  putc('\n', d->script);
  return M4N_OK;
}

/* ---- one episode in time: link, bitrate, buffer */

enum { LEAD, RUNNER_UP, SHOWN };

typedef struct timeline {
  int policy[SHOWN], n, unit;
  int info[4];          /* link_mbps, bitrate_mbps, buffer_s, rebuffer_s */
  double *value[SHOWN]; /* [steps][1 + 4]: begin and infos */
  int steps[SHOWN];
  double end[SHOWN]; /* s */
} timeline;

static int info_of(const m4n_spec *spec, const char *name) {
  for (int i = 0; i < spec->n_info; i++)
    if (!strcmp(spec->info[i].name, name)) return i;
  return -1;
}

typedef struct ranked {
  double value;
  int unit;
} ranked;

static int by_value(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->value < y->value ? -1 : x->value > y->value ? 1 : x->unit - y->unit;
}

// Of the episodes that both played, the one in the middle for the best policy. -1: none.
static int middle_unit(const m4n_report *r, const timeline *t) {
  ranked *all = malloc(((size_t)r->n_units + 1) * sizeof *all);
  int n = 0, unit = -1;
  for (int u = 0; all && u < r->n_units; u++) {
    double value = *m4n_report_value(r, u, t->policy[LEAD], 0);
    bool both = t->n < SHOWN || !isnan(*m4n_report_value(r, u, t->policy[RUNNER_UP], 0));
    if (!isnan(value) && both) all[n++] = (ranked){value, u};
  }
  if (n) {
    qsort(all, (size_t)n, sizeof *all, by_value);
    unit = all[(n - 1) / 2].unit;
  }
  free(all);
  return unit;
}

static const m4n_report_row *row_of(const m4n_report *r, int policy, int unit) {
  for (int i = 0; i < r->n_rows; i++)
    if (r->row[i].policy == policy && r->row[i].unit == unit) return &r->row[i];
  return NULL;
}

// Reads the logs once more for the one episode.
static int fetch(const m4n_report *r, timeline *t, int which) {
  const m4n_report_policy *policy = &r->policy[t->policy[which]];
  const m4n_report_row *row = row_of(r, t->policy[which], t->unit);
  char *path = m4n_path_join(r->folder[policy->folder], "events.bin");
  m4n_events_file *file = NULL;
  int status = path && row ? m4n_events_open(&file, path) : m4n_fail(M4N_ENOMEM, "no memory for a plot");
  free(path);
  M4N_TRY(status);
  m4n_episode e;
  for (bool more = true; !status && more && !t->value[which];) {
    status = m4n_events_next(file, &e, &more);
    if (status || !more || e.policy != policy->index || e.episode != row->episode || e.set != row->set ||
        e.steps != row->steps || e.flags != row->flags)
      continue;
    double *out = t->value[which] = calloc((size_t)e.steps * 5 + 1, sizeof *out);
    if (!out) status = m4n_fail(M4N_ENOMEM, "no memory for a plot");
    for (int s = 0; s < e.steps && !status; s++) {
      *out++ = (double)e.sim_time_ns[s] * 1e-9;
      for (int i = 0; i < 4; i++) *out++ = e.info[(size_t)s * (size_t)r->spec.n_info + (size_t)t->info[i]];
    }
    t->steps[which] = e.steps;
    t->end[which] = (double)e.sim_time_ns[e.steps] * 1e-9;
  }
  m4n_events_free(file);
  return status;
}

// Row s: from its beginning on a download's link rate and bitrate hold; the buffer is what the step before left.
static int write_timeline(const m4n_drawing *d, const timeline *t) {
  static const char *const what[] = {"time_s", "link_mbps", "bitrate_mbps", "buffer_s", "rebuffer_s"};
  m4n_writer csv;
  char number[32];
  M4N_TRY(m4n_plot_csv(d, &csv, "timeline"));
  int longest = 0;
  for (int p = 0; p < t->n; p++) {
    for (int i = 0; i < 5; i++)
      m4n_plot_heading(csv.stream, !p && !i, d->report->policy[t->policy[p]].name, what[i]);
    if (t->steps[p] > longest) longest = t->steps[p];
  }
  for (int s = 0; s <= longest; s++)
    for (int p = 0; p < t->n; p++) {
      double cell[] = {NAN, NAN, NAN, NAN, NAN};
      const double *now = t->value[p] + (size_t)s * 5, *last = now - 5;
      if (s < t->steps[p]) {
        memcpy(cell, now, sizeof cell);
        cell[3] = s ? last[3] : NAN;
      } else if (s == t->steps[p]) {
        cell[0] = t->end[p];
        memcpy(cell + 1, last + 1, 3 * sizeof *cell);
      }
      for (int i = 0; i < 5; i++)
        fprintf(csv.stream, "%s%s", p || i ? "," : "\n", m4n_text_number(number, cell[i]));
    }
  putc('\n', csv.stream);
  return m4n_writer_commit(&csv);
}

static void script_timeline(m4n_drawing *d, const timeline *t) {
  const m4n_report *r = d->report;
  char name[80];
  fputs("set multiplot layout 2,1\nset lmargin 8\nset rmargin 2\nset bmargin 0.6\nset tmargin 2\nset key "
        "above\nset format x ''\n"
        "set ylabel 'Mbit/s'\nset yrange [0:*]\nset style fill solid 1 noborder\n",
        d->script);
  fputs("plot 'timeline.csv' skip 1 using 1:2 with fillsteps lc rgb '#dcdcdc' title 'link'", d->script);
  for (int p = 0; p < t->n; p++)
    fprintf(d->script,
            ", \\\n  '' skip 1 using %d:%d with steps lw 2.2 dt %d lc rgb '%s' title 'bitrate, %s'",
            5 * p + 1, 5 * p + 3, p + 1, m4n_plot_colour(t->policy[p]),
            m4n_plot_text(name, r->policy[t->policy[p]].name));
  fputs("\nset format x '%g'\nset tmargin 0.6\nset bmargin 5.5\nset key below\nset xlabel 'time (s)'\nset "
        "ylabel 'buffer (s)'\nplot ",
        d->script);
  for (int p = 0; p < t->n; p++)
    fprintf(d->script,
            "%s\\\n  'timeline.csv' skip 1 using %d:%d with lines lw 2.2 dt %d lc rgb '%s' title 'buffer, "
            "%s', \\\n"
            "  '' skip 1 using %d:($%d > 0 ? 0 : NaN) with points pt 2 ps 0.9 lw 2 lc rgb '%s' title 'stall'",
            p ? ", " : "", 5 * p + 1, 5 * p + 4, p + 1, m4n_plot_colour(t->policy[p]),
            m4n_plot_text(name, r->policy[t->policy[p]].name), 5 * p + 1, 5 * p + 5,
            m4n_plot_colour(t->policy[p]));
  fputs("\nunset multiplot\n", d->script);
}

static int one_episode(m4n_drawing *d) {
  m4n_report *r = d->report;
  static const char *const name[] = {"link_mbps", "bitrate_mbps", "buffer_s", "rebuffer_s"};
  timeline t = {0};
  for (int i = 0; i < 4; i++)
    if ((t.info[i] = info_of(&r->spec, name[i])) < 0) return M4N_OK;
  for (int i = 0; i < r->n_policies && t.n < SHOWN; i++)
    if (!r->policy[r->order[i]].bound && r->policy[r->order[i]].cell[0].n) t.policy[t.n++] = r->order[i];
  if (!t.n || (t.unit = middle_unit(r, &t)) < 0) return M4N_OK;
  int status = M4N_OK;
  for (int p = 0; p < t.n && !status; p++) status = fetch(r, &t, p);
  bool found = true;
  for (int p = 0; p < t.n; p++) found &= t.value[p] && t.steps[p] > 0;
  if (!status && found) {
    const m4n_report_row *row = row_of(r, t.policy[LEAD], t.unit);
    char caption[512];
    snprintf(caption, sizeof caption,
             "Episode %lld, %s: the one in the middle for %s. Grey is the link's rate during its downloads; "
             "a cross is a stall.",
             (long long)row->episode, row->label[0] ? row->label : "without a name",
             r->policy[t.policy[LEAD]].name);
    const char *kept = m4n_arena_strdup(&r->arena, caption);
    status = kept ? write_timeline(d, &t) : m4n_fail(M4N_ENOMEM, "no memory for a plot");
    if (!status) {
      m4n_plot_begin(d, "timeline", "One episode", kept, 520);
      script_timeline(d, &t);
    }
  }
  for (int p = 0; p < SHOWN; p++) free(t.value[p]);
  return status;
}

int m4n_plot_abr(m4n_drawing *d) {
  M4N_TRY(breakdown(d));
  M4N_TRY(tradeoff(d));
  return one_episode(d);
}
