/* Frames: what PROTOCOL.md says, as C structs, and the only place where each is written and read.
 *
 * Reading is bounded (reader.h) and writes only into memory of the caller's, which is sized from what the handshake
 * agreed. Writing goes into a reused buffer (packer.h). On the wire a field's elements of all rows lie together; in
 * memory a row's fields do (sim/spec.h): encoding and decoding transpose, and decoding checks every element on the
 * way, so that all who come behind may trust that it is finite and within the range that the spec declares.
 *
 *     m4n_envelope head;
 *     m4n_reader in;
 *     M4N_TRY(m4n_decode_head(&in, &head, data, size));
 *     if (head.type == M4N_FRAME_STEP) M4N_TRY(m4n_decode_step(&in, spec, lanes, &rows));
 */
#ifndef M4N_BRIDGE_WIRE_H
#define M4N_BRIDGE_WIRE_H

#include "bridge/packer.h"
#include "bridge/reader.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_WIRE_OLDEST = 1, /* versions that are spoken */
  M4N_WIRE_NEWEST = 1,
  M4N_LABEL = 96, /* bytes of an episode's name, of an error's path */
  M4N_TEXT = 512, /* bytes of an error's or a leave's text; both with the ending zero */
  M4N_MAX_SLOTS = 1 << 16
};

enum m4n_frame_type {
  M4N_FRAME_HELLO = 1,
  M4N_FRAME_WELCOME,
  M4N_FRAME_STEP,
  M4N_FRAME_ACT,
  M4N_FRAME_ERROR,
  M4N_FRAME_PING,
  M4N_FRAME_PONG,
  M4N_FRAME_STATS,
  M4N_FRAME_BYE
};
const char *m4n_frame_name(unsigned type); /* "STEP"; NULL for an unknown type */

/* Codes of ERROR. */
enum m4n_wire_code {
  M4N_WIRE_MALFORMED = 1, /* the frame is not what PROTOCOL.md says */
  M4N_WIRE_VERSION,       /* no version in common */
  M4N_WIRE_SPEC,          /* the spec is not one that can be laid out */
  M4N_WIRE_REFUSED,       /* understood, and the agent (or the simulator) does not want it */
  M4N_WIRE_SESSION,       /* no such session */
  M4N_WIRE_SEQUENCE,      /* stale, or a gap */
  M4N_WIRE_LANE,          /* a row or an order for a lane that is not due, or an action out of its range */
  M4N_WIRE_FULL,          /* no room for so many lanes */
  M4N_WIRE_LATE,          /* silent for too long: the session is closed */
  M4N_WIRE_INTERNAL       /* the sender's own failure */
};

typedef struct m4n_envelope {
  uint32_t version, type;
  uint64_t session, seq;
} m4n_envelope;

/* Reads what every frame begins with and leaves the reader behind it. */
int m4n_decode_head(m4n_reader *in, m4n_envelope *head, const void *data, size_t size);

typedef struct m4n_hello {
  uint32_t oldest, newest; /* versions the simulator speaks */
  char simulator[64], version[32];
  uint8_t uid[16]; /* names this run of the simulator */
  int32_t lanes;
  m4n_spec spec; /* laid out */
} m4n_hello;

void m4n_encode_hello(m4n_buffer *out, const m4n_hello *hello);
/* EUNSUPPORTED: no version in common (the text names both ranges). EARG: the spec does not lay out. EPROTO. */
int m4n_decode_hello(m4n_reader *in, const m4n_envelope *head, m4n_hello *hello);

typedef struct m4n_welcome {
  uint32_t version; /* agreed */
  char agent[64], policy[64];
  uint64_t policy_hash, spec_hash;
  int64_t max_frame, idle_ms; /* idle_ms -1: no deadline */
  int32_t n_resets;
  m4n_reset *reset; /* room for as many as the session has lanes */
  bool done;
} m4n_welcome;

void m4n_encode_welcome(m4n_buffer *out, uint64_t session, const m4n_welcome *welcome);
int m4n_decode_welcome(m4n_reader *in, int32_t lanes, m4n_welcome *welcome);

