/* The table of units to means with intervals, paired differences and the order of the policies. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_data.h"
#include "kernels/base/status.h"

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for the report's statistics");
}

// The table is a matrix already: units are its rows, (policy, figure) its columns.
static int fill_cells(m4n_report *r, const m4n_bootstrap *options) {
  int columns = r->n_policies * r->n_figures;
  m4n_interval *ci = calloc((size_t)columns + 1, sizeof *ci);
  double *values = calloc((size_t)r->n_units + 1, sizeof *values);
  int status = ci && values ? m4n_bootstrap_means(ci, r->table, r->n_units, columns, options) : no_memory();
  for (int p = 0; p < r->n_policies && !status; p++)
    for (int f = 0; f < r->n_figures; f++) {
      m4n_report_cell *cell = &r->policy[p].cell[f];
      for (int u = 0; u < r->n_units; u++) values[u] = *m4n_report_value(r, u, p, f);
      cell->mean = m4n_mean(values, r->n_units, &cell->n);
      m4n_sort(values, r->n_units);
      cell->median = m4n_quantile(values, cell->n, 0.5);
      cell->p5 = m4n_quantile(values, cell->n, 0.05);
      cell->p95 = m4n_quantile(values, cell->n, 0.95);
      cell->ci = ci[p * r->n_figures + f];
    }
  free(ci);
  free(values);
  return status;
}

// Of policy x and y: how much better x is, by the first figure.
static double lead(const m4n_report *r, int x, int y) {
  double a = r->policy[x].cell[0].mean, b = r->policy[y].cell[0].mean;
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b) ? 0 : isnan(a) ? -1 : 1;
  return r->figure[0].better < 0 ? b - a : a - b;
}

// Insertion keeps the header's order among equals; there are few policies.
static int order_policies(m4n_report *r) {
  r->order = calloc((size_t)r->n_policies + 1, sizeof *r->order);
  if (!r->order) return no_memory();
  for (int p = 0; p < r->n_policies; p++) {
    int at = p;
    for (; at > 0 && lead(r, p, r->order[at - 1]) > 0; at--) r->order[at] = r->order[at - 1];
    r->order[at] = p;
  }
  for (int i = r->n_policies - 1; i >= 0; i--)
    if (!r->policy[r->order[i]].bound && r->policy[r->order[i]].cell[0].n) r->best = r->order[i];
  return M4N_OK;
}

// All pairs, the better policy first; of very many policies only those with the best.
static int list_pairs(m4n_report *r) {
  bool all = r->n_policies <= M4N_ALL_PAIRS;
  size_t most = all ? (size_t)r->n_policies * (size_t)r->n_policies / 2 : (size_t)r->n_policies;
  r->pair = calloc(most + 1, sizeof *r->pair);
  if (!r->pair) return no_memory();
  for (int i = 0; i < r->n_policies; i++)
    for (int j = i + 1; j < r->n_policies; j++) {
      int a = r->order[i], b = r->order[j];
      if (all || a == r->best || b == r->best) r->pair[r->n_pairs++] = (m4n_report_pair){.a = a, .b = b};
    }
  return M4N_OK;
}

static int compare_pairs(m4n_report *r, const m4n_bootstrap *options) {
  size_t pairs = (size_t)r->n_pairs, units = (size_t)r->n_units;
  double *difference = calloc(pairs * units + 1, sizeof *difference);
  double *column = calloc(units + 1, sizeof *column), *p = calloc(pairs + 1, sizeof *p);
  m4n_interval *ci = calloc(pairs + 1, sizeof *ci);
  int status = difference && column && p && ci ? M4N_OK : no_memory();
  for (size_t u = 0; u < units && !status; u++)
    for (size_t i = 0; i < pairs; i++)
      difference[u * pairs + i] =
          *m4n_report_value(r, (int)u, r->pair[i].a, 0) - *m4n_report_value(r, (int)u, r->pair[i].b, 0);
  if (!status) status = m4n_bootstrap_means(ci, difference, r->n_units, r->n_pairs, options);
  for (size_t i = 0; i < pairs && !status; i++) {
    m4n_report_pair *pair = &r->pair[i];
    for (size_t u = 0; u < units; u++) column[u] = difference[u * pairs + i];
    pair->mean = m4n_mean(column, r->n_units, &pair->n);
    pair->ci = ci[i];
    status = m4n_wilcoxon(&pair->p, column, r->n_units);
    p[i] = pair->p;
  }
  if (!status) status = m4n_holm(p, p, r->n_pairs);
  for (size_t i = 0; i < pairs && !status; i++) r->pair[i].p_holm = p[i];
  free(difference);
  free(column);
  free(p);
  free(ci);
  return status;
}

// A very long log gets fewer resamples, at least 1,000: its report shall not take minutes.
static int affordable(const m4n_report *r, int resamples) {
  const int64_t draws = 200000000;
  if (!resamples) resamples = 10000;
  if (resamples <= 1000 || (int64_t)resamples * r->n_units <= draws) return resamples;
  return draws / r->n_units > 1000 ? (int)(draws / r->n_units) : 1000;
}

static bool same_for_all(const m4n_report *r, int figure) {
  for (int u = 0; u < r->n_units; u++) {
    double first = NAN;
    for (int p = 0; p < r->n_policies; p++) {
      double x = *m4n_report_value(r, u, p, figure);
      if (isnan(first)) first = x;
      if (!isnan(x) && x != first) return false;
    }
  }
  return true;
}

static void find_conditions(m4n_report *r) {
  for (int f = 1; f < r->n_figures; f++)
    r->figure[f].condition = r->figure[f].better == 0 && r->n_units > 0 && same_for_all(r, f);
}

int m4n_report_analyse(m4n_report *r, int resamples) {
  resamples = affordable(r, resamples);
  find_conditions(r);
  m4n_bootstrap options = {.resamples = resamples, .seed = r->seed};
  M4N_TRY(fill_cells(r, &options));
  M4N_TRY(order_policies(r));
  M4N_TRY(list_pairs(r));
  return compare_pairs(r, &options);
}

int m4n_report_verdict(const m4n_report_pair *pair) {
  return pair->ci.low > 0 ? 1 : pair->ci.high < 0 ? -1 : 0;
}

double m4n_report_scale(const m4n_report *r, int figure) {
  double *size = calloc((size_t)r->n_policies + 1, sizeof *size), scale = 1;
  for (int p = 0; size && p < r->n_policies; p++) {
    const m4n_report_cell *c = &r->policy[p].cell[figure];
    size[p] = isnan(c->mean) ? NAN : fmax(fabs(c->mean), (c->ci.high - c->ci.low) / 2);
  }
  if (size) scale = m4n_quantile(size, m4n_sort(size, r->n_policies), 0.5);
  free(size);
  return isnan(scale) ? 1 : scale;
}
