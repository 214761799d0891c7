/* Layout (algorithms.md §2.3): u64 header length n, n bytes of JSON {name: {dtype, shape, data_offsets}}, raw data. */
#include "agent/model/safetensors.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/half.h"
#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

enum { MAX_HEADER = 100 * 1000 * 1000, MAX_SHARDS = 4096 };

struct m4n_safetensors {
  m4n_arena arena; // names
  m4n_tensor *tensor;
  int count, room;
  m4n_metadata *metadata;
  int n_metadata;
  m4n_map *map;
  int maps;
};

// ---- one file ------------------------------------------------------------------------------------------------------

// Bytes of an element; 0 for a type that we have never heard of.
static size_t type_of(int *type, const char *name) {
  static const struct {
    const char *name;
    int type;
    size_t size;
  } types[] = {
      {"F32", M4N_TENSOR_F32, 4},    {"F64", M4N_TENSOR_F64, 8},       {"F16", M4N_TENSOR_F16, 2},
      {"BF16", M4N_TENSOR_BF16, 2},  {"I64", M4N_TENSOR_OTHER, 8},     {"U64", M4N_TENSOR_OTHER, 8},
      {"I32", M4N_TENSOR_OTHER, 4},  {"U32", M4N_TENSOR_OTHER, 4},     {"I16", M4N_TENSOR_OTHER, 2},
      {"U16", M4N_TENSOR_OTHER, 2},  {"I8", M4N_TENSOR_OTHER, 1},      {"U8", M4N_TENSOR_OTHER, 1},
      {"BOOL", M4N_TENSOR_OTHER, 1}, {"F8_E4M3", M4N_TENSOR_OTHER, 1}, {"F8_E5M2", M4N_TENSOR_OTHER, 1}};
  *type = M4N_TENSOR_OTHER;
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (strcmp(name, types[i].name) == 0) {
      *type = types[i].type;
      return types[i].size;
    }
  return 0;
}

static int no_memory(const char *name) {
  return m4n_fail(M4N_ENOMEM, "no memory for the tensor list of %s", name);
}

// One more place in the list.
static m4n_tensor *grow(m4n_safetensors *f) {
  if (f->count == f->room) {
    int room = f->room ? 2 * f->room : 64;
    m4n_tensor *more = realloc(f->tensor, (size_t)room * sizeof *more);
    if (!more) return NULL;
    f->tensor = more;
    f->room = room;
  }
  return &f->tensor[f->count++];
}

// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, offsets counted from `data` on.
static int read_entry(m4n_safetensors *f, const char *file, const char *name, const json_t *entry,
                      const uint8_t *data, size_t data_size) {
  const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
               *offsets = json_object_get(entry, "data_offsets");
  if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) ||
      json_array_size(offsets) != 2)
    return m4n_fail_at(M4N_EFORMAT, file, 0, name, "expected {dtype, shape, data_offsets: [begin, end]}");

  m4n_tensor t = {.name = m4n_arena_strdup(&f->arena, name),
                  .file = file,
                  .type_name = m4n_arena_strdup(&f->arena, json_string_value(dtype)),
                  .count = 1};
  if (!t.name || !t.type_name) return no_memory(file);
  if (json_array_size(shape) > M4N_TENSOR_RANK)
    return m4n_fail_at(M4N_EFORMAT, file, 0, name, "%zu dimensions, at most %d are accepted",
                       json_array_size(shape), M4N_TENSOR_RANK);
  t.rank = (int)json_array_size(shape);
  for (int i = 0; i < t.rank; i++) {
    const json_t *size = json_array_get(shape, (size_t)i);
    if (!json_is_integer(size) || json_integer_value(size) < 0)
      return m4n_fail_at(M4N_EFORMAT, file, 0, name, "dimension %d is no size", i);
    t.shape[i] = json_integer_value(size);
    if (__builtin_mul_overflow(t.count, t.shape[i], &t.count))
      return m4n_fail_at(M4N_EFORMAT, file, 0, name, "the shape is too large");
  }

  const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
  if (!json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
      json_integer_value(to) < json_integer_value(from) || (uint64_t)json_integer_value(to) > data_size)
    return m4n_fail_at(M4N_EFORMAT, file, 0, name,
                       "data_offsets must rise and lie inside the %zu bytes that follow the header",
                       data_size);
  t.data = data + json_integer_value(from);
  t.bytes = (size_t)(json_integer_value(to) - json_integer_value(from));
  size_t element = type_of(&t.type, t.type_name);
  uint64_t expected;
  if (element && (__builtin_mul_overflow((uint64_t)t.count, element, &expected) || expected != t.bytes))
    return m4n_fail_at(M4N_EFORMAT, file, 0, name, "%zu bytes of data do not fit %lld elements of %s",
                       t.bytes, (long long)t.count, t.type_name);

  m4n_tensor *place = grow(f);
  if (!place) return no_memory(file);
  *place = t;
  return M4N_OK;
}

