/* JSON of strangers: jansson with lines in the messages. Only for traces/. */
#ifndef M4N_TRACES_JSON_H
#define M4N_TRACES_JSON_H

#include <jansson.h>
#include <stddef.h>

/* Parses the whole of `data` (a byte order mark is skipped; keys may not repeat). `name` is for messages. The
 * caller gives *root back with json_decref. EFORMAT with the line. */
int m4n_json_parse(json_t **root, const char *name, const void *data, size_t size);

/* The line on which element `index` begins, of the array that is the text itself (`key` NULL) or the value of
 * the outermost object's `key`. Only for text that m4n_json_parse took; 0 where there is no such element. */
long m4n_json_line(const void *data, size_t size, const char *key, size_t index);

#endif
