// Model files: JSON with one key a line, named files first looked for among those built in.
#include "traces/throughput/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/fields.h"
#include "traces/json.h"
#include "traces/models/models.h"

enum { S = M4N_TRACE_STATES, Q = M4N_TRACE_QUANTILES };
static const char kind[] = "mamba4net throughput model 1";

#define AT(member) offsetof(m4n_trace_model, member)
static const m4n_field fields[] = {
    {"traces", AT(traces), 0, 0, 1, 1e9, false},
    {"period_s", AT(period_s), 0, 0, 0.01, 3600, false},
    {"seconds", AT(seconds), 0, 0, 1, 1e6, false},
    {"rtt_ms", AT(rtt_ms), 0, 0, -1, 1e5, false},
    {"max_mbps", AT(max_mbps), 0, 0, 0.001, 1e6, false},
    {"log_mean", AT(log_mean), 0, Q, -15, 15, true},
    {"log_spread", AT(log_spread), 0, Q, -10, 5, true},
    {"mean_spread", AT(mean_spread), 0, 0, -1, 1, false},
    {"score", AT(score), 0, M4N_TRACE_KNOTS, -100, 100, true},
    {"start", AT(start), 0, S + 1, 0, 1, false},
    {"transition", AT(transition), S, S + 1, 0, 1, false},
    {"memory", AT(memory), 0, 0, -0.999, 0.999, false},
    {"outage_mbps", AT(outage_mbps), 0, 0, 0.001, 1e6, false},
    {"outage_s", AT(outage_s), 0, Q, 0, 1e6, true},
    {"outage_rate", AT(outage_rate), 0, Q, 0, 1e6, true},
    {"outage_exit", AT(outage_exit), 0, S, 0, 1, false},
};
enum { FIELDS = sizeof fields / sizeof *fields };

bool m4n_trace_model_name_ok(const char *name) {
  size_t n = strlen(name);
  return n > 0 && n < M4N_TRACE_NAME && name[0] != '.' &&
         strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

static int sums_to_one(const char *file, const char *key, const double *p, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += p[i];
  if (fabs(sum - 1) <= 1e-3) return M4N_OK;
  return m4n_fail_at(M4N_EFORMAT, file, 0, key, "probabilities sum to %g: expected 1", sum);
}

static int read_model(m4n_trace_model *model, const char *file, const json_t *root) {
  static const char *const others[] = {"kind", "name", NULL};
  const char *said = json_string_value(json_object_get(root, "kind"));
  const char *name = json_string_value(json_object_get(root, "name"));
  if (!said || strcmp(said, kind) != 0)
    return m4n_fail_at(M4N_EFORMAT, file, 0, "kind", "expected \"%s\"", kind);
  if (!name || !m4n_trace_model_name_ok(name))
    return m4n_fail_at(M4N_EFORMAT, file, 0, "name", "expected 1 to %d letters, digits, -, _ or .",
                       M4N_TRACE_NAME - 1);
  M4N_TRY(m4n_fields_read(model, fields, FIELDS, others, file, root));
  M4N_TRY(sums_to_one(file, "start", model->start, S + 1));
  for (int i = 0; i < S; i++) M4N_TRY(sums_to_one(file, "transition", model->transition[i], S + 1));
  M4N_TRY(sums_to_one(file, "outage_exit", model->outage_exit, S));
  if (model->max_mbps < model->outage_mbps)
    return m4n_fail_at(M4N_EFORMAT, file, 0, "max_mbps", "expected at least outage_mbps");
  snprintf(model->name, sizeof model->name, "%s", name);
  return M4N_OK;
}

int m4n_trace_model_parse(m4n_trace_model *model, const char *name, const void *data, size_t size) {
  *model = (m4n_trace_model){0};
  json_t *root;
  M4N_TRY(m4n_json_parse(&root, name, data, size));
  int status = read_model(model, name, root);
  json_decref(root);
  return status;
}

const char *m4n_trace_model_builtin(int index) {
  for (int i = 0; m4n_trace_models[i].name; i++)
    if (i == index) return m4n_trace_models[i].name;
  return NULL;
}

static int no_such_model(const char *name) {
  char names[512] = "";
  for (int i = 0; m4n_trace_models[i].name; i++) {
    size_t n = strlen(names);
    snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", m4n_trace_models[i].name);
  }
  return m4n_fail_at(M4N_ENOTFOUND, name, 0, NULL, "is neither a model's name (%s) nor a file", names);
}

int m4n_trace_model_open(m4n_trace_model *model, const char *name_or_path) {
  for (const m4n_model_file *file = m4n_trace_models; file->name; file++)
    if (strcmp(file->name, name_or_path) == 0)
      return m4n_trace_model_parse(model, file->name, file->data, file->size);
  if (!m4n_exists(name_or_path)) return no_such_model(name_or_path);
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, name_or_path, 1 << 20));
  int status = m4n_trace_model_parse(model, name_or_path, map.data, map.size);
  m4n_map_close(&map);
  return status;
}

int m4n_trace_model_write(const m4n_trace_model *model, const char *path) {
  m4n_writer file;
  M4N_TRY(m4n_writer_open(&file, path));
  fprintf(file.stream, "{\n  \"kind\": \"%s\",\n  \"name\": \"%s\"", kind, model->name);
  m4n_fields_write(model, fields, FIELDS, file.stream);
  fputs("\n}\n", file.stream);
  return m4n_writer_commit(&file);
}
