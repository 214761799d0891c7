#include "agent/scenario.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/scenario_keys.h"
#include "agent/scenario_yaml.h"
#include "agent/version.h"
#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"

enum { MAX_BYTES = 1 << 20, MAX_ITEMS = 64 };
static const char from_set[] = "--set";

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a scenario");
}

// ---- paths

// The demo data lies beside the program (build/release/demo), or where the build made it.
static char *demo_folder(void) {
  char program[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
  char *found = NULL;
  if (n > 0) {
    program[n] = 0;
    char *folder = m4n_path_dir(program);
    found = folder ? m4n_path_join(folder, "demo") : NULL;
    free(folder);
  }
  if (found && m4n_is_dir(found)) return found;
  free(found);
  return strdup(M4N_DEMO_DIR);
}

// Absolute: "demo:x" in the demo data, else from `folder`; links and dots are followed where the path exists.
static char *absolute(const char *folder, const char *text) {
  char *joined, here[PATH_MAX];
  if (!strncmp(text, "demo:", 5)) {
    char *demo = demo_folder();
    joined = demo ? m4n_path_join(demo, text + 5) : NULL;
    free(demo);
  } else {
    joined = m4n_path_join(folder, text);
  }
  if (joined && joined[0] != '/' && getcwd(here, sizeof here)) {
    char *full = m4n_path_join(here, joined);
    free(joined);
    joined = full;
  }
  char *real = joined ? realpath(joined, NULL) : NULL;
  if (!real) return joined;
  free(joined);
  return real;
}

// ---- what the file says

// A value, or a list's; the texts live as long as the document.
static int values_of(m4n_yaml *yaml, const yaml_node_t *node, const char *value[MAX_ITEMS]) {
  if (node->type == YAML_SCALAR_NODE) {
    value[0] = m4n_yaml_text(node);
    return 1;
  }
  const yaml_node_item_t *items = node->data.sequence.items.start;
  int n = (int)(node->data.sequence.items.top - items);
  for (int i = 0; i < n; i++) value[i] = m4n_yaml_text(m4n_yaml_node(yaml, items[i]));
  return n;
}

static int check_value(m4n_yaml *yaml, const m4n_key *key, const yaml_node_t *node) {
  long line = m4n_yaml_line(node);
  if (!key->most || (key->type == M4N_KEY_PATHS && node->type == YAML_SCALAR_NODE)) {
    if (node->type != YAML_SCALAR_NODE)
      return m4n_fail_at(M4N_EARG, yaml->file, line, key->path, "expected one value, found a %s",
                         node->type == YAML_SEQUENCE_NODE ? "list" : "section");
    return m4n_key_check(key, m4n_yaml_text(node), m4n_yaml_plain(node), yaml->file, line);
  }
  if (node->type != YAML_SEQUENCE_NODE)
    return m4n_fail_at(M4N_EARG, yaml->file, line, key->path, "expected a list, '[a, b]'");
  const yaml_node_item_t *items = node->data.sequence.items.start;
  ptrdiff_t n = node->data.sequence.items.top - items;
  if (n > key->most || (n < key->least && (n || !key->usual)))
    return m4n_fail_at(M4N_EARG, yaml->file, line, key->path, "%td items: expected %s%d to %d", n,
                       key->usual ? "none, or " : "", key->least, key->most);
  for (ptrdiff_t i = 0; i < n; i++) {
    const yaml_node_t *item = m4n_yaml_node(yaml, items[i]);
    if (item->type != YAML_SCALAR_NODE)
      return m4n_fail_at(M4N_EARG, yaml->file, m4n_yaml_line(item), key->path, "item %td: expected one value",
                         i + 1);
    M4N_TRY(m4n_key_check(key, m4n_yaml_text(item), m4n_yaml_plain(item), yaml->file, m4n_yaml_line(item)));
    for (ptrdiff_t j = 0; j < i && key->type == M4N_KEY_POLICIES; j++)
      if (!strcmp(m4n_yaml_text(item), m4n_yaml_text(m4n_yaml_node(yaml, items[j]))))
        return m4n_fail_at(M4N_EARG, yaml->file, m4n_yaml_line(item), key->path, "'%s' stands twice",
                           m4n_yaml_text(item));
  }
  return M4N_OK;
}

static int unknown_key(const char *file, long line, const char *path, const char *section) {
  const char *near = m4n_key_nearest(path);
  if (near) return m4n_fail_at(M4N_EARG, file, line, path, "unknown key: did you mean '%s'?", near);
  char known[512];
  m4n_key_list(section, known, sizeof known);
  return m4n_fail_at(M4N_EARG, file, line, path, "unknown key: expected one of %s", known);
}

static int check_section(m4n_yaml *yaml, const yaml_node_t *section, const char *prefix) {
  for (yaml_node_pair_t *p = section->data.mapping.pairs.start; p < section->data.mapping.pairs.top; p++) {
    const yaml_node_t *name = m4n_yaml_node(yaml, p->key), *value = m4n_yaml_node(yaml, p->value);
    char path[128];
    bool fits = (size_t)snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "",
                                 m4n_yaml_text(name)) < sizeof path;
    // A key with a dot in it would look like a path.
    bool simple = fits && !strchr(m4n_yaml_text(name), '.');
    const m4n_key *key = simple ? m4n_key_find(path) : NULL;
    if (key) {
      M4N_TRY(check_value(yaml, key, value));
    } else if (simple && m4n_key_is_section(path)) {
      if (value->type != YAML_MAPPING_NODE) {
        char known[512];
        m4n_key_list(path, known, sizeof known);
        return m4n_fail_at(M4N_EARG, yaml->file, m4n_yaml_line(name), path, "expected keys below it: %s",
                           known);
      }
      M4N_TRY(check_section(yaml, value, path));
    } else {
      return unknown_key(yaml->file, m4n_yaml_line(name), path, prefix);
    }
  }
  return M4N_OK;
}

