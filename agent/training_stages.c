// The stages of a training: which are wanted, what their outputs depend on, and what the scenario tells each.
#include <stdlib.h>
#include <string.h>

#include "agent/evaluation.h"
#include "agent/training.h"
#include "agent/training_stamp.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

static const char events[] = "collect/events.bin", labels[] = "label/labels.safetensors",
                  start[] = "model/student-start.safetensors", student[] = "model/student.safetensors",
                  tuned[] = "model/tuned.safetensors";

// ---- who is wanted

static bool trains_student(const m4n_training *t) {
  return !t->o.scenario->student.checkpoint;
}

static bool reuses(const m4n_training *t) {
  return trains_student(t) && strcmp(t->o.scenario->reuse.mode, "none") != 0;
}

static bool tunes(const m4n_training *t) {
  return !t->o.scenario->tune.checkpoint && t->o.scenario->tune.ppo.fit.steps > 0;
}

static bool is_held_to(const m4n_training *t, int reference) {
  const m4n_tune_options *o = &t->o.scenario->tune.ppo;
  return tunes(t) && o->reference.weight > 0 && o->reference.who == reference;
}

bool m4n_training_labels(const m4n_training *t, int labeller) {
  return t->o.scenario->label.by == labeller && (trains_student(t) || is_held_to(t, M4N_REFERENCE_LABELLER));
}

static bool trains_teacher(const m4n_training *t) {
  const m4n_scenario *s = t->o.scenario;
  return !s->teacher.checkpoint &&
         (reuses(t) || m4n_training_labels(t, M4N_LABEL_TEACHER) ||
          m4n_training_uses(s->evaluate.policies, s->evaluate.n_policies, "teacher"));
}

static bool trains_expert(const m4n_training *t) {
  return !t->o.scenario->expert.checkpoint && t->o.scenario->expert.ppo.steps > 0;
}

static bool collects(const m4n_training *t) {
  return trains_student(t) || trains_teacher(t);
}

static bool labels_something(const m4n_training *t) {
  return trains_student(t) && t->o.scenario->label.by != M4N_LABEL_NONE;
}

static bool always(const m4n_training *t) {
  (void)t;
  return true;
}

// ---- what outputs depend on

static int stamp_file(m4n_training *t, m4n_stamp *stamp, const char *name) {
  char *path = m4n_training_path(t, name);
  int status = path ? m4n_stamp_file(stamp, name, path) : M4N_ENOMEM;
  free(path);
  return status;
}

static int stamp_model(m4n_training *t, m4n_stamp *stamp, const char *role, int number) {
  char *path = m4n_training_model(t, number);
  int status = path ? m4n_stamp_file(stamp, role, path) : M4N_ENOMEM;
  free(path);
  return status;
}

static int stamp_prefixes(m4n_stamp *stamp, const char *const *prefix) {
  for (; *prefix; prefix++) M4N_TRY(m4n_stamp_keys(stamp, *prefix));
  return M4N_OK;
}

// The world that training sees: all of it but the other sets' traces.
static int stamp_world(m4n_stamp *stamp, bool valid) {
  static const char *const prefix[] = {"abr.train.",  "abr.video.",       "abr.qoe.",
                                       "abr.rtt_ms",  "abr.buffer_cap_s", "abr.drain_ms",
                                       "abr.payload", "abr.first_level",  NULL};
  M4N_TRY(stamp_prefixes(stamp, prefix));
  return valid ? m4n_stamp_keys(stamp, "abr.valid.") : M4N_OK;
}

// The models among policies, with the settings that they decide with.
static int stamp_policies(m4n_training *t, m4n_stamp *stamp, const char *const *policies, int n) {
  static const char *const settings[M4N_ROLES][4] = {
      [M4N_ROLE_TEACHER] = {"teacher.context", "teacher.weights", "teacher.target", NULL},
      [M4N_ROLE_STUDENT] = {"student.context", "student.weights", "student.target", NULL},
      [M4N_ROLE_TUNED] = {"student.context", "student.weights", "student.target", NULL}};
  for (int i = 0; i < M4N_ROLES; i++) {
    if (!m4n_training_uses(policies, n, m4n_role_names[i])) continue;
    M4N_TRY(stamp_model(t, stamp, m4n_role_names[i], i));
    M4N_TRY(stamp_prefixes(stamp, settings[i]));
  }
  return m4n_training_uses(policies, n, "") ? stamp_prefixes(stamp, settings[M4N_ROLE_STUDENT]) : M4N_OK;
}

