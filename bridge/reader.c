#include "bridge/reader.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bridge/packer.h"

// What the first byte of an item announces.
enum kind { NIL, BOOL, UINT, INT, FLOAT, TEXT, BIN, ARRAY, MAP, EXTENSION, NOTHING };

typedef struct item {
  enum kind kind;
  uint64_t u; /* UINT's value, BOOL's, or the count of what follows */
  int64_t i;  /* INT's value: below 0 */
  double f;
} item;

m4n_reader m4n_reader_of(const char *frame, const void *data, size_t size) {
  return (m4n_reader){.at = data, .end = (const uint8_t *)data + size, .frame = frame};
}

// "HELLO.obs[2].shape[0]", from the levels entered and the name of the item itself.
static void path_of(const m4n_reader *in, const char *name, char *path, size_t room) {
  size_t n = (size_t)snprintf(path, room, "%s", in->frame);
  for (int d = 0; d < in->depth && n < room; d++) {
    const m4n_level *level = &in->level[d];
    if (level->name) n += (size_t)snprintf(path + n, room - n, ".%s", level->name);
    bool named = d + 1 < in->depth ? in->level[d + 1].name != NULL : name != NULL;
    if (n >= room || named || level->index < 0) continue;
    if (level->key)
      n += (size_t)snprintf(path + n, room - n, "[%s]", level->key);
    else
      n += (size_t)snprintf(path + n, room - n, "[%lld]", (long long)level->index);
  }
  if (name && name[0] && n < room)
    snprintf(path + n, room - n, ".%s", name); // "": the innermost level itself
}

int m4n_read_fail(const m4n_reader *in, const char *name, const char *format, ...) {
  char path[sizeof((m4n_error *)0)->key], text[512];
  path_of(in, name, path, sizeof path);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return m4n_fail_at(M4N_EPROTO, NULL, 0, path, "%s", text);
}

static const char *kind_name(enum kind kind) {
  static const char *const name[] = {"nil",     "a boolean",    "an integer", "a negative integer",
                                     "a float", "text",         "a bin",      "an array",
                                     "a map",   "an extension", "nothing"};
  return name[kind];
}

static uint64_t big_endian(const uint8_t *at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value = value << 8 | at[i];
  return value;
}

static double float_of(uint64_t bits, size_t size) {
  if (size == 8) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  uint32_t low = (uint32_t)bits;
  float value;
  memcpy(&value, &low, sizeof value);
  return value;
}

