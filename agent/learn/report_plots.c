/* The plots of a report: for each a CSV with its numbers and a few lines of one gnuplot script. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/learn/report_data.h"
#include "agent/learn/report_gnuplot.h"
#include "agent/learn/report_plots.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { SECONDS = 20, MAX_SVG = 8 << 20, CDF_ROWS = 1000 };

// Okabe and Ito's colours, which the colour-blind tell apart; a second round is dashed.
static const char *const palette[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                      "#E69F00", "#56B4E9", "#000000", "#8C6D31"};
enum { COLOURS = sizeof palette / sizeof *palette };

// The how manyth a policy is, bounds not counted.
static int rank_of(const m4n_report *r, int policy) {
  int rank = policy;
  for (int p = 0; p < policy; p++) rank -= r->policy[p].bound;
  return rank;
}

const char *m4n_plot_colour(const m4n_report *r, int policy) {
  return r->policy[policy].bound ? "#808080" : palette[rank_of(r, policy) % COLOURS];
}

int m4n_plot_dashes(const m4n_report *r, int policy) {
  return r->policy[policy].bound ? 2 : 1 + rank_of(r, policy) / COLOURS % 4;
}

const char *m4n_plot_text(char out[80], const char *text) {
  size_t n = 0;
  for (; *text && n < 79; text++)
    out[n++] = strchr("'\"\\`<>&", *text) || (unsigned char)*text < ' ' ? '_' : *text;
  while (n && (out[n - 1] & 0xC0) == 0x80 && n == 79) n--; // a character that is cut in two
  out[n] = 0;
  return out;
}

int m4n_plot_csv(const m4n_drawing *d, m4n_writer *writer, const char *name) {
  char file[64];
  snprintf(file, sizeof file, "%s.csv", name);
  char *path = m4n_path_join(d->folder, file);
  if (!path) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
  int status = m4n_writer_open(writer, path);
  free(path);
  return status;
}

// A name of two words as one cell of a heading: "bba share".
void m4n_plot_heading(FILE *out, bool first, const char *policy, const char *what) {
  char text[512];
  snprintf(text, sizeof text, "%s %s", policy, what);
  if (!first) putc(',', out);
  m4n_text_csv(out, text);
}

const char *m4n_plot_axis(char out[160], const m4n_report_figure *figure) {
  char name[80], unit[80];
  m4n_plot_text(name, figure->name);
  m4n_plot_text(unit, figure->unit);
  snprintf(out, 160, unit[0] ? "%s (%s)" : "%s", name, unit);
  return out;
}

void m4n_plot_begin(m4n_drawing *d, const char *name, const char *title, const char *caption, int height) {
  d->plots[d->n++] = (m4n_report_plot){.name = name, .title = title, .caption = caption};
  d->height[d->n - 1] = height;
  fprintf(d->script,
          "\nreset\nset terminal svg noenhanced size %d,%d dynamic font 'Helvetica,14' background '#ffffff'\n"
          "set output '%s.svg'\nset datafile separator ','\nset border 3 lc rgb '#444444'\nset tics nomirror "
          "out\n"
          "set grid lc rgb '#dddddd' lw 0.7\nset key noopaque samplen 2.5\n",
          M4N_PLOT_WIDTH, height, name);
}

int m4n_plot_drawn(const m4n_report *r, int policy[M4N_PLOT_POLICIES]) {
  int n = 0;
  for (int i = 0; i < r->n_policies && n < M4N_PLOT_POLICIES; i++)
    if (r->policy[r->order[i]].cell[0].n) policy[n++] = r->order[i];
  return n;
}

/* ---- how the first figure is distributed over the episodes */

