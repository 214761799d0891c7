#include "agent/ablation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_ablation.h"
#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

static const char FULL[] = "full", KEY[] = "ablation.variants";
enum { MOST_KEYS = 32 };

// One of what is compared: its name, and the keys that it changes.
typedef struct variant {
  const char *name, *settings;
  const char *set[MOST_KEYS];
  int n;
} variant;

typedef struct ablating {
  const m4n_ablation_options *o;
  const m4n_stop *stop;
  m4n_arena memory;
  m4n_scenario *scenario;
  char *folder;
  variant *variant; // [n] the first is the full method
  int n;
  const char **path; // [n][seeds] of the trainings
} ablating;

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for an ablation");
}

// ---- reading the variants ----------------------------------------------------------------------------------------------

static const char *text_of(ablating *a, m4n_span word) {
  char *text = m4n_arena_alloc(&a->memory, word.size + 1);
  if (text) memcpy(text, word.at, word.size), text[word.size] = 0;
  return text;
}

static int refuse(const ablating *a, const char *text, const char *why) {
  return m4n_fail_at(M4N_EARG, a->o->path, 0, KEY, "'%.60s': %s", text, why);
}

// Names are folders', and values are said with `=`.
static int check_name(const ablating *a, const char *name, const char *text) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  if (!*name || strspn(name, letters) != strlen(name))
    return refuse(a, text, "expected a name of letters, digits, '_' and '-' first");
  for (int i = 0; i < a->n; i++)
    if (!strcmp(a->variant[i].name, name)) return refuse(a, text, "this name is taken");
  return M4N_OK;
}

static int check_key(const ablating *a, const char *set, const char *text) {
  static const char *const ours[] = {"name=", "task=", "seed=", "ablation.", "evaluate."};
  if (!strchr(set, '=')) return refuse(a, text, "expected key=value behind the name, without blanks");
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
    if (!strncmp(set, ours[i], strlen(ours[i])))
      return refuse(a, text, "name, task, seed, ablation and evaluate are the same for all");
  return M4N_OK;
}

static int read_variant(ablating *a, const char *text) {
  variant *v = &a->variant[a->n];
  m4n_words words = {{text, strlen(text)}};
  m4n_span word;
  *v = (variant){.settings = ""};
  if (!m4n_words_next(&words, &word)) return refuse(a, text, "is empty");
  if (!(v->name = text_of(a, word))) return M4N_ENOMEM;
  M4N_TRY(check_name(a, v->name, text));
  while (m4n_words_next(&words, &word)) {
    if (v->n == MOST_KEYS) return refuse(a, text, "has too many keys");
    if (!v->n) v->settings = word.at; // the rest of the text
    if (!(v->set[v->n] = text_of(a, word))) return M4N_ENOMEM;
    M4N_TRY(check_key(a, v->set[v->n++], text));
  }
  if (!v->n) return refuse(a, text, "changes nothing: expected key=value behind the name");
  a->n++;
  return M4N_OK;
}

static int read_variants(ablating *a) {
  const m4n_scenario *s = a->scenario;
  if (!s->ablation.n_variants)
    return m4n_fail_at(M4N_EARG, a->o->path, 0, KEY, "is empty: what is the method to be compared with?");
  a->variant = m4n_arena_alloc(&a->memory, ((size_t)s->ablation.n_variants + 1) * sizeof *a->variant);
  if (!a->variant) return M4N_ENOMEM;
  a->variant[a->n++] = (variant){.name = FULL, .settings = ""};
  for (int i = 0; i < s->ablation.n_variants; i++) M4N_TRY(read_variant(a, s->ablation.variants[i]));
  return M4N_OK;
}

// ---- their scenarios --------------------------------------------------------------------------------------------------------

static const char *policy_of(const ablating *a) {
  return a->scenario->ablation.policy ? a->scenario->ablation.policy : "student";
}

static int scenario_of(const ablating *a, const variant *v, int seed, m4n_scenario **scenario) {
  m4n_option_list all = *a->o->set;
  char number[64], policy[256];
  snprintf(number, sizeof number, "seed=%" PRIu64, a->scenario->seed + (uint64_t)seed);
  snprintf(policy, sizeof policy, "evaluate.policies=[%.200s]", policy_of(a));
  if (all.n + v->n + 3 > M4N_OPTION_MOST) return m4n_fail(M4N_EARG, "--set: stands too often");
  for (int i = 0; i < v->n; i++) all.item[all.n++] = v->set[i];
  all.item[all.n++] = number;
  all.item[all.n++] = "ablation.variants=[]";
  if (v->n) all.item[all.n++] = policy;
  int status = m4n_scenario_load(scenario, a->o->path, all.item, all.n);
  return status ? m4n_context(status, "variant %s", v->name) : M4N_OK;
}

static m4n_training_options training_of(const ablating *a, const m4n_scenario *scenario) {
  return (m4n_training_options){
      .scenario = scenario, .device = a->o->device, .threads = a->o->threads, .resume = true, .part = true};
}

