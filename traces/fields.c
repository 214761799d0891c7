#include "traces/fields.h"

#include <string.h>

#include "kernels/base/status.h"

static int read_number(double *at, const m4n_field *f, const char *name, const json_t *item, bool first) {
  *at = json_number_value(item);
  if (!json_is_number(item) || !(*at >= f->low && *at <= f->high))
    return m4n_fail_at(M4N_EFORMAT, name, 0, f->key, "expected numbers from %g to %g", f->low, f->high);
  if (f->rising && !first && *at < at[-1])
    return m4n_fail_at(M4N_EFORMAT, name, 0, f->key,
                       "%g comes after %g: expected quantiles, which do not fall", *at, at[-1]);
  return M4N_OK;
}

static int read_array(double *at, const m4n_field *f, const char *name, const json_t *array) {
  if (!json_is_array(array) || json_array_size(array) != (size_t)f->columns)
    return m4n_fail_at(M4N_EFORMAT, name, 0, f->key, "expected an array of %d numbers", f->columns);
  for (int i = 0; i < f->columns; i++)
    M4N_TRY(read_number(at + i, f, name, json_array_get(array, (size_t)i), i == 0));
  return M4N_OK;
}

static int read_field(double *at, const m4n_field *f, const char *name, const json_t *item) {
  if (!item) return m4n_fail_at(M4N_EFORMAT, name, 0, f->key, "the key is missing");
  if (!f->columns) return read_number(at, f, name, item, true);
  if (!f->rows) return read_array(at, f, name, item);
  if (!json_is_array(item) || json_array_size(item) != (size_t)f->rows)
    return m4n_fail_at(M4N_EFORMAT, name, 0, f->key, "expected an array of %d arrays", f->rows);
  for (int i = 0; i < f->rows; i++)
    M4N_TRY(read_array(at + i * f->columns, f, name, json_array_get(item, (size_t)i)));
  return M4N_OK;
}

static bool known(const char *key, const m4n_field *field, int fields, const char *const *others) {
  for (int i = 0; i < fields; i++)
    if (strcmp(field[i].key, key) == 0) return true;
  for (; *others; others++)
    if (strcmp(*others, key) == 0) return true;
  return false;
}

int m4n_fields_read(void *self, const m4n_field *field, int fields, const char *const *others,
                    const char *name, const json_t *root) {
  for (void *at = others ? json_object_iter((json_t *)root) : NULL; at;
       at = json_object_iter_next((json_t *)root, at))
    if (!known(json_object_iter_key(at), field, fields, others))
      return m4n_fail_at(M4N_EFORMAT, name, 0, json_object_iter_key(at), "is not a key of a model");
  for (int i = 0; i < fields; i++)
    M4N_TRY(read_field((double *)((char *)self + field[i].offset), &field[i], name,
                       json_object_get(root, field[i].key)));
  return M4N_OK;
}

static void write_array(const double *at, int n, FILE *out) {
  for (int i = 0; i < n; i++) fprintf(out, "%s%.6g", i ? ", " : "[", at[i]);
  fputc(']', out);
}

void m4n_fields_write(const void *self, const m4n_field *field, int fields, FILE *out) {
  for (int i = 0; i < fields; i++) {
    const m4n_field *f = &field[i];
    const double *at = (const double *)((const char *)self + f->offset);
    fprintf(out, ",\n  \"%s\": ", f->key);
    if (!f->columns) {
      fprintf(out, "%.6g", *at);
    } else if (!f->rows) {
      write_array(at, f->columns, out);
    } else {
      for (int row = 0; row < f->rows; row++) {
        fputs(row ? ",\n    " : "[\n    ", out);
        write_array(at + row * f->columns, f->columns, out);
      }
      fputs("\n  ]", out);
    }
  }
}
