// From a document with every key to the struct: libcyaml, with a schema that is made from the list of keys.
#include <cyaml/cyaml.h>
#include <stdlib.h>
#include <string.h>

#include "agent/scenario_keys.h"
#include "agent/scenario_yaml.h"
#include "kernels/base/status.h"

// realloc for libcyaml out of an arena: the size stands in front of a block, and nothing is given back.
static void *arena_mem(void *self, void *block, size_t size) {
  enum { FRONT = 16 };
  if (!size) return NULL;
  char *fresh = m4n_arena_alloc(self, size + FRONT);
  if (!fresh) return NULL;
  memcpy(fresh, &size, sizeof size);
  if (block) {
    size_t old;
    memcpy(&old, (char *)block - FRONT, sizeof old);
    memcpy(fresh + FRONT, block, old < size ? old : size);
  }
  return fresh + FRONT;
}

static cyaml_schema_value_t leaf(const m4n_key *key) {
  static const cyaml_schema_value_t text = {
      CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, CYAML_UNLIMITED)};
  static const cyaml_schema_value_t number = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};
  // A list is an array in the struct, or a pointer to one that libcyaml makes.
  enum cyaml_flag list = key->size == sizeof(void *) ? CYAML_FLAG_POINTER : CYAML_FLAG_DEFAULT;
  switch (key->type) {
  case M4N_KEY_SEED:
    return (cyaml_schema_value_t){CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint64_t)};
  case M4N_KEY_INT: {
    cyaml_schema_value_t value = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int)};
    value.data_size = (uint32_t)key->size;
    return value;
  }
  case M4N_KEY_NUMBER:
    return number;
  case M4N_KEY_CHOICE: {
    if (key->size == sizeof(char *)) return text; // kept as the word, once it was checked
    cyaml_schema_value_t value = {
        CYAML_VALUE_ENUM(CYAML_FLAG_STRICT, int, key->choice, (uint32_t)key->n_choices)};
    value.data_size = (uint32_t)key->size;
    return value;
  }
  case M4N_KEY_TEXTS:
  case M4N_KEY_PATHS:
  case M4N_KEY_POLICIES:
    return (cyaml_schema_value_t){CYAML_VALUE_SEQUENCE(list, char *, &text, 0, (uint32_t)key->most)};
  case M4N_KEY_NUMBERS:
    return (cyaml_schema_value_t){CYAML_VALUE_SEQUENCE(list, double, &number, 0, (uint32_t)key->most)};
  default:
    return text;
  }
}

// The fields right under `prefix`; a section is a mapping at offset 0, so that all offsets are m4n_scenario's.
static cyaml_schema_field_t *schema_of(m4n_arena *memory, const char *prefix) {
  size_t skip = strlen(prefix), n = 0;
  cyaml_schema_field_t *fields = m4n_arena_alloc(memory, ((size_t)m4n_n_keys + 1) * sizeof *fields);
  for (int i = 0; i < m4n_n_keys && fields; i++) {
    const m4n_key *key = &m4n_keys[i];
    if (strncmp(key->path, prefix, skip)) continue;
    const char *part = key->path + skip;
    size_t size = strcspn(part, ".");
    // Keys of a section stand together in the table.
    if (n && strlen(fields[n - 1].key) == size && !strncmp(fields[n - 1].key, part, size)) continue;
    char *name = m4n_arena_alloc(memory, skip + size + 2);
    if (!name) return NULL;
    cyaml_schema_field_t *field = &fields[n++];
    memcpy(name, part, size);
    field->key = name;
    if (part[size]) {
      char *below = m4n_arena_alloc(memory, skip + size + 2);
      if (!below) return NULL;
      memcpy(below, key->path, skip + size + 1);
      field->value = (cyaml_schema_value_t){
          CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, m4n_scenario, schema_of(memory, below))};
      if (!field->value.mapping.fields) return NULL;
    } else {
      field->value = leaf(key);
      field->data_offset = (uint32_t)key->offset;
      field->count_offset = (uint32_t)key->count_offset;
      field->count_size = sizeof(int);
    }
  }
  return fields;
}

// libcyaml reads numbers where a word may stand: a copy of the text with the numbers in.
static int without_words(char **text, const char *resolved) {
  m4n_yaml yaml;
  M4N_TRY(m4n_yaml_parse(&yaml, "the resolved scenario", resolved, strlen(resolved)));
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    if (!key->number || !m4n_key_is_word(key, m4n_yaml_text(m4n_yaml_find(&yaml, key->path)))) continue;
    int status = m4n_yaml_put(&yaml, key->path, &key->number, -1);
    if (status) {
      m4n_yaml_close(&yaml);
      return status;
    }
  }
  return m4n_yaml_write(text, &yaml);
}

int m4n_keys_load(m4n_scenario *scenario, m4n_arena *memory, const char *resolved) {
  cyaml_schema_field_t *fields = schema_of(memory, "");
  if (!fields) return M4N_ENOMEM;
  const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, m4n_scenario, fields)};
  const cyaml_config_t config = {.mem_fn = arena_mem, .mem_ctx = memory, .flags = CYAML_CFG_NO_ALIAS};
  char *text;
  cyaml_data_t *data = NULL;
  M4N_TRY(without_words(&text, resolved));
  cyaml_err_t status = cyaml_load_data((const uint8_t *)text, strlen(text), &config, &schema, &data, NULL);
  free(text);
  if (status) return m4n_fail(M4N_EFORMAT, "libcyaml refuses the scenario: %s", cyaml_strerror(status));
  memcpy(scenario, data, sizeof *scenario);
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    if (!key->word || key->number || key->most) continue;
    const char **member = (const char **)((char *)scenario + key->offset);
    if (m4n_key_is_word(key, *member)) *member = NULL;
  }
  return M4N_OK;
}
