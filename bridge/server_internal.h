/* What the server's files share: sessions, the groups that are answered together, and who does what.
 *
 *   server.c            opens, waits, and runs rounds until there is nothing left to do
 *   server_frames.c     what arrives: to whom it belongs, and whether it is due
 *   server_handshake.c  HELLO: a session begins, or is refused
 *   server_session.c    sessions, their lanes, slots and groups
 *   server_round.c      the rows of a round: decoded, decided, answered
 */
#ifndef M4N_BRIDGE_SERVER_INTERNAL_H
#define M4N_BRIDGE_SERVER_INTERNAL_H

#include "bridge/link_zmq.h"
#include "bridge/server.h"
#include "bridge/wire.h"

enum { M4N_IDLE_MS = 30000, M4N_MAX_OBS_BYTES = 1 << 28 /* of all lanes' rows together */ };

/* Sessions that sent the same spec, and the memory for one round of all their lanes. */
typedef struct m4n_group {
  struct m4n_group *next; /* in the order they came */
  m4n_spec spec;
  uint64_t hash;
  int sessions;
  int32_t lanes, room; /* of its sessions together; that the arrays below have room for */
  m4n_wire_rows rows;
  m4n_session **session;
  int32_t *slot;
  m4n_replies replies;
} m4n_group;

typedef struct m4n_lane {
  bool live, ordered; /* plays; was told to begin and has not confirmed it yet */
  int64_t episode;
  uint64_t seen; /* seq of the STEP that last had a row of it */
} m4n_lane;

typedef struct m4n_peer {
  m4n_session session; /* first: the owner's pointer is ours */
  uint8_t uid[16];
  m4n_group *group;
  m4n_lane *lane;
  m4n_reset *order;         /* to go out with the next reply; room for `lanes` */
  int32_t n_orders, n_busy; /* busy lanes: live, or ordered */
  bool begun;               /* the owner knows it */
  bool done;                /* the owner wants no more of it */
  bool over;                /* it was told so, or left: only its last reply is kept, in case it asks again */
  bool dropped;             /* not even that: freed by the next sweep */
  bool gone;                /* its connection broke */
  m4n_route route;
  uint64_t seq;        /* of its last STEP */
  m4n_message pending; /* that STEP, while it waits for its round … */
  int64_t pending_ns;  /* … since then */
  m4n_buffer reply;    /* the last one, for a STEP that is sent again */
  int32_t first_row;   /* in its group's round */
  int32_t n_rows;
  int64_t heard_ns;
} m4n_peer;

struct m4n_server {
  m4n_server_options options;
  m4n_link *link;
  const m4n_server_owner *owner; /* while it runs */
  m4n_peer **peer;               /* in the order they came */
  int n_peers, n_active;         /* active: not over */
  bool *slot_used;
  m4n_group *groups;
  m4n_buffer scratch; /* replies that need not be kept */
  m4n_hello hello;
  m4n_server_stats stats;
};

/* ---- server_session.c */
/* A session for `hello`, unless there is no room: EBUSY. */
int m4n_peer_open(m4n_server *server, m4n_peer **peer, const m4n_hello *hello);
/* The owner is told, its lanes and slots are free again; it stays for its last reply. Harmless when over. */
void m4n_peer_end(m4n_server *server, m4n_peer *peer, bool lost);
/* The same, and it does not stay. Nothing is freed before the next sweep, so that lists may be walked meanwhile. */
void m4n_peer_drop(m4n_server *server, m4n_peer *peer, bool lost);
void m4n_server_sweep(m4n_server *server);
m4n_peer *m4n_peer_find(m4n_server *server, uint64_t session);
/* A row of `lane` arrived: is it due? EPROTO with what was expected. */
int m4n_peer_row(m4n_peer *peer, int32_t lane, int64_t episode, uint8_t flags);
/* There is nothing left for it to do. */
bool m4n_peer_finished(const m4n_peer *peer);

/* ---- server_handshake.c, server_frames.c */
void m4n_server_hello(m4n_server *server, const m4n_route *route, m4n_reader *in, const m4n_envelope *head);
void m4n_server_take(m4n_server *server, const m4n_route *route, m4n_message *message);
/* Sends what `buffer` holds; a peer that cannot be reached is marked as gone. */
void m4n_server_send(m4n_server *server, m4n_peer *peer, const m4n_route *route, m4n_buffer *buffer);
/* ERROR with the thread's error record: to `route`, about `head`. */
void m4n_server_complain(m4n_server *server, const m4n_route *route, const m4n_envelope *head, int code,
                         bool fatal);
/* ERROR to a session that broke the protocol, which is over then. */
void m4n_server_reject(m4n_server *server, m4n_peer *peer, int code);
void m4n_server_say_bye(m4n_server *server, m4n_peer *peer, const char *reason, int status);
/* Connections that broke: their sessions are marked. */
void m4n_server_note_gone(m4n_server *server);

/* ---- server_round.c */
/* Answers every waiting STEP; fails as the owner does. */
int m4n_server_round(m4n_server *server);

#endif
