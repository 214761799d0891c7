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

typedef struct parts {
  double utility, stalls, switches;
} parts;

// Where the task names its weights; the parts sum to its reward.
static int find_parts(const m4n_report *r, int *policy, parts *part) {
  const int figure[] = {m4n_report_find(r, "quality"), m4n_report_find(r, "rebuffer_s"),
                        m4n_report_find(r, "smooth")};
  static const char *const constant[] = {M4N_ABR_REBUFFER, M4N_ABR_SMOOTH};
  double weight[2];
  for (int i = 0; i < 2; i++) {
    int count = 0;
    const double *value = m4n_spec_constant(&r->spec, constant[i], &count);
    if (!value || count != 1) return 0;
    weight[i] = *value;
  }
  int n = with_figures(r, figure, 3, policy);
  for (int i = 0; i < n; i++) {
    const m4n_report_cell *cell = r->policy[policy[i]].cell;
    part[i] =
        (parts){cell[figure[0]].mean, weight[0] * cell[figure[1]].mean, weight[1] * cell[figure[2]].mean};
  }
  return n;
}

static int write_breakdown(const m4n_drawing *d, const int *policy, const parts *part, int n) {
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "breakdown"));
  fputs("policy,utility,rebuffering,smoothness,sum\n", csv.stream);
  for (int i = 0; i < n; i++) {
    char a[32], b[32], c[32], e[32];
    m4n_text_csv(csv.stream, d->report->policy[policy[i]].name);
    fprintf(csv.stream, ",%s,%s,%s,%s\n", m4n_text_plot(a, part[i].utility), m4n_text_plot(b, part[i].stalls),
            m4n_text_plot(c, part[i].switches),
            m4n_text_plot(e, part[i].utility - part[i].stalls - part[i].switches));
  }
  return m4n_writer_commit(&csv);
}

static int breakdown(m4n_drawing *d) {
  int policy[M4N_PLOT_POLICIES];
  parts part[M4N_PLOT_POLICIES];
  int n = find_parts(d->report, policy, part);
  if (!n) return M4N_OK;
  M4N_TRY(write_breakdown(d, policy, part, n));
  double costs[M4N_PLOT_POLICIES], right = 0, worst = 0;
  for (int i = 0; i < n; i++) {
    costs[i] = part[i].stalls + part[i].switches;
    right = fmax(right, part[i].utility);
    worst = fmax(worst, costs[i]);
  }
  double left = m4n_plot_reach(costs, n);
  const char *caption =
      "Means per chunk: the utility of the bitrates to the right, what rebuffering and switching cost "
      "to the left; the diamond is what is left.";
  const char *cut =
      "Means per chunk: the utility of the bitrates to the right, what rebuffering and switching cost to "
      "the left; the diamond is what is left. Bars that reach the edge go on beyond it.";
  m4n_plot_begin(d, "breakdown", "What it is made of", worst > left ? cut : caption, 140 + 34 * n);
  m4n_plot_names(d, policy, n);
  if (left + right > 0)
    fprintf(d->script, "set xrange [%.6g:%.6g]\n", -1.05 * left - 0.02 * right, 1.05 * right);
  fputs("set xlabel 'reward per chunk'\nset style fill solid 0.9 noborder\nset key above horizontal\n"
        "plot 'breakdown.csv' skip 1 \\\n"
        "     using 2:0:(0):2:($0-0.36):($0+0.36) with boxxyerror lc rgb '#56B4E9' title 'bitrate utility', "
        "\\\n"
        "  '' skip 1 using (-$3):0:(-$3):(0):($0-0.36):($0+0.36) with boxxyerror lc rgb '#D55E00' \\\n"
        "     title 'rebuffering penalty', \\\n"
        "  '' skip 1 using (-$3):0:(-$3-$4):(-$3):($0-0.36):($0+0.36) with boxxyerror lc rgb '#E69F00' \\\n"
        "     title 'smoothness penalty', \\\n"
        "  '' skip 1 using 5:0 with points pt 13 ps 1.1 lc rgb '#000000' title 'sum'\n",
        d->script);
  return M4N_OK;
}

/* ---- quality against the share of time stalled */

static int write_tradeoff(const m4n_drawing *d, const int *policy, int n, const int *figure) {
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "tradeoff"));
  fputs("policy,stalled_percent,low,high,utility,low,high\n", csv.stream);
  for (int i = 0; i < n; i++) {
    m4n_text_csv(csv.stream, d->report->policy[policy[i]].name);
    for (int f = 0; f < 2; f++) {
      const m4n_report_cell *c = &d->report->policy[policy[i]].cell[figure[f]];
      double unit = f ? 1 : 100, values[] = {c->mean * unit, c->ci.low * unit, c->ci.high * unit};
      char number[32];
      for (int v = 0; v < 3; v++) fprintf(csv.stream, ",%s", m4n_text_plot(number, values[v]));
    }
    putc('\n', csv.stream);
  }
  return m4n_writer_commit(&csv);
}

