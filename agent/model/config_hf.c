/* Read what shapes the arithmetic, refuse what would change it (algorithms.md §2.1); keys of no influence are passed by. */
#include "agent/model/config_hf.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"

enum { MAX_CONFIG = 16 << 20 };

// A whole number; `otherwise` where the key is missing or null (−1: it must be there).
static int whole(int *value, const char *path, const json_t *root, const char *key, int otherwise) {
  const json_t *v = json_object_get(root, key);
  if (otherwise >= 0 && (!v || json_is_null(v))) {
    *value = otherwise;
    return M4N_OK;
  }
  if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 4 * M4N_MAX_WIDTH)
    return m4n_fail_at(M4N_EFORMAT, path, 0, key, "expected a whole number up to %d", 4 * M4N_MAX_WIDTH);
  *value = (int)json_integer_value(v);
  return M4N_OK;
}

static int number(double *value, const char *path, const json_t *root, const char *key, double otherwise) {
  const json_t *v = json_object_get(root, key);
  if (!v || json_is_null(v)) {
    *value = otherwise;
    return M4N_OK;
  }
  *value = json_number_value(v);
  if (!json_is_number(v) || !isfinite(*value))
    return m4n_fail_at(M4N_EFORMAT, path, 0, key, "expected a number");
  return M4N_OK;
}

static bool set(const json_t *root, const char *key) {
  const json_t *v = json_object_get(root, key);
  return v && !json_is_null(v) && !json_is_false(v);
}

static int refuse(const char *path, const char *key, const char *why) {
  return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, key, "%s", why);
}

static int need_silu(const char *path, const json_t *root) {
  const char *act = json_string_value(json_object_get(root, "hidden_act"));
  return act && strcmp(act, "silu") != 0 ? refuse(path, "hidden_act", "expected silu") : M4N_OK;
}

// Older files have rope_theta and rope_scaling, newer ones rope_parameters.
static int read_rope(m4n_backbone *b, const char *path, const json_t *root) {
  const json_t *rope = json_object_get(root, "rope_parameters");
  if (set(root, "rope_scaling"))
    return refuse(path, "rope_scaling", "scaled rotary embeddings are not supported");
  if (!json_is_object(rope)) rope = root;
  const char *type = json_string_value(json_object_get(rope, "rope_type"));
  if (type && strcmp(type, "default") != 0)
    return refuse(path, "rope_type", "scaled rotary embeddings are not supported");
  if (set(rope, "partial_rotary_factor")) return refuse(path, "partial_rotary_factor", "is not supported");
  return number(&b->rope_theta, path, rope, "rope_theta", 10000);
}

static int read_llama(m4n_backbone *b, const char *path, const json_t *root, bool qwen2) {
  M4N_TRY(whole(&b->d, path, root, "hidden_size", -1));
  M4N_TRY(whole(&b->ffn, path, root, "intermediate_size", -1));
  M4N_TRY(whole(&b->attention_layers, path, root, "num_hidden_layers", -1));
  M4N_TRY(whole(&b->heads, path, root, "num_attention_heads", -1));
  M4N_TRY(whole(&b->kv_heads, path, root, "num_key_value_heads", b->heads));
  M4N_TRY(whole(&b->head_dim, path, root, "head_dim", b->heads ? b->d / b->heads : 0));
  M4N_TRY(number(&b->eps, path, root, "rms_norm_eps", 1e-6));
  M4N_TRY(read_rope(b, path, root));
  M4N_TRY(need_silu(path, root));
  if (set(root, "attention_bias"))
    return refuse(path, "attention_bias", "only Qwen2's q, k, v biases are supported");
  if (set(root, "mlp_bias")) return refuse(path, "mlp_bias", "is not supported");
  const json_t *window = json_object_get(root, "sliding_window");
  bool unused = json_is_false(json_object_get(root, "use_sliding_window"));
  if (json_is_integer(window) && json_integer_value(window) < 4096 && !unused)
    return refuse(path, "sliding_window", "windows below 4096 tokens are not supported");
  b->qkv_bias = qwen2;
  return M4N_OK;
}

static int read_mamba(m4n_backbone *b, const char *path, const json_t *root) {
  int expand = 0;
  M4N_TRY(whole(&b->d, path, root, "hidden_size", -1));
  M4N_TRY(whole(&b->mamba_layers, path, root, "num_hidden_layers", -1));
  M4N_TRY(whole(&b->state, path, root, "state_size", 16));
  M4N_TRY(whole(&b->conv, path, root, "conv_kernel", 4));
  M4N_TRY(whole(&expand, path, root, "expand", 2));
  M4N_TRY(whole(&b->inner, path, root, "intermediate_size",
                b->d <= M4N_MAX_WIDTH && expand < 64 ? b->d * expand : 0));
  const json_t *rank = json_object_get(root, "time_step_rank");
  if (json_is_string(rank) && strcmp(json_string_value(rank), "auto") == 0)
    b->rank = (b->d + 15) / 16;
  else
    M4N_TRY(whole(&b->rank, path, root, "time_step_rank", (b->d + 15) / 16));
  M4N_TRY(number(&b->eps, path, root, "layer_norm_epsilon", 1e-5));
  M4N_TRY(need_silu(path, root));
  if (set(root, "use_bias")) return refuse(path, "use_bias", "is not supported");
  if (json_is_false(json_object_get(root, "use_conv_bias")))
    return refuse(path, "use_conv_bias", "expected true");
  b->mixer = M4N_MIXER_MAMBA1;
  b->hf_mamba = 1;
  return M4N_OK;
}

static int read_root(m4n_config *config, const char *path, const json_t *root) {
  *config = (m4n_config){0};
  const char *type = json_string_value(json_object_get(root, "model_type"));
  bool qwen2 = type && strcmp(type, "qwen2") == 0;
  if (type && strcmp(type, "mamba") == 0)
    M4N_TRY(read_mamba(&config->backbone, path, root));
  else if (type && (qwen2 || strcmp(type, "llama") == 0 || strcmp(type, "mistral") == 0))
    M4N_TRY(read_llama(&config->backbone, path, root, qwen2));
  else
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, "model_type",
                       "%.40s: expected llama, mistral, qwen2 or mamba", type ? type : "missing");
  return m4n_config_check(config, path);
}

int m4n_config_read_hf(m4n_config *config, const char *path) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, MAX_CONFIG));
  json_error_t error;
  json_t *root = json_loadb(map.data ? (const char *)map.data : "", map.size, JSON_REJECT_DUPLICATES, &error);
  m4n_map_close(&map);
  if (!root)
    return m4n_fail_at(M4N_EFORMAT, path, error.line, NULL, "column %d: %s: expected JSON", error.column,
                       error.text);
  int status = read_root(config, path, root);
  json_decref(root);
  return status;
}
