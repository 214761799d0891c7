// What all frames share, and the small ones. HELLO and WELCOME: wire_hello.c; STEP and ACT: wire_step.c, wire_act.c.
#include "bridge/wire.h"

#include <string.h>

enum { HEAD = 4 }; /* items that every frame begins with */

const char *m4n_frame_name(unsigned type) {
  static const char *const name[] = {NULL,    "HELLO", "WELCOME", "STEP",  "ACT",
                                     "ERROR", "PING",  "PONG",    "STATS", "BYE"};
  return type < sizeof name / sizeof *name ? name[type] : NULL;
}

void m4n_encode_head(m4n_buffer *out, unsigned type, uint64_t session, uint64_t seq, size_t fields) {
  m4n_pack_begin(out);
  m4n_pack_array(out, HEAD + fields);
  m4n_pack_u64(out, M4N_WIRE_NEWEST);
  m4n_pack_u64(out, type);
  m4n_pack_u64(out, session);
  m4n_pack_u64(out, seq);
}

int m4n_decode_head(m4n_reader *in, m4n_envelope *head, const void *data, size_t size) {
  uint64_t version, type;
  *head = (m4n_envelope){0};
  *in = m4n_reader_of("frame", data, size);
  if (size > M4N_MAX_FRAME)
    return m4n_read_fail(in, NULL, "%zu bytes, expected at most %d", size, M4N_MAX_FRAME);
  M4N_TRY(m4n_read_array(in, NULL, HEAD, 64, NULL));
  M4N_TRY(m4n_read_uint(in, "version", UINT32_MAX, &version));
  M4N_TRY(m4n_read_uint(in, "type", UINT32_MAX, &type));
  M4N_TRY(m4n_read_uint(in, "session", UINT64_MAX, &head->session));
  M4N_TRY(m4n_read_uint(in, "seq", UINT64_MAX, &head->seq));
  head->version = (uint32_t)version;
  head->type = (uint32_t)type;
  const char *name = m4n_frame_name(head->type);
  if (!name) return m4n_read_fail(in, "type", "%llu is no type of frame", (unsigned long long)type);
  in->frame = name;
  // HELLO settles the version and reads its own.
  if (type != M4N_FRAME_HELLO && (version < M4N_WIRE_OLDEST || version > M4N_WIRE_NEWEST))
    return m4n_read_fail(in, "version", "%llu, expected %d", (unsigned long long)version, M4N_WIRE_NEWEST);
  return M4N_OK;
}

int m4n_decode_tail(m4n_reader *in) {
  M4N_TRY(m4n_read_leave(in));
  return m4n_read_end(in);
}

void m4n_encode_resets(m4n_buffer *out, const m4n_reset *reset, int32_t n) {
  m4n_pack_array(out, (size_t)n);
  for (int32_t i = 0; i < n; i++) {
    m4n_pack_array(out, 6);
    m4n_pack_i64(out, reset[i].lane);
    m4n_pack_i64(out, reset[i].set);
    m4n_pack_i64(out, reset[i].episode);
    m4n_pack_u64(out, reset[i].seed);
    m4n_pack_u64(out, reset[i].options);
    m4n_pack_i64(out, reset[i].copy_of);
  }
}

int m4n_decode_resets(m4n_reader *in, int32_t lanes, m4n_reset *reset, int32_t *n) {
  uint64_t count, options;
  M4N_TRY(m4n_read_array(in, "resets", 0, (uint64_t)lanes, &count));
  for (uint64_t i = 0; i < count; i++) {
    int64_t lane, set, copy_of;
    M4N_TRY(m4n_read_array(in, NULL, 6, 6, NULL));
    M4N_TRY(m4n_read_int(in, "lane", 0, lanes - 1, &lane));
    M4N_TRY(m4n_read_int(in, "set", 0, M4N_SETS - 1, &set));
    M4N_TRY(m4n_read_int(in, "episode", 0, INT64_MAX, &reset[i].episode));
    M4N_TRY(m4n_read_uint(in, "seed", UINT64_MAX, &reset[i].seed));
    M4N_TRY(m4n_read_uint(in, "options", UINT32_MAX, &options));
    M4N_TRY(m4n_read_int(in, "copy_of", -1, lanes - 1, &copy_of));
    M4N_TRY(m4n_read_leave(in));
    reset[i].lane = (int32_t)lane;
    reset[i].set = (int32_t)set;
    reset[i].options = (uint32_t)options;
    reset[i].copy_of = (int32_t)copy_of;
  }
  *n = (int32_t)count;
  return m4n_read_leave(in);
}

