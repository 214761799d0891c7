#include "agent/model/config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/config_hf.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

// ---- presets -----------------------------------------------------------------------------------------------------------

// 6 levels, the last 6 of 8 chunks, 47 decisions a video: the task as published (algorithms.md §4.2).
#define USUAL_ABR                                                                                            \
  { .levels = 6, .history = 6, .lookahead = 1, .embed = 256, .window = 20, .max_steps = 47 }
#define LLAMA(layers, width, n, per_head, wide)                                                              \
  {                                                                                                          \
    .d = width, .attention_layers = layers, .eps = 1e-5, .ffn = wide, .heads = n, .kv_heads = n,             \
    .head_dim = per_head, .rope_theta = 10000                                                                \
  }
// Mamba heads of N = 16 channels, so that a student has as many as it has groups of B and C.
#define STUDENT(mambas, attentions, width, n, per_head, wide)                                                \
  {                                                                                                          \
    .d = width, .mamba_layers = mambas, .attention_layers = attentions, .eps = 1e-5, .ffn = wide,            \
    .mamba_ffn = 1, .heads = n, .kv_heads = n, .head_dim = per_head, .rope_theta = 10000,                    \
    .mixer = M4N_MIXER_MAMBA, .inner = width, .state = 16, .rank = (width + 15) / 16, .conv = 4              \
  }

static const struct {
  const char *name;
  m4n_config config;
} presets[] = {
    {"mini", {LLAMA(6, 256, 8, 32, 688), USUAL_ABR}},        // a teacher that is fully trained in minutes
    {"base", {LLAMA(16, 1024, 16, 64, 2752), USUAL_ABR}},    // one for a GPU
    {"tiny", {STUDENT(2, 1, 64, 4, 16, 172), USUAL_ABR}},    // for tests
    {"small", {STUDENT(4, 1, 128, 8, 16, 344), USUAL_ABR}},  // 40 times cheaper than paper
    {"paper", {STUDENT(10, 2, 512, 8, 64, 1376), USUAL_ABR}} // the published shape
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

const char *m4n_config_preset_name(int index) {
  return index < PRESETS ? presets[index].name : NULL;
}

int m4n_config_preset(m4n_config *config, const char *name) {
  for (int i = 0; i < PRESETS; i++)
    if (strcmp(presets[i].name, name) == 0) {
      *config = presets[i].config;
      return M4N_OK;
    }
  char names[128];
  size_t n = 0;
  for (int i = 0; i < PRESETS; i++)
    n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", presets[i].name);
  return m4n_fail(M4N_ENOTFOUND, "no preset is called %.60s, expected one of %s", name, names);
}

double m4n_rope_frequency(const m4n_backbone *b, int i) {
  if (b->frequencies) return b->rope_freq[i];
  // θ^(−2i/P), every step rounded to float32 as the reference library does
  return (double)(1.0f / powf((float)b->rope_theta, (float)(2 * i) / (float)b->head_dim));
}

// ---- keys ----------------------------------------------------------------------------------------------------------------

// One table for reading, writing and checking: the key, where it lies, what it may be.
enum type { INT, REAL };
struct key {
  const char *name;
  enum type type;
  size_t offset;
  double low, high;
};

#define BACKBONE(type, name, low, high)                                                                      \
  { #name, type, offsetof(m4n_backbone, name), low, high }
static const struct key backbone_keys[] = {
    BACKBONE(INT, d, 1, M4N_MAX_WIDTH),
    BACKBONE(INT, mamba_layers, 0, M4N_MAX_LAYERS),
    BACKBONE(INT, attention_layers, 0, M4N_MAX_LAYERS),
    BACKBONE(REAL, eps, 1e-12, 1),
    BACKBONE(INT, ffn, 0, 4 * M4N_MAX_WIDTH),
    BACKBONE(INT, mamba_ffn, 0, 1),
    BACKBONE(INT, heads, 0, 1024),
    BACKBONE(INT, kv_heads, 0, 1024),
    BACKBONE(INT, head_dim, 0, M4N_ATTENTION_WIDTH),
    BACKBONE(INT, qkv_bias, 0, 1),
    BACKBONE(INT, interleaved, 0, 1),
    BACKBONE(REAL, rope_theta, 0, 1e12),
    BACKBONE(INT, mixer, 0, M4N_MIXER_MAMBA1),
    BACKBONE(INT, inner, 0, 4 * M4N_MAX_WIDTH),
    BACKBONE(INT, state, 0, M4N_SCAN_STATE),
    BACKBONE(INT, rank, 0, M4N_MAX_WIDTH),
    BACKBONE(INT, conv, 0, 8),
    BACKBONE(INT, gate_bias, 0, 1),
    BACKBONE(INT, hf_mamba, 0, 1),
};
#define ABR(name, low, high)                                                                                 \
  { #name, INT, offsetof(m4n_abr_shape, name), low, high }
static const struct key abr_keys[] = {
    ABR(levels, 0, M4N_MAX_LEVELS),
    ABR(history, 0, M4N_MAX_HISTORY),
    ABR(lookahead, 0, M4N_MAX_LOOKAHEAD),
    ABR(embed, 0, 8192),
    ABR(window, 0, 1024),
    ABR(max_steps, 0, 65536),
};
enum {
  BACKBONE_KEYS = sizeof backbone_keys / sizeof backbone_keys[0],
  ABR_KEYS = sizeof abr_keys / sizeof abr_keys[0]
};

static double value_of(const struct key *key, const void *object) {
  const char *at = (const char *)object + key->offset;
  return key->type == INT ? (double)*(const int *)at : *(const double *)at;
}

static int check_ranges(const char *from, const struct key *keys, int n, const void *object) {
  for (int i = 0; i < n; i++) {
    double value = value_of(&keys[i], object);
    if (!(value >= keys[i].low && value <= keys[i].high))
      return m4n_fail_at(M4N_EFORMAT, from, 0, keys[i].name, "%g: expected %g … %g", value, keys[i].low,
                         keys[i].high);
  }
  return M4N_OK;
}

static int check_attention(const char *from, const m4n_backbone *b) {
  if (!b->attention_layers) return M4N_OK;
  if (!b->heads || !b->kv_heads || b->heads % b->kv_heads)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "kv_heads", "%d key heads do not divide %d heads", b->kv_heads,
                       b->heads);
  if (b->head_dim < 2 || b->head_dim % 2)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "head_dim", "%d: expected an even number", b->head_dim);
  if (b->frequencies && b->frequencies != b->head_dim / 2)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "rope_freq", "%d frequencies, expected head_dim/2 = %d",
                       b->frequencies, b->head_dim / 2);
  if (!b->frequencies && !(b->rope_theta > 1))
    return m4n_fail_at(M4N_EFORMAT, from, 0, "rope_theta", "%g: expected more than 1", b->rope_theta);
  return M4N_OK;
}

