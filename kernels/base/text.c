#include "kernels/base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

m4n_lines m4n_lines_of(const void *data, size_t size) {
  const char *at = data ? data : "";
  if (size >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3, size -= 3;
  return (m4n_lines){at, at + size, 0};
}

bool m4n_lines_next(m4n_lines *lines, m4n_span *line) {
  if (lines->at == lines->end) return false;
  const char *end = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
  size_t size = (size_t)((end ? end : lines->end) - lines->at);
  *line = (m4n_span){lines->at, size && lines->at[size - 1] == '\r' ? size - 1 : size};
  lines->at = end ? end + 1 : lines->end;
  lines->number++;
  return true;
}

static bool blank(char c) {
  return c == ' ' || c == '\t';
}

m4n_span m4n_span_trim(m4n_span s) {
  while (s.size && blank(*s.at)) s.at++, s.size--;
  while (s.size && blank(s.at[s.size - 1])) s.size--;
  return s;
}

bool m4n_words_next(m4n_words *words, m4n_span *word) {
  m4n_span rest = m4n_span_trim(words->rest);
  if (!rest.size) return false;
  size_t n = 0;
  while (n < rest.size && !blank(rest.at[n])) n++;
  *word = (m4n_span){rest.at, n};
  words->rest = (m4n_span){rest.at + n, rest.size - n};
  return true;
}

bool m4n_span_split(m4n_span *rest, char separator, m4n_span *field) {
  if (!rest->at) return false;
  const char *end = rest->size ? memchr(rest->at, separator, rest->size) : NULL;
  size_t n = end ? (size_t)(end - rest->at) : rest->size;
  *field = m4n_span_trim((m4n_span){rest->at, n});
  *rest = end ? (m4n_span){end + 1, rest->size - n - 1} : (m4n_span){NULL, 0};
  return true;
}

bool m4n_span_is(m4n_span s, const char *text) {
  return s.size == strlen(text) && memcmp(s.at, text, s.size) == 0;
}

// strtod and strtoll want an ending zero; no number that makes sense is longer than the buffer.
enum { NUMBER = 64 };

static bool copy_number(m4n_span s, char text[NUMBER]) {
  if (!s.size || s.size >= NUMBER || s.at[0] == ' ') return false;
  memcpy(text, s.at, s.size);
  text[s.size] = 0;
  return strlen(text) == s.size;
}

bool m4n_span_double(m4n_span s, double *value) {
  char text[NUMBER], *end;
  if (!copy_number(s, text)) return false;
  *value = strtod(text, &end);
  return end == text + s.size;
}

bool m4n_span_int64(m4n_span s, int64_t *value) {
  char text[NUMBER], *end;
  if (!copy_number(s, text)) return false;
  errno = 0;
  *value = strtoll(text, &end, 10);
  return end == text + s.size && !errno;
}