static int describe_expert(m4n_training *t, m4n_stamp *stamp) {
  (void)t;
  M4N_TRY(stamp_world(stamp, false));
  return m4n_stamp_keys(stamp, "expert.");
}

static int describe_collect(m4n_training *t, m4n_stamp *stamp) {
  const m4n_scenario *s = t->o.scenario;
  M4N_TRY(stamp_world(stamp, false));
  M4N_TRY(m4n_stamp_keys(stamp, "collect."));
  return stamp_policies(t, stamp, s->collect.policies, s->collect.n_policies);
}

static int describe_adapt(m4n_training *t, m4n_stamp *stamp) {
  static const char *const keys[] = {"adapt.", "teacher.preset", "teacher.base", "teacher.lora.", NULL};
  static const char *const decides[] = {"teacher.context", "teacher.weights", "teacher.target", NULL};
  bool valid = t->o.scenario->adapt.fit.valid_episodes > 0;
  M4N_TRY(stamp_prefixes(stamp, keys));
  M4N_TRY(stamp_file(t, stamp, events));
  if (!valid) return M4N_OK;
  M4N_TRY(stamp_world(stamp, true));
  return stamp_prefixes(stamp, decides);
}

static int describe_reuse(m4n_training *t, m4n_stamp *stamp) {
  static const char *const keys[] = {"reuse.", "student.preset", "student.mamba_layers",
                                     "student.attention_layers", NULL};
  M4N_TRY(stamp_prefixes(stamp, keys));
  M4N_TRY(stamp_file(t, stamp, events));
  return reuses(t) ? stamp_model(t, stamp, "teacher", M4N_ROLE_TEACHER) : M4N_OK;
}

static const char *labelling_policy(const m4n_training *t) {
  return t->o.scenario->label.expert ? t->o.scenario->label.expert : "expert";
}

static int stamp_labeller(m4n_training *t, m4n_stamp *stamp) {
  const char *policy = labelling_policy(t);
  if (m4n_training_labels(t, M4N_LABEL_TEACHER)) return stamp_model(t, stamp, "teacher", M4N_ROLE_TEACHER);
  return m4n_training_labels(t, M4N_LABEL_EXPERT) ? stamp_policies(t, stamp, &policy, 1) : M4N_OK;
}

static int describe_label(m4n_training *t, m4n_stamp *stamp) {
  M4N_TRY(m4n_stamp_keys(stamp, "label."));
  M4N_TRY(m4n_stamp_keys(stamp, "adapt.rtg_scale"));
  M4N_TRY(stamp_file(t, stamp, events));
  return stamp_labeller(t, stamp);
}

static int describe_distil(m4n_training *t, m4n_stamp *stamp) {
  static const char *const decides[] = {"student.context", "student.weights", "student.target", NULL};
  const m4n_distil_options *o = &t->o.scenario->distil;
  M4N_TRY(m4n_stamp_keys(stamp, "distil."));
  M4N_TRY(m4n_stamp_keys(stamp, "label."));
  M4N_TRY(m4n_stamp_keys(stamp, "adapt.rtg_scale"));
  M4N_TRY(stamp_file(t, stamp, events));
  M4N_TRY(stamp_file(t, stamp, start));
  if (labels_something(t)) M4N_TRY(stamp_file(t, stamp, labels));
  if (o->on_policy.share > 0) M4N_TRY(stamp_labeller(t, stamp));
  if (!(o->on_policy.share > 0) && !o->fit.valid_episodes) return M4N_OK;
  M4N_TRY(stamp_world(stamp, o->fit.valid_episodes > 0));
  return stamp_prefixes(stamp, decides);
}

static int describe_tune(m4n_training *t, m4n_stamp *stamp) {
  static const char *const keys[] = {"tune.", "student.context", "student.weights", "student.target", NULL};
  M4N_TRY(stamp_prefixes(stamp, keys));
  M4N_TRY(stamp_model(t, stamp, "student", M4N_ROLE_STUDENT));
  M4N_TRY(stamp_world(stamp, t->o.scenario->tune.ppo.fit.valid_episodes > 0));
  if (!is_held_to(t, M4N_REFERENCE_LABELLER)) return M4N_OK;
  M4N_TRY(m4n_stamp_keys(stamp, "label."));
  return stamp_labeller(t, stamp);
}

