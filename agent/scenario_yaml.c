#include "agent/scenario_yaml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

yaml_node_t *m4n_yaml_root(m4n_yaml *yaml) {
  return yaml_document_get_root_node(&yaml->document);
}

yaml_node_t *m4n_yaml_node(m4n_yaml *yaml, int id) {
  return yaml_document_get_node(&yaml->document, id);
}

const char *m4n_yaml_text(const yaml_node_t *scalar) {
  return (const char *)scalar->data.scalar.value;
}

bool m4n_yaml_plain(const yaml_node_t *scalar) {
  return scalar->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

// What was put there has no mark; a node of the file ends behind its start, or begins behind the file's.
long m4n_yaml_line(const yaml_node_t *node) {
  return node->end_mark.index || node->start_mark.index ? (long)node->start_mark.line + 1 : 0;
}

// ---- reading

static int syntax_failure(const yaml_parser_t *parser, const char *file) {
  if (parser->error == YAML_MEMORY_ERROR) return m4n_fail(M4N_ENOMEM, "no memory for %s", file);
  long line = (long)(parser->problem_mark.line ? parser->problem_mark.line : parser->context_mark.line) + 1;
  return m4n_fail_at(M4N_EFORMAT, file, line, NULL, "no YAML: %s%s%s", parser->problem ? parser->problem : "",
                     parser->context ? ", " : "", parser->context ? parser->context : "");
}

static const char *usual_tag(const yaml_node_t *node) {
  return node->type == YAML_MAPPING_NODE    ? YAML_DEFAULT_MAPPING_TAG
         : node->type == YAML_SEQUENCE_NODE ? YAML_DEFAULT_SEQUENCE_TAG
                                            : YAML_DEFAULT_SCALAR_TAG;
}

enum { MOST_KEYS = 256 }; // of one section: far more than there are, few enough to compare all pairs

static int check_mapping(m4n_yaml *yaml, const yaml_node_t *node) {
  if (node->data.mapping.pairs.top - node->data.mapping.pairs.start > MOST_KEYS)
    return m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(node), NULL, "more than %d keys", MOST_KEYS);
  for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
    const yaml_node_t *key = m4n_yaml_node(yaml, p->key);
    if (key->type != YAML_SCALAR_NODE)
      return m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(key), NULL, "a key must be a plain word");
    for (yaml_node_pair_t *q = node->data.mapping.pairs.start; q < p; q++) {
      const yaml_node_t *first = m4n_yaml_node(yaml, q->key);
      if (!strcmp(m4n_yaml_text(first), m4n_yaml_text(key)))
        return m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(key), m4n_yaml_text(key),
                           "stands twice, first in line %ld", m4n_yaml_line(first));
    }
  }
  return M4N_OK;
}

// The graph of nodes must be a tree: an alias is a second way to its node, and may lead in circles.
static int check_nodes(m4n_yaml *yaml) {
  yaml_node_t *nodes = yaml->document.nodes.start;
  ptrdiff_t n = yaml->document.nodes.top - nodes;
  uint8_t *seen = calloc((size_t)n + 1, 1); // ids begin at 1
  if (!seen) return m4n_fail(M4N_ENOMEM, "no memory for %s", yaml->file);
  int status = M4N_OK;
  seen[1] = 1;
  for (ptrdiff_t i = 0; i < n && !status; i++) {
    const yaml_node_t *node = &nodes[i];
    int shared = 0;
    if (node->type == YAML_MAPPING_NODE) {
      for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
        if (seen[p->key]++) shared = p->key;
        if (seen[p->value]++) shared = p->value;
      }
      status = check_mapping(yaml, node);
    } else if (node->type == YAML_SEQUENCE_NODE) {
      for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top;
           item++)
        if (seen[*item]++) shared = *item;
    } else if (strlen(m4n_yaml_text(node)) != node->data.scalar.length) {
      status = m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(node), NULL, "a text with a zero byte");
    }
    if (!status && shared)
      status = m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(m4n_yaml_node(yaml, shared)), NULL,
                           "anchors and aliases are not accepted: write the value out");
    if (!status && strcmp((const char *)node->tag, usual_tag(node)))
      status = m4n_fail_at(M4N_EFORMAT, yaml->file, m4n_yaml_line(node), NULL,
                           "the tag '%.60s' is not accepted", (const char *)node->tag);
  }
  free(seen);
  return status;
}

static int check_end(yaml_parser_t *parser, const char *file) {
  yaml_document_t second;
  if (!yaml_parser_load(parser, &second)) return syntax_failure(parser, file);
  yaml_node_t *root = yaml_document_get_root_node(&second);
  int status = M4N_OK;
  if (root)
    status = m4n_fail_at(M4N_EFORMAT, file, (long)second.start_mark.line + 1, NULL,
                         "a second document: a scenario is one");
  yaml_document_delete(&second);
  return status;
}

