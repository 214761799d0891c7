/* The rule policies, one file each; listed in agent/policy.c. */
#ifndef M4N_AGENT_RULES_RULES_H
#define M4N_AGENT_RULES_RULES_H

#include "agent/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Any task. */
extern const m4n_policy_kind m4n_policy_random;
extern const m4n_policy_kind m4n_policy_oracle;

/* Adaptive bitrate. */
extern const m4n_policy_kind m4n_policy_level;
extern const m4n_policy_kind m4n_policy_cycle;
extern const m4n_policy_kind m4n_policy_bba;
extern const m4n_policy_kind m4n_policy_rate;
extern const m4n_policy_kind m4n_policy_mpc;
extern const m4n_policy_kind m4n_policy_robust_mpc;
extern const m4n_policy_kind m4n_policy_robust_mpc_netllm;
extern const m4n_policy_kind m4n_policy_bola;
extern const m4n_policy_kind m4n_policy_festive;

#ifdef __cplusplus
}
#endif
#endif
