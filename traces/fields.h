/* Flat structs of doubles as JSON: one table says what is read, checked and written. Only for traces/.
 *
 * A field is a number (rows 0, columns 0), an array (rows 0) or an array of arrays; all of it lies in the struct
 * as consecutive doubles.
 */
#ifndef M4N_TRACES_FIELDS_H
#define M4N_TRACES_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct m4n_field {
  const char *key;
  size_t offset; /* of the first double in the struct */
  int rows, columns;
  double low, high; /* what a value may be */
  bool rising;      /* no value below the one before (quantiles) */
} m4n_field;

/* Fills `self` from an object; EFORMAT names the key. `name` is for messages; a key that no field names, nor
 * one of `others` (ended by NULL), is refused; `others` NULL: any key may be there. */
int m4n_fields_read(void *self, const m4n_field *field, int fields, const char *const *others,
                    const char *name, const json_t *root);

/* Writes ",\n  key: value" for every field. */
void m4n_fields_write(const void *self, const m4n_field *field, int fields, FILE *out);

#endif
