#include "agent/learn/labels.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "agent/model/half.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

static const char KIND[] = "labels", BY[] = "by", WINDOW[] = "window", LEVELS[] = "levels", POOL[] = "pool",
                  TEACHER[] = "teacher", CONTENT[] = "content";
static const char *const labellers[] = {"teacher", "expert", "oracle"};

const char *m4n_labeller_name(int labeller) {
  return labellers[labeller];
}

struct m4n_labels_private {
  m4n_safetensors *file;
  const m4n_tensor *values;
  const m4n_trajectories *pool;
  int64_t *before; // [episodes] values of the episodes before
};

// ---- where what lies ---------------------------------------------------------------------------------------------------

static int64_t values_of_step(const m4n_labels_about *about) {
  return about->soft ? about->levels : 1;
}

static int64_t values_of_episode(const m4n_labels_about *about, int steps) {
  const int64_t positions =
      about->w ? (int64_t)m4n_windows_of(steps, about->w, about->stride) * about->w : (int64_t)steps;
  return positions * values_of_step(about);
}

int64_t m4n_labels_values(const m4n_labels_about *about, const m4n_trajectories *pool) {
  int64_t n = 0;
  for (int e = 0; e < pool->n; e++) n += values_of_episode(about, pool->episode[e].steps);
  return n;
}

// ---- reading -------------------------------------------------------------------------------------------------------------

static int need(const char **text, const m4n_safetensors *file, const char *path, const char *key) {
  *text = m4n_safetensors_metadata(file, key);
  return *text ? M4N_OK : m4n_fail_at(M4N_EFORMAT, path, 0, key, "is missing: this is no file of labels");
}

static int need_numbers(int *value, int n, int low, int high, const m4n_safetensors *file, const char *path,
                        const char *key) {
  const char *text;
  M4N_TRY(need(&text, file, path, key));
  m4n_words words = {{text, strlen(text)}};
  m4n_span word;
  for (int i = 0; i < n; i++) {
    int64_t number;
    if (!m4n_words_next(&words, &word) || !m4n_span_int64(word, &number) || number < low || number > high)
      return m4n_fail_at(M4N_EFORMAT, path, 0, key, "expected %d numbers from %d to %d", n, low, high);
    value[i] = (int)number;
  }
  return M4N_OK;
}

static int need_hash(uint64_t *hash, const m4n_safetensors *file, const char *path, const char *key) {
  const char *text;
  char *end;
  M4N_TRY(need(&text, file, path, key));
  *hash = strtoull(text, &end, 16);
  return end != text && !*end
             ? M4N_OK
             : m4n_fail_at(M4N_EFORMAT, path, 0, key, "expected a hash in hexadecimal digits");
}

static int read_about(m4n_labels_about *about, const m4n_safetensors *file, const char *path) {
  const char *kind, *by;
  M4N_TRY(need(&kind, file, path, KIND));
  about->labeller = -1;
  for (int i = 0; i < 3; i++)
    if (strcmp(kind, labellers[i]) == 0) about->labeller = i;
  if (about->labeller < 0)
    return m4n_fail_at(M4N_EFORMAT, path, 0, KIND, "'%.40s': expected teacher, expert or oracle", kind);
  M4N_TRY(need(&by, file, path, BY));
  snprintf(about->by, sizeof about->by, "%s", by);
  int window[2];
  M4N_TRY(need_numbers(window, 2, 0, 1 << 20, file, path, WINDOW));
  M4N_TRY(need_numbers(&about->levels, 1, 1, M4N_MAX_LEVELS, file, path, LEVELS));
  about->w = window[0], about->stride = window[1];
  if (about->w && !about->stride)
    return m4n_fail_at(M4N_EFORMAT, path, 0, WINDOW, "expected a stride of at least 1");
  M4N_TRY(need_hash(&about->pool, file, path, POOL));
  M4N_TRY(need_hash(&about->teacher, file, path, TEACHER));
  return m4n_condition_read(&about->condition, file, path);
}

static int find_values(m4n_labels *labels, const char *path) {
  struct m4n_labels_private *p = labels->private_;
  m4n_labels_about *about = &labels->about;
  about->soft = m4n_safetensors_find(p->file, "logp") != NULL;
  if (about->w)
    M4N_TRY(m4n_safetensors_need(&p->values, p->file, "logp", 3, (int64_t[]){-1, about->w, about->levels}));
  else if (about->soft)
    M4N_TRY(m4n_safetensors_need(&p->values, p->file, "logp", 2, (int64_t[]){-1, about->levels}));
  else
    M4N_TRY(m4n_safetensors_need(&p->values, p->file, "choice", 1, (int64_t[]){-1}));
  M4N_TRY(need_hash(&about->content, p->file, path, CONTENT));
  if (p->values->type != M4N_TENSOR_F16 || XXH3_64bits(p->values->data, p->values->bytes) != about->content)
    return m4n_fail_at(M4N_EFORMAT, path, 0, p->values->name, "is damaged: its hash does not fit");
  return M4N_OK;
}

