#include "agent/learn/train_state.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

static const char PREFIX[] = "step-", PARTIAL[] = ".part", WEIGHTS[] = "weights.safetensors",
                  OPTIMISER[] = "optimiser.safetensors", RUN[] = "run", IDENTITY[] = "identity",
                  TALLY[] = "tally";
enum { PIECE = 1 << 18 }; // elements that are copied at a time

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a checkpoint");
}

// "WORK/step-000000000200" and in it "FILE", in one allocation of the caller's.
static char *path_of(const char *work, int64_t step, const char *suffix, const char *file) {
  const size_t size = strlen(work) + 64;
  char *path = malloc(size);
  if (path)
    snprintf(path, size, "%s/%s%012" PRId64 "%s%s%s", work, PREFIX, step, suffix, file[0] ? "/" : "", file);
  return path;
}

// Steps of the checkpoints in the folder, the newest last; *all: partial ones too.
static bool is_checkpoint(const char *name, int64_t *step) {
  const size_t n = sizeof PREFIX - 1;
  if (strncmp(name, PREFIX, n) != 0) return false;
  return m4n_span_int64((m4n_span){name + n, strlen(name + n)}, step) && *step >= 0;
}

// Removes checkpoints of other steps than `keep` (−1: all), and what a killed process left half-written.
static int remove_others(const char *work, int64_t keep) {
  m4n_names names;
  M4N_TRY(m4n_list_dir(&names, work));
  int status = M4N_OK;
  for (int i = 0; i < names.count && !status; i++) {
    int64_t step = -1;
    const size_t n = strlen(names.name[i]), tail = sizeof PARTIAL - 1;
    const bool partial = !strncmp(names.name[i], PREFIX, sizeof PREFIX - 1) && n > tail &&
                         !strcmp(names.name[i] + n - tail, PARTIAL);
    if (!partial && (!is_checkpoint(names.name[i], &step) || step == keep)) continue;
    char *path = m4n_path_join(work, names.name[i]);
    status = path ? m4n_remove_tree(path) : no_memory();
    free(path);
  }
  m4n_names_free(&names);
  return status;
}

int m4n_train_state_clear(const char *work) {
  return m4n_is_dir(work) ? remove_others(work, -1) : M4N_OK;
}

// ---- vectors ----------------------------------------------------------------------------------------------------------

typedef struct vector {
  const char *name;
  m4n_real *at; // on the backend
} vector;

static int vectors_of(const m4n_train_state *s, vector v[3]) {
  int n = 0;
  v[n++] = (vector){"weights", s->params->w};
  if (s->average) v[n++] = (vector){"average", s->average};
  if (s->best_weights) v[n++] = (vector){"best", s->best_weights};
  return n;
}

static int write_weights(const m4n_train_state *s, const char *path, m4n_real *host) {
  vector v[3];
  m4n_tensor_shape shape[3];
  char run[160];
  const int n = vectors_of(s, v), type = sizeof(m4n_real) == 4 ? M4N_TENSOR_F32 : M4N_TENSOR_F64;
  for (int i = 0; i < n; i++) shape[i] = (m4n_tensor_shape){v[i].name, type, 1, {s->params->n}};
  snprintf(run, sizeof run, "%" PRId64 " %.17g %.17g %" PRId64 " %d %d", s->step, s->start_loss, s->best,
           s->best_step, s->unimproved, s->stopped);
  const m4n_metadata about[] = {{RUN, run}, {IDENTITY, s->identity}, {TALLY, s->tally}};
  m4n_safetensors_writer *w;
  M4N_TRY(m4n_safetensors_create(&w, path, shape, n, about, 3));
  for (int i = 0; i < n; i++)
    for (int64_t first = 0; first < s->params->n; first += PIECE) {
      const int64_t count = s->params->n - first < PIECE ? s->params->n - first : PIECE;
      m4n_copy_out(s->params->stream, host, v[i].at + first, (size_t)count * sizeof *host);
      int status = m4n_sync(s->params->stream);
      if (status) {
        m4n_safetensors_abort(w);
        return status;
      }
      m4n_safetensors_put(w, host, count);
    }
  return m4n_safetensors_commit(w);
}

static int read_vector(const m4n_train_state *s, const m4n_safetensors *file, const vector *v,
                       m4n_real *host) {
  const m4n_tensor *t;
  M4N_TRY(m4n_safetensors_need(&t, file, v->name, 1, &s->params->n));
  for (int64_t first = 0; first < t->count; first += PIECE) {
    const int64_t count = t->count - first < PIECE ? t->count - first : PIECE;
    M4N_TRY(m4n_tensor_read(t, first, count, host));
    m4n_copy_in(s->params->stream, v->at + first, host, (size_t)count * sizeof *host);
    M4N_TRY(m4n_sync(s->params->stream));
  }
  return M4N_OK;
}

// ---- saving -------------------------------------------------------------------------------------------------------------