// A caption that names the policies that stall too much to be in the picture.
static const char *tradeoff_caption(m4n_report *r, const int *policy, const double *stalled, int n,
                                    double reach) {
  char outside[256] = "", caption[512];
  for (int i = 0; i < n; i++) {
    size_t used = strlen(outside);
    if (stalled[i] > reach)
      snprintf(outside + used, sizeof outside - used, "%s%s",
               used ? ", " : " Too far left to be shown: ", r->policy[policy[i]].name);
  }
  snprintf(caption, sizeof caption,
           "Means over episodes with 95 %% intervals; better is up and to the right.%s", outside);
  return m4n_text_clean(&r->arena, caption);
}

static int tradeoff(m4n_drawing *d) {
  m4n_report *r = d->report;
  const int figure[] = {m4n_report_find(r, "rebuffer_ratio"), m4n_report_find(r, "quality")};
  int policy[M4N_PLOT_POLICIES], n = with_figures(r, figure, 2, policy);
  if (!n) return M4N_OK;
  M4N_TRY(write_tradeoff(d, policy, n, figure));
  double stalled[M4N_PLOT_POLICIES], widest = 0;
  for (int i = 0; i < n; i++) stalled[i] = 100 * r->policy[policy[i]].cell[figure[0]].mean;
  double reach = m4n_plot_reach(stalled, n);
  for (int i = 0; i < n; i++)
    if (stalled[i] <= reach) widest = fmax(widest, 100 * r->policy[policy[i]].cell[figure[0]].ci.high);
  const char *caption = tradeoff_caption(r, policy, stalled, n, reach);
  if (!caption) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
  m4n_plot_begin(d, "tradeoff", "Quality against stalls", caption, 480);
  fprintf(
      d->script,
      "set xlabel 'share of time stalled (%%), less to the right'\nset ylabel 'bitrate utility per chunk'\n"
      "set xrange [%.6g:0]\nset key above horizontal\nset offsets 0, 0, graph 0.06, graph 0.06\nplot ",
      widest > 0 ? 1.05 * widest : 1);
  const char *comma = "";
  for (int i = 0; i < n; i++) {
    static const int mark[] = {7, 5, 9, 13, 11, 6, 4, 8};
    char name[80];
    if (stalled[i] > reach) continue;
    fprintf(d->script,
            "%s\\\n  'tradeoff.csv' skip 1 every ::%d::%d using 2:5:3:4:6:7 with xyerrorbars pt %d ps 1 lw "
            "1.6 lc rgb "
            "'%s' title '%s'",
            comma, i, i, mark[i % 8], m4n_plot_colour(r, policy[i]),
            m4n_plot_text(name, r->policy[policy[i]].name));
    comma = ", ";
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
        fprintf(csv.stream, "%s%s", p || i ? "," : "\n", m4n_text_plot(number, cell[i]));
    }
  putc('\n', csv.stream);
  return m4n_writer_commit(&csv);
}

static void script_timeline(m4n_drawing *d, const timeline *t) {
  const m4n_report *r = d->report;
  char name[80];
  fputs("set multiplot\nset lmargin at screen 0.11\nset rmargin at screen 0.97\nset yrange [0:*]\n"
        "set offsets 0, 0, graph 0.08, 0\nset style fill solid 1 noborder\n"
        "set tmargin at screen 0.88\nset bmargin at screen 0.49\nset format x ''\nset ylabel 'Mbit/s' offset "
        "1,0\n"
        "set key at screen 0.97, screen 0.99 right top maxrows 2\n"
        "plot 'timeline.csv' skip 1 using 1:2 with fillsteps lc rgb '#dcdcdc' title 'link', \\\n"
        "  NaN with points pt 2 ps 0.9 lw 2 lc rgb '#444444' title 'stall'",
        d->script);
  for (int p = 0; p < t->n; p++)
    fprintf(d->script,
            ", \\\n  'timeline.csv' skip 1 using %d:%d with steps lw 2.2 dt %d lc rgb '%s' title '%s'",
            5 * p + 1, 5 * p + 3, p + 1, m4n_plot_colour(r, t->policy[p]),
            m4n_plot_text(name, r->policy[t->policy[p]].name));
  fputs("\nset tmargin at screen 0.45\nset bmargin at screen 0.13\nset format x '%g'\nunset key\n"
        "set xlabel 'time (s)' offset 0,0.5\nset ylabel 'buffer (s)' offset 1,0\nplot ",
        d->script);
  for (int p = 0; p < t->n; p++)
    fprintf(d->script,
            "%s\\\n  'timeline.csv' skip 1 using %d:%d with lines lw 2.2 dt %d lc rgb '%s', \\\n"
            "  '' skip 1 using %d:($%d > 0 ? 0 : NaN) with points pt 2 ps 0.9 lw 2 lc rgb '%s'",
            p ? ", " : "", 5 * p + 1, 5 * p + 4, p + 1, m4n_plot_colour(r, t->policy[p]), 5 * p + 1,
            5 * p + 5, m4n_plot_colour(r, t->policy[p]));
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
