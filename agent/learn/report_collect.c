/* Logs to rows, rows to the table of units. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_data.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for the report");
}

// Names come from strangers: clean once, here, and all writers may use them.
static int clean_name(m4n_report *r, char name[M4N_NAME]) {
  const char *clean = m4n_text_clean(&r->arena, name);
  if (!clean) return no_memory();
  memcpy(name, clean, strlen(clean) + 1); // of the same length
  return M4N_OK;
}

static int clean_spec(m4n_report *r) {
  m4n_spec *spec = &r->spec;
  const char *reward = m4n_text_clean(&r->arena, spec->reward);
  if (!reward) return no_memory();
  memcpy(spec->reward, reward, strlen(reward) + 1);
  M4N_TRY(clean_name(r, spec->task));
  for (int i = 0; i < spec->n_metrics; i++) {
    M4N_TRY(clean_name(r, spec->metric[i].name));
    M4N_TRY(clean_name(r, spec->metric[i].unit));
  }
  return M4N_OK;
}

// The value of the line "name: …" of the scenario, "" where there is none.
static const char *scenario_name(m4n_report *r, const char *text) {
  const char *at = strncmp(text, "name:", 5) ? strstr(text, "\nname:") : text;
  if (!at) return "";
  at = strchr(at, ':') + 1;
  at += strspn(at, " \"'");
  size_t size = strcspn(at, " \"'\r\n#");
  char *name = m4n_arena_alloc(&r->arena, size + 1);
  if (name) memcpy(name, at, size);
  return name;
}

static int first_header(m4n_report *r, const m4n_events_header *header) {
  r->spec = header->spec;
  r->seed = header->seed;
  // A scenario's lines are kept; anything else that controls a terminal is not.
  char *text = m4n_arena_strdup(&r->arena, header->scenario);
  if (!text) return no_memory();
  r->scenario = scenario_name(r, text);
  if (r->scenario) r->scenario = m4n_text_clean(&r->arena, r->scenario);
  for (char *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    char *end = strchr(line, '\n');
    if (end) *end = 0;
    const char *clean = m4n_text_clean(&r->arena, line);
    if (!clean) return no_memory();
    memcpy(line, clean, strlen(clean));
    if (end) *end = '\n';
  }
  r->scenario_text = text;
  if (!r->scenario) return no_memory();
  return clean_spec(r);
}

static int differ(m4n_report *r, int folder, const char *what, const char *a, const char *b) {
  const char *clean = m4n_text_clean(&r->arena, b);
  return m4n_fail(M4N_EARG, "%s and %s cannot be compared: their %s are '%s' and '%s'", r->folder[0],
                  r->folder[folder], what, a, clean ? clean : "?");
}

// Also narrows the metrics to those that both have, where one simulator is newer and has appended some.
static int same_task(m4n_report *r, int folder, const m4n_spec *spec) {
  m4n_spec *first = &r->spec;
  if (strcmp(first->task, spec->task)) return differ(r, folder, "tasks", first->task, spec->task);
  if (strcmp(first->reward, spec->reward)) return differ(r, folder, "rewards", first->reward, spec->reward);
  int n = m4n_figures_common(first->metric, first->n_metrics, spec->metric, spec->n_metrics);
  bool first_ends = n == first->n_metrics, other_ends = n == spec->n_metrics;
  if ((!first_ends && !other_ends) || (n == 0 && first_ends != other_ends))
    return differ(r, folder, "metrics", first_ends ? "" : first->metric[n].name,
                  other_ends ? "" : spec->metric[n].name);
  first->n_metrics = n;
  return M4N_OK;
}

// "policy"; of several folders "folder/policy", with as much of the folder as tells them apart.
static const char *policy_name(m4n_report *r, int folder, const char *policy) {
  const char *where = r->folder[folder], *base = m4n_path_base(where);
  if (r->n_folders == 1) return m4n_text_clean(&r->arena, policy);
  for (int i = 0; i < r->n_folders; i++)
    if (i != folder && !strcmp(base, m4n_path_base(r->folder[i]))) base = where;
  size_t size = strlen(base) + strlen(policy) + 2;
  char *name = m4n_arena_alloc(&r->arena, size);
  if (!name) return NULL;
  snprintf(name, size, "%s/%s", base, policy);
  return m4n_text_clean(&r->arena, name);
}

// A checkpoint is called by its file's name alone where no other has the same.
static const char *short_name(const m4n_events_header *header, int policy) {
  const char *base = m4n_path_base(header->policy[policy]);
  if (!strstr(base, ".safetensors")) return header->policy[policy];
  for (int i = 0; i < header->n_policies; i++)
    if (i != policy && !strcmp(m4n_path_base(header->policy[i]), base)) return header->policy[policy];
  return base;
}

static int add_policies(m4n_report *r, int folder, const m4n_events_header *header) {
  size_t n = (size_t)r->n_policies + (size_t)header->n_policies;
  m4n_report_policy *policy = realloc(r->policy, (n + 1) * sizeof *policy);
  if (!policy) return no_memory();
  r->policy = policy;
  for (int i = 0; i < header->n_policies; i++) {
    m4n_report_policy *p = &policy[r->n_policies++];
    *p = (m4n_report_policy){.folder = folder,
                             .index = i,
                             .name = policy_name(r, folder, short_name(header, i)),
                             .own_name = m4n_text_clean(&r->arena, short_name(header, i)),
                             .about = m4n_text_clean(&r->arena, header->about[i])};
    if (!p->name || !p->about || !p->own_name) return no_memory();
    p->bound = !strcmp(header->policy[i], "oracle");
  }
  return M4N_OK;
}

static int add_row(m4n_report *r, int *room, int first_policy, const m4n_episode *e) {
  if (r->n_rows == *room) {
    if (*room > 1 << 29) return no_memory();
    *room = *room ? 2 * *room : 1024;
    m4n_report_row *row = realloc(r->row, (size_t)*room * sizeof *row);
    if (!row) return no_memory();
    r->row = row;
  }
  m4n_report_row *row = &r->row[r->n_rows++];
  memset(row, 0, sizeof *row);
  row->policy = first_policy + e->policy;
  row->set = e->set;
  row->episode = e->episode;
  row->steps = e->steps;
  row->flags = e->flags;
  row->label = m4n_text_clean(&r->arena, e->label);
  if (!row->label) return no_memory();
  m4n_report_policy *policy = &r->policy[row->policy];
  for (int t = 0; t < e->steps; t++) {
    row->reward_total += e->reward[t];
    policy->fallbacks += e->served_by[t];
  }
  row->reward_mean = e->steps ? row->reward_total / e->steps : NAN;
  for (int i = 0; i < r->spec.n_metrics; i++) row->metric[i] = e->metrics[i];
  *(e->flags & M4N_LOST ? &policy->lost : &policy->episodes) += 1;
  return M4N_OK;
}

static int read_folder(m4n_report *r, int folder, int *room) {
  char *path = m4n_path_join(r->folder[folder], "events.bin");
  if (!path) return no_memory();
  m4n_events_file *file;
  int status = m4n_events_open(&file, path);
  free(path);
  M4N_TRY(status);
  const m4n_events_header *header = m4n_events_header_of(file);
  int first_policy = r->n_policies;
  status = folder ? same_task(r, folder, &header->spec) : first_header(r, header);
  r->seeds_differ |= header->seed != r->seed;
  if (!status) status = add_policies(r, folder, header);
  m4n_episode e;
  for (bool more = true; !status && more;) {
    status = m4n_events_next(file, &e, &more);
    if (!status && more) status = add_row(r, room, first_policy, &e);
  }
  if (!status && m4n_events_truncated(file)) {
    r->truncated = true;
    m4n_log(M4N_LOG_WARN,
            "%s/events.bin was not closed: its %d whole episodes are reported, others may be missing",
            r->folder[folder], r->n_rows);
  }
  m4n_events_free(file);
  return status;
}

/* ---- rows to units */

