#include "agent/learn/train_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

// ---- tables --------------------------------------------------------------------------------------------------------------

// Copies the rows of steps up to `step`; *seconds is the last column of the last of them.
static void copy_rows(FILE *to, const m4n_map *old, int64_t step, double *seconds) {
  m4n_lines lines = m4n_lines_of(old->data, old->size);
  m4n_span line;
  if (!m4n_lines_next(&lines, &line)) return; // the header, written anew
  while (m4n_lines_next(&lines, &line)) {
    m4n_span rest = line, field, last = {"", 0};
    int64_t number;
    if (!m4n_span_split(&rest, ',', &field) || !m4n_span_int64(field, &number) || number > step) break;
    while (m4n_span_split(&rest, ',', &field)) last = field;
    if (seconds && !m4n_span_double(last, seconds)) break; // a line that a killed process left unfinished
    fprintf(to, "%.*s\n", (int)line.size, line.at);
  }
}

// A table with this header and the rows of the old one up to `step`, open for more.
static int open_table(FILE **table, const char *path, const char *header, int64_t step, double *seconds) {
  m4n_map old = {0};
  if (step > 0 && m4n_exists(path)) M4N_TRY(m4n_map_open(&old, path, (size_t)1 << 32));
  m4n_writer w;
  int status = m4n_writer_open(&w, path);
  if (!status) {
    fprintf(w.stream, "%s\n", header);
    if (old.data) copy_rows(w.stream, &old, step, seconds);
    status = m4n_writer_commit(&w);
  }
  m4n_map_close(&old);
  M4N_TRY(status);
  *table = fopen(path, "ae");
  return *table ? M4N_OK : m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot write: %s", strerror(errno));
}

void m4n_train_log_tally(const m4n_train_log *log, char tally[M4N_TALLY]) {
  size_t n = (size_t)snprintf(tally, M4N_TALLY, "%" PRId64 " %" PRId64 " %" PRId64 " %.17g", log->steps,
                              log->agreement.agreed, log->agreement.answers, log->norm);
  for (int i = 0; i < log->objective->parts; i++)
    n += (size_t)snprintf(tally + n, M4N_TALLY - n, " %.17g", log->part[i]);
}

static int take_tally(m4n_train_log *log, const char *tally) {
  m4n_words words = {{tally, strlen(tally)}};
  m4n_span word;
  double value[4 + M4N_MAX_PARTS];
  const int expected = 4 + log->objective->parts;
  int n = 0;
  if (!tally[0]) return M4N_OK;
  while (n < expected && m4n_words_next(&words, &word) && m4n_span_double(word, &value[n])) n++;
  if (n < expected || !(value[0] >= 0 && value[0] <= 0x1p53) || !(value[2] >= 0 && value[2] <= 0x1p53))
    return m4n_fail_at(M4N_EFORMAT, log->train_path, 0, NULL, "its checkpoint's sums are no numbers");
  log->steps = (int64_t)value[0];
  log->agreement = (m4n_agreement){(int64_t)value[1], (int64_t)value[2]};
  log->norm = value[3];
  for (int i = 0; i < log->objective->parts; i++) log->part[i] = value[4 + i];
  return M4N_OK;
}

int m4n_train_log_open(m4n_train_log *log, const char *name, const char *work, const m4n_fit *fit,
                       const m4n_objective *objective, int64_t step, const char *tally) {
  *log = (m4n_train_log){.objective = objective, .log_every = fit->log_every};
  log->train_path = m4n_path_join(work, "train.csv");
  log->valid_path = m4n_path_join(work, "valid.csv");
  if (!log->train_path || !log->valid_path) return m4n_fail(M4N_ENOMEM, "no memory for a path");
  char header[512] = "step,loss";
  for (int i = 0; i < objective->parts; i++) {
    const size_t n = strlen(header);
    snprintf(header + n, sizeof header - n, ",%s", objective->part[i]);
  }
  const size_t n = strlen(header);
  snprintf(header + n, sizeof header - n, ",agreement,grad_norm,lr,tokens_per_s,seconds");
  M4N_TRY(open_table(&log->train, log->train_path, header, step, &log->seconds));
  M4N_TRY(open_table(&log->valid, log->valid_path, "step,measure,best", step, NULL));
  m4n_progress_begin(&log->progress, name, "steps", fit->steps);
  log->progress.first = step;
  M4N_TRY(take_tally(log, tally));
  log->start_ns = m4n_now_ns();
  return M4N_OK;
}

static int close_table(FILE **table, const char *path) {
  if (!*table) return M4N_OK;
  bool failed = ferror(*table);
  failed |= fclose(*table) != 0;
  *table = NULL;
  return failed ? m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot write: %s", strerror(errno)) : M4N_OK;
}

int m4n_train_log_close(m4n_train_log *log) {
  if (log->progress.what) m4n_progress_end(&log->progress);
  int status = close_table(&log->train, log->train_path), second = close_table(&log->valid, log->valid_path);
  free(log->train_path);
  free(log->valid_path);
  *log = (m4n_train_log){0};
  return status ? status : second;
}

// ---- rows ------------------------------------------------------------------------------------------------------------------

static void write_row(m4n_train_log *log, int64_t step, double lr) {
  const m4n_objective *o = log->objective;
  const double n = (double)log->steps, took = (double)(m4n_now_ns() - log->start_ns) * 1e-9;
  const double working = took - (double)log->aside_ns * 1e-9;
  const double rate = working > 0 ? (double)log->timed * (double)o->tokens / working : 0;
  const double agreement =
      log->agreement.answers ? (double)log->agreement.agreed / (double)log->agreement.answers : 0;
  double loss = 0;
  log->seconds += took;
  for (int i = 0; i < o->parts; i++) loss += log->part[i] / n;
  fprintf(log->train, "%" PRId64 ",%.9g", step, loss);
  for (int i = 0; i < o->parts; i++) fprintf(log->train, ",%.9g", log->part[i] / n);
  fprintf(log->train, ",%.6g,%.9g,%.9g,%.1f,%.3f\n", agreement, log->norm / n, lr, rate, log->seconds);
  fflush(log->train);
  snprintf(log->progress.note, sizeof log->progress.note,
           "loss %.4f, agreement %.1f %%, %.0f tokens a second", loss, 100 * agreement, rate);
}

void m4n_train_log_step(m4n_train_log *log, int64_t step, const double *part, double norm,
                        m4n_agreement agreement, double lr, bool last) {
  log->steps++, log->timed++;
  for (int i = 0; i < log->objective->parts; i++) log->part[i] += part[i];
  log->norm += norm;
  log->agreement.agreed += agreement.agreed;
  log->agreement.answers += agreement.answers;
  if (step % log->log_every == 0 || last) {
    write_row(log, step, lr);
    memset(log->part, 0, sizeof log->part);
    log->steps = 0, log->norm = 0, log->agreement = (m4n_agreement){0};
    log->timed = 0, log->aside_ns = 0, log->start_ns = m4n_now_ns();
  }
  m4n_progress_at(&log->progress, step);
}

void m4n_train_log_valid(m4n_train_log *log, int64_t step, double measure, bool best) {
  fprintf(log->valid, "%" PRId64 ",%.9g,%d\n", step, measure, best);
  fflush(log->valid);
}