static int describe_evaluate(m4n_training *t, m4n_stamp *stamp) {
  const m4n_scenario *s = t->o.scenario;
  M4N_TRY(m4n_stamp_keys(stamp, "abr."));
  M4N_TRY(m4n_stamp_keys(stamp, "evaluate."));
  return stamp_policies(t, stamp, s->evaluate.policies, s->evaluate.n_policies);
}

// ---- what each is told

// Paths that a stage's options point to, freed together.
typedef struct paths {
  char *path[8];
  int n;
} paths;

static const char *keep(paths *p, char *path) {
  p->path[p->n++] = path;
  return path;
}

static int whole(const paths *p) {
  for (int i = 0; i < p->n; i++)
    if (!p->path[i]) return m4n_fail(M4N_ENOMEM, "no memory for a path");
  return M4N_OK;
}

static void forget(paths *p) {
  for (int i = 0; i < p->n; i++) free(p->path[i]);
}

static m4n_stage surroundings(m4n_training *t, paths *p, const char *name, bool resume) {
  return (m4n_stage){.device = t->o.device,
                     .pool = t->pool,
                     .stop = t->stop,
                     .seed = t->o.scenario->seed,
                     .resume = resume,
                     .work = keep(p, m4n_training_path(t, name)),
                     .hooks = &t->hooks};
}

static int run_adapt(m4n_training *t, bool resume) {
  const m4n_scenario *s = t->o.scenario;
  m4n_adapt_options o = s->adapt;
  paths p = {0};
  const char *log = keep(&p, m4n_training_path(t, events));
  o.stage = surroundings(t, &p, "adapt", resume);
  o.events = &log;
  o.n_events = 1;
  o.preset = s->teacher.base ? NULL : s->teacher.preset;
  o.base = s->teacher.base;
  o.lora.rank = s->teacher.lora.rank;
  o.lora.alpha = s->teacher.lora.alpha;
  o.lora.dropout = s->teacher.lora.dropout;
  o.lora.targets = (const char *const *)s->teacher.lora.targets;
  o.lora.n_targets = s->teacher.lora.n_targets;
  o.out = keep(&p, m4n_training_path(t, "model/teacher.safetensors"));
  t->role = M4N_ROLE_TEACHER;
  int status = whole(&p);
  if (!status) status = m4n_adapt(&o);
  forget(&p);
  return status;
}

static int run_reuse(m4n_training *t, bool resume) {
  const m4n_scenario *s = t->o.scenario;
  paths p = {0};
  const char *log = keep(&p, m4n_training_path(t, events));
  m4n_reuse_stage_options o = {.stage = surroundings(t, &p, "reuse", resume),
                               .preset = s->student.preset,
                               .mamba_layers = s->student.mamba_layers,
                               .attention_layers = s->student.attention_layers,
                               .mode = reuses(t) ? s->reuse.mode : "random",
                               .events = &log,
                               .n_events = 1,
                               .out = keep(&p, m4n_training_path(t, start))};
  if (reuses(t)) o.teacher = keep(&p, m4n_training_model(t, M4N_ROLE_TEACHER));
  int status = whole(&p);
  if (!status) status = m4n_reuse_stage(&o);
  forget(&p);
  return status;
}

static int run_label(m4n_training *t, bool resume) {
  const m4n_scenario *s = t->o.scenario;
  paths p = {0};
  const char *log = keep(&p, m4n_training_path(t, events));
  m4n_label_options o = {.stage = surroundings(t, &p, "label", resume),
                         .events = &log,
                         .n_events = 1,
                         .labeller = s->label.by,
                         .batch = s->label.batch,
                         .stride = s->label.stride,
                         .rtg_scale = s->adapt.rtg_scale,
                         .out = keep(&p, m4n_training_path(t, labels))};
  if (m4n_training_labels(t, M4N_LABEL_TEACHER))
    o.teacher = keep(&p, m4n_training_model(t, M4N_ROLE_TEACHER));
  if (m4n_training_labels(t, M4N_LABEL_EXPERT))
    o.expert = keep(&p, m4n_training_policy(t, labelling_policy(t)));
  int status = whole(&p);
  if (!status) status = m4n_label(&o);
  forget(&p);
  return status;
}