// The x range: all episodes but the far tails of each policy, and without policies that are out of reach.
static bool cdf_range(m4n_drawing *d, const int *policy, int n, const double *sorted) {
  const m4n_report *r = d->report;
  double sign = r->figure[0].better < 0 ? 1 : -1, worse[M4N_PLOT_POLICIES], least = 0, most = 0, low = 0,
         high = 0;
  for (int i = 0; i < n; i++) worse[i] = sign * r->policy[policy[i]].cell[0].mean;
  double reach = m4n_plot_reach(worse, n);
  bool first = true, cut = false;
  for (int i = 0; i < n; i++) {
    int count = r->policy[policy[i]].cell[0].n;
    const double *column = sorted + (size_t)i * (size_t)r->n_units;
    least = i ? fmin(least, column[0]) : column[0];
    most = i ? fmax(most, column[count - 1]) : column[count - 1];
    if (worse[i] > reach) continue;
    double low3 = m4n_quantile(column, count, 0.03), high3 = m4n_quantile(column, count, 0.97);
    low = first ? low3 : fmin(low, low3);
    high = first ? high3 : fmax(high, high3);
    first = false;
  }
  double width = high - low;
  if (least < low - width / 2)
    cut = true;
  else
    low = least;
  if (most > high + width / 2)
    cut = true;
  else
    high = most;
  if (high > low)
    fprintf(d->script, "set xrange [%.6g:%.6g]\n", low - 0.02 * (high - low), high + 0.02 * (high - low));
  return cut;
}

// [n][n_units], each policy's values in order, NaN behind.
static double *sorted_values(const m4n_report *r, const int *policy, int n) {
  double *sorted = malloc(((size_t)n * (size_t)r->n_units + 1) * sizeof *sorted);
  for (int i = 0; sorted && i < n; i++) {
    double *column = sorted + (size_t)i * (size_t)r->n_units;
    for (int u = 0; u < r->n_units; u++) column[u] = *m4n_report_value(r, u, policy[i], 0);
    m4n_sort(column, r->n_units);
  }
  return sorted;
}

// Row k: the k-th value and k/n; row 0 is where the line leaves the axis. Of very many episodes every so manyth.
static int write_cdf(const m4n_drawing *d, const int *policy, int n, const double *sorted) {
  const m4n_report *r = d->report;
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "cdf"));
  int rows = 0;
  for (int i = 0; i < n; i++) {
    if (r->policy[policy[i]].cell[0].n > rows) rows = r->policy[policy[i]].cell[0].n;
    m4n_plot_heading(csv.stream, i == 0, r->policy[policy[i]].name, r->figure[0].name);
    m4n_plot_heading(csv.stream, false, r->policy[policy[i]].name, "share");
  }
  if (rows > CDF_ROWS) rows = CDF_ROWS;
  for (int k = 0; k <= rows; k++)
    for (int i = 0; i < n; i++) {
      int count = r->policy[policy[i]].cell[0].n;
      int at = count <= rows ? k : (int)(((int64_t)k * count + rows - 1) / rows);
      char number[32];
      putc(i ? ',' : '\n', csv.stream);
      if (at > count)
        putc(',', csv.stream);
      else
        fprintf(csv.stream, "%s,%.6g",
                m4n_text_plot(number, sorted[(size_t)i * (size_t)r->n_units + (size_t)(at ? at - 1 : 0)]),
                (double)at / count);
    }
  putc('\n', csv.stream);
  return m4n_writer_commit(&csv);
}

static int cdf(m4n_drawing *d) {
  const m4n_report *r = d->report;
  int policy[M4N_PLOT_POLICIES], n = m4n_plot_drawn(r, policy);
  double *sorted = sorted_values(r, policy, n);
  int status = sorted ? write_cdf(d, policy, n, sorted) : m4n_fail(M4N_ENOMEM, "no memory for a plot");
  if (!status) {
    m4n_plot_begin(d, "cdf", "Distribution over episodes", NULL, 460);
    d->plots[d->n - 1].caption =
        cdf_range(d, policy, n, sorted)
            ? "Share of episodes at or below a value. The axis leaves out the far tails; the CSV holds them."
            : "Share of episodes at or below a value.";
  }
  free(sorted);
  M4N_TRY(status);
  char text[160], name[80];
  fprintf(d->script,
          "set xlabel '%s of an episode'\nset ylabel 'share of episodes'\nset yrange [0:1]\n"
          "set key above horizontal\nplot ",
          m4n_plot_axis(text, &r->figure[0]));
  for (int i = 0; i < n; i++)
    fprintf(d->script, "%s\\\n  'cdf.csv' skip 1 using %d:%d with steps lw 2 dt %d lc rgb '%s' title '%s'",
            i ? ", " : "", 2 * i + 1, 2 * i + 2, m4n_plot_dashes(r, policy[i]), m4n_plot_colour(r, policy[i]),
            m4n_plot_text(name, r->policy[policy[i]].name));
  putc('\n', d->script);
  return M4N_OK;
}

