#include "bridge/packer.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

struct m4n_block {
  int readers; /* the buffer itself and every message that is lent the bytes; by __atomic */
  size_t room;
  _Alignas(64) uint8_t data[];
};

static m4n_block *new_block(size_t room) {
  m4n_block *block = aligned_alloc(64, (sizeof *block + room + 63) / 64 * 64);
  if (block) block->readers = 1, block->room = room;
  return block;
}

void m4n_block_release(m4n_block *block) {
  if (block && __atomic_sub_fetch(&block->readers, 1, __ATOMIC_ACQ_REL) == 0) free(block);
}

m4n_block *m4n_buffer_lend(m4n_buffer *buffer) {
  __atomic_add_fetch(&buffer->block->readers, 1, __ATOMIC_RELAXED);
  return buffer->block;
}

void m4n_buffer_close(m4n_buffer *buffer) {
  m4n_block_release(buffer->block);
  *buffer = (m4n_buffer){0};
}

// Room for `more` bytes behind what is there; false, with the status kept, if there can be none.
static bool reserve(m4n_buffer *buffer, size_t more) {
  if (buffer->status) return false;
  if (buffer->block && more <= buffer->block->room - buffer->size) return true;
  size_t room = buffer->block ? buffer->block->room : 512;
  if (more > M4N_MAX_FRAME - buffer->size) return buffer->status = M4N_EARG, false;
  while (room < buffer->size + more) room *= 2;
  m4n_block *block = new_block(room);
  if (!block) return buffer->status = M4N_ENOMEM, false;
  if (buffer->size) memcpy(block->data, buffer->data, buffer->size);
  m4n_block_release(buffer->block);
  buffer->block = block;
  buffer->data = block->data;
  return true;
}

static int append(void *data, const char *bytes, size_t size) {
  m4n_buffer *buffer = data;
  if (!reserve(buffer, size)) return -1;
  memcpy(buffer->data + buffer->size, bytes, size);
  buffer->size += size;
  return 0;
}

static msgpack_packer packer_of(m4n_buffer *buffer) {
  return (msgpack_packer){.data = buffer, .callback = append};
}

void m4n_pack_begin(m4n_buffer *buffer) {
  buffer->size = 0;
  buffer->status = M4N_OK;
  if (!buffer->block || __atomic_load_n(&buffer->block->readers, __ATOMIC_ACQUIRE) == 1) return;
  m4n_block *block = new_block(buffer->block->room);
  m4n_block_release(buffer->block);
  buffer->block = block;
  buffer->data = block ? block->data : NULL;
  if (!block) buffer->status = M4N_ENOMEM;
}

void m4n_pack_array(m4n_buffer *buffer, size_t count) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_array(&p, count);
}

void m4n_pack_map(m4n_buffer *buffer, size_t count) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_map(&p, count);
}

void m4n_pack_u64(m4n_buffer *buffer, uint64_t value) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_uint64(&p, value);
}

void m4n_pack_i64(m4n_buffer *buffer, int64_t value) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_int64(&p, value);
}

void m4n_pack_f64(m4n_buffer *buffer, double value) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_double(&p, value);
}

void m4n_pack_bool(m4n_buffer *buffer, bool value) {
  msgpack_packer p = packer_of(buffer);
  if (value)
    msgpack_pack_true(&p);
  else
    msgpack_pack_false(&p);
}

void m4n_pack_nil(m4n_buffer *buffer) {
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_nil(&p);
}

uint8_t *m4n_pack_bin(m4n_buffer *buffer, size_t size) {
  msgpack_packer p = packer_of(buffer);
  // Room for header and body at once, so that the address below stays good.
  if (size > M4N_MAX_FRAME || !reserve(buffer, size + 5)) {
    if (!buffer->status) buffer->status = M4N_EARG;
    return NULL;
  }
  msgpack_pack_bin(&p, size);
  uint8_t *body = buffer->data + buffer->size;
  buffer->size += size;
  return body;
}

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
size_t m4n_utf8_length(const uint8_t *at, size_t left) {
  uint8_t a = at[0];
  if (a < 0x80) return a >= 0x20 && a != 0x7f;
  size_t n = a >= 0xc2 && a <= 0xdf ? 2 : a >= 0xe0 && a <= 0xef ? 3 : a >= 0xf0 && a <= 0xf4 ? 4 : 0;
  if (n == 0 || n > left) return 0;
  for (size_t i = 1; i < n; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  bool overlong = (a == 0xe0 && at[1] < 0xa0) || (a == 0xf0 && at[1] < 0x90);
  bool beyond = (a == 0xed && at[1] > 0x9f) || (a == 0xf4 && at[1] > 0x8f);
  bool control = a == 0xc2 && at[1] < 0xa0;
  return overlong || beyond || control ? 0 : n;
}

void m4n_pack_str(m4n_buffer *buffer, const char *text, size_t most) {
  char clean[1024];
  if (most > sizeof clean) most = sizeof clean;
  size_t left = strlen(text), size = 0;
  for (const uint8_t *at = (const uint8_t *)text; left;) {
    size_t n = m4n_utf8_length(at, left), used = n ? n : 1;
    if (size + used > most) break;
    if (n)
      memcpy(clean + size, at, n);
    else
      clean[size] = '?';
    size += used, at += used, left -= used;
  }
  msgpack_packer p = packer_of(buffer);
  msgpack_pack_str_with_body(&p, clean, size);
}

int m4n_pack_end(m4n_buffer *buffer, const char *what) {
  if (buffer->status == M4N_EARG)
    return m4n_fail(M4N_EARG, "%s would be larger than %d bytes: fewer lanes a message", what, M4N_MAX_FRAME);
  if (buffer->status) return m4n_fail(buffer->status, "no memory for %s", what);
  return M4N_OK;
}
