#include "traces/json.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/base/status.h"

static const char bom[] = "\xEF\xBB\xBF";

int m4n_json_parse(json_t **root, const char *name, const void *data, size_t size) {
  const char *text = data ? data : "";
  if (size >= 3 && memcmp(text, bom, 3) == 0) text += 3, size -= 3;
  json_error_t error;
  *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
  if (*root) return M4N_OK;
  if (json_error_code(&error) == json_error_out_of_memory)
    return m4n_fail(M4N_ENOMEM, "no memory for %s", name);
  return m4n_fail_at(M4N_EFORMAT, name, error.line, NULL, "column %d: %s: expected JSON", error.column,
                     error.text);
}

// Behind the string that begins at `at`; on its way it counts no lines, for a JSON string holds no raw newline.
static const char *string_end(const char *at, const char *end) {
  for (at++; at < end && *at != '"'; at++)
    if (*at == '\\') at++;
  return at + 1;
}

long m4n_json_line(const void *data, size_t size, const char *key, size_t index) {
  const char *at = data, *end = at + size;
  long line = 1;
  int depth = 0, inside = key ? -1 : 1; // depth of the array's elements; -1: not found yet
  bool fresh = false;                   // an element may begin here
  size_t seen = 0;
  while (at < end) {
    char c = *at;
    if (c == '\n') line++;
    if (strchr(" \t\r\n:", c)) {
      at++;
      continue;
    }
    if (fresh && depth == inside && c != ']' && seen++ == index) return line;
    fresh = false;
    if (c == '"') {
      const char *next = string_end(at, end);
      bool match = inside < 0 && depth == 1 && (size_t)(next - at) == strlen(key) + 2 &&
                   memcmp(at + 1, key, strlen(key)) == 0;
      at = next;
      while (match && at < end && strchr(" \t\r\n", *at)) line += *at++ == '\n';
      if (match && at < end && *at == ':') inside = 2;
      continue;
    }
    if (c == '[' || c == '{') depth++, fresh = depth == inside;
    if (c == ']' || c == '}')
      if (--depth < inside) return 0; // the array, or what it should have been in, is over
    if (c == ',') fresh = depth == inside;
    at++;
  }
  return 0;
}