static bool evaluates(const ablating *a) {
  const m4n_scenario *s = a->scenario;
  for (int i = 0; i < s->evaluate.n_policies; i++)
    if (!strcmp(s->evaluate.policies[i], policy_of(a))) return true;
  return false;
}

static int check_variants(const ablating *a) {
  if (!evaluates(a))
    return m4n_fail_at(M4N_EARG, a->o->path, 0, "ablation.policy", "'%.60s' is not among evaluate.policies",
                       policy_of(a));
  for (int v = 0; v < a->n; v++) {
    m4n_scenario *scenario;
    M4N_TRY(scenario_of(a, &a->variant[v], 0, &scenario));
    const m4n_training_options training = training_of(a, scenario);
    int status = m4n_training_check(&training);
    m4n_scenario_free(scenario);
    if (status) return m4n_context(status, "variant %s", a->variant[v].name);
  }
  return M4N_OK;
}

// ---- training them ----------------------------------------------------------------------------------------------------------

static const char **path_at(const ablating *a, int v, int seed) {
  return &a->path[v * a->scenario->ablation.seeds + seed];
}

static int list_paths(ablating *a) {
  const int seeds = a->scenario->ablation.seeds;
  const size_t room = strlen(a->folder) + 128;
  if (!(a->path = m4n_arena_alloc(&a->memory, (size_t)(a->n * seeds) * sizeof *a->path))) return M4N_ENOMEM;
  for (int v = 0; v < a->n; v++)
    for (int s = 0; s < seeds; s++) {
      char *path = m4n_arena_alloc(&a->memory, room);
      if (!path) return M4N_ENOMEM;
      snprintf(path, room, "%s/seed-%" PRIu64 "/%.60s", a->folder, a->scenario->seed + (uint64_t)s,
               a->variant[v].name);
      *path_at(a, v, s) = path;
    }
  return M4N_OK;
}

// With those of the same seed that were trained before it.
static int train(const ablating *a, int v, int seed) {
  const char *from[128];
  m4n_scenario *scenario;
  M4N_TRY(scenario_of(a, &a->variant[v], seed, &scenario));
  m4n_training_options training = training_of(a, scenario);
  for (int i = 0; i < v && training.n_from < 128; i++) from[training.n_from++] = *path_at(a, i, seed);
  training.out = *path_at(a, v, seed);
  training.from = from;
  int status = m4n_training_run(&training, a->stop);
  m4n_scenario_free(scenario);
  return status ? m4n_context(status, "%s", *path_at(a, v, seed)) : M4N_OK;
}

static int open_folder(ablating *a) {
  m4n_run_folder folder;
  M4N_TRY(
      m4n_run_folder_open(&folder, a->o->out, a->scenario, a->o->resume ? M4N_FOLDER_KEEP : M4N_FOLDER_NEW));
  a->folder = strdup(folder.path);
  m4n_run_folder_close(&folder, true);
  return a->folder ? list_paths(a) : no_memory();
}

static int write_table(ablating *a) {
  m4n_ablation_row *row = m4n_arena_alloc(&a->memory, (size_t)a->n * sizeof *row);
  if (!row) return M4N_ENOMEM;
  for (int v = 0; v < a->n; v++) row[v] = (m4n_ablation_row){a->variant[v].name, a->variant[v].settings};
  return m4n_ablation_write(a->folder,
                            &(m4n_ablation_runs){.row = row,
                                                 .n = a->n,
                                                 .seeds = a->scenario->ablation.seeds,
                                                 .folder = a->path,
                                                 .policy = policy_of(a)},
                            stdout);
}

static int run(ablating *a) {
  const int seeds = a->scenario->ablation.seeds, all = a->n * seeds;
  M4N_TRY(read_variants(a));
  M4N_TRY(check_variants(a));
  M4N_TRY(open_folder(a));
  for (int s = 0; s < seeds; s++)
    for (int v = 0; v < a->n; v++) {
      m4n_log(M4N_LOG_INFO, "ablation: %s with seed %" PRIu64 ", training %d of %d", a->variant[v].name,
              a->scenario->seed + (uint64_t)s, s * a->n + v + 1, all);
      int status = train(a, v, s);
      if (status == M4N_ECANCELLED)
        m4n_log(M4N_LOG_WARN, "interrupted: --out %s --resume goes on", a->folder);
      M4N_TRY(status);
    }
  M4N_TRY(write_table(a));
  m4n_log(M4N_LOG_INFO, "table: %s/ablation.txt, ablation.csv", a->folder);
  return M4N_OK;
}

int m4n_ablation_run(const m4n_ablation_options *options, const m4n_stop *stop) {
  ablating a = {.o = options, .stop = stop};
  M4N_TRY(m4n_options_scenario(&a.scenario, options->path, options->set, options->seed));
  int status = run(&a);
  m4n_scenario_free(a.scenario);
  m4n_arena_close(&a.memory);
  free(a.folder);
  return status;
}