// ---- paths in place

static bool holds_path(const m4n_key *key) {
  return key->type == M4N_KEY_PATH || key->type == M4N_KEY_PATHS || key->type == M4N_KEY_POLICY ||
         key->type == M4N_KEY_POLICIES;
}

// A path from `folder`, or a policy that is a file there; other policies are what they are.
static char *settled(const m4n_key *key, const char *folder, const char *text) {
  if (key->type == M4N_KEY_PATH || key->type == M4N_KEY_PATHS) return absolute(folder, text);
  const m4n_policy_kind *kind;
  if (m4n_policy_find(&kind, text) || kind->match != M4N_MATCH_FILE) return strdup(text);
  size_t size = m4n_policy_settings(kind, text);
  char *file = strndup(text, size), *path = file ? absolute(folder, file) : NULL;
  char *whole = path ? malloc(strlen(path) + strlen(text + size) + 1) : NULL;
  if (whole) sprintf(whole, "%s%s", path, text + size);
  free(file);
  free(path);
  return whole;
}

// Sets a key to the absolute forms of its n values, or of one that is no list (-1); a word stays what it is, and in
// place of a list of paths means none.
static int put_paths(m4n_yaml *yaml, const m4n_key *key, const char *folder, const char *const *text, int n) {
  bool list = key->most > 0;
  if (n < 0 && m4n_key_is_word(key, text[0])) return m4n_yaml_put(yaml, key->path, text, list ? 0 : -1);
  char *path[MAX_ITEMS];
  int status = M4N_OK, count = n < 0 ? 1 : n;
  for (int i = 0; i < count; i++) {
    path[i] = settled(key, folder, text[i]);
    if (!path[i]) status = no_memory();
  }
  if (!status) status = m4n_yaml_put(yaml, key->path, (const char *const *)path, list ? count : -1);
  for (int i = 0; i < count; i++) free(path[i]);
  return status;
}

static int resolve_key(m4n_yaml *yaml, const m4n_key *key, const char *folder) {
  const yaml_node_t *node = m4n_yaml_find(yaml, key->path);
  if (!node) return M4N_OK;
  const yaml_mark_t start = node->start_mark, end = node->end_mark;
  const char *text[MAX_ITEMS];
  int n = values_of(yaml, node, text);
  M4N_TRY(put_paths(yaml, key, folder, text, node->type == YAML_SCALAR_NODE ? -1 : n));
  yaml_node_t *fresh = m4n_yaml_find(yaml, key->path); // still stands where the file has it
  fresh->start_mark = start, fresh->end_mark = end;
  return M4N_OK;
}

static int resolve_paths(m4n_yaml *yaml, const char *file) {
  char *folder = m4n_path_dir(file);
  int status = folder ? M4N_OK : no_memory();
  for (int i = 0; i < m4n_n_keys && !status; i++)
    if (holds_path(&m4n_keys[i])) status = resolve_key(yaml, &m4n_keys[i], folder);
  free(folder);
  return status;
}

// ---- what --set says

// "[a, b]" or "a,b" into its items, which are ended by zeros in `text`.
static int split(char *text, const char *items[], int most, int *n) {
  size_t size = strlen(text);
  if (size > 1 && text[0] == '[' && text[size - 1] == ']') {
    text[size - 1] = 0;
    text++;
  }
  m4n_span rest = {text, strlen(text)}, item;
  for (*n = 0; rest.size && m4n_span_split(&rest, ',', &item); (*n)++) {
    if (*n == most) return 1;
    ((char *)(uintptr_t)item.at)[item.size] = 0;
    items[*n] = item.at;
  }
  return 0;
}