/* ---- means with intervals */

// Names at the left, the best on top.
void m4n_plot_names(m4n_drawing *d, const int *policy, int n) {
  char name[80];
  fputs("set ytics (", d->script);
  for (int i = 0; i < n; i++)
    fprintf(d->script, "%s'%s' %d", i ? ", " : "", m4n_plot_text(name, d->report->policy[policy[i]].name), i);
  fprintf(d->script,
          ") scale 0\nset yrange [%g:-0.6]\nset grid noytics\nset yzeroaxis lt 1 lc rgb '#444444'\n",
          n - 0.4);
}

double m4n_plot_reach(const double *value, int n) {
  double sorted[M4N_PLOT_POLICIES];
  memcpy(sorted, value, (size_t)n * sizeof *sorted);
  n = m4n_sort(sorted, n);
  if (!n) return 0;
  return fmin(sorted[n - 1], sorted[0] + 4 * (m4n_quantile(sorted, n, 0.5) - sorted[0]));
}

// The x range: zero is in it, and as much of the worse side as m4n_plot_reach allows.
static bool bars_range(m4n_drawing *d, const int *policy, int n) {
  const m4n_report *r = d->report;
  double sign = r->figure[0].better < 0 ? 1 : -1, worse[M4N_PLOT_POLICIES], least = 0, most = 0, worst = 0;
  for (int i = 0; i < n; i++) {
    const m4n_report_cell *c = &r->policy[policy[i]].cell[0];
    worse[i] = sign * (sign > 0 ? c->ci.high : c->ci.low);
    least = fmin(least, c->ci.low), most = fmax(most, c->ci.high);
    worst = i && worst > worse[i] ? worst : worse[i];
  }
  double reach = m4n_plot_reach(worse, n);
  if (sign > 0)
    most = fmax(0, reach);
  else
    least = fmin(0, -reach);
  double margin = 0.12 * (most - least); // for the numbers
  if (most > least)
    fprintf(d->script, "set xrange [%.6g:%.6g]\n", least < 0 ? least - 0.02 * (most - least) : 0,
            most + margin);
  return worst > fmax(0, reach);
}

static int bars(m4n_drawing *d) {
  const m4n_report *r = d->report;
  int policy[M4N_PLOT_POLICIES], n = m4n_plot_drawn(r, policy);
  char text[160], number[32];
  m4n_writer csv;
  M4N_TRY(m4n_plot_csv(d, &csv, "bars"));
  fputs("policy,mean,low,high,n\n", csv.stream);
  for (int i = 0; i < n; i++) {
    const m4n_report_cell *c = &r->policy[policy[i]].cell[0];
    m4n_text_csv(csv.stream, r->policy[policy[i]].name);
    fprintf(csv.stream, ",%s", m4n_text_plot(number, c->mean));
    fprintf(csv.stream, ",%s", m4n_text_plot(number, c->ci.low));
    fprintf(csv.stream, ",%s,%d\n", m4n_text_plot(number, c->ci.high), c->n);
  }
  M4N_TRY(m4n_writer_commit(&csv));
  m4n_plot_begin(d, "bars", "Means", NULL, 90 + 34 * n);
  m4n_plot_names(d, policy, n);
  d->plots[d->n - 1].caption =
      bars_range(d, policy, n)
          ? "Mean over episodes; the whisker is its 95 % bootstrap interval. Bars that reach "
            "the edge go on beyond it: the number beside them is the mean."
          : "Mean over episodes; the whisker is its 95 % bootstrap interval.";
  fprintf(d->script, "set xlabel 'mean %s'\nset style fill solid 0.6 noborder\nunset key\nplot ",
          m4n_plot_axis(text, &r->figure[0]));
  for (int i = 0; i < n; i++)
    fprintf(d->script,
            "%s\\\n  'bars.csv' skip 1 every ::%d::%d using (0):(%d):(0):2:(%d-0.36):(%d+0.36) with "
            "boxxyerror lc rgb '%s'",
            i ? ", " : "", i, i, i, i, i, m4n_plot_colour(r, policy[i]));
  fputs(", \\\n  'bars.csv' skip 1 using 2:0:3:4 with xerrorbars pt 0 lw 1.6 lc rgb '#222222'", d->script);
  for (int i = 0; i < n; i++) {
    const m4n_report_cell *c = &r->policy[policy[i]].cell[0];
    fprintf(d->script,
            ", \\\n  '+' every ::0::0 using (%.9g):(%d):('%s') with labels left offset 0.8,0 font ',12'",
            fmax(c->ci.high, 0), i, m4n_text_short(number, c->mean, m4n_report_scale(r, 0)));
  }
  putc('\n', d->script);
  return M4N_OK;
}

