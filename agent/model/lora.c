#include "agent/model/lora.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"

enum { MAX_CONFIG = 1 << 20, MAX_RANK = 4096 };
#define CONFIG_FILE "adapter_config.json"
#define WEIGHTS_FILE "adapter_model.safetensors"
#define ADAPTER_PREFIX "base_model.model."

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for an adapter");
}

// ---- adapter_config.json -----------------------------------------------------------------------------------------------

// Nothing, false, an empty list or object, or the one text that means nothing.
static bool means_nothing(const json_t *v) {
  return !v || json_is_null(v) || json_is_false(v) || (json_is_array(v) && !json_array_size(v)) ||
         (json_is_object(v) && !json_object_size(v)) ||
         (json_is_string(v) && strcmp(json_string_value(v), "none") == 0);
}

static int read_targets(m4n_lora *lora, const char *path, const json_t *list) {
  const size_t n = json_array_size(list);
  if (!json_is_array(list) || n < 1 || n > M4N_MAX_TARGETS)
    return m4n_fail_at(M4N_EFORMAT, path, 0, "target_modules", "expected a list of 1 … %d names",
                       M4N_MAX_TARGETS);
  for (size_t i = 0; i < n; i++) {
    const char *name = json_string_value(json_array_get(list, i));
    if (!name || !*name || strlen(name) >= sizeof lora->target[0])
      return m4n_fail_at(M4N_EFORMAT, path, 0, "target_modules", "entry %zu is no name of a layer", i);
    strcpy(lora->target[lora->targets++], name);
  }
  return M4N_OK;
}

static int read_config(m4n_lora *lora, const char *path, const json_t *root) {
  static const char *const unsupported[] = {
      "use_dora",     "bias",          "lora_bias",         "fan_in_fan_out",
      "rank_pattern", "alpha_pattern", "modules_to_save",   "layers_to_transform",
      "use_bdlora",   "use_qalora",    "target_parameters", "layer_replication"};
  *lora = (m4n_lora){0};
  for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
    if (!means_nothing(json_object_get(root, unsupported[i])))
      return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, unsupported[i], "only plain LoRA is supported");
  const char *type = json_string_value(json_object_get(root, "peft_type"));
  if (!type || strcmp(type, "LORA") != 0)
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, "peft_type", "%.20s: expected LORA",
                       type ? type : "missing");
  const json_t *r = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha"),
               *dropout = json_object_get(root, "lora_dropout");
  if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > MAX_RANK)
    return m4n_fail_at(M4N_EFORMAT, path, 0, "r", "expected a rank of 1 … %d", MAX_RANK);
  lora->rank = (int)json_integer_value(r);
  lora->alpha = json_number_value(alpha);
  if (!json_is_number(alpha) || !isfinite(lora->alpha))
    return m4n_fail_at(M4N_EFORMAT, path, 0, "lora_alpha", "expected a number");
  if (json_is_true(json_object_get(root, "use_rslora"))) lora->alpha *= sqrt(lora->rank); // s = α/√r there
  lora->dropout = json_number_value(dropout);
  if (!(lora->dropout >= 0 && lora->dropout < 1))
    return m4n_fail_at(M4N_EFORMAT, path, 0, "lora_dropout", "expected 0 … 1");
  return read_targets(lora, path, json_object_get(root, "target_modules"));
}

int m4n_lora_read(m4n_lora *lora, const char *folder) {
  char *path = m4n_path_join(folder, CONFIG_FILE);
  if (!path) return no_memory();
  m4n_map map;
  int status = m4n_map_open(&map, path, MAX_CONFIG);
  if (!status) {
    json_error_t error;
    json_t *root =
        json_loadb(map.data ? (const char *)map.data : "", map.size, JSON_REJECT_DUPLICATES, &error);
    m4n_map_close(&map);
    status = root ? read_config(lora, path, root)
                  : m4n_fail_at(M4N_EFORMAT, path, error.line, NULL, "column %d: %s: expected JSON",
                                error.column, error.text);
    json_decref(root);
  }
  free(path);
  return status;
}

static int write_config(const m4n_lora *lora, const char *path, const char *base) {
  json_t *targets = json_array();
  for (int i = 0; i < lora->targets; i++) json_array_append_new(targets, json_string(lora->target[i]));
  json_t *root = json_pack("{s:s, s:s, s:i, s:f, s:f, s:s, s:o}", "peft_type", "LORA",
                           "base_model_name_or_path", base, "r", lora->rank, "lora_alpha", lora->alpha,
                           "lora_dropout", lora->dropout, "bias", "none", "target_modules", targets);
  char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
  json_decref(root);
  if (!text) return no_memory();
  m4n_writer w;
  int status = m4n_writer_open(&w, path);
  if (!status) {
    fprintf(w.stream, "%s\n", text);
    status = m4n_writer_commit(&w);
  }
  free(text);
  return status;
}