static int apply_set(m4n_yaml *yaml, const char *set) {
  char text[4096], *equals;
  if ((size_t)snprintf(text, sizeof text, "%s", set) >= sizeof text || !(equals = strchr(text, '=')))
    return m4n_fail_at(M4N_EARG, from_set, 0, set, "expected KEY=VALUE");
  *equals = 0;
  const char *value = equals + 1, *items[MAX_ITEMS];
  const m4n_key *key = m4n_key_find(text);
  if (!key) {
    if (!m4n_key_is_section(text)) return unknown_key(from_set, 0, text, "");
    char known[512];
    m4n_key_list(text, known, sizeof known);
    return m4n_fail_at(M4N_EARG, from_set, 0, text, "is a section: set one of its keys, %s", known);
  }
  bool path = holds_path(key), one = !key->most || (key->type == M4N_KEY_PATHS && value[0] != '[');
  if (one) {
    M4N_TRY(m4n_key_check(key, value, true, from_set, 0));
    return path ? put_paths(yaml, key, "", &value, -1) : m4n_yaml_put(yaml, key->path, &value, -1);
  }
  int n;
  if (split(equals + 1, items, MAX_ITEMS, &n))
    return m4n_fail_at(M4N_EARG, from_set, 0, key->path, "expected at most %d items", key->most);
  M4N_TRY(m4n_yaml_put(yaml, key->path, items, n));
  const char *file = yaml->file;
  yaml->file = from_set;
  int status = check_value(yaml, key, m4n_yaml_find(yaml, key->path));
  yaml->file = file;
  return status || !path ? status : put_paths(yaml, key, "", items, n);
}

// ---- what nobody says

static int add_defaults(m4n_yaml *yaml, const char *file) {
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    if (m4n_yaml_find(yaml, key->path)) continue;
    if (!key->usual) return m4n_fail_at(M4N_EARG, file, 0, key->path, "is missing: %s", key->meaning);
    const char *items[MAX_ITEMS];
    char text[256];
    int n = -1;
    if (key->most) {
      n = 0;
      snprintf(text, sizeof text, "%s", key->usual);
      if (!m4n_key_is_word(key, text)) split(text, items, MAX_ITEMS, &n);
    }
    M4N_TRY(m4n_yaml_put(yaml, key->path, n < 0 ? &key->usual : items, n));
  }
  return M4N_OK;
}

// ---- keys that belong together

typedef struct check {
  m4n_yaml *yaml;
  const char *file;
} check;

static bool says(const check *c, const char *path, const char *text) {
  return !strcmp(m4n_yaml_text(m4n_yaml_find(c->yaml, path)), text);
}

static ptrdiff_t items_of(const check *c, const char *path) {
  const yaml_node_t *list = m4n_yaml_find(c->yaml, path);
  return list->data.sequence.items.top - list->data.sequence.items.start;
}

static int blame(const check *c, const char *path, const char *why) {
  long line = m4n_yaml_line(m4n_yaml_find(c->yaml, path));
  return m4n_fail_at(M4N_EARG, c->file, line, path, "%s", why);
}

static int check_scale(const check *c, const char *path, const char *start) {
  if (!items_of(c, path)) return M4N_OK;
  if (!says(c, start, "seeded")) return blame(c, path, "is only read with start: seeded");
  const yaml_node_item_t *items = m4n_yaml_find(c->yaml, path)->data.sequence.items.start;
  double low = strtod(m4n_yaml_text(m4n_yaml_node(c->yaml, items[0])), NULL);
  double high = strtod(m4n_yaml_text(m4n_yaml_node(c->yaml, items[1])), NULL);
  return low <= high ? M4N_OK : blame(c, path, "expected [low, high] with low not above high");
}

static int check_together(const check *c) {
  static const char *const set[] = {"test", "train", "valid"};
  char start[64], pointers[64], traces[64], scale[64];
  for (int i = 0; i < 3; i++) {
    snprintf(start, sizeof start, "abr.%s.start", set[i]);
    snprintf(pointers, sizeof pointers, "abr.%s.pointers", set[i]);
    if (says(c, start, "listed") && says(c, pointers, "none"))
      return blame(c, pointers, "start: listed needs a file of row numbers");
    if (!says(c, start, "listed") && !says(c, pointers, "none"))
      return blame(c, pointers, "is only read with start: listed");
    snprintf(scale, sizeof scale, "abr.%s.scale", set[i]);
    M4N_TRY(check_scale(c, scale, start));
  }
  if (says(c, "task", "abr")) {
    snprintf(traces, sizeof traces, "abr.%s.traces", m4n_yaml_text(m4n_yaml_find(c->yaml, "evaluate.set")));
    if (!items_of(c, traces)) return blame(c, traces, "is missing: evaluate.set names these traces");
    if (says(c, "abr.video.sizes", "none"))
      return blame(c, "abr.video.sizes", "is missing: what is streamed");
  }
  if (items_of(c, "collect.shares") && items_of(c, "collect.shares") != items_of(c, "collect.policies"))
    return blame(c, "collect.shares", "expected as many shares as collect.policies has policies");
  if (says(c, "label.by", "oracle") && says(c, "collect.advice", "no"))
    return blame(c, "label.by", "oracle: set collect.advice to yes, so that the log keeps its answers");
  if (!says(c, "label.by", "expert") && !says(c, "label.expert", "expert"))
    return blame(c, "label.expert", "is only read with label.by: expert");
  if (says(c, "label.by", "none") && !says(c, "distil.on_policy.share", "0"))
    return blame(c, "distil.on_policy.share",
                 "needs somebody who labels what the student plays: label.by is none");
  if (!says(c, "abr.qoe.kind", "hd") && items_of(c, "abr.qoe.utility"))
    return blame(c, "abr.qoe.utility", "is only read with kind: hd");
  if (!says(c, "evaluate.delay.kind", "fixed") && !says(c, "evaluate.delay.ms", "0"))
    return blame(c, "evaluate.delay.ms", "is only read with kind: fixed");
  return M4N_OK;
}

