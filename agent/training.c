#include "agent/training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/training_stamp.h"
#include "bridge/endpoint.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

// ---- names and files

char *m4n_training_path(const m4n_training *t, const char *name) {
  char *path = m4n_path_join(t->folder.path, name);
  if (!path) m4n_fail(M4N_ENOMEM, "no memory for a path");
  return path;
}

char *m4n_training_model(const m4n_training *t, int role) {
  const char *given = m4n_role_given(t->o.scenario, role);
  char name[64];
  snprintf(name, sizeof name, "model/%s.safetensors", m4n_role_names[role]);
  if (!given) return m4n_training_path(t, name);
  char *path = strdup(given);
  if (!path) m4n_fail(M4N_ENOMEM, "no memory for a path");
  return path;
}

static int role_of(const m4n_policy_kind *kind) {
  for (int i = 0; kind->match == M4N_MATCH_MODEL && i < M4N_ROLES; i++)
    if (!strcmp(kind->name, m4n_role_names[i])) return i;
  return -1;
}

char *m4n_training_policy(const m4n_training *t, const char *name) {
  const m4n_policy_kind *kind;
  if (m4n_policy_find(&kind, name)) return NULL;
  int role = role_of(kind);
  char *path = role >= 0 ? m4n_training_model(t, role) : strdup("");
  const char *rest = role >= 0 ? name + m4n_policy_settings(kind, name) : name;
  char *whole = path ? malloc(strlen(path) + strlen(rest) + 1) : NULL;
  if (whole) sprintf(whole, "%s%s", path, rest);
  if (!whole) m4n_fail(M4N_ENOMEM, "no memory for a policy's name");
  free(path);
  return whole;
}

bool m4n_training_uses(const char *const *policies, int n, const char *role) {
  for (int i = 0; i < n; i++) {
    const m4n_policy_kind *kind;
    if (m4n_policy_find(&kind, policies[i])) continue;
    if (*role ? kind->match == M4N_MATCH_MODEL && !strcmp(kind->name, role) : kind->match == M4N_MATCH_FILE)
      return true;
  }
  return false;
}

// ---- what can be refused before anything is done

static int missing(const char *key, const char *why) {
  return m4n_fail_at(M4N_EARG, NULL, 0, key, "%s", why);
}

static bool wants(const m4n_training *t, const char *name) {
  for (const m4n_training_stage *s = m4n_training_stages; s->name; s++)
    if (!strcmp(s->name, name)) return s->wanted(t);
  return false;
}

static int check_stages(const m4n_training *t) {
  for (int i = 0; i < t->o.n_stages; i++) {
    const m4n_training_stage *s = m4n_training_stages;
    while (s->name && strcmp(s->name, t->o.stage[i]) != 0) s++;
    if (!s->name)
      return m4n_fail(M4N_EARG,
                      "--stage: '%.40s' is refused: expected expert, collect, adapt, reuse, label, distil, "
                      "tune or evaluate",
                      t->o.stage[i]);
    if (!s->wanted(t)) return m4n_fail(M4N_EARG, "--stage %s: this scenario does without", s->name);
  }
  return M4N_OK;
}

static int check_behaviour(const m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  const char *const *policies = s->collect.policies;
  int n = s->collect.n_policies;
  double sum = s->collect.n_shares ? 0 : 1;
  for (int i = 0; i < s->collect.n_shares; i++) sum += s->collect.shares[i];
  if (!n) return missing("collect.policies", "is missing: whose episodes a model learns from");
  if (!(sum > 0)) return missing("collect.shares", "expected a share above 0");
  if (m4n_training_uses(policies, n, "student") && !s->student.checkpoint)
    return missing("collect.policies",
                   "the student cannot play before it is trained: set student.checkpoint");
  if (m4n_training_uses(policies, n, "teacher") && !s->teacher.checkpoint)
    return missing("collect.policies",
                   "the teacher cannot play before it is trained: set teacher.checkpoint");
  return M4N_OK;
}

static int check_expert(const m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  bool labels = m4n_training_labels(t, M4N_LABEL_EXPERT) &&
                (!s->label.expert || m4n_training_uses(&s->label.expert, 1, "expert"));
  bool used =
      labels ||
      (wants(t, "collect") && m4n_training_uses(s->collect.policies, s->collect.n_policies, "expert")) ||
      m4n_training_uses(s->evaluate.policies, s->evaluate.n_policies, "expert");
  if (used && !s->expert.checkpoint && !wants(t, "expert"))
    return missing("expert.steps", "is 0, and an expert is asked for: set it, or expert.checkpoint");
  return M4N_OK;
}