static int write_folder(const m4n_train_state *s, const char *work, m4n_real *host) {
  char *partial = path_of(work, s->step, PARTIAL, ""), *whole = path_of(work, s->step, "", ""),
       *weights = path_of(work, s->step, PARTIAL, WEIGHTS),
       *optimiser = path_of(work, s->step, PARTIAL, OPTIMISER);
  int status = partial && whole && weights && optimiser ? M4N_OK : no_memory();
  if (!status) status = m4n_remove_tree(partial);
  if (!status) status = m4n_mkdirs(partial);
  if (!status) status = write_weights(s, weights, host);
  if (!status) status = m4n_optimiser_save(s->optimiser, optimiser);
  if (!status) status = m4n_remove_tree(whole);
  if (!status && rename(partial, whole))
    status = m4n_fail_at(M4N_EIO, whole, 0, NULL, "cannot rename: %s", strerror(errno));
  free(partial);
  free(whole);
  free(weights);
  free(optimiser);
  return status;
}

int m4n_train_state_save(const m4n_train_state *s, const char *work) {
  m4n_backend *backend = m4n_stream_backend(s->params->stream);
  m4n_real *host = m4n_alloc_host(backend, PIECE * sizeof *host);
  if (!host) return m4n_context(m4n_last_error()->status, "a checkpoint");
  int status = write_folder(s, work, host);
  m4n_free_host(backend, host);
  return status ? status : remove_others(work, s->step);
}

// ---- loading ------------------------------------------------------------------------------------------------------------

int m4n_identity_check(const char *theirs, const char *ours, const char *where) {
  m4n_lines a = m4n_lines_of(theirs, strlen(theirs)), b = m4n_lines_of(ours, strlen(ours));
  for (;;) {
    m4n_span x = {"", 0}, y = {"", 0};
    const bool more = m4n_lines_next(&a, &x), others = m4n_lines_next(&b, &y);
    if (!more && !others) return M4N_OK;
    if (x.size == y.size && memcmp(x.at, y.at, x.size) == 0) continue;
    return m4n_fail_at(
        M4N_EARG, where, 0, NULL,
        "holds work that was begun with '%.*s', and now it is '%.*s': begin anew without resume", M4N_SPAN(x),
        M4N_SPAN(y));
  }
}

static int read_run(m4n_train_state *s, const m4n_safetensors *file, const char *path) {
  const char *text = m4n_safetensors_metadata(file, RUN);
  m4n_words words = {{text, text ? strlen(text) : 0}};
  m4n_span word[6];
  int64_t unimproved = 0, stopped = 0;
  int n = 0;
  while (n < 6 && m4n_words_next(&words, &word[n])) n++;
  if (n < 6 || !m4n_span_int64(word[0], &s->step) || !m4n_span_double(word[1], &s->start_loss) ||
      !m4n_span_double(word[2], &s->best) || !m4n_span_int64(word[3], &s->best_step) ||
      !m4n_span_int64(word[4], &unimproved) || !m4n_span_int64(word[5], &stopped) || s->step < 0 ||
      unimproved < 0 || unimproved > INT32_MAX)
    return m4n_fail_at(M4N_EFORMAT, path, 0, RUN, "expected the six numbers that say where the run is");
  const char *tally = m4n_safetensors_metadata(file, TALLY);
  snprintf(s->tally, sizeof s->tally, "%s", tally ? tally : "");
  s->unimproved = (int)unimproved;
  s->stopped = stopped != 0;
  return M4N_OK;
}

static int read_weights(m4n_train_state *s, const char *path, const char *work, m4n_real *host) {
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  const char *identity = m4n_safetensors_metadata(file, IDENTITY);
  int status = m4n_identity_check(identity ? identity : "", s->identity, work);
  if (!status) status = read_run(s, file, path);
  vector v[3];
  for (int i = 0, n = vectors_of(s, v); i < n && !status; i++) status = read_vector(s, file, &v[i], host);
  m4n_safetensors_close(file);
  return status;
}

static int read_folder(m4n_train_state *s, const char *work, int64_t step) {
  m4n_backend *backend = m4n_stream_backend(s->params->stream);
  m4n_real *host = m4n_alloc_host(backend, PIECE * sizeof *host);
  if (!host) return m4n_context(m4n_last_error()->status, "a checkpoint");
  char *weights = path_of(work, step, "", WEIGHTS), *optimiser = path_of(work, step, "", OPTIMISER);
  int status = weights && optimiser ? M4N_OK : no_memory();
  if (!status) status = read_weights(s, weights, work, host);
  if (!status) status = m4n_optimiser_load(s->optimiser, optimiser);
  if (!status && s->step != step)
    status = m4n_fail_at(M4N_EFORMAT, weights, 0, RUN,
                         "is of step %" PRId64 ", in the folder of step %" PRId64, s->step, step);
  free(weights);
  free(optimiser);
  m4n_free_host(backend, host);
  return status;
}

int m4n_train_state_load(m4n_train_state *s, const char *work, bool *found) {
  m4n_names names;
  int64_t newest = -1, step;
  *found = false;
  if (!m4n_is_dir(work)) return M4N_OK;
  M4N_TRY(m4n_list_dir(&names, work));
  for (int i = 0; i < names.count; i++)
    if (is_checkpoint(names.name[i], &step) && step > newest) newest = step;
  m4n_names_free(&names);
  if (newest < 0) return M4N_OK;
  *found = true;
  return read_folder(s, work, newest);
}