static int read_metadata(m4n_safetensors *f, const char *file, const json_t *object) {
  if (!json_is_object(object)) return m4n_fail_at(M4N_EFORMAT, file, 0, "__metadata__", "expected an object");
  if (f->metadata) return M4N_OK; // the first shard's counts
  f->metadata = m4n_arena_alloc(&f->arena, json_object_size(object) * sizeof *f->metadata);
  if (!f->metadata) return no_memory(file);
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)object, key, value) {
    if (!json_is_string(value))
      return m4n_fail_at(M4N_EFORMAT, file, 0, "__metadata__", "%.60s: expected a string", key);
    m4n_metadata *m = &f->metadata[f->n_metadata++];
    m->key = m4n_arena_strdup(&f->arena, key);
    m->value = m4n_arena_strdup(&f->arena, json_string_value(value));
    if (!m->key || !m->value) return no_memory(file);
  }
  return M4N_OK;
}

static int parse_json(json_t **root, const char *file, const void *text, size_t size) {
  json_error_t error;
  *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
  if (!*root && json_error_code(&error) == json_error_out_of_memory) return no_memory(file);
  if (!*root)
    return m4n_fail_at(M4N_EFORMAT, file, error.line, NULL, "column %d: %s: expected JSON", error.column,
                       error.text);
  if (json_is_object(*root)) return M4N_OK;
  json_decref(*root);
  return m4n_fail_at(M4N_EFORMAT, file, 0, NULL, "expected a JSON object");
}

// Adds the tensors of one file in memory.
static int add_file(m4n_safetensors *f, const char *file, const uint8_t *bytes, size_t size) {
  if (size < 8) return m4n_fail_at(M4N_EFORMAT, file, 0, NULL, "%zu bytes are no safetensors file", size);
  uint64_t header = 0;
  for (int i = 7; i >= 0; i--) header = header << 8 | bytes[i];
  if (header > MAX_HEADER || header > size - 8)
    return m4n_fail_at(M4N_EFORMAT, file, 0, NULL,
                       "no safetensors file: the header would be %llu bytes of %zu (at most %d are accepted)",
                       (unsigned long long)header, size, MAX_HEADER);
  json_t *root;
  M4N_TRY(parse_json(&root, file, bytes + 8, (size_t)header));
  int status = M4N_OK;
  const char *name;
  json_t *entry;
  json_object_foreach(root, name, entry) {
    if (strcmp(name, "__metadata__") == 0)
      status = read_metadata(f, file, entry);
    else
      status = read_entry(f, file, name, entry, bytes + 8 + header, size - 8 - (size_t)header);
    if (status) break;
  }
  json_decref(root);
  return status;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const m4n_tensor *)a)->name, ((const m4n_tensor *)b)->name);
}

static int sort(m4n_safetensors *f) {
  if (f->count) qsort(f->tensor, (size_t)f->count, sizeof *f->tensor, by_name);
  for (int i = 1; i < f->count; i++)
    if (by_name(&f->tensor[i - 1], &f->tensor[i]) == 0)
      return m4n_fail_at(M4N_EFORMAT, f->tensor[i].file, 0, f->tensor[i].name, "appears in two shards");
  return M4N_OK;
}

// ---- a file, a folder, an index of shards ----------------------------------------------------------------------------

static int map_file(m4n_safetensors *f, const char *path) {
  m4n_map *more = realloc(f->map, (size_t)(f->maps + 1) * sizeof *more);
  if (!more) return no_memory(path);
  f->map = more;
  const char *name = m4n_arena_strdup(&f->arena, path);
  if (!name) return no_memory(path);
  M4N_TRY(m4n_map_open(&f->map[f->maps], path, SIZE_MAX));
  const m4n_map *map = &f->map[f->maps++];
  return add_file(f, name, map->data, map->size);
}

