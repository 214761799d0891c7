#include "agent/policy.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/rules/rules.h"
#include "kernels/base/status.h"

enum { MAX_KINDS = 32 };

static const m4n_policy_kind *kinds[MAX_KINDS] = {
    &m4n_policy_random, &m4n_policy_level,   &m4n_policy_cycle,      &m4n_policy_bba,
    &m4n_policy_rate,   &m4n_policy_mpc,     &m4n_policy_robust_mpc, &m4n_policy_robust_mpc_netllm,
    &m4n_policy_bola,   &m4n_policy_festive, &m4n_policy_oracle,
};

static bool is_number(const char *text) {
  size_t digits = strspn(text, "0123456789");
  return digits > 0 && digits < 7 && !text[digits];
}

// The last place where a file's name ends, which its settings follow.
static const char *file_end(const char *name, const char *suffix) {
  const char *end = NULL;
  for (const char *at = name; (at = strstr(at, suffix)); at++) {
    const char *behind = at + strlen(suffix);
    if (at > name && (!*behind || *behind == ':')) end = behind;
  }
  return end;
}

size_t m4n_policy_settings(const m4n_policy_kind *kind, const char *name) {
  if (kind->match == M4N_MATCH_MODEL) return strcspn(name, ":");
  const char *end = kind->match == M4N_MATCH_FILE ? file_end(name, kind->name) : NULL;
  return end ? (size_t)(end - name) : strlen(name);
}

static bool stands_for(const m4n_policy_kind *kind, const char *name) {
  size_t size = strlen(kind->name);
  switch (kind->match) {
  case M4N_MATCH_NUMBERED:
    return !strncmp(name, kind->name, size) && is_number(name + size);
  case M4N_MATCH_MODEL:
    return strcspn(name, ":") == size && !strncmp(name, kind->name, size);
  case M4N_MATCH_FILE:
    return file_end(name, kind->name) != NULL;
  default:
    return !strcmp(name, kind->name);
  }
}

int m4n_policy_find(const m4n_policy_kind **kind, const char *name) {
  *kind = NULL;
  char names[512] = "";
  for (int i = 0; m4n_policy_at(i); i++) {
    const m4n_policy_kind *k = kinds[i];
    if (stands_for(k, name)) {
      if (k->check) M4N_TRY(k->check(k, name));
      *kind = k;
      return M4N_OK;
    }
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s%s%s", used ? ", " : "",
             k->match == M4N_MATCH_FILE ? "FILE" : "", k->name, k->match == M4N_MATCH_NUMBERED ? "N" : "");
  }
  return m4n_fail(M4N_ENOTFOUND, "there is no policy '%s'; there are %s", name, names);
}

const m4n_policy_kind *m4n_policy_at(int index) {
  return index >= 0 && index < MAX_KINDS ? kinds[index] : NULL;
}

void m4n_policy_register(const m4n_policy_kind *kind) {
  int i = 0;
  while (i < MAX_KINDS && kinds[i]) i++;
  assert(i < MAX_KINDS);
  kinds[i] = kind;
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
