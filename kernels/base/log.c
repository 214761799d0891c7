#include "kernels/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int shown = M4N_LOG_INFO;
static FILE *file;

int64_t m4n_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void m4n_log_set_level(int level) {
  shown = level;
}

int m4n_log_open(const char *path) {
  m4n_log_close();
  file = fopen(path, "ae");
  return file ? M4N_OK : m4n_fail_at(M4N_EIO, path, 0, NULL, "cannot write: %s", strerror(errno));
}

void m4n_log_close(void) {
  if (file) fclose(file);
  file = NULL;
}

static void put_json(const char *level, const char *text) {
  struct timespec t;
  struct tm utc;
  char stamp[32];
  clock_gettime(CLOCK_REALTIME, &t);
  gmtime_r(&t.tv_sec, &utc);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  fprintf(file, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"text\":\"", stamp, t.tv_nsec / 1000000, level);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      fprintf(file, "\\%c", *c);
    else if (*c < 0x20)
      fprintf(file, "\\u%04x", *c);
    else
      putc(*c, file);
  }
  fputs("\"}\n", file);
  fflush(file);
}

void m4n_log(int level, const char *format, ...) {
  static const char *const name[] = {"debug", "info", "warning", "error"};
  if (level < shown && !file) return;
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  pthread_mutex_lock(&lock);
  if (level >= shown)
    fprintf(stderr, "%s%s%s\n", level >= M4N_LOG_WARN ? name[level] : "", level >= M4N_LOG_WARN ? ": " : "",
            text);
  if (file) put_json(name[level], text);
  pthread_mutex_unlock(&lock);
}

static void show(m4n_progress *p, int64_t now, const char *end) {
  double seconds = (double)(now - p->start_ns) * 1e-9,
         rate = seconds > 0 ? (double)(p->done - p->first) / seconds : 0;
  fprintf(stderr, "%s%s: %lld", isatty(2) ? "\r\033[K" : "", p->what, (long long)p->done);
  if (p->total) fprintf(stderr, "/%lld", (long long)p->total);
  fprintf(stderr, " %s, %.*f a second", p->unit, rate < 10 ? 2 : 0, rate);
  if (p->total && rate > 0 && p->done < p->total)
    fprintf(stderr, ", %.0f s left", (double)(p->total - p->done) / rate);
  fprintf(stderr, "%s%s%s", p->note[0] ? ", " : "", p->note, end);
}

void m4n_progress_begin(m4n_progress *p, const char *what, const char *unit, int64_t total) {
  int64_t now = m4n_now_ns();
  *p = (m4n_progress){.what = what, .unit = unit, .total = total, .start_ns = now, .shown_ns = now};
}

void m4n_progress_at(m4n_progress *p, int64_t done) {
  p->done = done;
  int64_t now = m4n_now_ns(), wait = isatty(2) ? 200000000 : 5000000000;
  if (shown > M4N_LOG_INFO || now - p->shown_ns < wait) return;
  p->shown_ns = now;
  show(p, now, isatty(2) ? "" : "\n");
}

// What took no time needs no word: a line stays only where one was shown before.
void m4n_progress_end(m4n_progress *p) {
  if (shown <= M4N_LOG_INFO && p->shown_ns != p->start_ns) show(p, m4n_now_ns(), "\n");
}