/* ---- all of them */

static int read_svg(m4n_drawing *d, int i) {
  static const char body[] = "<g id=\"gnuplot_canvas\">", end[] = "</svg>";
  m4n_report_plot *plot = &d->plots[i];
  char file[64];
  snprintf(file, sizeof file, "%s.svg", plot->name);
  char *path = m4n_path_join(d->folder, file);
  m4n_map map;
  int status = path ? m4n_map_open(&map, path, MAX_SVG) : m4n_fail(M4N_ENOMEM, "no memory for a plot");
  free(path);
  M4N_TRY(status);
  const char *from = memmem(map.data, map.size, body, strlen(body));
  const char *to =
      from ? memmem(from, map.size - (size_t)(from - (const char *)map.data), end, strlen(end)) : NULL;
  char *svg = to ? m4n_arena_alloc(&d->report->arena, (size_t)(to - from) + 1) : NULL;
  if (svg) memcpy(svg, from, (size_t)(to - from));
  plot->svg = svg;
  plot->height = d->height[i];
  m4n_map_close(&map);
  return svg ? M4N_OK : m4n_fail(M4N_EIO, "gnuplot did not finish %s", file);
}

static int draw(m4n_drawing *d, const char *gnuplot) {
  M4N_TRY(m4n_gnuplot_run(gnuplot, d->folder, "plots.gp", SECONDS));
  for (int i = 0; i < d->n; i++) M4N_TRY(read_svg(d, i));
  return M4N_OK;
}

static int write_script(m4n_drawing *d) {
  m4n_writer writer;
  char *path = m4n_path_join(d->folder, "plots.gp");
  int status = path ? m4n_writer_open(&writer, path) : m4n_fail(M4N_ENOMEM, "no memory for a plot");
  free(path);
  M4N_TRY(status);
  d->script = writer.stream;
  fputs("# Draws this folder's plots again: gnuplot plots.gp\n", d->script);
  status = cdf(d);
  if (!status) status = bars(d);
  if (!status) status = m4n_plot_conditions(d);
  if (!status) status = m4n_plot_abr(d);
  if (!status) status = m4n_plot_training(d);
  if (!status) return m4n_writer_commit(&writer);
  m4n_writer_abort(&writer);
  return status;
}

int m4n_report_plots(m4n_report *r, const char *out, const char *gnuplot, m4n_report_plot *plots, int *n) {
  *n = 0;
  if (r->best < 0 && !r->n_units) return M4N_OK;
  m4n_drawing d = {.report = r, .plots = plots};
  char *folder = m4n_path_join(out, "plots");
  if (!folder) return m4n_fail(M4N_ENOMEM, "no memory for a plot");
  d.folder = folder;
  int status = m4n_mkdirs(folder);
  if (!status) status = write_script(&d);
  if (!status) {
    if (draw(&d, gnuplot))
      m4n_log(M4N_LOG_WARN, "the report has no plots (their CSV files and plots.gp are in %s): %s", folder,
              m4n_error_message());
    else
      *n = d.n;
  }
  free(folder);
  return status;
}
