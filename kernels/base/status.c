#define M4N_STATUS_C
#include "kernels/base/status.h"

#include <stdio.h>
#include <string.h>

static _Thread_local m4n_error record;
static _Thread_local char message[sizeof(m4n_error) + 64];

static int put(int status, const char *file, long line, const char *key, const char *format,
               va_list arguments) {
  record.status = status;
  record.context[0] = 0;
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
  char old[sizeof record.context];
  memcpy(old, record.context, sizeof old);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(record.context, sizeof record.context, format, arguments);
  va_end(arguments);
  size_t n = strlen(record.context);
  snprintf(record.context + n, sizeof record.context - n, ": %s", old);
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
  char line[32] = "";
  if (record.file[0] && record.line) snprintf(line, sizeof line, "%ld:", record.line);
  snprintf(message, sizeof message, "%s%s%s%s%s%s%s%s", record.context, record.file,
           record.file[0] ? ":" : "", line, record.file[0] ? " " : "", record.key, record.key[0] ? ": " : "",
           record.text[0] ? record.text : m4n_status_text(record.status));
  // What a stranger's file put into the text must not move the reader's cursor.
  for (char *c = message; *c; c++)
    if (((unsigned char)*c < ' ' && *c != '\n') || *c == 0x7f) *c = '?';
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
