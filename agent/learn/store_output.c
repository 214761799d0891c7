#include "agent/learn/store_output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "kernels/base/status.h"

enum {
  LEVEL = -1,         /* of zstd: 1 saves 3 % of the bytes and costs a seventh of the rate (README) */
  GATHER = 256 * 1024 /* bytes that one write takes while there is more to come */
};

static int cannot_write(const m4n_output *o, int reason) {
  return m4n_fail_at(M4N_EIO, o->path, 0, NULL, "cannot write the event log: %s", strerror(reason));
}

int m4n_output_init(m4n_output *o, const char *path) {
  *o = (m4n_output){.path = path, .fd = -1, .zstd = ZSTD_createCCtx()};
  if (!o->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(o->zstd, ZSTD_c_compressionLevel, LEVEL)))
    return m4n_fail(M4N_ENOMEM, "no memory for a compressor");
  return M4N_OK;
}

int m4n_output_open(m4n_output *o) {
  o->fd = open(o->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (o->fd >= 0) return M4N_OK;
  return m4n_fail_at(errno == ENOENT || errno == ENOTDIR ? M4N_ENOTFOUND : M4N_EIO, o->path, 0, NULL,
                     "cannot write the event log: %s", strerror(errno));
}

int m4n_output_add(m4n_output *o, uint32_t kind) {
  const m4n_bytes *c = &o->content;
  size_t room = ZSTD_compressBound(c->size);
  if (!m4n_bytes_reserve(&o->waiting, M4N_RECORD_HEAD + room))
    return m4n_fail(M4N_ENOMEM, "no memory for a compressed record");
  uint8_t *head = o->waiting.data + o->waiting.size;
  size_t frame = ZSTD_compress2(o->zstd, head + M4N_RECORD_HEAD, room, c->data, c->size);
  if (ZSTD_isError(frame))
    return m4n_fail(M4N_ENOMEM, "cannot compress a record: %s", ZSTD_getErrorName(frame));
  m4n_record_put(head, &(m4n_record){kind, c->size, frame, XXH3_64bits(c->data, c->size)});
  o->waiting.size += M4N_RECORD_HEAD + frame;
  return o->fd < 0 || o->waiting.size < GATHER ? M4N_OK : m4n_output_flush(o);
}

// Cuts the file behind the last of the waiting records of which `done` bytes were written.
static void cut(m4n_output *o, size_t done) {
  size_t whole = 0;
  for (m4n_record r; whole + M4N_RECORD_HEAD <= done; whole += M4N_RECORD_HEAD + r.frame)
    if (m4n_record_get(&r, o->waiting.data + whole) || r.frame > done - whole - M4N_RECORD_HEAD) break;
  // Where that fails too, a reader meets a broken tail, which it knows how to take.
  int ignored = ftruncate(o->fd, o->whole + (off_t)whole);
  (void)ignored;
}

int m4n_output_flush(m4n_output *o) {
  size_t size = o->waiting.size;
  o->waiting.size = 0;
  for (size_t done = 0; done < size;) {
    ssize_t n = write(o->fd, o->waiting.data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      int reason = n ? errno : ENOSPC;
      cut(o, done);
      return cannot_write(o, reason);
    }
    done += (size_t)n;
  }
  o->whole += (off_t)size;
  return M4N_OK;
}

int m4n_output_close(m4n_output *o) {
  int failed = close(o->fd);
  o->fd = -1;
  return failed ? cannot_write(o, errno) : M4N_OK;
}

void m4n_output_free(m4n_output *o) {
  if (o->fd >= 0) close(o->fd);
  ZSTD_freeCCtx(o->zstd);
  m4n_bytes_free(&o->content);
  m4n_bytes_free(&o->waiting);
  o->fd = -1;
}