// The head of the next item; its body (of text and bins) is left for the caller. Truncation is NOTHING.
static item peek(const m4n_reader *in, const uint8_t **behind) {
  const uint8_t *at = in->at;
  item none = {.kind = NOTHING};
  *behind = at;
  if (at == in->end) return none;
  uint8_t b = *at++;
  *behind = at;
  if (b <= 0x7f) return (item){.kind = UINT, .u = b};
  if (b <= 0x8f) return (item){.kind = MAP, .u = b & 0x0f};
  if (b <= 0x9f) return (item){.kind = ARRAY, .u = b & 0x0f};
  if (b <= 0xbf) return (item){.kind = TEXT, .u = b & 0x1f};
  if (b >= 0xe0) return (item){.kind = INT, .i = (int8_t)b};
  if (b == 0xc0) return (item){.kind = NIL};
  if (b == 0xc2 || b == 0xc3) return (item){.kind = BOOL, .u = b & 1};

  // All others carry a number of this many bytes: a value or a length. 0: extensions, and 0xc1, which is unused.
  static const uint8_t width[] = {0, 0, 0, 0, 1, 2, 4, 0, 0, 0, 4, 8, 1, 2, 4, 8,
                                  1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
  size_t size = width[b - 0xc0];
  if (size == 0) return (item){.kind = EXTENSION};
  if ((size_t)(in->end - at) < size) return none;
  uint64_t u = big_endian(at, size);
  *behind = at + size;
  if (b <= 0xc6) return (item){.kind = BIN, .u = u};
  if (b <= 0xcb) return (item){.kind = FLOAT, .f = float_of(u, size)};
  if (b <= 0xcf) return (item){.kind = UINT, .u = u};
  if (b <= 0xd3) {
    int64_t i = (int64_t)(u << (64 - 8 * size)) >> (64 - 8 * size);
    return i < 0 ? (item){.kind = INT, .i = i} : (item){.kind = UINT, .u = (uint64_t)i};
  }
  return (item){.kind = b <= 0xdb ? TEXT : b <= 0xdd ? ARRAY : MAP, .u = u};
}

// Takes the next item, which must be of `kind`, and counts it off its array.
static int take(m4n_reader *in, const char *name, enum kind kind, item *out) {
  const uint8_t *behind;
  *out = (item){.kind = NOTHING};
  m4n_level *level = in->depth ? &in->level[in->depth - 1] : NULL;
  if (level && level->left == 0) return m4n_read_fail(in, name, "missing: the array ends before it");
  if (level) level->index++;
  *out = peek(in, &behind);
  if (out->kind == NOTHING) return m4n_read_fail(in, name, "the frame ends inside it");
  if (kind != NOTHING && out->kind != kind)
    return m4n_read_fail(in, name, "expected %s, found %s", kind_name(kind), kind_name(out->kind));
  if (level) level->left--;
  in->at = behind;
  return M4N_OK;
}

static int enter(m4n_reader *in, const char *name, uint64_t items) {
  if (in->depth == M4N_MAX_DEPTH) return m4n_read_fail(in, name, "nested deeper than %d", M4N_MAX_DEPTH);
  if (items > (uint64_t)(in->end - in->at))
    return m4n_read_fail(in, name, "announces %llu items with %zu bytes left", (unsigned long long)items,
                         (size_t)(in->end - in->at));
  in->level[in->depth++] = (m4n_level){.name = name, .index = -1, .left = items};
  return M4N_OK;
}

int m4n_read_array(m4n_reader *in, const char *name, uint64_t least, uint64_t most, uint64_t *count) {
  item it;
  M4N_TRY(take(in, name, ARRAY, &it));
  if ((it.u < least || it.u > most) && least == most)
    return m4n_read_fail(in, name, "%llu items, expected %llu", (unsigned long long)it.u,
                         (unsigned long long)least);
  if (it.u < least || it.u > most)
    return m4n_read_fail(in, name, "%llu items, expected %llu to %llu", (unsigned long long)it.u,
                         (unsigned long long)least, (unsigned long long)most);
  if (count) *count = it.u;
  return enter(in, name, it.u);
}

int m4n_read_map(m4n_reader *in, const char *name, uint64_t most, uint64_t *count) {
  item it;
  M4N_TRY(take(in, name, MAP, &it));
  if (it.u > most)
    return m4n_read_fail(in, name, "%llu entries, expected at most %llu", (unsigned long long)it.u,
                         (unsigned long long)most);
  *count = it.u;
  return enter(in, name, 2 * it.u);
}

int m4n_read_leave(m4n_reader *in) {
  m4n_level *level = &in->level[in->depth - 1];
  if (level->left)
    return m4n_read_fail(in, "", "%llu items more than expected", (unsigned long long)level->left);
  in->depth--;
  return M4N_OK;
}

void m4n_read_key(m4n_reader *in, const char *key) {
  in->level[in->depth - 1].key = key;
}

uint64_t m4n_read_left(const m4n_reader *in) {
  return in->depth ? in->level[in->depth - 1].left : 0;
}

int m4n_read_uint(m4n_reader *in, const char *name, uint64_t most, uint64_t *value) {
  item it;
  M4N_TRY(take(in, name, UINT, &it));
  if (it.u > most)
    return m4n_read_fail(in, name, "%llu, expected at most %llu", (unsigned long long)it.u,
                         (unsigned long long)most);
  *value = it.u;
  return M4N_OK;
}

int m4n_read_int(m4n_reader *in, const char *name, int64_t least, int64_t most, int64_t *value) {
  item it;
  M4N_TRY(take(in, name, NOTHING, &it));
  if (it.kind != UINT && it.kind != INT)
    return m4n_read_fail(in, name, "expected an integer, found %s", kind_name(it.kind));
  bool huge = it.kind == UINT && it.u > INT64_MAX;
  int64_t found = it.kind == INT ? it.i : huge ? INT64_MAX : (int64_t)it.u;
  if (huge || found < least || found > most)
    return m4n_read_fail(in, name, "%lld, expected %lld to %lld", (long long)found, (long long)least,
                         (long long)most);
  *value = found;
  return M4N_OK;
}

int m4n_read_number(m4n_reader *in, const char *name, double *value) {
  item it;
  M4N_TRY(take(in, name, NOTHING, &it));
  if (it.kind != UINT && it.kind != INT && it.kind != FLOAT)
    return m4n_read_fail(in, name, "expected a number, found %s", kind_name(it.kind));
  double found = it.kind == UINT ? (double)it.u : it.kind == INT ? (double)it.i : it.f;
  if (!isfinite(found)) return m4n_read_fail(in, name, "%g, expected a finite number", found);
  *value = found;
  return M4N_OK;
}

int m4n_read_bool(m4n_reader *in, const char *name, bool *value) {
  item it;
  M4N_TRY(take(in, name, BOOL, &it));
  *value = it.u != 0;
  return M4N_OK;
}

int m4n_read_text(m4n_reader *in, const char *name, char *text, size_t room) {
  item it;
  M4N_TRY(take(in, name, TEXT, &it));
  if (it.u > (uint64_t)(in->end - in->at)) return m4n_read_fail(in, name, "the frame ends inside it");
  if (it.u >= room)
    return m4n_read_fail(in, name, "text of %llu bytes, expected at most %zu", (unsigned long long)it.u,
                         room - 1);
  for (size_t i = 0, n; i < it.u; i += n)
    if (!(n = m4n_utf8_length(in->at + i, (size_t)it.u - i)))
      return m4n_read_fail(in, name, "byte %zu is no UTF-8, or a control character", i);
  memcpy(text, in->at, (size_t)it.u);
  memset(text + it.u, 0, room - (size_t)it.u); // so that equal texts are equal bytes
  in->at += it.u;
  return M4N_OK;
}

int m4n_read_any_bin(m4n_reader *in, const char *name, const uint8_t **data, size_t *size) {
  item it;
  M4N_TRY(take(in, name, BIN, &it));
  if (it.u > (uint64_t)(in->end - in->at)) return m4n_read_fail(in, name, "the frame ends inside it");
  *data = in->at;
  *size = (size_t)it.u;
  in->at += it.u;
  return M4N_OK;
}

int m4n_read_bin(m4n_reader *in, const char *name, size_t size, const uint8_t **data) {
  size_t found = 0;
  M4N_TRY(m4n_read_any_bin(in, name, data, &found));
  return found == size ? M4N_OK : m4n_read_fail(in, name, "bin of %zu bytes, expected %zu", found, size);
}

bool m4n_read_nil(m4n_reader *in) {
  if (in->at == in->end || *in->at != 0xc0 || !m4n_read_left(in)) return false;
  item it;
  return take(in, NULL, NIL, &it) == M4N_OK;
}

int m4n_read_skip(m4n_reader *in, const char *name) {
  // Iterative: `depth` remembers where we began, and each level knows how many of its items are left.
  int depth = in->depth;
  do {
    item it;
    const char *what = in->depth == depth ? name : NULL;
    M4N_TRY(take(in, what, NOTHING, &it));
    if (it.kind == EXTENSION) return m4n_read_fail(in, what, "extension types are refused");
    if (it.kind == ARRAY || it.kind == MAP) {
      M4N_TRY(enter(in, what, it.kind == MAP && it.u <= M4N_MAX_FRAME ? 2 * it.u : it.u));
    } else if (it.kind == TEXT || it.kind == BIN) {
      if (it.u > (uint64_t)(in->end - in->at)) return m4n_read_fail(in, what, "the frame ends inside it");
      in->at += it.u;
    }
    while (in->depth > depth && !m4n_read_left(in)) in->depth--;
  } while (in->depth > depth);
  return M4N_OK;
}

int m4n_read_end(m4n_reader *in) {
  if (in->at == in->end) return M4N_OK;
  return m4n_fail_at(M4N_EPROTO, NULL, 0, in->frame, "%zu bytes behind the end of the frame",
                     (size_t)(in->end - in->at));
}