// {"weight_map": {tensor: shard}}: every shard lies beside the index and has the tensors that the map says.
static int read_index(m4n_safetensors *f, const char *path, const json_t *weight_map) {
  if (!json_is_object(weight_map))
    return m4n_fail_at(M4N_EFORMAT, path, 0, "weight_map", "expected an object of tensor: shard");
  char *folder = m4n_path_dir(path);
  json_t *seen = json_object();
  int status = folder && seen ? M4N_OK : no_memory(path);
  const char *tensor;
  json_t *shard;
  json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, shard) {
    if (status) break;
    const char *file = json_string_value(shard);
    if (!file || !*file || strchr(file, '/') || file[0] == '.')
      status = m4n_fail_at(M4N_EFORMAT, path, 0, tensor, "expected the name of a file beside the index");
    else if (json_object_get(seen, file))
      continue;
    else if (f->maps == MAX_SHARDS || json_object_set_new(seen, file, json_true()))
      status = m4n_fail_at(M4N_EFORMAT, path, 0, "weight_map", "more than %d shards", MAX_SHARDS);
    else {
      char *shard_path = m4n_path_join(folder, file);
      status = shard_path ? map_file(f, shard_path) : no_memory(path);
      free(shard_path);
    }
  }
  json_decref(seen);
  free(folder);
  if (status) return status;
  M4N_TRY(sort(f));
  json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, shard) {
    const m4n_tensor *t = m4n_safetensors_find(f, tensor);
    if (!t || strcmp(m4n_path_base(t->file), json_string_value(shard)) != 0)
      return m4n_fail_at(M4N_EFORMAT, path, 0, tensor, "is not in %s", json_string_value(shard));
  }
  return M4N_OK;
}

static int open_index(m4n_safetensors *f, const char *path) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, MAX_HEADER));
  json_t *root;
  int status = parse_json(&root, path, map.data, map.size);
  if (!status) {
    status = read_index(f, path, json_object_get(root, "weight_map"));
    json_decref(root);
  }
  m4n_map_close(&map);
  return status;
}

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

static int open_folder(m4n_safetensors *f, const char *path) {
  char *file = m4n_path_join(path, "model.safetensors"),
       *index = m4n_path_join(path, "model.safetensors.index.json");
  int status;
  if (!file || !index)
    status = no_memory(path);
  else if (m4n_exists(file))
    status = map_file(f, file);
  else if (m4n_exists(index))
    status = open_index(f, index);
  else
    status = m4n_fail_at(M4N_ENOTFOUND, path, 0, NULL,
                         "has neither model.safetensors nor model.safetensors.index.json");
  free(file);
  free(index);
  return status;
}

int m4n_safetensors_open(m4n_safetensors **file, const char *path) {
  m4n_safetensors *f = *file = calloc(1, sizeof *f);
  if (!f) return no_memory(path);
  int status = m4n_is_dir(path)                 ? open_folder(f, path)
               : ends_with(path, ".index.json") ? open_index(f, path)
                                                : map_file(f, path);
  if (!status) status = sort(f);
  if (status) {
    m4n_safetensors_close(f);
    *file = NULL;
  }
  return status;
}

int m4n_safetensors_parse(m4n_safetensors **file, const char *name, const void *data, size_t size) {
  m4n_safetensors *f = *file = calloc(1, sizeof *f);
  if (!f) return no_memory(name);
  const char *kept = m4n_arena_strdup(&f->arena, name);
  int status = kept ? add_file(f, kept, data, size) : no_memory(name);
  if (!status) status = sort(f);
  if (status) {
    m4n_safetensors_close(f);
    *file = NULL;
  }
  return status;
}

void m4n_safetensors_close(m4n_safetensors *f) {
  if (!f) return;
  for (int i = 0; i < f->maps; i++) m4n_map_close(&f->map[i]);
  free(f->map);
  free(f->tensor);
  m4n_arena_close(&f->arena);
  free(f);
}

// ---- looking up ------------------------------------------------------------------------------------------------------

int m4n_safetensors_count(const m4n_safetensors *f) {
  return f->count;
}

const m4n_tensor *m4n_safetensors_at(const m4n_safetensors *f, int index) {
  return &f->tensor[index];
}

const m4n_tensor *m4n_safetensors_find(const m4n_safetensors *f, const char *name) {
  m4n_tensor key = {.name = name};
  return f->count ? bsearch(&key, f->tensor, (size_t)f->count, sizeof key, by_name) : NULL;
}

char *m4n_shape_text(char *text, size_t size, int rank, const int64_t *shape) {
  size_t n = (size_t)snprintf(text, size, "[");
  for (int i = 0; i < rank && n < size; i++)
    n += (size_t)(shape[i] < 0 ? snprintf(text + n, size - n, "%s*", i ? ", " : "")
                               : snprintf(text + n, size - n, "%s%lld", i ? ", " : "", (long long)shape[i]));
  if (n < size) snprintf(text + n, size - n, "]");
  return text;
}