int m4n_yaml_parse(m4n_yaml *yaml, const char *file, const char *text, size_t size) {
  yaml_parser_t parser;
  yaml->file = file;
  if (!yaml_parser_initialize(&parser)) return m4n_fail(M4N_ENOMEM, "no memory for %s", file);
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
  if (!yaml_parser_load(&parser, &yaml->document)) {
    int status = syntax_failure(&parser, file);
    yaml_parser_delete(&parser);
    return status;
  }
  int status = M4N_OK;
  yaml_node_t *root = m4n_yaml_root(yaml);
  if (!root)
    status = m4n_fail_at(M4N_EFORMAT, file, 0, NULL, "is empty: expected a scenario (name, task, …)");
  else if (root->type != YAML_MAPPING_NODE)
    status = m4n_fail_at(M4N_EFORMAT, file, m4n_yaml_line(root), NULL, "expected keys and values, 'name: …'");
  if (!status) status = check_nodes(yaml);
  if (!status) status = check_end(&parser, file);
  yaml_parser_delete(&parser);
  if (status) m4n_yaml_close(yaml);
  return status;
}

void m4n_yaml_close(m4n_yaml *yaml) {
  yaml_document_delete(&yaml->document);
}

// ---- looking up and patching

static yaml_node_pair_t *find_pair(m4n_yaml *yaml, const yaml_node_t *mapping, const char *key, size_t size) {
  for (yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < mapping->data.mapping.pairs.top; p++) {
    const yaml_node_t *node = m4n_yaml_node(yaml, p->key);
    if (node->data.scalar.length == size && !memcmp(node->data.scalar.value, key, size)) return p;
  }
  return NULL;
}

yaml_node_t *m4n_yaml_find(m4n_yaml *yaml, const char *path) {
  yaml_node_t *node = m4n_yaml_root(yaml);
  while (node && node->type == YAML_MAPPING_NODE) {
    size_t n = strcspn(path, ".");
    yaml_node_pair_t *pair = find_pair(yaml, node, path, n);
    node = pair ? m4n_yaml_node(yaml, pair->value) : NULL;
    if (!path[n]) return node;
    path += n + 1;
  }
  return NULL;
}

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for a scenario");
}

static int add_scalar(m4n_yaml *yaml, const char *text, size_t size) {
  return yaml_document_add_scalar(&yaml->document, NULL, (const unsigned char *)text, (int)size,
                                  YAML_PLAIN_SCALAR_STYLE);
}

static int add_value(m4n_yaml *yaml, const char *const *text, int n) {
  if (n < 0) return add_scalar(yaml, text[0], strlen(text[0]));
  int list = yaml_document_add_sequence(&yaml->document, NULL, YAML_FLOW_SEQUENCE_STYLE);
  for (int i = 0; i < n && list; i++) {
    int item = add_scalar(yaml, text[i], strlen(text[i]));
    if (!item || !yaml_document_append_sequence_item(&yaml->document, list, item)) list = 0;
  }
  return list;
}

// Ids, not pointers: adding a node moves the others.
int m4n_yaml_put(m4n_yaml *yaml, const char *path, const char *const *text, int n) {
  int section = 1; // the root's id
  for (;;) {
    size_t size = strcspn(path, ".");
    yaml_node_pair_t *pair = find_pair(yaml, m4n_yaml_node(yaml, section), path, size);
    if (path[size] && pair && m4n_yaml_node(yaml, pair->value)->type == YAML_MAPPING_NODE) {
      section = pair->value;
    } else {
      int value = path[size] ? yaml_document_add_mapping(&yaml->document, NULL, YAML_BLOCK_MAPPING_STYLE)
                             : add_value(yaml, text, n);
      if (!value) return no_memory();
      pair = find_pair(yaml, m4n_yaml_node(yaml, section), path, size);
      if (pair) {
        pair->value = value;
      } else {
        int key = add_scalar(yaml, path, size);
        if (!key || !yaml_document_append_mapping_pair(&yaml->document, section, key, value))
          return no_memory();
      }
      section = value;
    }
    if (!path[size]) return M4N_OK;
    path += size + 1;
  }
}

// ---- writing

typedef struct sink {
  char *text;
  size_t size, room;
} sink;

static int pour(void *self, unsigned char *data, size_t size) {
  sink *s = self;
  if (s->size + size + 1 > s->room) {
    size_t room = 2 * (s->size + size + 1);
    char *more = realloc(s->text, room);
    if (!more) return 0;
    s->text = more;
    s->room = room;
  }
  memcpy(s->text + s->size, data, size);
  s->size += size;
  s->text[s->size] = 0;
  return 1;
}

int m4n_yaml_write(char **text, m4n_yaml *yaml) {
  yaml_emitter_t emitter;
  sink s = {0};
  if (!yaml_emitter_initialize(&emitter)) {
    m4n_yaml_close(yaml);
    return no_memory();
  }
  yaml_emitter_set_output(&emitter, pour, &s);
  yaml_emitter_set_unicode(&emitter, 1);
  yaml_emitter_set_width(&emitter, -1);
  // Dumping takes the document over, whether it succeeds or not.
  int ok = yaml_emitter_open(&emitter) && yaml_emitter_dump(&emitter, &yaml->document) &&
           yaml_emitter_close(&emitter);
  yaml_emitter_delete(&emitter);
  if (!ok || !s.text) {
    free(s.text);
    return no_memory();
  }
  *text = s.text;
  return M4N_OK;
}