/* The rows of one STEP; arrays of the caller's with room for n rows (of decoding: for all lanes of the session). */
typedef struct m4n_wire_rows {
  int32_t n;
  int32_t *lane;
  int64_t *episode, *sim_time_ns;
  double *reward;
  uint8_t *flags;
  uint8_t *obs;             /* [n][spec obs_size] */
  double *info;             /* [n][spec n_info] */
  double *metrics;          /* [n][spec n_metrics], of ended rows */
  uint8_t *advice;          /* [n][spec act_size] */
  uint8_t *advised;         /* [n]; all 0: nothing is sent */
  char (*label)[M4N_LABEL]; /* [n], of first rows */
} m4n_wire_rows;

void m4n_encode_step(m4n_buffer *out, const m4n_spec *spec, uint64_t session, uint64_t seq,
                     const m4n_wire_rows *rows);
/* At most `lanes` rows. Info and metrics that were not sent are NaN, labels "". */
int m4n_decode_step(m4n_reader *in, const m4n_spec *spec, int32_t lanes, m4n_wire_rows *rows);

typedef struct m4n_act {
  int32_t n;
  uint8_t *action; /* [n][spec act_size] */
  int32_t n_resets;
  m4n_reset *reset; /* [n_resets]; room for as many as the session has lanes */
  bool done;
  int64_t *delay_ns;  /* [n]; all 0: not sent */
  uint8_t *served_by; /* [n] */
  int64_t infer_ns;
  uint64_t policy_hash;
  float *logp, *value; /* [n], NaN: unknown; all NaN: not sent */
} m4n_act;

void m4n_encode_act(m4n_buffer *out, const m4n_spec *spec, uint64_t session, uint64_t seq,
                    const m4n_act *act);
/* The answer to `n` rows of a session of `lanes` lanes; actions are checked against the spec. */
int m4n_decode_act(m4n_reader *in, const m4n_spec *spec, int32_t n, int32_t lanes, m4n_act *act);

typedef struct m4n_wire_error {
  uint32_t code; /* m4n_wire_code */
  bool fatal;    /* the session is over */
  char path[M4N_LABEL], text[M4N_TEXT];
} m4n_wire_error;

void m4n_encode_error(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_wire_error *error);
int m4n_decode_error(m4n_reader *in, m4n_wire_error *error);

/* PING and PONG carry a number that is echoed. */
void m4n_encode_ping(m4n_buffer *out, unsigned type, uint64_t session, uint64_t seq, uint64_t token);
int m4n_decode_ping(m4n_reader *in, uint64_t *token);

typedef struct m4n_wire_stats {
  uint64_t sessions, messages, rows, errors, resent, lost_sessions;
} m4n_wire_stats;

void m4n_encode_stats_request(m4n_buffer *out, uint64_t session, uint64_t seq);
int m4n_decode_stats_request(m4n_reader *in);
void m4n_encode_stats(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_wire_stats *stats);
int m4n_decode_stats(m4n_reader *in, m4n_wire_stats *stats);

typedef struct m4n_bye {
  char reason[M4N_TEXT];
  int64_t status; /* exit status of who leaves: 0 if all is well */
} m4n_bye;

void m4n_encode_bye(m4n_buffer *out, uint64_t session, uint64_t seq, const m4n_bye *bye);
int m4n_decode_bye(m4n_reader *in, m4n_bye *bye);

/* ---- for the frames' own files: pieces that several share */
void m4n_encode_head(m4n_buffer *out, unsigned type, uint64_t session, uint64_t seq, size_t fields);
int m4n_decode_tail(m4n_reader *in); /* the frame's array is used up and nothing is behind it */
void m4n_encode_resets(m4n_buffer *out, const m4n_reset *reset, int32_t n);
int m4n_decode_resets(m4n_reader *in, int32_t lanes, m4n_reset *reset, int32_t *n);

#ifdef __cplusplus
}
#endif
#endif
