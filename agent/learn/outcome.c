#include "agent/learn/outcome.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/ppo.h"
#include "kernels/base/status.h"

int m4n_outcome_open(m4n_outcome *o, int64_t steps) {
  *o = (m4n_outcome){.steps = steps};
  float **const part[] = {&o->logp, &o->value, &o->advantage, &o->target};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++)
    if (!(*part[i] = calloc((size_t)steps + 1, sizeof(float)))) {
      m4n_outcome_close(o);
      return m4n_fail(M4N_ENOMEM, "no memory for the outcome of %" PRId64 " decisions", steps);
    }
  return M4N_OK;
}

void m4n_outcome_close(m4n_outcome *o) {
  free(o->logp);
  free(o->value);
  free(o->advantage);
  free(o->target);
  *o = (m4n_outcome){0};
}

// ---- advantages --------------------------------------------------------------------------------------------------------

typedef struct moments {
  double mean, variance;
} moments;

// Over the decisions that count, in the order of the pool's episodes: a log's own order is that of finishing.
static moments moments_of(const float *x, const m4n_trajectories *pool) {
  double sum = 0, square = 0, n = 0;
  for (int e = 0; e < pool->n; e++) {
    const m4n_trajectory *episode = &pool->episode[e];
    for (int t = 0; m4n_outcome_counts(episode, t); t++, n++) {
      const double value = (double)x[episode->first + t];
      sum += value, square += value * value;
    }
  }
  const double mean = n > 0 ? sum / n : 0;
  return (moments){mean, n > 0 ? fmax(square / n - mean * mean, 0) : 0};
}

int m4n_outcome_judge(m4n_outcome *o, const m4n_trajectories *pool, const m4n_judgement *j) {
  float *reward = malloc(((size_t)o->steps + 1) * sizeof *reward);
  uint8_t *done = calloc((size_t)o->steps + 1, 1);
  if (!reward || !done) {
    free(reward);
    free(done);
    return m4n_fail(M4N_ENOMEM, "no memory for the rewards of %" PRId64 " decisions", o->steps);
  }
  for (int64_t i = 0; i < o->steps; i++) reward[i] = (float)(j->scale * fmax(pool->reward[i], j->floor));
  for (int e = 0; e < pool->n; e++) {
    const m4n_trajectory *episode = &pool->episode[e];
    const int64_t at = episode->first;
    const int T =
        episode->steps - episode->truncated; // cut off: the last state's value stands for what is not known
    if (!episode->truncated) done[at + T - 1] = 1;
    m4n_gae(o->advantage + at, o->target + at, reward + at, o->value + at, done + at, T, j->gamma, j->lambda);
  }
  free(reward);
  free(done);
  const moments m = moments_of(o->advantage, pool);
  for (int64_t i = 0; i < o->steps; i++)
    o->advantage[i] = (float)(((double)o->advantage[i] - m.mean) / (sqrt(m.variance) + 1e-8));
  o->variance = moments_of(o->target, pool).variance;
  return M4N_OK;
}

// ---- the file ------------------------------------------------------------------------------------------------------------

static const char POOL[] = "pool";
static const char *const names[] = {"logp", "advantage", "target"};
enum { PARTS = 3, HASH = 32 };

static void hash_text(char text[HASH], const m4n_trajectories *pool) {
  snprintf(text, HASH, "%016" PRIx64, pool->hash);
}

int m4n_outcome_save(const m4n_outcome *o, const m4n_trajectories *pool, const char *path) {
  const float *const part[PARTS] = {o->logp, o->advantage, o->target};
  m4n_tensor_shape shape[PARTS];
  char hash[HASH];
  hash_text(hash, pool);
  for (int i = 0; i < PARTS; i++) shape[i] = (m4n_tensor_shape){names[i], M4N_TENSOR_F32, 1, {o->steps}};
  m4n_safetensors_writer *w;
  M4N_TRY(m4n_safetensors_create(&w, path, shape, PARTS, &(m4n_metadata){POOL, hash}, 1));
  for (int i = 0; i < PARTS; i++)
    for (int64_t k = 0; k < o->steps; k++) m4n_safetensors_put(w, &(m4n_real){(m4n_real)part[i][k]}, 1);
  return m4n_safetensors_commit(w);
}

static int read_parts(m4n_outcome *o, const m4n_safetensors *file, const char *hash, const char *path) {
  float *const part[PARTS] = {o->logp, o->advantage, o->target};
  const char *theirs = m4n_safetensors_metadata(file, POOL);
  if (!theirs || strcmp(theirs, hash) != 0)
    return m4n_fail_at(M4N_EFORMAT, path, 0, POOL, "is the outcome of other episodes");
  for (int i = 0; i < PARTS; i++) {
    const m4n_tensor *t;
    m4n_real value;
    M4N_TRY(m4n_safetensors_need(&t, file, names[i], 1, &o->steps));
    for (int64_t k = 0; k < o->steps; k++) {
      M4N_TRY(m4n_tensor_read(t, k, 1, &value));
      part[i][k] = (float)value;
    }
  }
  return M4N_OK;
}

int m4n_outcome_load(m4n_outcome *o, const m4n_trajectories *pool, const char *path) {
  m4n_safetensors *file;
  char hash[HASH];
  hash_text(hash, pool);
  M4N_TRY(m4n_safetensors_open(&file, path));
  int status = read_parts(o, file, hash, path);
  m4n_safetensors_close(file);
  if (!status) o->variance = moments_of(o->target, pool).variance;
  return status;
}
