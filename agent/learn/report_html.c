/* report.html: one file that needs no other, for screens, phones and paper. */
#include <math.h>
#include <string.h>

#include "agent/learn/report_data.h"
#include "agent/learn/report_plots.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

static const char style[] =
    "body{font:16px/1.5 system-ui,-apple-system,'Segoe "
    "UI',Helvetica,Arial,sans-serif;color:#1c1c1c;background:#fff;"
    "max-width:64rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.6rem;margin:.5rem 0 0}h2{font-size:1.2rem;margin:2.2rem 0 .5rem;border-bottom:1px solid "
    "#ddd}\n"
    "p,li{max-width:48rem}.about{color:#555;margin:.2rem 0 1rem}.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #e4e4e4;white-space:nowrap}\n"
    "th{vertical-align:bottom;border-bottom:2px solid #999;font-weight:600}th small,td small{display:block;"
    "font-weight:400;color:#666}\n"
    "th:first-child,td:first-child,.text{text-align:left}.best{font-weight:700}\n"
    ".mark{display:inline-block;width:.75em;height:.75em;margin-right:.5em;border-radius:2px}\n"
    "figure{margin:1rem 0;break-inside:avoid}figure "
    "svg{width:100%;max-width:48rem;height:auto;display:block}\n"
    "figure svg text{font-family:system-ui,Helvetica,Arial,sans-serif}figcaption{color:#555;font-size:.88rem;"
    "max-width:48rem}\n"
    "pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.85rem}\n"
    ".warn{background:#fff4e0;border-left:4px solid #e69f00;padding:.5rem .8rem}\n"
    "@media "
    "print{body{max-width:none;font-size:11pt}.wide{overflow:visible}table{font-size:8pt}th,td{padding:.2rem "
    ".4rem}details>*{display:block}}\n";

static void head(const m4n_report *r, FILE *out) {
  const char *title = r->scenario[0] ? r->scenario : r->spec.task;
  fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
        out);
  m4n_text_html(out, title);
  fprintf(out, " – mamba4net</title>\n<style>\n%s</style></head><body>\n<h1>", style);
  m4n_text_html(out, title);
  fputs("</h1>\n<p class=\"about\">task ", out);
  m4n_text_html(out, r->spec.task);
  if (r->spec.reward[0]) {
    fputs(", reward ", out);
    m4n_text_html(out, r->spec.reward);
  }
  fprintf(out, ", seed %llu, %d policies, %d episodes</p>\n", (unsigned long long)r->seed, r->n_policies,
          r->n_units);
}

static void warnings(const m4n_report *r, FILE *out) {
  if (r->truncated)
    fputs("<p class=\"warn\">An event log was not closed: its whole episodes are reported, others may be "
          "missing.</p>\n",
          out);
  if (r->seeds_differ)
    fputs("<p class=\"warn\">The runs have different seeds: what is random in them differs.</p>\n", out);
  for (int p = 0; p < r->n_policies; p++) {
    if (!r->policy[p].fallbacks) continue;
    fputs("<p class=\"warn\">", out);
    m4n_text_html(out, r->policy[p].name);
    fprintf(out, ": %lld decisions were made by its fallback.</p>\n", (long long)r->policy[p].fallbacks);
  }
}

static void findings(const m4n_report *r, FILE *out) {
  char text[1024];
  bool any = false;
  for (int i = 0; i < r->n_pairs; i++) {
    const m4n_report_pair *pair = &r->pair[i];
    if (pair->a != r->best && pair->b != r->best) continue;
    fputs(any ? "<li>" : "<h2>In words</h2>\n<ul>\n<li>", out);
    any = true;
    m4n_report_sentence(r, pair, pair->b == r->best, text, sizeof text);
    m4n_text_html(out, text);
    fputs("</li>\n", out);
  }
  if (any) fputs("</ul>\n", out);
}

static void mark(const m4n_report *r, int policy, FILE *out) {
  fprintf(out, "<span class=\"mark\" style=\"background:%s\"></span>", m4n_plot_colour(r, policy));
}

// The policy that a figure's column is led by, bounds aside; -1: none, or nothing is better.
static int leader(const m4n_report *r, int figure) {
  int best = -1, better = r->figure[figure].better;
  for (int p = 0; p < r->n_policies && better; p++) {
    double value = r->policy[p].cell[figure].mean;
    if (isnan(value) || r->policy[p].bound) continue;
    if (best < 0 || (value - r->policy[best].cell[figure].mean) * better > 0) best = p;
  }
  return best;
}

