// Saving and resuming: weights, their average, moments and counters. Files of a saving carry its number; the state file, which is
// written last and whole, says which saving counts.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/learn/expert_internal.h"
#include "kernels/base/text.h"

enum { PATH = 4096 };
static const char *const kinds[] = {"weights", "average", "moments"};

static int path_of(char path[PATH], const m4n_expert *e, const char *name) {
  int n = snprintf(path, PATH, "%s/%s", e->o.work, name);
  return n < PATH ? M4N_OK : m4n_fail(M4N_EARG, "%s: the path is too long", e->o.work);
}

static int path_of_saving(char path[PATH], const m4n_expert *e, const char *kind, int64_t update) {
  char name[64];
  snprintf(name, sizeof name, "%s-%" PRId64 ".safetensors", kind, update);
  return path_of(path, e, name);
}

// All options that the numbers depend on: a run goes on only under the same.
static void describe(const m4n_expert *e, char *text, size_t size) {
  const m4n_expert_options *o = &e->o;
  snprintf(text, size,
           "seed %" PRIu64 " steps %" PRId64 " guide %s %" PRId64
           " lanes %d horizon %d width %d layers %d batch %d epochs %d lr %.17g %.17g entropy %.17g "
           "%.17g gamma %.17g lambda %.17g clip %.17g reward %.17g %.17g average %.17g "
           "save_every %d features %d",
           o->seed, o->steps, o->guide ? o->guide : "none", o->guide_steps, o->lanes, o->horizon, o->width,
           o->layers, o->batch, o->epochs, o->lr, o->lr_end, o->entropy, o->entropy_end, o->gamma, o->lambda,
           o->clip, o->reward_scale, o->reward_knee, o->average, o->save_every, e->features.n);
}

static int write_state(const m4n_expert *e) {
  char path[PATH], options[1024];
  m4n_writer state;
  M4N_TRY(path_of(path, e, "state"));
  M4N_TRY(m4n_writer_open(&state, path));
  describe(e, options, sizeof options);
  fprintf(state.stream, "%s\n%" PRId64 " %" PRId64 " %" PRId64 " %ld\n", options, e->updates, e->done_steps,
          e->next_episode, ftell(e->log));
  return m4n_writer_commit(&state);
}

int expert_save(m4n_expert *e) {
  char path[PATH];
  const m4n_params *params = e->actor->params;
  for (int i = 0; i < 2; i++) {
    M4N_TRY(path_of_saving(path, e, kinds[i], e->updates));
    M4N_TRY(m4n_params_save(params, M4N_ALL_SETS, i ? e->average : NULL, path, M4N_TENSOR_F32, NULL, 0));
  }
  M4N_TRY(path_of_saving(path, e, kinds[2], e->updates));
  M4N_TRY(m4n_optimiser_save(e->optimiser, path));
  if (fflush(e->log))
    return m4n_fail_at(M4N_EIO, e->o.work, 0, "train.csv", "cannot be written: %s", strerror(errno));
  M4N_TRY(write_state(e));
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    M4N_TRY(path_of_saving(path, e, kinds[i], e->saved_at));
    if (e->saved_at != e->updates) unlink(path);
  }
  e->saved_at = e->updates;
  return M4N_OK;
}

// The second line of the state file: updates, steps, episodes, bytes of train.csv.
static int read_counters(m4n_expert *e, const char *path, m4n_span line, int64_t *log_bytes) {
  m4n_words words = {line};
  int64_t *const to[] = {&e->updates, &e->done_steps, &e->next_episode, log_bytes};
  m4n_span word;
  for (size_t i = 0; i < sizeof to / sizeof *to; i++)
    if (!m4n_words_next(&words, &word) || !m4n_span_int64(word, to[i]) || *to[i] < 0)
      return m4n_fail_at(M4N_EFORMAT, path, 2, "counters",
                         "expected four numbers: remove the folder to begin anew");
  return M4N_OK;
}

// Also cuts train.csv back to what it held when the run was saved.
static int read_state(m4n_expert *e, const char *path) {
  char options[1024], csv[PATH];
  m4n_map map;
  m4n_span first = {0}, second = {0};
  int64_t log_bytes = 0;
  M4N_TRY(m4n_map_open(&map, path, 1 << 16));
  m4n_lines lines = m4n_lines_of(map.data, map.size);
  describe(e, options, sizeof options);
  int status;
  if (!m4n_lines_next(&lines, &first) || !m4n_lines_next(&lines, &second))
    status = m4n_fail_at(M4N_EFORMAT, path, lines.number, "state",
                         "expected two lines: remove the folder to begin anew");
  else if (!m4n_span_is(first, options))
    status =
        m4n_fail_at(M4N_EARG, path, 1, "options", "are others than now: remove the folder to begin anew");
  else
    status = read_counters(e, path, second, &log_bytes);
  m4n_map_close(&map);
  M4N_TRY(status);
  M4N_TRY(path_of(csv, e, "train.csv"));
  if (m4n_exists(csv) && truncate(csv, log_bytes))
    return m4n_fail_at(M4N_EIO, csv, 0, NULL, "%s", strerror(errno));
  return M4N_OK;
}

static int load_weights(m4n_expert *e, const char *kind) {
  char path[PATH];
  m4n_safetensors *file;
  M4N_TRY(path_of_saving(path, e, kind, e->updates));
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = m4n_params_load(e->actor->params, M4N_ALL_SETS, file, "");
  m4n_safetensors_close(file);
  return status;
}

int expert_load(m4n_expert *e) {
  char path[PATH];
  const m4n_params *params = e->actor->params;
  M4N_TRY(path_of(path, e, "state"));
  if (!m4n_exists(path)) return M4N_OK;
  M4N_TRY(read_state(e, path));
  M4N_TRY(load_weights(e, kinds[1]));
  m4n_copy(e->stream, e->average, params->w, (size_t)params->n * sizeof *params->w);
  M4N_TRY(m4n_sync(e->stream));
  M4N_TRY(load_weights(e, kinds[0]));
  M4N_TRY(path_of_saving(path, e, kinds[2], e->updates));
  M4N_TRY(m4n_optimiser_load(e->optimiser, path));
  e->saved_at = e->updates;
  return m4n_sync(e->stream);
}

int expert_log_open(m4n_expert *e) {
  char path[PATH];
  M4N_TRY(path_of(path, e, "train.csv"));
  e->log = fopen(path, e->updates ? "ae" : "we");
  if (!e->log) return m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot write: %s", strerror(errno));
  if (!e->updates) fputs("update,steps,reward,entropy,kl,clipped,value_loss,norm,lr\n", e->log);
  fseek(e->log, 0, SEEK_END);
  return M4N_OK;
}
