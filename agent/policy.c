#include "agent/policy.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/rules/rules.h"
#include "kernels/base/status.h"

static const m4n_policy_kind *const kinds[] = {
    &m4n_policy_random, &m4n_policy_level,   &m4n_policy_cycle,      &m4n_policy_bba,
    &m4n_policy_rate,   &m4n_policy_mpc,     &m4n_policy_robust_mpc, &m4n_policy_robust_mpc_netllm,
    &m4n_policy_bola,   &m4n_policy_festive, &m4n_policy_oracle,
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool is_number(const char *text) {
  size_t digits = strspn(text, "0123456789");
  return digits > 0 && digits < 7 && !text[digits];
}

static bool stands_for(const m4n_policy_kind *kind, const char *name) {
  if (!kind->numbered) return !strcmp(name, kind->name);
  size_t prefix = strlen(kind->name);
  return !strncmp(name, kind->name, prefix) && is_number(name + prefix);
}

int m4n_policy_find(const m4n_policy_kind **kind, const char *name) {
  *kind = NULL;
  char names[512] = "";
  for (int i = 0; i < KINDS; i++) {
    if (stands_for(kinds[i], name)) {
      *kind = kinds[i];
      return M4N_OK;
    }
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s%s", used ? ", " : "", kinds[i]->name,
             kinds[i]->numbered ? "N" : "");
  }
  return m4n_fail(M4N_ENOTFOUND, "there is no policy '%s'; there are %s", name, names);
}

const m4n_policy_kind *m4n_policy_at(int index) {
  return index >= 0 && index < KINDS ? kinds[index] : NULL;
}

int m4n_policy_open(m4n_policy *policy, const char *name, const m4n_policy_setup *setup) {
  *policy = (m4n_policy){0};
  const m4n_policy_kind *kind;
  M4N_TRY(m4n_policy_find(&kind, name));
  if (setup->slots < 1)
    return m4n_fail(M4N_EARG, "policy '%s': %d slots, expected at least 1", name, setup->slots);
  m4n_policy_setup own = *setup;
  own.name = name;
  own.kind = kind;
  void *self = NULL;
  M4N_TRY(kind->open(&self, &own));
  *policy = (m4n_policy){.kind = kind, .self = self};
  return M4N_OK;
}

void m4n_policy_close(m4n_policy *policy) {
  if (policy->kind) policy->kind->close(policy->self);
  *policy = (m4n_policy){0};
}
