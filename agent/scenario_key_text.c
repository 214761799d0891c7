// Keys by their names, their values as text: finding, checking, explaining. The list itself is scenario_keys.c.
#include <cyaml/cyaml.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/scenario_keys.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

// ---- looking up

const m4n_key *m4n_key_find(const char *path) {
  for (int i = 0; i < m4n_n_keys; i++)
    if (!strcmp(m4n_keys[i].path, path)) return &m4n_keys[i];
  return NULL;
}

static bool under(const char *path, const char *prefix) {
  size_t n = strlen(prefix);
  return !n || (!strncmp(path, prefix, n) && path[n] == '.');
}

bool m4n_key_is_section(const char *prefix) {
  for (int i = 0; i < m4n_n_keys; i++)
    if (under(m4n_keys[i].path, prefix)) return true;
  return false;
}

enum { LONGEST = 96 };

// Levenshtein's distance; long texts are never near.
static int distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n >= LONGEST || m >= LONGEST) return LONGEST;
  int row[LONGEST];
  for (size_t j = 0; j <= m; j++) row[j] = (int)j;
  for (size_t i = 1; i <= n; i++) {
    int diagonal = row[0];
    row[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int above = row[j], change = diagonal + (a[i - 1] != b[j - 1]);
      int shift = (row[j - 1] < above ? row[j - 1] : above) + 1;
      row[j] = change < shift ? change : shift;
      diagonal = above;
    }
  }
  return row[m];
}

static const char *last_part(const char *path) {
  const char *dot = strrchr(path, '.');
  return dot ? dot + 1 : path;
}

// A section is a path too: "abr.tset" means "abr.test". Where no path is near, a key of the same last name in
// another section is what was meant: "abr.rebuffer" means "abr.qoe.rebuffer".
const char *m4n_key_nearest(const char *path) {
  static _Thread_local char best[LONGEST];
  int least = strlen(last_part(path)) > 4 ? 4 : 3;
  best[0] = 0;
  for (int i = 0; i < m4n_n_keys; i++) {
    char candidate[LONGEST];
    for (size_t n = strlen(m4n_keys[i].path); n; n--) {
      if (m4n_keys[i].path[n] && m4n_keys[i].path[n] != '.') continue;
      snprintf(candidate, sizeof candidate, "%.*s", (int)n, m4n_keys[i].path);
      int d = distance(path, candidate);
      if (d < least) least = d, memcpy(best, candidate, sizeof best);
    }
  }
  for (int i = 0; i < m4n_n_keys && !best[0]; i++)
    if (!strcmp(last_part(path), last_part(m4n_keys[i].path)))
      snprintf(best, sizeof best, "%s", m4n_keys[i].path);
  return best[0] ? best : NULL;
}

void m4n_key_list(const char *prefix, char *out, size_t size) {
  size_t n = 0, skip = *prefix ? strlen(prefix) + 1 : 0;
  const char *last = "";
  size_t last_size = 0;
  out[0] = 0;
  for (int i = 0; i < m4n_n_keys; i++) {
    if (!under(m4n_keys[i].path, prefix)) continue;
    const char *part = m4n_keys[i].path + skip;
    size_t part_size = strcspn(part, ".");
    // Keys of a section stand together in the table.
    if (part_size == last_size && !strncmp(part, last, part_size)) continue;
    last = part, last_size = part_size;
    if (n < size) n += (size_t)snprintf(out + n, size - n, "%s%.*s", n ? ", " : "", (int)part_size, part);
  }
}

bool m4n_key_is_word(const m4n_key *key, const char *text) {
  return key->word && !strcmp(key->word, text);
}

// ---- checking a value

static int refuse(const m4n_key *key, const char *text, const char *file, long line, const char *expected) {
  return m4n_fail_at(M4N_EARG, file, line, key->path, "'%.60s' is refused: expected %s%s%s%s", text, expected,
                     key->word ? ", or '" : "", key->word ? key->word : "", key->word ? "'" : "");
}

static int check_number(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  char expected[128];
  bool whole = key->type == M4N_KEY_INT;
  snprintf(expected, sizeof expected, "%s from %.10g to %.10g", whole ? "a whole number" : "a number",
           key->low, key->high);
  m4n_span span = {text, strlen(text)};
  double x;
  int64_t i;
  // strtod knows hexadecimal numbers, "nan" and "inf"; a scenario does not.
  bool digits = text[0] && strspn(text, "0123456789+-.eE") == strlen(text);
  if (!plain || !digits || !m4n_span_double(span, &x) || !isfinite(x) || x < key->low || x > key->high ||
      (whole && !m4n_span_int64(span, &i)))
    return refuse(key, text, file, line, expected);
  return M4N_OK;
}