#define COMPARE(a, b)                                                                                        \
  if ((a) < (b)) return -1;                                                                                  \
  if ((a) > (b)) return 1

static int by_episode(const m4n_report_row *x, const m4n_report_row *y) {
  COMPARE(x->set, y->set);
  COMPARE(x->episode, y->episode);
  return strcmp(x->label, y->label);
}

// Nothing is left to the order in which episodes finished: the last resort are all values.
static int by_policy(const void *a, const void *b) {
  const m4n_report_row *x = a, *y = b;
  COMPARE(x->policy, y->policy);
  int order = by_episode(x, y);
  if (order) return order;
  COMPARE(x->flags & M4N_LOST, y->flags & M4N_LOST);
  COMPARE(x->steps, y->steps);
  COMPARE(x->reward_total, y->reward_total);
  return memcmp(x->metric, y->metric, sizeof x->metric);
}

// While units are looked for, row->unit is the how manyth of this policy and episode it is.
static int by_unit(const void *a, const void *b) {
  const m4n_report_row *x = *(m4n_report_row *const *)a, *y = *(m4n_report_row *const *)b;
  int order = by_episode(x, y);
  if (order) return order;
  COMPARE(x->unit, y->unit);
  COMPARE(x->policy, y->policy);
  return 0;
}