static int check_mamba(const char *from, const m4n_backbone *b) {
  if (!b->mamba_layers) return M4N_OK;
  if (!b->inner || !b->state || !b->rank || !b->conv)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "inner", "inner, state, rank and conv must be above 0");
  if (b->mixer == M4N_MIXER_MAMBA && b->inner % b->state)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "state", "%d does not divide inner = %d", b->state, b->inner);
  return M4N_OK;
}

int m4n_config_check(const m4n_config *config, const char *from) {
  const m4n_backbone *b = &config->backbone;
  const m4n_abr_shape *abr = &config->abr;
  M4N_TRY(check_ranges(from, backbone_keys, BACKBONE_KEYS, b));
  M4N_TRY(check_ranges(from, abr_keys, ABR_KEYS, abr));
  if (b->mamba_layers + b->attention_layers < 1 || b->mamba_layers + b->attention_layers > M4N_MAX_LAYERS)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "attention_layers", "%d layers in all, expected 1 … %d",
                       b->mamba_layers + b->attention_layers, M4N_MAX_LAYERS);
  M4N_TRY(check_attention(from, b));
  M4N_TRY(check_mamba(from, b));
  if (abr->levels && (abr->levels < 2 || abr->history < 4 || !abr->lookahead || !abr->embed || !abr->window ||
                      !abr->max_steps))
    return m4n_fail_at(M4N_EFORMAT, from, 0, "abr",
                       "expected levels >= 2, history >= 4, and lookahead, embed, window, max_steps above 0");
  return M4N_OK;
}

// ---- our own JSON --------------------------------------------------------------------------------------------------------

static json_t *to_json(const struct key *keys, int n, const void *object) {
  json_t *json = json_object();
  for (int i = 0; i < n; i++) {
    double value = value_of(&keys[i], object);
    json_object_set_new(json, keys[i].name,
                        keys[i].type == INT ? json_integer((json_int_t)value) : json_real(value));
  }
  return json;
}

char *m4n_config_text(const m4n_config *config) {
  json_t *backbone = to_json(backbone_keys, BACKBONE_KEYS, &config->backbone), *freq = json_array();
  for (int i = 0; i < config->backbone.frequencies; i++)
    json_array_append_new(freq, json_real(config->backbone.rope_freq[i]));
  json_object_set_new(backbone, "rope_freq", freq);
  json_t *root = json_pack("{s:i, s:o}", "version", 1, "backbone", backbone);
  if (config->abr.levels) json_object_set_new(root, "abr", to_json(abr_keys, ABR_KEYS, &config->abr));
  char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
  json_decref(root);
  if (!text) m4n_fail(M4N_ENOMEM, "no memory for a model's description");
  return text;
}

