/* The table for the terminal, and comparisons in words. */
#include <math.h>
#include <string.h>

#include "agent/learn/report_data.h"

enum { LINES = 3 }; /* two of the name, one of the unit */

/* A column: a heading of up to LINES short lines (the name is broken at its underscore), then a text a policy. */
typedef struct column {
  char head[LINES][M4N_NAME];
  int width;
  double scale;
} column;

// Characters, not bytes: a name may be of any script.
static int columns_of(const char *text) {
  int n = 0;
  for (; *text; text++) n += (*text & 0xC0) != 0x80;
  return n;
}

static void head_of(column *c, const m4n_report_figure *figure) {
  int line = 0;
  for (const char *at = figure->name; *at && line < LINES - 1; line++) {
    size_t n = line == LINES - 2 ? strlen(at) : strcspn(at, "_");
    snprintf(c->head[line], sizeof c->head[line], "%.*s", (int)n, at);
    at += n + (at[n] == '_');
  }
  if (figure->unit[0]) snprintf(c->head[LINES - 1], sizeof c->head[0], "%s", figure->unit);
  for (int i = 0; i < LINES; i++)
    if (columns_of(c->head[i]) > c->width) c->width = columns_of(c->head[i]);
}

static void cell_text(const m4n_report *r, int policy, int figure, double scale, char out[96]) {
  const m4n_report_cell *cell = &r->policy[policy].cell[figure];
  char mean[32], low[32], high[32];
  if (figure)
    snprintf(out, 96, "%s", m4n_text_short(mean, cell->mean, scale));
  else
    snprintf(out, 96, "%s [%s, %s]", m4n_text_short(mean, cell->mean, scale),
             m4n_text_short(low, cell->ci.low, scale), m4n_text_short(high, cell->ci.high, scale));
}

static void put_left(FILE *out, const char *text, int width) {
  fprintf(out, "%s%*s", text, width - columns_of(text), "");
}

static void put_right(FILE *out, const char *text, int width) {
  fprintf(out, "  %*s%s", width - columns_of(text), "", text);
}

static void measure(const m4n_report *r, column *all) {
  char text[96];
  for (int f = 0; f < r->n_figures; f++) {
    all[f] = (column){.scale = m4n_report_scale(r, f)};
    head_of(&all[f], &r->figure[f]);
    for (int p = 0; p < r->n_policies; p++) {
      cell_text(r, p, f, all[f].scale, text);
      if (columns_of(text) > all[f].width) all[f].width = columns_of(text);
    }
  }
}

static void put_rows(const m4n_report *r, FILE *out) {
  column all[M4N_MAX_FIGURES];
  char text[96], name[320];
  int width = 6;
  for (int p = 0; p < r->n_policies; p++) {
    int n = columns_of(r->policy[p].name) + (r->policy[p].bound ? 8 : 0);
    if (n > width) width = n;
  }
  measure(r, all);
  for (int line = 0; line < LINES; line++) {
    bool any = line == 0;
    for (int f = 0; f < r->n_figures; f++) any |= m4n_report_shown(r, f) && all[f].head[line][0] != 0;
    if (!any) continue;
    put_left(out, line ? "" : "policy", width);
    put_right(out, line ? "" : "n", 5);
    for (int f = 0; f < r->n_figures; f++)
      if (m4n_report_shown(r, f)) put_right(out, all[f].head[line], all[f].width);
    putc('\n', out);
  }
  for (int i = 0; i < r->n_policies; i++) {
    const m4n_report_policy *p = &r->policy[r->order[i]];
    snprintf(name, sizeof name, "%s%s", p->name, p->bound ? " (bound)" : "");
    snprintf(text, sizeof text, "%d", p->episodes);
    put_left(out, name, width);
    put_right(out, text, 5);
    for (int f = 0; f < r->n_figures; f++) {
      if (!m4n_report_shown(r, f)) continue;
      cell_text(r, r->order[i], f, all[f].scale, text);
      put_right(out, text, all[f].width);
    }
    putc('\n', out);
  }
}

