/* THE list of a scenario's keys: what each is called, means, accepts and is when it is not given. Checks,
 * libcyaml's schema, the defaults in scenario.yaml and the help are all made from it.
 *
 * To add a key, add a member to m4n_scenario and a line to the table in scenario_keys.c.
 */
#ifndef M4N_AGENT_SCENARIO_KEYS_H
#define M4N_AGENT_SCENARIO_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "agent/scenario.h"
#include "kernels/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_key_type {
  M4N_KEY_TEXT,
  M4N_KEY_TEXTS, /* a list */
  M4N_KEY_NAME,  /* letters, digits, '.', '_' and '-': becomes part of a folder's name */
  M4N_KEY_PATH,
  M4N_KEY_PATHS,    /* one or a list of them; always a list once it is read */
  M4N_KEY_POLICY,   /* the name of a policy there is */
  M4N_KEY_POLICIES, /* a list of different ones */
  M4N_KEY_SEED,     /* 0 … 2^64-1 */
  M4N_KEY_INT,
  M4N_KEY_NUMBER,
  M4N_KEY_NUMBERS,
  M4N_KEY_CHOICE
};

typedef struct m4n_key {
  const char *path; /* "abr.test.traces" */
  int type;
  const char *usual;   /* the default as YAML; NULL: none */
  const char *meaning; /* one line, for the help */
  double low, high;    /* of numbers and of a list's items, both included */
  int least, most;     /* items of a list, where there are any */
  const char *word;    /* a word that may stand in place of a number, path or policy … */
  const char *number;  /* … and the number it stands for; NULL: no path, no policy */
  const struct cyaml_strval *choice;
  int n_choices;
  size_t offset, count_offset, size; /* where it lies in m4n_scenario */
} m4n_key;

extern const m4n_key m4n_keys[];
extern const int m4n_n_keys;

/* The key of that path; NULL for none. */
const m4n_key *m4n_key_find(const char *path);
/* True if some key's path goes on behind "prefix." */
bool m4n_key_is_section(const char *prefix);
/* The path that was probably meant by one that does not exist; NULL if nothing is near. Valid until the next
 * call in this thread. */
const char *m4n_key_nearest(const char *path);
/* The keys and sections right under `prefix` ("" for the top), comma separated. */
void m4n_key_list(const char *prefix, char *out, size_t size);

/* Whether `text` (a scalar, or an item of a list) is a value of the key; `plain` is false if it was quoted.
 * If not, EARG or EFORMAT with what was expected, naming `file`, `line` and the key. */
int m4n_key_check(const m4n_key *key, const char *text, bool plain, const char *file, long line);

/* Whether `text` is the key's word, which stands in place of a value. */
bool m4n_key_is_word(const m4n_key *key, const char *text);

/* A document that has every key and was checked, into the struct; what that points to lies in `memory`. */
int m4n_keys_load(m4n_scenario *scenario, m4n_arena *memory, const char *resolved);

/* The table for people, as text or as the Markdown table of scenarios/README.md. */
void m4n_key_print(FILE *out, bool markdown);

#ifdef __cplusplus
}
#endif
#endif