static int read_freq(m4n_backbone *b, const char *from, const json_t *array) {
  if (!json_is_array(array) || json_array_size(array) > M4N_MAX_FREQUENCIES)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "rope_freq", "expected up to %d numbers", M4N_MAX_FREQUENCIES);
  b->frequencies = (int)json_array_size(array);
  for (int i = 0; i < b->frequencies; i++) {
    const json_t *f = json_array_get(array, (size_t)i);
    b->rope_freq[i] = json_number_value(f);
    if (!json_is_number(f) || !isfinite(b->rope_freq[i]) || b->rope_freq[i] < 0)
      return m4n_fail_at(M4N_EFORMAT, from, 0, "rope_freq", "entry %d is no frequency", i);
  }
  return M4N_OK;
}

// Every key must be there, and no other.
static int from_json(const char *from, const struct key *keys, int n, void *object, const json_t *json) {
  for (int i = 0; i < n; i++) {
    const json_t *value = json_object_get(json, keys[i].name);
    if (keys[i].type == INT ? !json_is_integer(value) : !json_is_number(value))
      return m4n_fail_at(M4N_EFORMAT, from, 0, keys[i].name, "expected %s",
                         keys[i].type == INT ? "a whole number" : "a number");
    double number = json_number_value(value);
    if (!(number >= keys[i].low && number <= keys[i].high))
      return m4n_fail_at(M4N_EFORMAT, from, 0, keys[i].name, "%g: expected %g … %g", number, keys[i].low,
                         keys[i].high);
    char *at = (char *)object + keys[i].offset;
    if (keys[i].type == INT)
      *(int *)at = (int)number;
    else
      *(double *)at = number;
  }
  return M4N_OK;
}

static int parse(m4n_config *config, const char *from, const json_t *root) {
  *config = (m4n_config){0};
  const json_t *version = json_object_get(root, "version"), *backbone = json_object_get(root, "backbone"),
               *abr = json_object_get(root, "abr");
  if (!json_is_integer(version) || json_integer_value(version) != 1)
    return m4n_fail_at(M4N_EFORMAT, from, 0, "version",
                       "expected 1: written by another version of this program?");
  M4N_TRY(from_json(from, backbone_keys, BACKBONE_KEYS, &config->backbone, backbone));
  M4N_TRY(read_freq(&config->backbone, from, json_object_get(backbone, "rope_freq")));
  if (abr) M4N_TRY(from_json(from, abr_keys, ABR_KEYS, &config->abr, abr));
  if (json_object_size(root) != (abr ? 3 : 2) || json_object_size(backbone) != BACKBONE_KEYS + 1 ||
      (abr && json_object_size(abr) != ABR_KEYS))
    return m4n_fail_at(M4N_EFORMAT, from, 0, M4N_CONFIG_KEY, "holds keys that this version does not know");
  return m4n_config_check(config, from);
}

int m4n_config_parse(m4n_config *config, const char *from, const char *text) {
  json_error_t error;
  json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  if (!root)
    return m4n_fail_at(M4N_EFORMAT, from, 0, M4N_CONFIG_KEY, "column %d: %s: expected JSON", error.column,
                       error.text);
  int status = parse(config, from, root);
  json_decref(root);
  return status;
}

// ---- files -----------------------------------------------------------------------------------------------------------------

int m4n_config_of(m4n_config *config, const m4n_safetensors *file, const char *path) {
  const char *text = m4n_safetensors_metadata(file, M4N_CONFIG_KEY);
  if (!text)
    return m4n_fail_at(
        M4N_EFORMAT, path, 0, M4N_CONFIG_KEY,
        "the metadata says nothing of a model of ours (a Hugging Face model is given as its folder)");
  return m4n_config_parse(config, path, text);
}

int m4n_config_read(m4n_config *config, const char *path) {
  const char *base = m4n_path_base(path);
  if (strcmp(base, "config.json") == 0) return m4n_config_read_hf(config, path);
  if (m4n_is_dir(path)) {
    char *file = m4n_path_join(path, "config.json");
    int status = file ? m4n_config_read_hf(config, file) : m4n_fail(M4N_ENOMEM, "no memory for a path");
    free(file);
    return status;
  }
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = m4n_config_of(config, file, path);
  m4n_safetensors_close(file);
  return status;
}