void m4n_encode_error(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_wire_error *error) {
  m4n_encode_head(out, M4N_FRAME_ERROR, session, seq, 4);
  m4n_pack_u64(out, error->code);
  m4n_pack_bool(out, error->fatal);
  m4n_pack_str(out, error->path, sizeof error->path - 1);
  m4n_pack_str(out, error->text, sizeof error->text - 1);
}

int m4n_decode_error(m4n_reader *in, m4n_wire_error *error) {
  uint64_t code;
  M4N_TRY(m4n_read_uint(in, "code", UINT32_MAX, &code));
  M4N_TRY(m4n_read_bool(in, "fatal", &error->fatal));
  M4N_TRY(m4n_read_text(in, "path", error->path, sizeof error->path));
  M4N_TRY(m4n_read_text(in, "text", error->text, sizeof error->text));
  error->code = (uint32_t)code;
  return m4n_decode_tail(in);
}

void m4n_encode_ping(m4n_buffer *out, unsigned type, uint64_t session, uint64_t seq, uint64_t token) {
  m4n_encode_head(out, type, session, seq, 1);
  m4n_pack_u64(out, token);
}

int m4n_decode_ping(m4n_reader *in, uint64_t *token) {
  M4N_TRY(m4n_read_uint(in, "token", UINT64_MAX, token));
  return m4n_decode_tail(in);
}

void m4n_encode_stats_request(m4n_buffer *out, uint64_t session, uint64_t seq) {
  m4n_encode_head(out, M4N_FRAME_STATS, session, seq, 0);
}

int m4n_decode_stats_request(m4n_reader *in) {
  return m4n_decode_tail(in);
}

void m4n_encode_stats(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_wire_stats *stats) {
  m4n_encode_head(out, M4N_FRAME_STATS, session, seq, 6);
  m4n_pack_u64(out, stats->sessions);
  m4n_pack_u64(out, stats->messages);
  m4n_pack_u64(out, stats->rows);
  m4n_pack_u64(out, stats->errors);
  m4n_pack_u64(out, stats->resent);
  m4n_pack_u64(out, stats->lost_sessions);
}

int m4n_decode_stats(m4n_reader *in, m4n_wire_stats *stats) {
  M4N_TRY(m4n_read_uint(in, "sessions", UINT64_MAX, &stats->sessions));
  M4N_TRY(m4n_read_uint(in, "messages", UINT64_MAX, &stats->messages));
  M4N_TRY(m4n_read_uint(in, "rows", UINT64_MAX, &stats->rows));
  M4N_TRY(m4n_read_uint(in, "errors", UINT64_MAX, &stats->errors));
  M4N_TRY(m4n_read_uint(in, "resent", UINT64_MAX, &stats->resent));
  M4N_TRY(m4n_read_uint(in, "lost_sessions", UINT64_MAX, &stats->lost_sessions));
  return m4n_decode_tail(in);
}

void m4n_encode_bye(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_bye *bye) {
  m4n_encode_head(out, M4N_FRAME_BYE, session, seq, 2);
  m4n_pack_str(out, bye->reason, sizeof bye->reason - 1);
  m4n_pack_i64(out, bye->status);
}

int m4n_decode_bye(m4n_reader *in, m4n_bye *bye) {
  M4N_TRY(m4n_read_text(in, "reason", bye->reason, sizeof bye->reason));
  M4N_TRY(m4n_read_int(in, "status", INT32_MIN, INT32_MAX, &bye->status));
  return m4n_decode_tail(in);
}
