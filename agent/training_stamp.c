#include "agent/training_stamp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "agent/policy.h"
#include "agent/scenario_keys.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

enum { MAX_STAMP = 1 << 20 };
// Files beyond this (the shards of a large language model) are known by name and size.
static const size_t hashed_size = (size_t)256 << 20;
static const char *const endings[] = {
    [M4N_STAMP_BEGUN] = "state: begun\n", [M4N_STAMP_DONE] = "state: done\n"};

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a stamp");
}

int m4n_stamp_open(m4n_stamp *stamp, const char *stage, const m4n_scenario *scenario) {
  *stamp = (m4n_stamp){.scenario = scenario};
  stamp->stream = open_memstream(&stamp->text, &stamp->size);
  if (!stamp->stream) return no_memory();
  fprintf(stamp->stream, "stage: %s\nseed: %" PRIu64 "\ntask: %s\n", stage, scenario->seed, scenario->task);
  return M4N_OK;
}

int m4n_stamp_done(m4n_stamp *stamp) {
  int failed = ferror(stamp->stream) | fclose(stamp->stream);
  stamp->stream = NULL;
  return failed ? no_memory() : M4N_OK;
}

void m4n_stamp_close(m4n_stamp *stamp) {
  if (stamp->stream) fclose(stamp->stream);
  free(stamp->text);
  *stamp = (m4n_stamp){0};
}

// ---- contents

static int hash_file(XXH3_state_t *state, const char *path) {
  struct stat about;
  if (stat(path, &about)) return m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL, "is not there");
  XXH3_64bits_update(state, &about.st_size, sizeof about.st_size);
  if ((size_t)about.st_size > hashed_size) return M4N_OK;
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, SIZE_MAX));
  if (map.size) XXH3_64bits_update(state, map.data, map.size);
  m4n_map_close(&map);
  return M4N_OK;
}

static int hash_folder(XXH3_state_t *state, const char *path) {
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, path));
  int status = M4N_OK;
  for (int i = 0; i < names.count && !status; i++) {
    char *file = m4n_path_join(path, names.name[i]);
    if (!file) status = no_memory();
    XXH3_64bits_update(state, names.name[i], strlen(names.name[i]) + 1);
    if (!status && !m4n_is_dir(file)) status = hash_file(state, file);
    free(file);
  }
  m4n_names_free(&names);
  return status;
}

int m4n_stamp_file(m4n_stamp *stamp, const char *what, const char *path) {
  if (!path) {
    fprintf(stamp->stream, "%s: none\n", what);
    return M4N_OK;
  }
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  M4N_TRY(m4n_is_dir(path) ? hash_folder(&state, path) : hash_file(&state, path));
  fprintf(stamp->stream, "%s: %016" PRIx64 "\n", what, (uint64_t)XXH3_64bits_digest(&state));
  return M4N_OK;
}

// ---- keys

static int add_value(m4n_stamp *stamp, const m4n_key *key, const char *value) {
  const m4n_policy_kind *kind;
  switch (key->type) {
  case M4N_KEY_PATH:
  case M4N_KEY_PATHS:
    if (m4n_key_is_word(key, value)) break;
    return m4n_stamp_file(stamp, key->path, value);
  case M4N_KEY_POLICY:
  case M4N_KEY_POLICIES:
    if (!m4n_policy_find(&kind, value) && kind->match == M4N_MATCH_FILE) {
      char *path = strndup(value, m4n_policy_settings(kind, value));
      int status = path ? m4n_stamp_file(stamp, key->path, path) : no_memory();
      free(path);
      M4N_TRY(status);
    }
    break;
  default:
    break;
  }
  fprintf(stamp->stream, "%s: %s\n", key->path, value);
  return M4N_OK;
}

static int see(void *self, const m4n_key *key, const char *const *value, int n) {
  for (int i = 0; i < n; i++) M4N_TRY(add_value(self, key, value[i]));
  if (!n) fprintf(((m4n_stamp *)self)->stream, "%s: []\n", key->path);
  return M4N_OK;
}

int m4n_stamp_keys(m4n_stamp *stamp, const char *prefix) {
  return m4n_scenario_each(stamp->scenario, prefix, see, stamp);
}

// ---- files

int m4n_stamp_state(const m4n_stamp *stamp, const char *path) {
  m4n_map map;
  int state = M4N_STAMP_OTHER;
  if (!m4n_exists(path) || m4n_map_open(&map, path, MAX_STAMP)) return state;
  bool same = map.size > stamp->size && !memcmp(map.data, stamp->text, stamp->size);
  for (int i = M4N_STAMP_BEGUN; same && i <= M4N_STAMP_DONE; i++)
    if (map.size - stamp->size == strlen(endings[i]) &&
        !memcmp(map.data + stamp->size, endings[i], strlen(endings[i])))
      state = i;
  m4n_map_close(&map);
  return state;
}

int m4n_stamp_write(const m4n_stamp *stamp, const char *path, int state) {
  m4n_writer writer;
  M4N_TRY(m4n_writer_open(&writer, path));
  fprintf(writer.stream, "%s%s", stamp->text, endings[state]);
  return m4n_writer_commit(&writer);
}