static int check_seed(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  static const char most[] = "18446744073709551615";
  size_t n = strlen(text);
  if (!plain || !n || n > sizeof most - 1 || strspn(text, "0123456789") != n || (n > 1 && text[0] == '0') ||
      (n == sizeof most - 1 && strcmp(text, most) > 0))
    return refuse(key, text, file, line, "a whole number from 0 to 18446744073709551615");
  return M4N_OK;
}

static int check_choice(const m4n_key *key, const char *text, const char *file, long line) {
  char expected[256] = "";
  size_t n = 0;
  for (int i = 0; i < key->n_choices; i++) {
    if (!strcmp(key->choice[i].str, text)) return M4N_OK;
    n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s",
                          i == 0 ? "" : (i + 1 == key->n_choices ? " or " : ", "), key->choice[i].str);
  }
  return refuse(key, text, file, line, expected);
}

static int check_policy(const char *text, const m4n_key *key, const char *file, long line) {
  const m4n_policy_kind *kind;
  int status = m4n_policy_find(&kind, text);
  if (!status) return M4N_OK;
  char reason[sizeof m4n_last_error()->text]; // the record is about to be written again
  snprintf(reason, sizeof reason, "%s", m4n_last_error()->text);
  return m4n_fail_at(status, file, line, key->path, "%s", reason);
}

int m4n_key_check(const m4n_key *key, const char *text, bool plain, const char *file, long line) {
  if (plain && m4n_key_is_word(key, text)) return M4N_OK;
  switch (key->type) {
  case M4N_KEY_INT:
  case M4N_KEY_NUMBER:
  case M4N_KEY_NUMBERS:
    return check_number(key, text, plain, file, line);
  case M4N_KEY_SEED:
    return check_seed(key, text, plain, file, line);
  case M4N_KEY_CHOICE:
    return check_choice(key, text, file, line);
  case M4N_KEY_NAME:
    return text[0] && text[0] != '.' && strlen(text) <= 64 &&
                   strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                       strlen(text)
               ? M4N_OK
               : refuse(key, text, file, line, "1 to 64 letters, digits, '.', '_' or '-'");
  case M4N_KEY_POLICY:
  case M4N_KEY_POLICIES:
    return check_policy(text, key, file, line);
  default:
    return text[0] && strlen(text) < 4096 ? M4N_OK
                                          : refuse(key, text, file, line, "a text of 1 to 4095 bytes");
  }
}

// ---- help

static void print_value(FILE *out, const m4n_key *key) {
  switch (key->type) {
  case M4N_KEY_CHOICE:
    for (int i = 0; i < key->n_choices; i++) fprintf(out, "%s%s", i ? ", " : "", key->choice[i].str);
    break;
  case M4N_KEY_INT:
  case M4N_KEY_NUMBER:
    fprintf(out, "%.10g … %.10g", key->low, key->high);
    break;
  case M4N_KEY_NUMBERS:
    fprintf(out, "list of numbers");
    break;
  case M4N_KEY_POLICIES:
    fprintf(out, "list of policies");
    break;
  case M4N_KEY_PATHS:
    fprintf(out, "path, list of paths");
    break;
  case M4N_KEY_TEXTS:
    fprintf(out, "list of texts");
    break;
  default:
    fputs(key->type == M4N_KEY_NAME     ? "name"
          : key->type == M4N_KEY_PATH   ? "path"
          : key->type == M4N_KEY_POLICY ? "policy"
          : key->type == M4N_KEY_SEED   ? "0 … 2^64-1"
                                        : "text",
          out);
  }
  if (key->word) fprintf(out, ", %s", key->word);
}

void m4n_key_print(FILE *out, bool markdown) {
  if (markdown) fputs("| key | values | default | meaning |\n|---|---|---|---|\n", out);
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    const char *usual = key->usual ? key->usual : "must be given";
    if (markdown) {
      fprintf(out, "| `%s` | ", key->path);
      print_value(out, key);
      fprintf(out, " | %s | %s |\n", usual, key->meaning);
    } else {
      fprintf(out, "%s\n    %s\n    values: ", key->path, key->meaning);
      print_value(out, key);
      fprintf(out, "; default: %s\n", usual);
    }
  }
}