static int check_tuning(const m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  const m4n_tune_options *o = &s->tune.ppo;
  if (m4n_training_uses(s->collect.policies, s->collect.n_policies, "tuned") && !s->tune.checkpoint)
    return missing("collect.policies",
                   "the tuned student cannot play before it is tuned: set tune.checkpoint");
  if (!wants(t, "tune"))
    return m4n_training_uses(s->evaluate.policies, s->evaluate.n_policies, "tuned") && !s->tune.checkpoint
               ? missing("tune.steps", "is 0, and a tuned student is asked for: set it, or tune.checkpoint")
               : M4N_OK;
  if (o->reference.weight > 0 && o->reference.who == M4N_REFERENCE_LABELLER && s->label.by == M4N_LABEL_NONE)
    return missing("tune.reference.by", "nobody labels (label.by: none): expected student, or weight: 0");
  return M4N_OK;
}

static int check(const m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  M4N_TRY(check_stages(t));
  if ((wants(t, "collect") || wants(t, "expert") || wants(t, "tune")) && !strcmp(s->task, "abr") &&
      !s->abr.set[M4N_SET_TRAIN].n_paths)
    return missing("abr.train.traces", "is missing: what is trained on");
  if (wants(t, "collect")) M4N_TRY(check_behaviour(t));
  M4N_TRY(check_expert(t));
  M4N_TRY(check_tuning(t));
  bool valid = (wants(t, "adapt") && s->adapt.fit.valid_episodes) ||
               (wants(t, "distil") && s->distil.fit.valid_episodes) ||
               (wants(t, "tune") && s->tune.ppo.fit.valid_episodes);
  if (valid && !strcmp(s->task, "abr") && !s->abr.set[M4N_SET_VALID].n_paths)
    return missing("abr.valid.traces", "is missing: what models are chosen by (valid_episodes)");
  return M4N_OK;
}

int m4n_training_check(const m4n_training_options *options) {
  return check(&(m4n_training){.o = *options});
}

// ---- one stage

// The i-th output of a stage; NULL behind the last. A teacher that is whole has no adapter.
static const char *output_of(const m4n_training *t, const m4n_training_stage *s, int i) {
  if (i >= M4N_STAGE_OUTPUTS || !s->output[i]) return NULL;
  return strstr(s->output[i], "-adapter/") && !t->o.scenario->teacher.lora.rank ? NULL : s->output[i];
}

static bool outputs_are_in(const m4n_training *t, const char *folder, const m4n_training_stage *s) {
  const char *output;
  for (int i = 0; (output = output_of(t, s, i)); i++) {
    char *path = m4n_path_join(folder, output);
    bool there = path && m4n_exists(path);
    free(path);
    if (!there) return false;
  }
  return true;
}

static int make_folders(const m4n_training *t, const m4n_training_stage *s) {
  const char *const names[] = {"model", "stamps", s->name};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (i == 2 && !strcmp(s->name, "evaluate")) break; // its outputs are the run's own
    char *path = m4n_training_path(t, names[i]);
    int status = path ? m4n_mkdirs(path) : M4N_ENOMEM;
    free(path);
    M4N_TRY(status);
  }
  return M4N_OK;
}

static int remove_outputs(const m4n_training *t, const m4n_training_stage *s) {
  for (int i = 0; i < M4N_STAGE_OUTPUTS && s->output[i]; i++) {
    char *path = m4n_training_path(t, s->output[i]);
    int status = path ? m4n_remove_tree(path) : M4N_ENOMEM;
    free(path);
    M4N_TRY(status);
  }
  return M4N_OK;
}

static int copy_file(const char *from, const char *to) {
  m4n_map map;
  m4n_writer writer;
  M4N_TRY(m4n_map_open(&map, from, SIZE_MAX));
  int status = m4n_writer_open(&writer, to);
  if (!status && map.size) fwrite(map.data, 1, map.size, writer.stream);
  if (!status) status = m4n_writer_commit(&writer);
  m4n_map_close(&map);
  return status;
}

// Another name for the same file, or a copy where there can be none. A link is never written through: outputs are replaced,
// not changed.
static int take_file(const m4n_training *t, const char *from, const char *name) {
  char *theirs = m4n_path_join(from, name), *ours = m4n_path_join(t->folder.path, name);
  char *folder = ours ? m4n_path_dir(ours) : NULL;
  int status = theirs && folder ? m4n_mkdirs(folder) : m4n_fail(M4N_ENOMEM, "no memory for a path");
  if (!status) status = m4n_remove_tree(ours);
  if (!status && link(theirs, ours)) status = copy_file(theirs, ours);
  free(theirs);
  free(ours);
  free(folder);
  return status;
}

// A stage's outputs; and the table of how it was trained, which is no output and may be written on: a copy.
static int take_from(const m4n_training *t, const m4n_training_stage *s, const char *from) {
  const char *output;
  char table[64];
  for (int i = 0; (output = output_of(t, s, i)); i++) M4N_TRY(take_file(t, from, output));
  snprintf(table, sizeof table, "%s/train.csv", s->name);
  char *theirs = m4n_path_join(from, table), *ours = m4n_path_join(t->folder.path, table);
  int status = theirs && ours ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for a path");
  if (!status && m4n_exists(theirs)) status = copy_file(theirs, ours);
  free(theirs);
  free(ours);
  return status;
}