int m4n_labels_open(m4n_labels **out, const char *path) {
  m4n_labels *labels = *out = calloc(1, sizeof *labels);
  if (labels) labels->private_ = calloc(1, sizeof *labels->private_);
  if (!labels || !labels->private_) {
    free(labels);
    *out = NULL;
    return m4n_fail(M4N_ENOMEM, "no memory for labels");
  }
  int status = m4n_safetensors_open(&labels->private_->file, path);
  if (!status) status = read_about(&labels->about, labels->private_->file, path);
  if (!status) status = find_values(labels, path);
  if (!status) return M4N_OK;
  m4n_labels_close(labels);
  *out = NULL;
  return status;
}

void m4n_labels_close(m4n_labels *labels) {
  if (!labels) return;
  m4n_safetensors_close(labels->private_->file);
  free(labels->private_->before);
  free(labels->private_);
  free(labels);
}

int m4n_labels_fit(m4n_labels *labels, const m4n_trajectories *pool) {
  struct m4n_labels_private *p = labels->private_;
  const char *path = p->values->file;
  if (labels->about.pool != pool->hash || m4n_labels_values(&labels->about, pool) != p->values->count)
    return m4n_fail_at(
        M4N_EFORMAT, path, 0, NULL,
        "these labels were made for other episodes, or for returns that are scaled in another way");
  if (labels->about.levels != pool->shape.levels)
    return m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "labels of %d levels, and the logs have %d",
                       labels->about.levels, pool->shape.levels);
  free(p->before);
  p->before = malloc((size_t)pool->n * sizeof *p->before);
  if (!p->before) return m4n_fail(M4N_ENOMEM, "no memory for labels");
  int64_t n = 0;
  for (int e = 0; e < pool->n; e++) {
    p->before[e] = n;
    n += values_of_episode(&labels->about, pool->episode[e].steps);
  }
  p->pool = pool;
  return M4N_OK;
}

static int64_t place_of(const m4n_labels *labels, const m4n_window *window) {
  const int64_t first = labels->about.w ? (int64_t)window->number * labels->about.w : window->start;
  return labels->private_->before[window->episode] + first * values_of_step(&labels->about);
}

int m4n_labels_read(const m4n_labels *labels, const m4n_window *window, m4n_real *logp) {
  return m4n_tensor_read(labels->private_->values, place_of(labels, window),
                         (int64_t)window->steps * labels->about.levels, logp);
}

int m4n_labels_read_choices(const m4n_labels *labels, const m4n_window *window, int32_t *choice) {
  const m4n_tensor *t = labels->private_->values;
  const int64_t first = place_of(labels, window);
  for (int i = 0; i < window->steps; i++) {
    m4n_real value;
    M4N_TRY(m4n_tensor_read(t, first + i, 1, &value));
    if (!(value >= -1 && value < (m4n_real)labels->about.levels) || value != (m4n_real)(int32_t)value)
      return m4n_fail_at(M4N_EFORMAT, t->file, 0, t->name, "%g is none of %d levels", (double)value,
                         labels->about.levels);
    choice[i] = (int32_t)value;
  }
  return M4N_OK;
}

// ---- writing -------------------------------------------------------------------------------------------------------------

int m4n_labels_write(const char *path, const m4n_labels_about *about, const uint16_t *values, int64_t n) {
  char window[32], levels[16], pool[20], teacher[20], content[20], returns[M4N_CONDITION_TEXT];
  snprintf(window, sizeof window, "%d %d", about->w, about->w ? about->stride : 0);
  snprintf(levels, sizeof levels, "%d", about->levels);
  snprintf(pool, sizeof pool, "%016" PRIx64, about->pool);
  snprintf(teacher, sizeof teacher, "%016" PRIx64, about->teacher);
  snprintf(content, sizeof content, "%016" PRIx64, (uint64_t)XXH3_64bits(values, (size_t)n * sizeof *values));
  m4n_metadata metadata[11] = {{KIND, m4n_labeller_name(about->labeller)},
                               {BY, about->by},
                               {WINDOW, window},
                               {LEVELS, levels},
                               {POOL, pool},
                               {TEACHER, teacher},
                               {CONTENT, content}};
  const int n_metadata = 7 + m4n_condition_metadata(&about->condition, returns, metadata + 7);
  const int64_t one = values_of_step(about);
  m4n_tensor_shape shape = {.name = about->soft ? "logp" : "choice", .type = M4N_TENSOR_F16};
  if (about->w) shape.shape[shape.rank++] = n / one / about->w;
  shape.shape[shape.rank++] = about->w ? about->w : n / one;
  if (about->soft) shape.shape[shape.rank++] = about->levels;
  m4n_safetensors_writer *w;
  M4N_TRY(m4n_safetensors_create(&w, path, &shape, 1, metadata, n_metadata));
  m4n_real some[1024];
  for (int64_t i = 0; i < n;) {
    int k = 0;
    for (; k < 1024 && i < n; k++, i++) some[k] = (m4n_real)m4n_half_value(values[i]);
    m4n_safetensors_put(w, some, k);
  }
  return m4n_safetensors_commit(w);
}
