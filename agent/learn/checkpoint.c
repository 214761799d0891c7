#include "agent/learn/checkpoint.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

static const char TASK[] = "task", REWARD[] = "reward", WORLD[] = "world", RETURN[] = "return",
                  BASE[] = "base", ADAPTER[] = "adapter", ABOUT[] = "about";

void m4n_condition_world(char world[M4N_WORLD], const m4n_spec *spec) {
  int levels = 0, one = 0;
  size_t n = 0;
  const double *ladder = m4n_spec_constant(spec, M4N_ABR_LADDER, &levels);
  const double *chunk_s = m4n_spec_constant(spec, M4N_ABR_CHUNK_SECONDS, &one);
  world[0] = 0;
  if (ladder && levels <= M4N_ABR_MAX_LEVELS) {
    n += (size_t)snprintf(world, M4N_WORLD, "ladder");
    for (int i = 0; i < levels; i++) n += (size_t)snprintf(world + n, M4N_WORLD - n, " %.6g", ladder[i]);
    n += (size_t)snprintf(world + n, M4N_WORLD - n, " kbit/s");
  }
  if (chunk_s && one == 1) snprintf(world + n, M4N_WORLD - n, "%schunks of %.6g s", n ? ", " : "", *chunk_s);
}

int m4n_condition_check(const m4n_condition *c, const m4n_spec *spec, const char *path) {
  if (!c->task[0])
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, NULL, "this model has not been trained for any task yet");
  if (strcmp(c->task, spec->task) != 0)
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, NULL, "a model for task '%s', and the simulator has '%s'",
                       c->task, spec->task);
  if (strcmp(c->reward, spec->reward) != 0)
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, NULL,
                       "a model trained for the reward '%s', and the simulator pays '%s'", c->reward,
                       spec->reward);
  char world[M4N_WORLD];
  m4n_condition_world(world, spec);
  if (strcmp(c->world, world) != 0)
    return m4n_fail_at(M4N_EUNSUPPORTED, path, 0, NULL,
                       "a model trained for '%s', and the simulator has '%s'", c->world, world);
  return M4N_OK;
}

// ---- reading -------------------------------------------------------------------------------------------------------------

static int copy_text(char *to, size_t size, const m4n_safetensors *file, const char *path, const char *key) {
  const char *text = m4n_safetensors_metadata(file, key);
  const size_t n = text ? strlen(text) : 0;
  if (n >= size)
    return m4n_fail_at(M4N_EFORMAT, path, 0, key, "expected less than %zu bytes, there are %zu", size, n);
  memcpy(to, text ? text : "", n + 1);
  return M4N_OK;
}

// A path relative to the file's own folder.
static int resolve(char to[M4N_PATH], const char *path) {
  if (!to[0]) return M4N_OK;
  char *folder = m4n_path_dir(path), *whole = folder ? m4n_path_join(folder, to) : NULL;
  int status = !whole ? m4n_fail(M4N_ENOMEM, "no memory for a path")
               : strlen(whole) >= M4N_PATH
                   ? m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "names a path that is too long")
                   : M4N_OK;
  if (!status) memcpy(to, whole, strlen(whole) + 1);
  free(whole);
  free(folder);
  return status;
}

int m4n_condition_read(m4n_condition *c, const m4n_safetensors *file, const char *path) {
  M4N_TRY(copy_text(c->task, sizeof c->task, file, path, TASK));
  M4N_TRY(copy_text(c->reward, sizeof c->reward, file, path, REWARD));
  M4N_TRY(copy_text(c->world, sizeof c->world, file, path, WORLD));
  if (!c->task[0]) return M4N_OK;
  const char *text = m4n_safetensors_metadata(file, RETURN);
  m4n_words words = {{text, text ? strlen(text) : 0}};
  m4n_span word;
  double value[4];
  int n = 0;
  while (n < 4 && m4n_words_next(&words, &word) && m4n_span_double(word, &value[n]) && isfinite(value[n]))
    n++;
  if (n < 4 || m4n_words_next(&words, &word) || !(value[0] <= value[1]) || !(value[2] > 0))
    return m4n_fail_at(M4N_EFORMAT, path, 0, RETURN,
                       "expected four numbers: lowest and highest reward, scale above 0, target");
  c->low = value[0], c->high = value[1], c->scale = value[2], c->target = value[3];
  return M4N_OK;
}

