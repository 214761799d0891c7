/* Writing frames: msgpack-c's packer into a buffer that is reused, and that libzmq may read from.
 *
 * A buffer's bytes may be lent to a message instead of copied; what is lent is never written to: the next
 * m4n_pack_begin takes other memory if the old is still being read, which in lockstep it never is. So nothing is
 * allocated once the buffer has grown to its largest frame.
 *
 *     m4n_buffer buffer = {0};
 *     m4n_pack_begin(&buffer);
 *     m4n_pack_array(&buffer, 2), m4n_pack_u64(&buffer, 7), m4n_pack_str(&buffer, "text");
 *     M4N_TRY(m4n_pack_end(&buffer, "HELLO"));        // what did not fit is reported here
 */
#ifndef M4N_BRIDGE_PACKER_H
#define M4N_BRIDGE_PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_MAX_FRAME = 4 << 20 }; /* bytes of a frame */

typedef struct m4n_block m4n_block; /* memory shared by those who read it */

typedef struct m4n_buffer {
  m4n_block *block;
  uint8_t *data; /* of `size` bytes; stays until the next m4n_pack_begin */
  size_t size;
  int status; /* the first failure since begin */
} m4n_buffer; /* a zeroed one is ready */

void m4n_pack_begin(m4n_buffer *buffer);
void m4n_pack_array(m4n_buffer *buffer, size_t count);
void m4n_pack_map(m4n_buffer *buffer, size_t count);
void m4n_pack_u64(m4n_buffer *buffer, uint64_t value);
void m4n_pack_i64(m4n_buffer *buffer, int64_t value);
void m4n_pack_f64(m4n_buffer *buffer, double value);
void m4n_pack_bool(m4n_buffer *buffer, bool value);
void m4n_pack_nil(m4n_buffer *buffer);
/* Text as the protocol wants it: bytes that are no UTF-8 and control characters become '?'; at most `most` bytes. */
void m4n_pack_str(m4n_buffer *buffer, const char *text, size_t most);
/* A bin of `size` bytes, to be filled by the caller; NULL where it does not fit. */
uint8_t *m4n_pack_bin(m4n_buffer *buffer, size_t size);
/* EARG: larger than M4N_MAX_FRAME; ENOMEM. `what` names the frame. */
int m4n_pack_end(m4n_buffer *buffer, const char *what);

/* Lending: one more reader of the bytes; it calls the second when it is through, from any thread. */
m4n_block *m4n_buffer_lend(m4n_buffer *buffer);
void m4n_block_release(m4n_block *block);
void m4n_buffer_close(m4n_buffer *buffer);

/* The length of the UTF-8 character at `at`, which has `left` bytes; 0 if it is none, or a control character. */
size_t m4n_utf8_length(const uint8_t *at, size_t left);

#ifdef __cplusplus
}
#endif
#endif