void m4n_report_sentence(const m4n_report *r, const m4n_report_pair *pair, bool from_b, char *out,
                         size_t size) {
  const m4n_report_policy *x = &r->policy[from_b ? pair->b : pair->a],
                          *y = &r->policy[from_b ? pair->a : pair->b];
  const char *figure = r->figure[0].name, *bound = y->bound ? "the bound " : "";
  int verdict = from_b ? -m4n_report_verdict(pair) : m4n_report_verdict(pair), better = r->figure[0].better;
  if (!pair->n) {
    snprintf(out, size, "%s and %s have no episode in common", x->name, y->name);
    return;
  }
  // A difference that the words give its direction is told as a size.
  bool turn = verdict < 0 || (!verdict && from_b);
  bool flip = turn != from_b;
  double mean = flip ? -pair->mean : pair->mean, low = flip ? -pair->ci.high : pair->ci.low;
  double high = flip ? -pair->ci.low : pair->ci.high, scale = fmax(fabs(mean), (high - low) / 2);
  char d[32], l[32], h[32], interval[160];
  m4n_text_short(d, mean, scale);
  snprintf(interval, sizeof interval, "%s %s (95 %% interval %s to %s, p = %.2g, %d episodes)", d, figure,
           m4n_text_short(l, low, scale), m4n_text_short(h, high, scale), pair->p_holm, pair->n);
  if (verdict)
    snprintf(out, size, "%s is %s than %s%s by %s", x->name,
             !better             ? (verdict > 0 ? "higher" : "lower")
             : verdict == better ? "better"
                                 : "worse",
             bound, y->name, interval);
  else
    snprintf(out, size, "%s and %s%s are not distinguishable: difference %s", x->name, bound, y->name,
             interval);
}

static void put_lost(const m4n_report *r, FILE *out) {
  int listed = 0, n = 0;
  for (int i = 0; i < r->n_rows; i++) n += (r->row[i].flags & M4N_LOST) != 0;
  if (n) fprintf(out, "\nlost, and in none of these figures: %d episodes\n", n);
  for (int i = 0; i < r->n_rows && listed < 10; i++) {
    const m4n_report_row *row = &r->row[i];
    if (!(row->flags & M4N_LOST)) continue;
    fprintf(out, "  %s, episode %lld %s, after %d decisions\n", r->policy[row->policy].name,
            (long long)row->episode, row->label, row->steps);
    listed++;
  }
  if (n > listed) fprintf(out, "  … and %d more: see episodes.csv\n", n - listed);
}

void m4n_report_table(const m4n_report *r, FILE *out) {
  fprintf(out, "%s%s%s, %d episodes, mean over them [95 %% interval]\n\n", r->scenario,
          r->scenario[0] ? ": " : "", r->spec.task, r->n_units);
  put_rows(r, out);
  char text[1024];
  bool any = false;
  for (int i = 0; i < r->n_policies; i++) {
    const m4n_report_policy *p = &r->policy[r->order[i]];
    if (!p->about[0]) continue;
    fprintf(out, "%s  %s: %s\n", any ? "" : "\nhow the models were made:\n", p->name, p->about);
    any = true;
  }
  any = false;
  for (int i = 0; i < r->n_pairs; i++) {
    const m4n_report_pair *pair = &r->pair[i];
    if (pair->a != r->best && pair->b != r->best) continue;
    if (!any)
      fprintf(out, "\nthe best by %s, episode by episode (p corrected by Holm):\n", r->figure[0].name);
    any = true;
    m4n_report_sentence(r, pair, pair->b == r->best, text, sizeof text);
    fprintf(out, "  %s\n", text);
  }
  for (int p = 0; p < r->n_policies; p++)
    if (r->policy[p].fallbacks)
      fprintf(out, "\n%s: %lld decisions were made by its fallback\n", r->policy[p].name,
              (long long)r->policy[p].fallbacks);
  put_lost(r, out);
  if (r->truncated) fprintf(out, "\nan event log was not closed: episodes may be missing\n");
  if (r->seeds_differ) fprintf(out, "\nthe runs have different seeds: what is random in them differs\n");
}