static int find_units(m4n_report *r) {
  m4n_report_row **sorted = malloc(((size_t)r->n_rows + 1) * sizeof *sorted);
  if (!sorted) return no_memory();
  int n = 0;
  for (int i = 0; i < r->n_rows; i++) {
    m4n_report_row *row = &r->row[i], *last = i ? row - 1 : NULL;
    bool again = last && last->policy == row->policy && !by_episode(last, row);
    row->unit = again ? last->unit + 1 : 0;
    if (!(row->flags & M4N_LOST)) sorted[n++] = row;
  }
  qsort(sorted, (size_t)n, sizeof *sorted, by_unit);
  const m4n_report_row *last = NULL;
  int repeat = 0;
  for (int i = 0; i < n; i++) {
    bool same = last && !by_episode(last, sorted[i]) && repeat == sorted[i]->unit;
    repeat = sorted[i]->unit;
    last = sorted[i];
    r->n_units += !same;
    sorted[i]->unit = r->n_units - 1;
  }
  free(sorted);
  for (int i = 0; i < r->n_rows; i++)
    if (r->row[i].flags & M4N_LOST) r->row[i].unit = -1;
  return M4N_OK;
}

// The spec's metrics; where nobody reports the first of them, the rewards stand in front.
static void choose_figures(m4n_report *r) {
  bool known = false;
  for (int i = 0; i < r->n_rows && r->spec.n_metrics; i++) known |= !isnan(r->row[i].metric[0]);
  if (!known) {
    r->figure[r->n_figures++] = (m4n_report_figure){"reward_mean", "per step", 1, false};
    r->figure[r->n_figures++] = (m4n_report_figure){"reward_total", "per episode", 1, false};
  }
  for (int i = 0; i < r->spec.n_metrics; i++) {
    const m4n_figure *m = &r->spec.metric[i];
    r->figure[r->n_figures++] = (m4n_report_figure){m->name, m->unit, m->better, false};
  }
}

static int fill_table(m4n_report *r) {
  size_t unit = (size_t)r->n_policies * (size_t)r->n_figures, n = (size_t)r->n_units * unit;
  r->table = calloc(n + 1, sizeof *r->table);
  if (!r->table) return no_memory();
  for (size_t i = 0; i < n; i++) r->table[i] = NAN;
  int rewards = r->n_figures - r->spec.n_metrics;
  for (int i = 0; i < r->n_rows; i++) {
    const m4n_report_row *row = &r->row[i];
    if (row->unit < 0) continue;
    double *out = r->table + (size_t)row->unit * unit + (size_t)row->policy * (size_t)r->n_figures;
    if (rewards) {
      *out++ = row->reward_mean;
      *out++ = row->reward_total;
    }
    memcpy(out, row->metric, (size_t)r->spec.n_metrics * sizeof *out);
  }
  return M4N_OK;
}

int m4n_report_collect(m4n_report *r, const char *const *folders, int n_folders) {
  *r = (m4n_report){.folder = folders, .n_folders = n_folders, .best = -1};
  int room = 0;
  for (int i = 0; i < n_folders; i++) M4N_TRY(read_folder(r, i, &room));
  if (r->n_rows) qsort(r->row, (size_t)r->n_rows, sizeof *r->row, by_policy);
  M4N_TRY(find_units(r));
  choose_figures(r);
  return fill_table(r);
}

void m4n_report_free(m4n_report *r) {
  free(r->policy);
  free(r->row);
  free(r->table);
  free(r->pair);
  free(r->order);
  m4n_arena_close(&r->arena);
  *r = (m4n_report){0};
}

int m4n_report_find(const m4n_report *r, const char *figure) {
  for (int i = 0; i < r->n_figures; i++)
    if (!strcmp(r->figure[i].name, figure)) return i;
  return -1;
}