static void metrics(const m4n_report *r, FILE *out) {
  double scale[M4N_MAX_FIGURES];
  int best[M4N_MAX_FIGURES];
  fputs("<h2>Means over episodes</h2>\n<div class=\"wide\"><table>\n<tr><th>policy</th><th>episodes</th>",
        out);
  for (int f = 0; f < r->n_figures; f++) {
    const m4n_report_figure *figure = &r->figure[f];
    if (!m4n_report_shown(r, f)) continue;
    scale[f] = m4n_report_scale(r, f);
    best[f] = leader(r, f);
    fputs("<th>", out);
    m4n_text_html(out, figure->name);
    fputs(figure->better > 0 ? " ↑" : figure->better < 0 ? " ↓" : "", out);
    fputs("<small>", out);
    m4n_text_html(out, figure->unit);
    fputs("</small></th>", out);
  }
  fputs("</tr>\n", out);
  for (int i = 0; i < r->n_policies; i++) {
    const m4n_report_policy *p = &r->policy[r->order[i]];
    fputs("<tr><td>", out);
    mark(r, r->order[i], out);
    m4n_text_html(out, p->name);
    fprintf(out, "%s</td><td>%d</td>", p->bound ? " (bound)" : "", p->episodes);
    for (int f = 0; f < r->n_figures; f++) {
      char mean[32], low[32], high[32];
      const m4n_report_cell *c = &p->cell[f];
      if (!m4n_report_shown(r, f)) continue;
      fprintf(out, "<td%s>%s", best[f] == r->order[i] ? " class=\"best\"" : "",
              m4n_text_short(mean, c->mean, scale[f]));
      if (c->n)
        fprintf(out, "<small>%s … %s</small>", m4n_text_short(low, c->ci.low, scale[f]),
                m4n_text_short(high, c->ci.high, scale[f]));
      fputs("</td>", out);
    }
    fputs("</tr>\n", out);
  }
  fputs("</table></div>\n<p class=\"about\">Small: the 95 % bootstrap interval (BCa). ↑ higher is better, ↓ "
        "lower is better.",
        out);
  for (int p = 0; p < r->n_policies; p++)
    if (r->policy[p].bound) {
      fputs(" A bound uses what no policy can know.", out);
      break;
    }
  fputs("</p>\n", out);
}

// How models were made: which labels they learned from must not be guessed.
static void makings(const m4n_report *r, FILE *out) {
  bool any = false;
  for (int i = 0; i < r->n_policies; i++) {
    const m4n_report_policy *p = &r->policy[r->order[i]];
    if (!p->about[0]) continue;
    fputs(any ? "<li>" : "<h2>How the models were made</h2>\n<ul>\n<li>", out);
    any = true;
    m4n_text_html(out, p->name);
    fputs(": ", out);
    m4n_text_html(out, p->about);
    fputs("</li>\n", out);
  }
  if (any) fputs("</ul>\n", out);
}

static void figures(const m4n_report_plot *plots, int n, FILE *out) {
  for (int i = 0; i < n; i++) {
    const m4n_report_plot *plot = &plots[i];
    fputs("<h2>", out);
    m4n_text_html(out, plot->title);
    fprintf(out,
            "</h2>\n<figure><svg xmlns=\"http://www.w3.org/2000/svg\" "
            "xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
            "viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"",
            M4N_PLOT_WIDTH, plot->height);
    m4n_text_html(out, plot->title);
    fprintf(out, "\">%s</svg>\n<figcaption>", plot->svg);
    m4n_text_html(out, plot->caption);
    fprintf(out, " Numbers: plots/%s.csv.</figcaption></figure>\n", plot->name);
  }
}

