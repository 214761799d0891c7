/* summary.json: what a program wants to know of a run. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_data.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

// JSON has no NaN: what is not known is null.
static json_t *number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *interval(m4n_interval ci) {
  return json_pack("[oo]", number(ci.low), number(ci.high));
}

// Like jansson's own, but a failure anywhere makes the whole NULL.
static json_t *append(json_t *array, json_t *value) {
  if (!json_array_append_new(array, value)) return array;
  json_decref(array);
  return NULL;
}

static json_t *set(json_t *object, const char *key, json_t *value) {
  if (!json_object_set_new(object, key, value)) return object;
  json_decref(object);
  return NULL;
}

static json_t *metrics(const m4n_report *r, const m4n_report_policy *p) {
  json_t *out = json_object();
  for (int f = 0; f < r->n_figures; f++) {
    const m4n_report_cell *c = &p->cell[f];
    json_t *cell = json_pack("{si so so ss so so so}", "n", c->n, "mean", number(c->mean), "ci95",
                             interval(c->ci), "unit", r->figure[f].unit, "median", number(c->median), "p5",
                             number(c->p5), "p95", number(c->p95));
    out = set(out, r->figure[f].name, cell);
  }
  return out;
}

static json_t *policies(const m4n_report *r) {
  json_t *out = json_array();
  for (int i = 0; i < r->n_policies; i++) {
    const m4n_report_policy *p = &r->policy[i];
    json_t *policy = json_pack("{ss si si sI so}", "name", p->name, "episodes", p->episodes, "lost", p->lost,
                               "fallback_decisions", (json_int_t)p->fallbacks, "metrics", metrics(r, p));
    if (p->bound) policy = set(policy, "bound", json_true());
    if (p->about[0]) policy = set(policy, "about", json_string(p->about));
    out = append(out, policy);
  }
  return out;
}

static json_t *pairs(const m4n_report *r) {
  json_t *out = json_array();
  for (int i = 0; i < r->n_pairs; i++) {
    const m4n_report_pair *p = &r->pair[i];
    if (!p->n) continue; // no episode in common: nothing to say
    out =
        append(out, json_pack("{ss ss ss si so so so so sb}", "a", r->policy[p->a].name, "b",
                              r->policy[p->b].name, "metric", r->figure[0].name, "n", p->n, "mean_difference",
                              number(p->mean), "ci95", interval(p->ci), "p", number(p->p), "p_holm",
                              number(p->p_holm), "distinguishable", m4n_report_verdict(p) != 0));
  }
  return out;
}

static json_t *lost(const m4n_report *r) {
  json_t *out = json_array();
  for (int i = 0; i < r->n_rows; i++)
    if (r->row[i].flags & M4N_LOST)
      out = append(out, json_pack("{ss sI ss si}", "policy", r->policy[r->row[i].policy].name, "episode",
                                  (json_int_t)r->row[i].episode, "label", r->row[i].label, "steps",
                                  r->row[i].steps));
  return out;
}

// The seed as text of digits where it does not fit JSON's whole numbers.
static json_t *seed(uint64_t value) {
  char digits[32];
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
  return value <= INT64_MAX ? json_integer((json_int_t)value) : json_string(digits);
}

int m4n_report_summary(const m4n_report *r, const char *path, FILE *copy) {
  json_t *root = json_pack("{ss ss ss so sb so so so}", "scenario", r->scenario, "task", r->spec.task,
                           "reward", r->spec.reward, "seed", seed(r->seed), "complete", !r->truncated,
                           "policies", policies(r), "paired", pairs(r), "lost", lost(r));
  char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) : NULL;
  json_decref(root);
  if (!text) return m4n_fail(M4N_ENOMEM, "no memory for %s", path);
  m4n_writer writer;
  int status = m4n_writer_open(&writer, path);
  if (!status) {
    fprintf(writer.stream, "%s\n", text);
    status = m4n_writer_commit(&writer);
  }
  if (!status && copy) fprintf(copy, "%s\n", text);
  free(text);
  return status;
}
