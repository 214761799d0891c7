/* Reading text of strangers: lines, fields and numbers, bounded, without locale, without allocation.
 *
 *     m4n_lines in = m4n_lines_of(map.data, map.size);
 *     m4n_span line, word;
 *     while (m4n_lines_next(&in, &line)) {             // in.number is the line's number, from 1
 *       m4n_words words = {line};
 *       while (m4n_words_next(&words, &word)) if (!m4n_span_double(word, &x)) return m4n_fail_at(...);
 *     }
 */
#ifndef M4N_BASE_TEXT_H
#define M4N_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A piece of text that is not ended by a zero. Print with "%.*s", M4N_SPAN(s). */
typedef struct m4n_span {
  const char *at;
  size_t size;
} m4n_span;
/* For messages: at most 60 bytes of it. */
#define M4N_SPAN(s) ((int)((s).size < 60 ? (s).size : 60)), (s).at

typedef struct m4n_lines {
  const char *at, *end;
  long number; /* of the line last returned, from 1 */
} m4n_lines;

m4n_lines m4n_lines_of(const void *data, size_t size); /* skips a UTF-8 byte order mark */
bool m4n_lines_next(m4n_lines *lines, m4n_span *line); /* without "\n" or "\r\n"; false at the end */

/* Words parted by blanks and tabs. */
typedef struct m4n_words {
  m4n_span rest;
} m4n_words;
bool m4n_words_next(m4n_words *words, m4n_span *word);

/* The text before the next `separator`, blanks trimmed; `rest` moves behind it. False once nothing is left.
 */
bool m4n_span_split(m4n_span *rest, char separator, m4n_span *field);
m4n_span m4n_span_trim(m4n_span s);
bool m4n_span_is(m4n_span s, const char *text);

/* The whole span as a number; false if it is none. Doubles may be nan or inf: the caller says what it wants.
 */
bool m4n_span_double(m4n_span s, double *value);
bool m4n_span_int64(m4n_span s, int64_t *value);

#ifdef __cplusplus
}
#endif
#endif
