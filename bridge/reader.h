/* Reading a stranger's MessagePack: one pass over the bytes, bounded, without allocation.
 *
 * Nothing is believed: a count is at most the bytes that are left, nesting at most M4N_MAX_DEPTH, extension types
 * are refused, numbers are checked for their range, NaN and infinities are refused, text must be UTF-8 without
 * control characters. A failure is EPROTO with the path of the field as the error record's key: "STEP.obs[buffer]".
 *
 *     m4n_reader in = m4n_reader_of("HELLO", data, size);
 *     M4N_TRY(m4n_read_array(&in, NULL, 4, 20, &count));
 *     M4N_TRY(m4n_read_int(&in, "lanes", 1, 4096, &lanes));
 *     M4N_TRY(m4n_read_leave(&in));                             // the array is used up
 *     M4N_TRY(m4n_read_end(&in));                               // nothing behind it
 */
#ifndef M4N_BRIDGE_READER_H
#define M4N_BRIDGE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_MAX_DEPTH = 8 };

/* Where the reader is, for messages: an array or map, and which of its items is being read. */
typedef struct m4n_level {
  const char *name;
  const char *key; /* of the item, or NULL: then by number */
  int64_t index;
  uint64_t left; /* items not read yet */
} m4n_level;

typedef struct m4n_reader {
  const uint8_t *at, *end;
  const char *frame;
  int depth;
  m4n_level level[M4N_MAX_DEPTH];
} m4n_reader;

m4n_reader m4n_reader_of(const char *frame, const void *data, size_t size);

/* Every reading function takes the name of what it reads, for messages; NULL for the next item of a list, which is
 * then named by its number, or by the key that m4n_read_key set. */
int m4n_read_array(m4n_reader *in, const char *name, uint64_t least, uint64_t most, uint64_t *count);
int m4n_read_map(m4n_reader *in, const char *name, uint64_t most, uint64_t *count); /* `count` pairs follow */
int m4n_read_leave(m4n_reader *in);                 /* the innermost array or map must be used up */
void m4n_read_key(m4n_reader *in, const char *key); /* the next item's name, kept as a pointer */
uint64_t m4n_read_left(const m4n_reader *in);       /* items of the innermost array not read yet */

int m4n_read_uint(m4n_reader *in, const char *name, uint64_t most, uint64_t *value);
int m4n_read_int(m4n_reader *in, const char *name, int64_t least, int64_t most, int64_t *value);
int m4n_read_number(m4n_reader *in, const char *name, double *value); /* an integer or a float; finite */
int m4n_read_bool(m4n_reader *in, const char *name, bool *value);
int m4n_read_text(m4n_reader *in, const char *name, char *text, size_t room); /* at most room-1 bytes */
int m4n_read_bin(m4n_reader *in, const char *name, size_t size,
                 const uint8_t **data); /* exactly `size` bytes */
int m4n_read_any_bin(m4n_reader *in, const char *name, const uint8_t **data, size_t *size);
bool m4n_read_nil(m4n_reader *in);                   /* reads a nil if one is next */
int m4n_read_skip(m4n_reader *in, const char *name); /* whatever is next, within the same bounds */
int m4n_read_end(m4n_reader *in);                    /* no bytes are left */

/* EPROTO for the item `name` (NULL: the one just read). */
int m4n_read_fail(const m4n_reader *in, const char *name, const char *format, ...) M4N_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