static int run_distil(m4n_training *t, bool resume) {
  m4n_distil_options o = t->o.scenario->distil;
  paths p = {0};
  const char *log = keep(&p, m4n_training_path(t, events));
  o.stage = surroundings(t, &p, "distil", resume);
  o.events = &log;
  o.n_events = 1;
  if (labels_something(t)) o.labels = keep(&p, m4n_training_path(t, labels));
  o.student = keep(&p, m4n_training_path(t, start));
  o.rtg_scale = t->o.scenario->adapt.rtg_scale;
  o.on_policy.labeller = t->o.scenario->label.by;
  o.on_policy.stride = t->o.scenario->label.stride;
  if (m4n_training_labels(t, M4N_LABEL_TEACHER))
    o.on_policy.teacher = keep(&p, m4n_training_model(t, M4N_ROLE_TEACHER));
  if (m4n_training_labels(t, M4N_LABEL_EXPERT))
    o.on_policy.expert = keep(&p, m4n_training_policy(t, labelling_policy(t)));
  o.out = keep(&p, m4n_training_path(t, student));
  t->role = M4N_ROLE_STUDENT;
  int status = whole(&p);
  if (!status) status = m4n_distil(&o);
  forget(&p);
  return status;
}

static int run_tune(m4n_training *t, bool resume) {
  m4n_tune_options o = t->o.scenario->tune.ppo;
  paths p = {0};
  o.stage = surroundings(t, &p, "tune", resume);
  o.student = keep(&p, m4n_training_model(t, M4N_ROLE_STUDENT));
  o.reference.labeller = t->o.scenario->label.by;
  if (m4n_training_labels(t, M4N_LABEL_TEACHER))
    o.reference.teacher = keep(&p, m4n_training_model(t, M4N_ROLE_TEACHER));
  if (m4n_training_labels(t, M4N_LABEL_EXPERT))
    o.reference.expert = keep(&p, m4n_training_policy(t, labelling_policy(t)));
  o.out = keep(&p, m4n_training_path(t, tuned));
  t->role = M4N_ROLE_STUDENT;
  int status = whole(&p);
  if (!status) status = m4n_tune(&o);
  forget(&p);
  return status;
}

static int run_evaluate(m4n_training *t, bool resume) {
  (void)resume; // soon played again
  m4n_simulator *simulator;
  m4n_evaluation evaluation;
  M4N_TRY(m4n_training_simulator(t, &simulator));
  const m4n_evaluation_options o = {.scenario = t->o.scenario,
                                    .endpoint = t->endpoint,
                                    .slots = m4n_training_slots(t),
                                    .wait_ms = t->o.scenario->bridge.wait_ms,
                                    .threads = t->o.threads,
                                    .json = t->o.json,
                                    .silent = t->o.part,
                                    .device = t->o.device,
                                    .folder = &t->folder,
                                    .simulator = simulator};
  M4N_TRY(m4n_evaluation_open(&evaluation, &o));
  return m4n_evaluation_close(&evaluation, m4n_evaluation_serve(&evaluation, t->stop));
}

const m4n_training_stage m4n_training_stages[] = {
    {"expert",
     {"model/expert.safetensors"},
     "an expert, by PPO in the simulator",
     true,
     trains_expert,
     describe_expert,
     m4n_training_expert},
    {"collect", {events}, "experience", true, collects, describe_collect, m4n_training_collect},
    {"adapt",
     {"model/teacher.safetensors", "model/teacher-adapter/adapter_model.safetensors",
      "model/teacher-adapter/adapter_config.json"},
     "a teacher",
     true,
     trains_teacher,
     describe_adapt,
     run_adapt},
    {"reuse", {start}, "a first student", true, trains_student, describe_reuse, run_reuse},
    {"label", {labels}, "labels", true, labels_something, describe_label, run_label},
    {"distil", {student}, "the student", true, trains_student, describe_distil, run_distil},
    {"tune", {tuned}, "the student, by PPO in the simulator", true, tunes, describe_tune, run_tune},
    {"evaluate",
     {"events.bin", "episodes.csv", "summary.json", "report.html"},
     "the report",
     false,
     always,
     describe_evaluate,
     run_evaluate},
    {0}};
