/* The agent's side of the bridge: one ROUTER socket, many simulators, and an owner that decides.
 *
 * The server does everything the protocol asks (PROTOCOL.md): handshake and versions, one reply a message,
 * sequence numbers with the cached reply, bounded reading of hostile frames, deadlines, errors to whom they
 * belong. It knows no policy: its owner is called with rows in the spec's layout and fills in actions and
 * resets.
 *
 *     m4n_server *server;
 *     M4N_TRY(m4n_server_open(&server, &(m4n_server_options){.endpoint = "ipc:///run/…/agent.sock", .slots =
 * 256})); int status = m4n_server_run(server, &owner, &stop);      // until the owner is done or `stop` is
 * set m4n_server_close(server);
 */
#ifndef M4N_BRIDGE_SERVER_H
#define M4N_BRIDGE_SERVER_H

#include "bridge/endpoint.h"
#include "kernels/base/stop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_server m4n_server;

typedef struct m4n_server_options {
  const char
      *endpoint; /* "inproc://name", "ipc:///path", "tcp://127.0.0.1:5555" ("tcp://127.0.0.1:*": any port) */
  void *context; /* shared with clients of this process (inproc); NULL: its own, see m4n_server_context */
  int slots;     /* lanes of all sessions together */
  bool lockstep; /* wait for a STEP of every live session, in the order they came; else first come */
  int gather_us; /* async: how long to wait for more rows once some are there; 0: none */
  int idle_ms;   /* a session silent for this long is lost; 0: 30 s; negative: never (--debug) */
  int wait_ms;   /* nobody connected for this long: ETIMEOUT; 0 or negative: wait for ever */
  int spin_us;   /* busy-poll this long before blocking (inproc only) */
  const char *policy; /* names for WELCOME */
  uint64_t policy_hash;
} m4n_server_options;

/* A simulator that shook hands. Slots first_slot … first_slot+lanes-1 are its lanes'. */
typedef struct m4n_session {
  uint64_t id;
  int32_t first_slot, lanes;
  char simulator[64], version[32];
  const m4n_spec *spec; /* the server's, valid until `ended` */
  void *owner;          /* the owner's, for its own use */
} m4n_session;

/* All rows of one round that share a spec. Arrays of n entries, valid during the call. */
typedef struct m4n_rows {
  int32_t n;
  const m4n_spec *spec;
  m4n_session *const *session;
  const int32_t *slot; /* first_slot + lane */
  const int64_t *episode, *sim_time_ns;
  const double *reward;
  const uint8_t *flags;
  const uint8_t *obs;      /* [n][spec obs_size] */
  const double *info;      /* [n][spec n_info], NaN where the simulator sent none; NULL if n_info is 0 */
  const double *metrics;   /* [n][spec n_metrics], of ended rows; NaN where none were sent */
  const uint8_t *advice;   /* [n][spec act_size]; NULL if no row has any */
  const uint8_t *advised;  /* [n] */
  const char (*label)[96]; /* [n] of first rows, "" else */
} m4n_rows;

/* What the owner answers. Arrays belong to the server, sized for n rows; actions of ended rows are not sent
 * anywhere. */
typedef struct m4n_replies {
  uint8_t *action;     /* [n][spec act_size] */
  uint8_t *served_by;  /* [n] 0: the policy, 1: its fallback */
  int64_t *delay_ns;   /* [n] charged to the simulated clock */
  float *logp, *value; /* [n], NaN where unknown: not sent */
  int64_t infer_ns;    /* wall time of the decision, for the record */
} m4n_replies;

/* Orders a lane of `session` to begin an episode: sent with the session's next reply. EARG if the lane is
 * live or out of range, or if the simulator has not the capability (copy_of: fork; advice: oracle). A session
 * that has neither a live lane nor an order when it is answered is done. */
int m4n_server_reset(m4n_server *server, m4n_session *session, const m4n_reset *order);
/* Ends a session with its next reply (`done`). */
void m4n_server_done(m4n_server *server, m4n_session *session);

typedef struct m4n_server_owner {
  void *self;
  /* Somebody shook hands: give its lanes their first orders with m4n_server_reset, or none and
   * m4n_server_done. A status other than 0 refuses the session; the text of the error record is sent to it
   * and the server goes on. */
  int (*began)(void *self, m4n_server *server, m4n_session *session);
  /* Rows to answer. Rows that end free their lane: a reset may be ordered for it. A status other than 0 stops
   * the server with it. */
  int (*decide)(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies);
  /* The session is over. `lost`: it died, broke the protocol or went silent, with the lanes that `decide` saw
   * live. */
  void (*ended)(void *self, m4n_server *server, m4n_session *session, bool lost);
  /* True when there is nothing left to do: the server says BYE to all and returns. NULL: serve until stopped.
   */
  bool (*finished)(void *self);
} m4n_server_owner;

/* EBUSY: the address is taken. EARG: a tcp address beyond loopback (refused until CURVE is configured), or no
 * address at all. */
int m4n_server_open(m4n_server **server, const m4n_server_options *options);
/* The address as bound, with the port that was found. */
const char *m4n_server_endpoint(const m4n_server *server);
/* For the clients of this process (m4n_client_options.context): they must be closed before the server. */
void *m4n_server_context(const m4n_server *server);
/* Serves until `finished`, until `stop` is requested (then ECANCELLED, after a BYE to everybody), or until
 * decide fails. */
int m4n_server_run(m4n_server *server, const m4n_server_owner *owner, const m4n_stop *stop);
void m4n_server_close(m4n_server *server);

typedef struct m4n_server_stats {
  int64_t messages, rows, errors, resent, lost_sessions;
} m4n_server_stats;
m4n_server_stats m4n_server_stats_of(const m4n_server *server);

#ifdef __cplusplus
}
#endif
#endif
