#include "agent/learn/report_ablation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_data.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

// What a row of the table says of a quantity: of the values, or of their differences to the full method's.
typedef struct figures {
  int n; // episodes
  double mean, seed_low, seed_high;
  m4n_interval ci;
} figures;

typedef struct line {
  const char *name, *settings;
  int *policy; // [seeds] of the report
  figures value, difference;
  double p;
} line;

typedef struct ablation {
  const m4n_ablation_runs *runs;
  m4n_report report;
  line *line; // [n] variants, then other policies of the full runs
  int n;
  double *x; // [units][2n] values, then differences
} ablation;

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for an ablation's table");
}

// ---- whose episodes are whose -------------------------------------------------------------------------------------------

// The policy of that name in a run; −1: it was not evaluated there.
static int find(const ablation *a, int folder, const char *name) {
  for (int i = 0; i < a->report.n_policies; i++)
    if (a->report.policy[i].folder == folder && !strcmp(a->report.policy[i].own_name, name)) return i;
  return -1;
}

static int add_line(ablation *a, const char *name, const char *settings, int variant, const char *policy) {
  const int seeds = a->runs->seeds;
  line *l = &a->line[a->n++];
  *l = (line){.name = name,
              .settings = settings,
              .policy = m4n_arena_alloc(&a->report.arena, (size_t)seeds * sizeof(int))};
  if (!l->policy) return no_memory();
  for (int s = 0; s < seeds; s++)
    if ((l->policy[s] = find(a, variant * seeds + s, policy)) < 0)
      return m4n_fail_at(M4N_EARG, a->runs->folder[variant * seeds + s], 0, NULL, "has no episodes of '%s'",
                         policy);
  return M4N_OK;
}

static int list_lines(ablation *a) {
  const m4n_ablation_runs *runs = a->runs;
  a->line = calloc((size_t)(runs->n + a->report.n_policies), sizeof *a->line);
  if (!a->line) return no_memory();
  for (int v = 0; v < runs->n; v++)
    M4N_TRY(add_line(a, runs->row[v].name, runs->row[v].settings, v, runs->policy));
  for (int i = 0; i < a->report.n_policies && a->report.policy[i].folder == 0; i++) {
    const char *name = a->report.policy[i].own_name;
    if (strcmp(name, runs->policy) != 0) M4N_TRY(add_line(a, name, "", 0, name));
  }
  return M4N_OK;
}

// ---- figures ---------------------------------------------------------------------------------------------------------------

// Of one seed's run on one episode: the line's value, or its difference to the full method's. NaN: not played by both.
static double value_of(const ablation *a, const line *l, int unit, int seed, bool difference) {
  const double value = *m4n_report_value(&a->report, unit, l->policy[seed], 0);
  return difference ? value - *m4n_report_value(&a->report, unit, a->line[0].policy[seed], 0) : value;
}

static double mean_of_seeds(const ablation *a, const line *l, int unit, bool difference) {
  double sum = 0;
  int n = 0;
  for (int s = 0; s < a->runs->seeds; s++) {
    const double x = value_of(a, l, unit, s, difference);
    if (!isnan(x)) sum += x, n++;
  }
  return n ? sum / n : NAN;
}

static void spread_of_seeds(const ablation *a, const line *l, bool difference, double *column, figures *to) {
  to->seed_low = INFINITY, to->seed_high = -INFINITY;
  for (int s = 0; s < a->runs->seeds; s++) {
    for (int u = 0; u < a->report.n_units; u++) column[u] = value_of(a, l, u, s, difference);
    const double mean = m4n_mean(column, a->report.n_units, NULL);
    to->seed_low = fmin(to->seed_low, mean), to->seed_high = fmax(to->seed_high, mean);
  }
}

static int fill_line(ablation *a, int i, const m4n_interval *ci, double *column) {
  line *l = &a->line[i];
  const int units = a->report.n_units;
  for (int d = 0; d < 2; d++) {
    figures *to = d ? &l->difference : &l->value;
    spread_of_seeds(a, l, d, column, to);
    for (int u = 0; u < units; u++) column[u] = a->x[(size_t)u * 2 * (size_t)a->n + (size_t)(d * a->n + i)];
    to->mean = m4n_mean(column, units, &to->n);
    to->ci = ci[d * a->n + i];
  }
  return m4n_wilcoxon(&l->p, column, units); // of the differences
}

static int compute(ablation *a) {
  const int units = a->report.n_units, columns = 2 * a->n;
  const m4n_bootstrap options = {.seed = a->report.seed};
  double *column = malloc(((size_t)units + 1) * sizeof *column), *p = malloc((size_t)a->n * sizeof *p);
  m4n_interval *ci = malloc((size_t)columns * sizeof *ci);
  a->x = malloc(((size_t)units * (size_t)columns + 1) * sizeof *a->x);
  int status = column && p && ci && a->x ? M4N_OK : no_memory();
  for (int u = 0; u < units && !status; u++)
    for (int i = 0; i < columns; i++)
      a->x[(size_t)u * (size_t)columns + (size_t)i] = mean_of_seeds(a, &a->line[i % a->n], u, i >= a->n);
  if (!status) status = m4n_bootstrap_means(ci, a->x, units, columns, &options);
  for (int i = 0; i < a->n && !status; i++) status = fill_line(a, i, ci, column);
  for (int i = 1; i < a->n; i++) p[i - 1] = a->line[i].p;
  if (!status) status = m4n_holm(p, p, a->n - 1);
  for (int i = 1; i < a->n && !status; i++) a->line[i].p = p[i - 1];
  free(column);
  free(p);
  free(ci);
  return status;
}

