#include "kernels/base/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local m4n_error record;
static _Thread_local char message[sizeof(m4n_error) + 64];

static int put(int status, const char *file, long line, const char *key, const char *format,
               va_list arguments) {
  record.status = status;
  snprintf(record.file, sizeof record.file, "%s", file ? file : "");
  record.line = line;
  snprintf(record.key, sizeof record.key, "%s", key ? key : "");
  vsnprintf(record.text, sizeof record.text, format, arguments);
  return status;
}

int m4n_fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  put(status, NULL, 0, NULL, format, arguments);
  va_end(arguments);
  return status;
}

int m4n_fail_at(int status, const char *file, long line, const char *key, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  put(status, file, line, key, format, arguments);
  va_end(arguments);
  return status;
}

int m4n_context(int status, const char *format, ...) {
  char old[sizeof record.text], front[256];
  memcpy(old, record.text, sizeof old);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(front, sizeof front, format, arguments);
  va_end(arguments);
  // Cutting a text that is longer than the record is what we want here.
  int n = snprintf(record.text, sizeof record.text, "%s: ", front);
  snprintf(record.text + n, sizeof record.text - (size_t)n, "%s", old);
  return status;
}

const m4n_error *m4n_last_error(void) {
  return &record;
}

int m4n_set_error(const m4n_error *error) {
  record = *error;
  return record.status;
}

const char *m4n_error_message(void) {
  size_t n = 0;
  message[0] = 0;
  if (record.file[0]) n += (size_t)snprintf(message + n, sizeof message - n, "%s:", record.file);
  if (record.file[0] && record.line)
    n += (size_t)snprintf(message + n, sizeof message - n, "%ld:", record.line);
  if (n) n += (size_t)snprintf(message + n, sizeof message - n, " ");
  if (record.key[0]) n += (size_t)snprintf(message + n, sizeof message - n, "%s: ", record.key);
  snprintf(message + n, sizeof message - n, "%s",
           record.text[0] ? record.text : m4n_status_text(record.status));
  return message;
}

const char *m4n_status_text(int status) {
  static const char *const text[] = {
#define M4N_STATUS_NAME(name, words) words,
      M4N_STATUS_LIST(M4N_STATUS_NAME)
#undef M4N_STATUS_NAME
  };
  return status >= 0 && status < M4N_STATUS_COUNT ? text[status] : "unknown status";
}