int m4n_lora_save(const m4n_params *params, const m4n_lora *lora, const char *folder, const char *base,
                  const m4n_real *values) {
  M4N_TRY(m4n_mkdirs(folder));
  char *config = m4n_path_join(folder, CONFIG_FILE), *weights = m4n_path_join(folder, WEIGHTS_FILE);
  int status = config && weights ? M4N_OK : no_memory();
  if (!status)
    status = m4n_params_save(params, M4N_SET_ADAPTER, values, weights, M4N_TENSOR_F32,
                             &(m4n_metadata){"format", "pt"}, 1);
  if (!status) status = write_config(lora, config, base);
  free(config);
  free(weights);
  return status;
}

static int open_weights(m4n_safetensors **file, const char *folder) {
  char *path = m4n_path_join(folder, WEIGHTS_FILE);
  int status = path ? m4n_safetensors_open(file, path) : no_memory();
  free(path);
  return status;
}

int m4n_lora_load(m4n_params *params, const char *folder) {
  m4n_safetensors *file;
  M4N_TRY(open_weights(&file, folder));
  int status = m4n_params_load(params, M4N_SET_ADAPTER, file, "");
  m4n_safetensors_close(file);
  return status;
}

// ---- folding -------------------------------------------------------------------------------------------------------------

int m4n_folded_open(m4n_folded *f, const m4n_safetensors *base, const char *prefix, const char *folder) {
  *f = (m4n_folded){.base = base, .prefix = prefix};
  if (!folder) return M4N_OK;
  m4n_lora lora;
  m4n_safetensors *adapter;
  M4N_TRY(m4n_lora_read(&lora, folder));
  M4N_TRY(open_weights(&adapter, folder));
  f->adapter = adapter;
  f->scale = lora.alpha / lora.rank;
  return M4N_OK;
}

void m4n_folded_close(m4n_folded *f) {
  m4n_safetensors_close((m4n_safetensors *)(uintptr_t)f->adapter);
  f->adapter = NULL;
}

// values[out][in] += s·U[out][r]·D[r][in]; done once, when a model is loaded.
static int add_product(m4n_real *values, const m4n_tensor *down, const m4n_tensor *up, double s) {
  const int64_t r = down->shape[0], in = down->shape[1], out = up->shape[0];
  m4n_real *d = malloc((size_t)(r * in) * sizeof *d + 1), *u = malloc((size_t)(r * out) * sizeof *u + 1);
  int status = d && u ? M4N_OK : no_memory();
  if (!status) status = m4n_tensor_read(down, 0, r * in, d);
  if (!status) status = m4n_tensor_read(up, 0, r * out, u);
  for (int64_t o = 0; o < out && !status; o++)
    for (int64_t k = 0; k < r; k++) {
      const m4n_real factor = (m4n_real)s * u[o * r + k];
      for (int64_t i = 0; i < in; i++) values[o * in + i] += factor * d[k * in + i];
    }
  free(d);
  free(u);
  return status;
}

int m4n_folded_read(const m4n_folded *f, const char *name, int rank, const int64_t *shape, m4n_real *values) {
  char full[512];
  const m4n_tensor *t, *down, *up;
  snprintf(full, sizeof full, "%s%s", f->prefix, name);
  M4N_TRY(m4n_safetensors_need(&t, f->base, full, rank, shape));
  M4N_TRY(m4n_tensor_read(t, 0, t->count, values));
  const size_t stem = strlen(name) - (sizeof ".weight" - 1);
  if (!f->adapter || rank != 2 || strlen(name) < sizeof ".weight" || strcmp(name + stem, ".weight") != 0)
    return M4N_OK;
  snprintf(full, sizeof full, ADAPTER_PREFIX "%.*s.lora_A.weight", (int)stem, name);
  if (!m4n_safetensors_find(f->adapter, full)) return M4N_OK;
  M4N_TRY(m4n_safetensors_need(&down, f->adapter, full, 2, (int64_t[]){-1, shape[1]}));
  snprintf(full, sizeof full, ADAPTER_PREFIX "%.*s.lora_B.weight", (int)stem, name);
  M4N_TRY(m4n_safetensors_need(&up, f->adapter, full, 2, (int64_t[]){shape[0], down->shape[0]}));
  return add_product(values, down, up, f->scale);
}

static int fold_part(void *self, const m4n_part *part, m4n_real *values) {
  return m4n_folded_read(self, part->name, part->rank, part->shape, values);
}

int m4n_lora_fold(m4n_params *params, const m4n_safetensors *base, const char *prefix, const char *folder) {
  m4n_folded folded;
  M4N_TRY(m4n_folded_open(&folded, base, prefix, folder));
  int status = m4n_params_fill(params, M4N_SET_BACKBONE, fold_part, &folded);
  m4n_folded_close(&folded);
  return status;
}