// ---- outputs -----------------------------------------------------------------------------------------------------------------

static void put_figures(FILE *out, const figures *f) {
  const double all[] = {f->mean, f->ci.low, f->ci.high, f->seed_low, f->seed_high};
  char number[32];
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) fprintf(out, ",%s", m4n_text_number(number, all[i]));
}

static int write_csv(const ablation *a, const char *path) {
  m4n_writer writer;
  M4N_TRY(m4n_writer_open(&writer, path));
  FILE *out = writer.stream;
  fputs("variant,settings,seeds,episodes,mean,low,high,seed_low,seed_high,difference,difference_low,"
        "difference_high,"
        "difference_seed_low,difference_seed_high,p_holm\n",
        out);
  for (int i = 0; i < a->n; i++) {
    const line *l = &a->line[i];
    char number[32];
    m4n_text_csv(out, l->name);
    putc(',', out);
    m4n_text_csv(out, l->settings);
    fprintf(out, ",%d,%d", a->runs->seeds, l->value.n);
    put_figures(out, &l->value);
    put_figures(out, &l->difference);
    fprintf(out, ",%s\n", m4n_text_number(number, i ? l->p : NAN));
  }
  return m4n_writer_commit(&writer);
}

// "1.074 [0.912, 1.203]  1.060 … 1.088"
static void figures_text(char text[160], const figures *f, double scale, int seeds) {
  char m[32], l[32], h[32], from[32], to[32];
  const int n = snprintf(text, 160, "%s [%s, %s]", m4n_text_short(m, f->mean, scale),
                         m4n_text_short(l, f->ci.low, scale), m4n_text_short(h, f->ci.high, scale));
  if (seeds > 1)
    snprintf(text + n, 160 - (size_t)n, "  (%s … %s)", m4n_text_short(from, f->seed_low, scale),
             m4n_text_short(to, f->seed_high, scale));
}

// The ellipsis is one column and three bytes.
static int width_of(const char *text) {
  int n = 0;
  for (; *text; text++) n += (*text & 0xC0) != 0x80;
  return n;
}

static void put(FILE *out, const char *text, int width) {
  fprintf(out, "%s%*s  ", text, width - width_of(text), "");
}

static void write_table(const ablation *a, FILE *out) {
  const m4n_report *r = &a->report;
  double scale = 1e-9;
  int width[2] = {7, 0};
  char text[160];
  for (int i = 0; i < a->n; i++) scale = fmax(scale, fabs(a->line[i].value.mean));
  for (int i = 0; i < a->n; i++) {
    if (width_of(a->line[i].name) > width[0]) width[0] = width_of(a->line[i].name);
    figures_text(text, &a->line[i].value, scale, a->runs->seeds);
    if (width_of(text) > width[1]) width[1] = width_of(text);
  }
  fprintf(out, "%s%s%s of '%s' over %d episodes, seeds: %d; mean [95 %% interval over episodes]%s\n\n",
          r->scenario, r->scenario[0] ? ": " : "", r->figure[0].name, a->runs->policy, a->line[0].value.n,
          a->runs->seeds, a->runs->seeds > 1 ? "  (lowest and highest seed)" : "");
  put(out, "variant", width[0]);
  put(out, r->figure[0].name, width[1]);
  fprintf(out, "minus %s, episode by episode; p corrected by Holm\n", a->line[0].name);
  for (int i = 0; i < a->n; i++) {
    const line *l = &a->line[i];
    put(out, l->name, width[0]);
    figures_text(text, &l->value, scale, a->runs->seeds);
    put(out, text, width[1]);
    figures_text(text, &l->difference, scale, a->runs->seeds);
    if (i) fprintf(out, "%s  p = %.2g", text, l->p);
    putc('\n', out);
  }
  fputs("\nvariants:\n", out);
  for (int i = 1; i < a->runs->n; i++) fprintf(out, "  %s: %s\n", a->line[i].name, a->line[i].settings);
  fputs("how the models were made:\n", out);
  for (int i = 0; i < a->runs->n; i++)
    fprintf(out, "  %s: %s\n", a->line[i].name, r->policy[a->line[i].policy[0]].about);
}

static int write_all(const ablation *a, const char *out, FILE *table) {
  char *csv = m4n_path_join(out, "ablation.csv"), *txt = m4n_path_join(out, "ablation.txt");
  m4n_writer writer;
  int status = csv && txt ? write_csv(a, csv) : no_memory();
  if (!status) status = m4n_writer_open(&writer, txt);
  if (!status) {
    write_table(a, writer.stream);
    status = m4n_writer_commit(&writer);
  }
  free(csv);
  free(txt);
  if (!status && table) write_table(a, table);
  return status;
}

int m4n_ablation_write(const char *out, const m4n_ablation_runs *runs, FILE *table) {
  ablation a = {.runs = runs};
  int status = m4n_report_collect(&a.report, runs->folder, runs->n * runs->seeds);
  if (!status) status = list_lines(&a);
  if (!status) status = compute(&a);
  if (!status) status = write_all(&a, out, table);
  free(a.line);
  free(a.x);
  m4n_report_free(&a.report);
  return status;
}
