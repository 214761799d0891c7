#include "agent/models.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"

const char *const m4n_role_names[M4N_ROLES] = {[M4N_ROLE_TEACHER] = "teacher",
                                               [M4N_ROLE_STUDENT] = "student",
                                               [M4N_ROLE_EXPERT] = "expert",
                                               [M4N_ROLE_TUNED] = "tuned"};
// The scenario's sections that have their checkpoints.
static const char *const sections[M4N_ROLES] = {"teacher", "student", "expert", "tune"};

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a path");
}

const char *m4n_role_given(const m4n_scenario *s, int role) {
  const char *const given[M4N_ROLES] = {s->teacher.checkpoint, s->student.checkpoint, s->expert.checkpoint,
                                        s->tune.checkpoint};
  return given[role];
}

// "model/student.safetensors" in a training's folder; NULL and no error where there is none.
static int trained(char **path, const char *folder, int role) {
  char name[64];
  snprintf(name, sizeof name, "model/%s.safetensors", m4n_role_names[role]);
  *path = m4n_path_join(folder, name);
  if (!*path) return no_memory();
  if (m4n_exists(*path)) return M4N_OK;
  free(*path);
  *path = NULL;
  return M4N_OK;
}

int m4n_models_open(m4n_models *models, const m4n_scenario *s, const char *folder, const char *device) {
  *models = (m4n_models){.known.device = device};
  struct m4n_policy_model *role = models->known.role;
  role[M4N_ROLE_TEACHER] = (struct m4n_policy_model){
      .context = s->teacher.context, .weights = s->teacher.weights, .target = s->teacher.target};
  role[M4N_ROLE_STUDENT] = (struct m4n_policy_model){
      .context = s->student.context, .weights = s->student.weights, .target = s->student.target};
  role[M4N_ROLE_TUNED] = role[M4N_ROLE_STUDENT];
  for (int i = 0; i < M4N_ROLES; i++) {
    const char *given = m4n_role_given(s, i);
    int status = M4N_OK;
    if (!given)
      status = trained(&models->path[i], folder, i);
    else if (!(models->path[i] = strdup(given)))
      status = no_memory();
    if (status) {
      m4n_models_close(models);
      return status;
    }
    role[i].checkpoint = models->path[i];
    if (role[i].weights && !strcmp(role[i].weights, "stored")) role[i].weights = NULL;
  }
  return M4N_OK;
}

void m4n_models_close(m4n_models *models) {
  for (int i = 0; i < M4N_ROLES; i++) free(models->path[i]);
  *models = (m4n_models){0};
}

int m4n_models_scenario(m4n_scenario **scenario, const char *path, const m4n_option_list *sets,
                        const char *seed) {
  m4n_scenario *s;
  M4N_TRY(m4n_options_scenario(&s, path, sets, seed));
  m4n_option_list all = *sets;
  char set[M4N_ROLES][PATH_MAX + 32];
  for (int i = 0; i < M4N_ROLES; i++) {
    char *found = NULL;
    int status = m4n_role_given(s, i) ? M4N_OK : trained(&found, s->folder, i);
    if (status) {
      m4n_scenario_free(s);
      return status;
    }
    snprintf(set[i], sizeof set[i], "%s.checkpoint=%s", sections[i], found ? found : "");
    if (found && all.n < M4N_OPTION_MOST) all.item[all.n++] = set[i];
    free(found);
  }
  if (all.n == sets->n) {
    *scenario = s;
    return M4N_OK;
  }
  m4n_scenario_free(s);
  return m4n_options_scenario(scenario, path, &all, seed);
}
