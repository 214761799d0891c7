#include "agent/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/scenario_keys.h"
#include "bridge/server.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

static void print_help(const m4n_usage *usage, const m4n_option *options, int n) {
  printf("mamba4net %s%s%s%s\n\n%s", usage->command, n ? " [OPTION]…" : "", *usage->arguments ? " " : "",
         usage->arguments, usage->text);
  puts("\nOptions:");
  for (int i = 0; i < n; i++) {
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", options[i].name, options[i].value ? " " : "",
             options[i].value ? options[i].value : "");
    printf("  %-18s %s\n", left, options[i].help);
  }
  printf("  %-18s %s\n", "--help", "this text");
}

static int usage_failure(const m4n_usage *usage, const char *option, const char *what) {
  return m4n_fail(M4N_EARG, "%s%s%s%s (see mamba4net %s --help)", option ? "--" : "", option ? option : "",
                  option ? ": " : "", what, usage->command);
}

static const m4n_option *find(const m4n_option *options, int n, const char *name, size_t size) {
  for (int i = 0; i < n; i++)
    if (strlen(options[i].name) == size && !memcmp(options[i].name, name, size)) return &options[i];
  return NULL;
}

static int take(const m4n_usage *usage, const m4n_option *option, const char *value) {
  char what[160];
  switch (option->type) {
  case M4N_OPTION_FLAG:
    *(bool *)option->into = true;
    return M4N_OK;
  case M4N_OPTION_INT: {
    int64_t x;
    if (m4n_span_int64((m4n_span){value, strlen(value)}, &x) && x >= option->low && x <= option->high) {
      *(int64_t *)option->into = x;
      return M4N_OK;
    }
    snprintf(what, sizeof what, "'%.40s' is refused: expected a whole number from %lld to %lld", value,
             (long long)option->low, (long long)option->high);
    return usage_failure(usage, option->name, what);
  }
  case M4N_OPTION_LIST: {
    m4n_option_list *list = option->into;
    if (list->n == M4N_OPTION_MOST) return usage_failure(usage, option->name, "stands too often");
    list->item[list->n++] = value;
    return M4N_OK;
  }
  default:
    if (!*value) return usage_failure(usage, option->name, "expected a value, found nothing");
    *(const char **)option->into = value;
    return M4N_OK;
  }
}

int m4n_options_read(const m4n_usage *usage, const m4n_option *options, int n_options, int argc, char **argv,
                     m4n_arguments *arguments) {
  *arguments = (m4n_arguments){0};
  bool only_arguments = false;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (only_arguments || word[0] != '-' || !word[1]) {
      if (arguments->n == M4N_OPTION_MOST) return usage_failure(usage, NULL, "too many arguments");
      arguments->item[arguments->n++] = word;
      continue;
    }
    if (!strcmp(word, "--")) {
      only_arguments = true;
      continue;
    }
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
      print_help(usage, options, n_options);
      arguments->helped = true;
      return M4N_OK;
    }
    size_t size = word[1] == '-' ? strcspn(word + 2, "=") : 0;
    const m4n_option *option = size ? find(options, n_options, word + 2, size) : NULL;
    if (!option)
      return m4n_fail(M4N_EARG, "%s: unknown option (see mamba4net %s --help)", word, usage->command);
    const char *value = word[2 + size] == '=' ? word + 3 + size : NULL;
    if (option->type == M4N_OPTION_FLAG && value) return usage_failure(usage, option->name, "takes no value");
    if (option->type != M4N_OPTION_FLAG && !value) {
      if (i + 1 == argc) return usage_failure(usage, option->name, "expected a value");
      value = argv[++i];
    }
    M4N_TRY(take(usage, option, value));
  }
  if (arguments->n < usage->least || arguments->n > usage->most) {
    char what[128];
    snprintf(what, sizeof what, "%d arguments: expected %s", arguments->n,
             *usage->arguments ? usage->arguments : "none");
    return usage_failure(usage, NULL, what);
  }
  return M4N_OK;
}

int m4n_options_seed(uint64_t *seed, const char *text) {
  M4N_TRY(m4n_key_check(m4n_key_find("seed"), text, true, "--seed", 0));
  *seed = strtoull(text, NULL, 10);
  return M4N_OK;
}

int m4n_options_device(const char **device) {
  if (!*device) *device = "auto";
  const char *const known[] = {"cpu", "cuda", "cuda-tf32", "auto"};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(*device, known[i])) return M4N_OK;
  return m4n_fail(M4N_EARG, "--device: '%.40s' is refused: expected cpu, cuda, cuda-tf32 or auto", *device);
}

int m4n_options_scenario(m4n_scenario **scenario, const char *path, const m4n_option_list *sets,
                         const char *seed) {
  const char *all[M4N_OPTION_MOST + 1];
  char last[64];
  int n = sets->n;
  memcpy(all, sets->item, (size_t)n * sizeof *all);
  if (seed) {
    uint64_t number;
    M4N_TRY(m4n_options_seed(&number, seed));
    snprintf(last, sizeof last, "seed=%llu", (unsigned long long)number);
    all[n++] = last;
  }
  return m4n_scenario_load(scenario, path, all, n);
}

int m4n_options_endpoint(char **uri, const char *endpoint, const m4n_scenario *scenario) {
  if (!endpoint) endpoint = scenario ? scenario->bridge.endpoint : "ipc";
  return m4n_endpoint_resolve(uri, strcmp(endpoint, "inproc") ? endpoint : "ipc");
}