typedef struct loaded {
  m4n_scenario scenario;
  m4n_arena memory;
} loaded;

// ---- all together

static int resolve(char **resolved, const char *path, const char *text, size_t size, const char *const *sets,
                   int n_sets) {
  m4n_yaml yaml;
  if (size > MAX_BYTES)
    return m4n_fail_at(M4N_EFORMAT, path, 0, NULL, "%zu bytes, at most %d are accepted", size, MAX_BYTES);
  M4N_TRY(m4n_yaml_parse(&yaml, path, text, size));
  int status = check_section(&yaml, m4n_yaml_root(&yaml), "");
  if (!status) status = resolve_paths(&yaml, path);
  for (int i = 0; i < n_sets && !status; i++) status = apply_set(&yaml, sets[i]);
  if (!status) status = add_defaults(&yaml, path);
  if (!status) status = check_together(&(check){&yaml, path});
  if (status) {
    m4n_yaml_close(&yaml);
    return status;
  }
  return m4n_yaml_write(resolved, &yaml);
}

int m4n_scenario_parse(m4n_scenario **scenario, const char *path, const char *text, size_t size,
                       const char *const *sets, int n_sets) {
  char *resolved;
  M4N_TRY(resolve(&resolved, path, text, size, sets, n_sets));
  loaded *l = calloc(1, sizeof *l);
  int status = l ? m4n_keys_load(&l->scenario, &l->memory, resolved) : no_memory();
  if (!status) {
    const char front[] = "# A scenario with every key written out, by mamba4net %s%s%s.\n%s";
    size_t room = sizeof front + strlen(resolved) + 64;
    char *copy = m4n_arena_alloc(&l->memory, room);
    char *folder = m4n_path_dir(path);
    l->scenario.path = m4n_arena_strdup(&l->memory, path);
    l->scenario.folder = folder ? m4n_arena_strdup(&l->memory, folder) : NULL;
    free(folder);
    l->scenario.resolved = copy;
    if (copy) snprintf(copy, room, front, m4n_version, *m4n_commit ? ", commit " : "", m4n_commit, resolved);
    if (!copy || !l->scenario.path || !l->scenario.folder) status = no_memory();
  }
  free(resolved);
  if (status && l) m4n_scenario_free(&l->scenario);
  if (!status) *scenario = &l->scenario;
  return status;
}

int m4n_scenario_load(m4n_scenario **scenario, const char *path, const char *const *sets, int n_sets) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, MAX_BYTES));
  int status =
      m4n_scenario_parse(scenario, path, map.data ? (const char *)map.data : "", map.size, sets, n_sets);
  m4n_map_close(&map);
  return status;
}

int m4n_scenario_each(const m4n_scenario *scenario, const char *prefix,
                      int (*see)(void *self, const m4n_key *key, const char *const *value, int n),
                      void *self) {
  m4n_yaml yaml;
  M4N_TRY(m4n_yaml_parse(&yaml, scenario->path, scenario->resolved, strlen(scenario->resolved)));
  int status = M4N_OK;
  for (int i = 0; i < m4n_n_keys && !status; i++) {
    const char *value[MAX_ITEMS];
    if (strncmp(m4n_keys[i].path, prefix, strlen(prefix))) continue;
    int n = values_of(&yaml, m4n_yaml_find(&yaml, m4n_keys[i].path), value);
    status = see(self, &m4n_keys[i], value, n);
  }
  m4n_yaml_close(&yaml);
  return status;
}

void m4n_scenario_free(m4n_scenario *scenario) {
  if (!scenario) return;
  loaded *l = (loaded *)scenario; // its first member
  m4n_arena memory = l->memory;
  free(l);
  m4n_arena_close(&memory);
}
