/* The models that a scenario speaks of, as files: what the names "teacher", "student", "tuned" and "expert" stand for.
 *
 *     m4n_models models;
 *     M4N_TRY(m4n_models_open(&models, scenario, scenario->folder, "auto"));
 *     options.models = &models.known;
 *     …
 *     m4n_models_close(&models);
 */
#ifndef M4N_AGENT_MODELS_H
#define M4N_AGENT_MODELS_H

#include "agent/options.h"
#include "agent/policy.h"
#include "agent/scenario.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_models {
  m4n_policy_models known;
  char *path[M4N_ROLES];
} m4n_models;

/* What a role is called as a policy, and as a file: "student". */
extern const char *const m4n_role_names[M4N_ROLES];
/* The checkpoint that the scenario gives a role; NULL: none. */
const char *m4n_role_given(const m4n_scenario *scenario, int role);

/* A checkpoint that the scenario names; else the one that train made, `folder`/model/<role>.safetensors; else none. The
 * scenario and `device` outlive it. ENOMEM. */
int m4n_models_open(m4n_models *models, const m4n_scenario *scenario, const char *folder, const char *device);
void m4n_models_close(m4n_models *models); /* harmless on a zeroed one */

/* The scenario of a run that leaves a folder of its own: models that were trained beside the scenario's file are named
 * by their full path in it, so that the run can be replayed from anywhere. */
int m4n_models_scenario(m4n_scenario **scenario, const char *path, const m4n_option_list *sets,
                        const char *seed);

#ifdef __cplusplus
}
#endif
#endif