int m4n_checkpoint_read(m4n_checkpoint *c, const char *path) {
  *c = (m4n_checkpoint){0};
  if (strlen(path) >= sizeof c->path) return m4n_fail(M4N_EARG, "%.60s…: a path that is too long", path);
  memcpy(c->path, path, strlen(path) + 1);
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = m4n_config_of(&c->config, file, path);
  if (!status) status = m4n_condition_read(&c->condition, file, path);
  if (!status) status = copy_text(c->base, sizeof c->base, file, path, BASE);
  if (!status) status = copy_text(c->adapter, sizeof c->adapter, file, path, ADAPTER);
  if (!status) status = copy_text(c->about, sizeof c->about, file, path, ABOUT);
  if (!status) status = resolve(c->base, path);
  if (!status) status = resolve(c->adapter, path);
  m4n_safetensors_close(file);
  return status;
}

int m4n_checkpoint_load(const m4n_checkpoint *c, m4n_net *net) {
  if (!c->base[0]) return m4n_net_load(net, c->path);
  M4N_TRY(m4n_net_load_backbone(net, c->base, c->adapter[0] ? c->adapter : NULL));
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, c->path));
  int status = m4n_params_load(net->params, M4N_SET_TASK, file, "");
  m4n_safetensors_close(file);
  return status;
}

int m4n_checkpoint_format(const m4n_checkpoint *c) {
  return c->base[0] ? M4N_W_BF16 : M4N_W_REAL;
}

int m4n_condition_metadata(const m4n_condition *c, char text[M4N_CONDITION_TEXT], m4n_metadata to[4]) {
  if (!c->task[0]) return 0;
  snprintf(text, M4N_CONDITION_TEXT, "%.17g %.17g %.17g %.17g", c->low, c->high, c->scale, c->target);
  to[0] = (m4n_metadata){TASK, c->task};
  to[1] = (m4n_metadata){REWARD, c->reward};
  to[2] = (m4n_metadata){RETURN, text};
  to[3] = (m4n_metadata){WORLD, c->world};
  return 4;
}

// ---- writing -------------------------------------------------------------------------------------------------------------

static int save_adapter(m4n_checkpoint *c, const m4n_net *net, const m4n_real *values) {
  const char suffix[] = ".safetensors";
  size_t n = strlen(c->path), tail = sizeof suffix - 1;
  if (n > tail && strcmp(c->path + n - tail, suffix) == 0) n -= tail;
  if (n + sizeof "-adapter" > M4N_PATH) return m4n_fail(M4N_EARG, "%.60s…: a path that is too long", c->path);
  snprintf(c->adapter, sizeof c->adapter, "%.*s-adapter", (int)n, c->path);
  return m4n_lora_save(net->params, &net->options.lora, c->adapter, c->base, values);
}

// What the file calls the base: a path that holds wherever the file is read from.
static int absolute(char to[M4N_PATH], const char *path) {
  char *real = realpath(path, NULL);
  if (!real) return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL, "the base model is not there");
  int status = strlen(real) < M4N_PATH ? M4N_OK : m4n_fail(M4N_EARG, "%.60s…: a path that is too long", real);
  if (!status) memcpy(to, real, strlen(real) + 1);
  free(real);
  return status;
}

int m4n_checkpoint_save(m4n_checkpoint *c, const m4n_net *net, const m4n_real *values) {
  const bool lora = net->options.lora.rank > 0, partly = lora || net->options.freeze;
  char base[M4N_PATH] = "", returns[M4N_CONDITION_TEXT];
  if (partly) M4N_TRY(absolute(base, c->base));
  if (lora) M4N_TRY(save_adapter(c, net, values));
  char *text = m4n_config_text(&c->config);
  if (!text) return M4N_ENOMEM;
  m4n_metadata about[8] = {{M4N_CONFIG_KEY, text}};
  int n = 1 + m4n_condition_metadata(&c->condition, returns, about + 1);
  if (partly) about[n++] = (m4n_metadata){BASE, base};
  if (c->adapter[0]) about[n++] = (m4n_metadata){ADAPTER, lora ? m4n_path_base(c->adapter) : c->adapter};
  if (c->about[0]) about[n++] = (m4n_metadata){ABOUT, c->about};
  const int sets = partly ? M4N_SET_TASK : M4N_SET_BACKBONE | M4N_SET_TASK;
  int status = m4n_params_save(net->params, sets, values, c->path, M4N_TENSOR_F32, about, n);
  free(text);
  return status;
}

static int hash_file(XXH3_state_t *state, const char *path) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, SIZE_MAX));
  XXH3_64bits_update(state, map.data, map.size);
  m4n_map_close(&map);
  return M4N_OK;
}

int m4n_checkpoint_hash(const m4n_checkpoint *c, uint64_t *hash) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  M4N_TRY(hash_file(&state, c->path));
  if (c->adapter[0]) {
    char *weights = m4n_path_join(c->adapter, "adapter_model.safetensors");
    int status = weights ? hash_file(&state, weights) : m4n_fail(M4N_ENOMEM, "no memory for a path");
    free(weights);
    M4N_TRY(status);
  }
  *hash = XXH3_64bits_digest(&state);
  return M4N_OK;
}