// The first of the other trainings that has done the same.
static const char *donor_of(const m4n_training *t, const m4n_training_stage *s, const m4n_stamp *stamp) {
  char name[64];
  snprintf(name, sizeof name, "stamps/%s", s->name);
  for (int i = 0; i < t->o.n_from && s->shared; i++) {
    char *path = m4n_path_join(t->o.from[i], name);
    bool same = path && m4n_stamp_state(stamp, path) == M4N_STAMP_DONE && outputs_are_in(t, t->o.from[i], s);
    free(path);
    if (same) return t->o.from[i];
  }
  return NULL;
}

static int run_stage(m4n_training *t, const m4n_training_stage *s, const m4n_stamp *stamp, const char *path) {
  int state = m4n_stamp_state(stamp, path);
  if (state == M4N_STAMP_DONE && outputs_are_in(t, t->folder.path, s)) {
    m4n_log(M4N_LOG_INFO, "%s: done before", s->name);
    return M4N_OK;
  }
  bool resume = state != M4N_STAMP_OTHER;
  const char *donor = donor_of(t, s, stamp);
  M4N_TRY(make_folders(t, s));
  if (donor) {
    m4n_log(M4N_LOG_INFO, "%s: as in %s", s->name, donor);
    M4N_TRY(take_from(t, s, donor));
    return m4n_stamp_write(stamp, path, M4N_STAMP_DONE);
  }
  // A stage that finds its first output takes itself for done: where one of them is gone, all are made again.
  if (!resume || state == M4N_STAMP_DONE) M4N_TRY(remove_outputs(t, s));
  M4N_TRY(m4n_stamp_write(stamp, path, M4N_STAMP_BEGUN));
  m4n_log(M4N_LOG_INFO, "%s: makes %s%s", s->name, s->makes, resume ? ", goes on from where it was" : "");
  int64_t begun = m4n_now_ns();
  M4N_TRY(s->run(t, resume));
  M4N_TRY(m4n_stamp_write(stamp, path, M4N_STAMP_DONE));
  m4n_log(M4N_LOG_INFO, "%s: %.1f s", s->name, (double)(m4n_now_ns() - begun) * 1e-9);
  return M4N_OK;
}

static int stage(m4n_training *t, const m4n_training_stage *s) {
  m4n_stamp stamp = {0};
  char name[64];
  snprintf(name, sizeof name, "stamps/%s", s->name);
  char *path = m4n_training_path(t, name);
  int status = path ? m4n_stamp_open(&stamp, s->name, t->o.scenario) : M4N_ENOMEM;
  if (!status) status = s->describe(t, &stamp);
  if (status == M4N_ENOTFOUND) m4n_context(status, "what an earlier stage makes is missing (run it first)");
  if (!status) status = m4n_stamp_done(&stamp);
  if (!status) status = run_stage(t, s, &stamp, path);
  m4n_stamp_close(&stamp);
  free(path);
  return status;
}

// ---- all of them

static bool chosen(const m4n_training *t, const m4n_training_stage *s) {
  if (!s->wanted(t)) return false;
  for (int i = 0; i < t->o.n_stages; i++)
    if (!strcmp(s->name, t->o.stage[i])) return true;
  return !t->o.n_stages;
}

static int run_stages(m4n_training *t) {
  for (const m4n_training_stage *s = m4n_training_stages; s->name; s++) {
    if (!chosen(t, s)) continue;
    if (m4n_stop_requested(t->stop)) return m4n_fail(M4N_ECANCELLED, "interrupted before %s", s->name);
    M4N_TRY(stage(t, s));
  }
  return M4N_OK;
}

static int open_all(m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  m4n_simulator *simulator;
  M4N_TRY(check(t));
  M4N_TRY(m4n_endpoint_resolve(&t->endpoint, s->bridge.endpoint));
  M4N_TRY(m4n_pool_open(&t->pool, t->o.threads));
  M4N_TRY(
      m4n_training_simulator(t, &simulator)); // what its files have wrong is said before anything is written
  bool keep = t->o.resume || t->o.n_stages;
  return m4n_run_folder_open(&t->folder, t->o.out, s, keep ? M4N_FOLDER_KEEP : M4N_FOLDER_NEW);
}

int m4n_training_run(const m4n_training_options *options, const m4n_stop *stop) {
  m4n_training t = {.o = *options, .stop = stop};
  t.hooks = (m4n_stage_hooks){.self = &t, .play = m4n_training_hook};
  int status = open_all(&t);
  if (!status) {
    m4n_log(M4N_LOG_INFO, "training in %s", t.folder.path);
    status = run_stages(&t);
  }
  m4n_error why = *m4n_last_error();
  if (status == M4N_ECANCELLED && t.folder.path && !t.o.part)
    m4n_log(M4N_LOG_WARN, "interrupted: --out %s --resume goes on", t.folder.path);
  if (t.folder.path) m4n_run_folder_close(&t.folder, true);
  if (t.has_simulator) m4n_simulator_close(&t.simulator);
  if (t.pool) m4n_pool_close(t.pool);
  free(t.endpoint);
  return status ? m4n_set_error(&why) : M4N_OK;
}