int m4n_safetensors_need(const m4n_tensor **tensor, const m4n_safetensors *f, const char *name, int rank,
                         const int64_t *shape) {
  const m4n_tensor *t = *tensor = m4n_safetensors_find(f, name);
  const char *file = f->count ? f->tensor[0].file : NULL;
  if (!t) return m4n_fail_at(M4N_ENOTFOUND, file, 0, name, "there is no such tensor");
  bool same = t->rank == rank;
  for (int i = 0; same && i < rank; i++) same = shape[i] < 0 || shape[i] == t->shape[i];
  char is[128], expected[128];
  return same ? M4N_OK
              : m4n_fail_at(M4N_EFORMAT, t->file, 0, name, "the shape is %s, expected %s",
                            m4n_shape_text(is, sizeof is, t->rank, t->shape),
                            m4n_shape_text(expected, sizeof expected, rank, shape));
}

const m4n_metadata *m4n_safetensors_all_metadata(const m4n_safetensors *f, int *n) {
  *n = f->n_metadata;
  return f->metadata;
}

const char *m4n_safetensors_metadata(const m4n_safetensors *f, const char *key) {
  for (int i = 0; i < f->n_metadata; i++)
    if (strcmp(f->metadata[i].key, key) == 0) return f->metadata[i].value;
  return NULL;
}

// ---- values ----------------------------------------------------------------------------------------------------------

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little endian, and read as it lies");

// Element i, of any alignment.
static inline double element(int type, const uint8_t *data, int64_t i) {
  double d;
  float f;
  uint16_t h;
  switch (type) {
  case M4N_TENSOR_F64:
    memcpy(&d, data + 8 * i, sizeof d);
    return d;
  case M4N_TENSOR_F32:
    memcpy(&f, data + 4 * i, sizeof f);
    return (double)f;
  case M4N_TENSOR_F16:
    memcpy(&h, data + 2 * i, sizeof h);
    return (double)m4n_half_value(h);
  default:
    memcpy(&h, data + 2 * i, sizeof h);
    return (double)m4n_bf16_value(h);
  }
}

static int refuse(const m4n_tensor *t, int64_t first, int64_t count, double limit) {
  if (t->type == M4N_TENSOR_OTHER)
    return m4n_fail_at(M4N_EUNSUPPORTED, t->file, 0, t->name, "is %s, expected F32, F64, F16 or BF16",
                       t->type_name);
  int64_t i = first;
  while (i < first + count - 1 && fabs(element(t->type, t->data, i)) <= limit) i++;
  return m4n_fail_at(M4N_EFORMAT, t->file, 0, t->name, "element %lld is %g, expected a finite number",
                     (long long)i, element(t->type, t->data, i));
}

// A loop for each type, so that the switch is outside of it. `limit`: beyond it the target would be infinite.
#define CONVERT(real, type)                                                                                  \
  for (int64_t i = 0; i < count; i++) {                                                                      \
    double value = element(type, t->data, first + i);                                                        \
    bad |= !(fabs(value) <= limit);                                                                          \
    to[i] = (real)value;                                                                                     \
  }                                                                                                          \
  break
#define READ(real)                                                                                           \
  int bad = 0;                                                                                               \
  switch (t->type) {                                                                                         \
  case M4N_TENSOR_F64:                                                                                       \
    CONVERT(real, M4N_TENSOR_F64);                                                                           \
  case M4N_TENSOR_F32:                                                                                       \
    CONVERT(real, M4N_TENSOR_F32);                                                                           \
  case M4N_TENSOR_F16:                                                                                       \
    CONVERT(real, M4N_TENSOR_F16);                                                                           \
  case M4N_TENSOR_BF16:                                                                                      \
    CONVERT(real, M4N_TENSOR_BF16);                                                                          \
  default:                                                                                                   \
    bad = 1;                                                                                                 \
  }                                                                                                          \
  return bad ? refuse(t, first, count, limit) : M4N_OK

int m4n_tensor_read(const m4n_tensor *t, int64_t first, int64_t count, m4n_real *to) {
  const double limit = sizeof *to == 4 ? (double)FLT_MAX : DBL_MAX;
  READ(m4n_real);
}

int m4n_tensor_read_double(const m4n_tensor *t, int64_t first, int64_t count, double *to) {
  const double limit = DBL_MAX;
  READ(double);
}
