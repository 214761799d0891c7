#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/report_data.h"

// Bytes of the well-formed UTF-8 character at `at` (Unicode table 3-7), 0 if it is none.
static size_t utf8_size(const unsigned char *at) {
  unsigned char c = at[0], low = 0x80, high = 0xBF;
  if (c < 0x80) return 1;
  if (c < 0xC2 || c > 0xF4) return 0;
  size_t n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
  if (c == 0xE0) low = 0xA0;
  if (c == 0xED) high = 0x9F; // surrogates
  if (c == 0xF0) low = 0x90;
  if (c == 0xF4) high = 0x8F;
  if (at[1] < low || at[1] > high) return 0;
  for (size_t i = 2; i < n; i++)
    if (at[i] < 0x80 || at[i] > 0xBF) return 0; // a zero ends the text here too
  return n;
}

const char *m4n_text_clean(m4n_arena *arena, const char *text) {
  char *out = m4n_arena_strdup(arena, text);
  if (!out) return NULL;
  for (unsigned char *at = (unsigned char *)out; *at;) {
    size_t n = utf8_size(at);
    bool control = n == 1 ? *at < 0x20 || *at == 0x7F : n == 2 && at[0] == 0xC2 && at[1] < 0xA0;
    if (n && !control) {
      at += n;
      continue;
    }
    memset(at, '?', n ? n : 1);
    at += n ? n : 1;
  }
  return out;
}

const char *m4n_text_number(char out[32], double value) {
  out[0] = 0;
  for (int digits = 15; digits <= 17 && !isnan(value); digits++) {
    snprintf(out, 32, "%.*g", digits, value);
    double back = strtod(out, NULL);
    if (!(back < value) && !(back > value)) break;
  }
  return out;
}

const char *m4n_text_plot(char out[32], double value) {
  if (isnan(value))
    out[0] = 0;
  else
    snprintf(out, 32, "%.9g", value);
  return out;
}

const char *m4n_text_short(char out[32], double value, double scale) {
  int decimals = scale < 0.1 ? 4 : scale < 10 ? 3 : scale < 100 ? 2 : scale < 1000 ? 1 : 0;
  if (isnan(value))
    snprintf(out, 32, "-");
  else if (scale < 0.01 && scale > 0)
    snprintf(out, 32, "%.3g", value);
  else
    snprintf(out, 32, "%.*f", decimals, value);
  return out;
}

void m4n_text_csv(FILE *out, const char *text) {
  if (!strpbrk(text, ",\"\r\n")) {
    fputs(text, out);
    return;
  }
  putc('"', out);
  for (; *text; text++) {
    if (*text == '"') putc('"', out);
    putc(*text, out);
  }
  putc('"', out);
}

void m4n_text_html(FILE *out, const char *text) {
  for (; *text; text++) {
    switch (*text) {
    case '&':
      fputs("&amp;", out);
      break;
    case '<':
      fputs("&lt;", out);
      break;
    case '>':
      fputs("&gt;", out);
      break;
    case '"':
      fputs("&quot;", out);
      break;
    case '\'':
      fputs("&#39;", out);
      break;
    default:
      putc(*text, out);
    }
  }
}