static void pairs(const m4n_report *r, FILE *out) {
  if (!r->n_pairs) return;
  double scale = m4n_report_scale(r, 0);
  fputs("<h2>Pairs, episode by episode</h2>\n<div class=\"wide\"><table>\n<tr><th>a</th><th "
        "class=\"text\">b</th><th>episodes</th><th>a − b<small>",
        out);
  m4n_text_html(out, r->figure[0].name);
  fputs("</small></th><th>95 % interval</th><th>p</th><th>p<small>Holm</small></th><th "
        "class=\"text\"></th></tr>\n",
        out);
  for (int i = 0; i < r->n_pairs; i++) {
    const m4n_report_pair *p = &r->pair[i];
    char mean[32], low[32], high[32];
    if (!p->n) continue;
    int verdict = m4n_report_verdict(p);
    fputs("<tr><td>", out);
    mark(r, p->a, out);
    m4n_text_html(out, r->policy[p->a].name);
    fputs("</td><td class=\"text\">", out);
    mark(r, p->b, out);
    m4n_text_html(out, r->policy[p->b].name);
    fprintf(out, "</td><td>%d</td><td>%s</td><td>%s … %s</td><td>%.2g</td><td>%.2g</td><td class=\"text\">",
            p->n, m4n_text_short(mean, p->mean, scale), m4n_text_short(low, p->ci.low, scale),
            m4n_text_short(high, p->ci.high, scale), p->p, p->p_holm);
    if (!verdict) {
      fputs("not distinguishable", out);
    } else {
      m4n_text_html(out, r->policy[verdict > 0 ? p->a : p->b].name);
      fputs(r->figure[0].better < 0 ? " is worse" : r->figure[0].better ? " is better" : " is higher", out);
    }
    fputs("</td></tr>\n", out);
  }
  fputs("</table></div>\n<p class=\"about\">Differences over the episodes that both played. The interval is "
        "that of the mean "
        "difference (BCa bootstrap over episodes) and decides what is called distinguishable; p is "
        "Wilcoxon's signed-rank "
        "test, which looks at the ranks and so at the typical episode, corrected by Holm over all pairs "
        "here. Where a few "
        "episodes weigh much the two may disagree.</p>\n",
        out);
}

static void lost(const m4n_report *r, FILE *out) {
  bool any = false;
  for (int i = 0; i < r->n_rows; i++) {
    const m4n_report_row *row = &r->row[i];
    if (!(row->flags & M4N_LOST)) continue;
    fputs(any ? "<li>" : "<h2>Lost episodes</h2>\n<p>They are in none of the figures.</p>\n<ul>\n<li>", out);
    any = true;
    m4n_text_html(out, r->policy[row->policy].name);
    fprintf(out, ", episode %lld ", (long long)row->episode);
    m4n_text_html(out, row->label);
    fprintf(out, ", after %d decisions</li>\n", row->steps);
  }
  if (any) fputs("</ul>\n", out);
}

static void again(const m4n_report *r, FILE *out) {
  fputs("<h2>How to make it again</h2>\n<pre>", out);
  if (r->n_folders == 1) {
    fprintf(out,
            "mamba4net run scenario.yaml --seed %llu --out again    # the scenario below, beside this page\n",
            (unsigned long long)r->seed);
    fputs("mamba4net replay .        # plays the event log again and compares every observation, action and "
          "reward\n"
          "mamba4net report .        # makes this page from the event log",
          out);
  } else {
    fputs("mamba4net report --out again", out);
    for (int i = 0; i < r->n_folders; i++) {
      putc(' ', out);
      m4n_text_html(out, r->folder[i]);
    }
  }
  fputs("</pre>\n<p>Every episode is in <code>episodes.csv</code>, the statistics in "
        "<code>summary.json</code>, the plots' "
        "numbers and script in <code>plots/</code>.</p>\n",
        out);
  if (!r->scenario_text[0]) return;
  fprintf(out, "<details><summary>The scenario%s</summary>\n<pre>",
          r->n_folders > 1 ? " of the first run" : "");
  m4n_text_html(out, r->scenario_text);
  fputs("</pre></details>\n", out);
}

int m4n_report_html(const m4n_report *r, const char *path, const m4n_report_plot *plots, int n_plots) {
  m4n_writer writer;
  M4N_TRY(m4n_writer_open(&writer, path));
  FILE *out = writer.stream;
  head(r, out);
  warnings(r, out);
  findings(r, out);
  metrics(r, out);
  makings(r, out);
  figures(plots, n_plots, out);
  pairs(r, out);
  lost(r, out);
  again(r, out);
  fputs("</body></html>\n", out);
  return m4n_writer_commit(&writer);
}
