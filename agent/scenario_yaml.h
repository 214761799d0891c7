/* A YAML document in memory that can be looked at, patched and written: what libcyaml leaves open (line
 * numbers, second documents, keys given twice, `--set`).
 *
 * Paths are dotted keys, "abr.test.traces". Values are scalars or lists of scalars.
 */
#ifndef M4N_AGENT_SCENARIO_YAML_H
#define M4N_AGENT_SCENARIO_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <yaml.h>

typedef struct m4n_yaml {
  yaml_document_t document;
  const char *file; /* for messages; must outlive this */
} m4n_yaml;

/* Refuses what is not exactly one mapping: empty files, second documents, keys that are no plain words or that
 * stand twice, tags, anchors, text with zero bytes. EFORMAT with the line. */
int m4n_yaml_parse(m4n_yaml *yaml, const char *file, const char *text, size_t size);
void m4n_yaml_close(m4n_yaml *yaml);

yaml_node_t *m4n_yaml_root(m4n_yaml *yaml);
yaml_node_t *m4n_yaml_node(m4n_yaml *yaml, int id); /* an item of a pair or of a list */
const char *m4n_yaml_text(const yaml_node_t *scalar);
bool m4n_yaml_plain(const yaml_node_t *scalar); /* not quoted */
long m4n_yaml_line(const yaml_node_t *node);    /* from 1; 0 for what was put there */

/* The value of a path, NULL where there is none. */
yaml_node_t *m4n_yaml_find(m4n_yaml *yaml, const char *path);
/* Sets a path, making the sections it needs: to a scalar (`n` == -1), or to a list of n. ENOMEM. */
int m4n_yaml_put(m4n_yaml *yaml, const char *path, const char *const *text, int n);

/* Writes the document, ended by a zero, to be freed by the caller; the document is gone after that. */
int m4n_yaml_write(char **text, m4n_yaml *yaml);

#endif
