// What arrives: to whom it belongs, whether it is due, and the one reply it gets.
#include <stdio.h>
#include <string.h>

#include "bridge/server_internal.h"
#include "kernels/base/log.h"

enum { SHOWN_ERRORS = 16 }; // of peers without a session: a flood must not fill the log

void m4n_server_send(m4n_server *server, m4n_peer *peer, const m4n_route *route, m4n_buffer *buffer) {
  (void)server;
  // A peer that does not read its replies has only itself to blame: it may ask again.
  if (m4n_link_send(server->link, route, buffer) == M4N_EIO && peer) peer->gone = true;
}

void m4n_server_complain(m4n_server *server, const m4n_route *route, const m4n_envelope *head, int code,
                         bool fatal) {
  const m4n_error *why = m4n_last_error();
  m4n_wire_error error = {.code = (uint32_t)code, .fatal = fatal};
  snprintf(error.path, sizeof error.path, "%s", why->key);
  snprintf(error.text, sizeof error.text, "%.500s", why->text);
  server->stats.errors++;
  if (server->stats.errors <= SHOWN_ERRORS) m4n_log(M4N_LOG_WARN, "bridge: refused: %s", m4n_error_message());
  if (server->stats.errors == SHOWN_ERRORS)
    m4n_log(M4N_LOG_WARN, "bridge: further refusals are only counted");
  m4n_encode_error(&server->scratch, head->session, head->seq, &error);
  if (!m4n_pack_end(&server->scratch, "ERROR")) m4n_server_send(server, NULL, route, &server->scratch);
}

void m4n_server_reject(m4n_server *server, m4n_peer *peer, int code) {
  m4n_envelope head = {.session = peer->session.id, .seq = peer->seq};
  m4n_context(m4n_last_error()->status, "simulator '%s'", peer->session.simulator);
  m4n_server_complain(server, &peer->route, &head, code, true);
  m4n_peer_drop(server, peer, true);
}

void m4n_server_say_bye(m4n_server *server, m4n_peer *peer, const char *reason, int status) {
  m4n_bye bye = {.status = status};
  snprintf(bye.reason, sizeof bye.reason, "%.500s", reason);
  m4n_encode_bye(&server->scratch, peer->session.id, peer->seq, &bye);
  if (!m4n_pack_end(&server->scratch, "BYE")) m4n_server_send(server, peer, &peer->route, &server->scratch);
}

void m4n_server_note_gone(m4n_server *server) {
  for (int fd; (fd = m4n_link_gone(server->link)) >= 0;)
    for (int i = 0; i < server->n_peers; i++)
      if (server->peer[i]->route.fd == fd) server->peer[i]->gone = true;
}

// ---- frames of a session

static void out_of_turn(m4n_server *server, m4n_peer *peer, const m4n_envelope *head) {
  m4n_fail_at(M4N_EPROTO, NULL, 0, "STEP.seq", "%llu, expected %llu", (unsigned long long)head->seq,
              (unsigned long long)peer->seq + (peer->pending.open ? 0 : 1));
  m4n_server_complain(server, &peer->route, head, M4N_WIRE_SEQUENCE, false);
}

// A STEP waits for its round. One that was sent again gets the reply it had; one that still waits gets it later.
static void take_step(m4n_server *server, m4n_peer *peer, const m4n_envelope *head, m4n_message *message) {
  if (head->seq == peer->seq && peer->seq > 0) {
    server->stats.resent++;
    if (!peer->pending.open) m4n_server_send(server, peer, &peer->route, &peer->reply);
  } else if (peer->over) {
    m4n_fail_at(M4N_EPROTO, NULL, 0, "STEP.session", "the session is over");
    m4n_server_complain(server, &peer->route, head, M4N_WIRE_SESSION, true);
  } else if (peer->pending.open || head->seq != peer->seq + 1) {
    out_of_turn(server, peer, head);
  } else {
    peer->seq = head->seq;
    m4n_message_move(&peer->pending, message);
    peer->pending_ns = peer->heard_ns;
  }
}

static void take_bye(m4n_server *server, m4n_peer *peer, m4n_reader *in, const m4n_envelope *head) {
  m4n_bye bye;
  if (m4n_decode_bye(in, &bye)) {
    m4n_server_complain(server, &peer->route, head, M4N_WIRE_MALFORMED, false);
    return;
  }
  bool lost = peer->n_busy > 0;
  if (lost && !peer->over)
    m4n_log(M4N_LOG_WARN, "bridge: simulator '%s' leaves before its episodes end: %s (exit status %d)",
            peer->session.simulator, bye.reason, (int)bye.status);
  m4n_server_say_bye(server, peer, "", 0);
  m4n_peer_drop(server, peer, lost);
}

// A simulator that could not make sense of us: whatever it was, its session is over.
static void take_error(m4n_server *server, m4n_peer *peer, m4n_reader *in, const m4n_envelope *head) {
  m4n_wire_error error;
  if (m4n_decode_error(in, &error)) {
    m4n_server_complain(server, &peer->route, head, M4N_WIRE_MALFORMED, false);
    return;
  }
  server->stats.errors++;
  m4n_log(M4N_LOG_WARN, "bridge: simulator '%s' refuses to go on: %s: %s", peer->session.simulator,
          error.path, error.text);
  m4n_server_say_bye(server, peer, "", 0);
  m4n_peer_drop(server, peer, true);
}

// ---- frames of anybody

static void take_ping(m4n_server *server, const m4n_route *route, m4n_reader *in, const m4n_envelope *head) {
  uint64_t token;
  if (m4n_decode_ping(in, &token)) {
    m4n_server_complain(server, route, head, M4N_WIRE_MALFORMED, false);
    return;
  }
  m4n_encode_ping(&server->scratch, M4N_FRAME_PONG, head->session, head->seq, token);
  if (!m4n_pack_end(&server->scratch, "PONG")) m4n_server_send(server, NULL, route, &server->scratch);
}

static void take_stats(m4n_server *server, const m4n_route *route, m4n_reader *in, const m4n_envelope *head) {
  const m4n_server_stats *s = &server->stats;
  if (m4n_decode_stats_request(in)) {
    m4n_server_complain(server, route, head, M4N_WIRE_MALFORMED, false);
    return;
  }
  m4n_wire_stats stats = {.sessions = (uint64_t)server->n_active,
                          .messages = (uint64_t)s->messages,
                          .rows = (uint64_t)s->rows,
                          .errors = (uint64_t)s->errors,
                          .resent = (uint64_t)s->resent,
                          .lost_sessions = (uint64_t)s->lost_sessions};
  m4n_encode_stats(&server->scratch, head->session, head->seq, &stats);
  if (!m4n_pack_end(&server->scratch, "STATS")) m4n_server_send(server, NULL, route, &server->scratch);
}

// The session a frame names, heard just now at `route`; NULL, with an ERROR sent, if there is none.
static m4n_peer *owner_of(m4n_server *server, const m4n_route *route, const m4n_envelope *head) {
  m4n_peer *peer = m4n_peer_find(server, head->session);
  if (!peer) {
    m4n_fail_at(M4N_EPROTO, NULL, 0, "session", "%llu is no session here: it ended, or HELLO is missing",
                (unsigned long long)head->session);
    m4n_server_complain(server, route, head, M4N_WIRE_SESSION, true);
    return NULL;
  }
  // Who knows the session's number is the session, also over a new connection.
  if (route->fd != peer->route.fd) m4n_server_note_gone(server);
  peer->route = *route;
  peer->gone = false;
  peer->heard_ns = m4n_now_ns();
  return peer;
}

void m4n_server_take(m4n_server *server, const m4n_route *route, m4n_message *message) {
  m4n_envelope head = {0};
  m4n_reader in;
  server->stats.messages++;
  int status = message->malformed ? m4n_fail_at(M4N_EPROTO, NULL, 0, "message",
                                                "expected one frame, or an empty one and then one")
                                  : m4n_decode_head(&in, &head, message->data, message->size);
  if (status) {
    m4n_server_complain(server, route, &head, M4N_WIRE_MALFORMED, false);
    return;
  }
  m4n_peer *peer = NULL;
  bool personal = head.type == M4N_FRAME_STEP || head.type == M4N_FRAME_BYE || head.type == M4N_FRAME_ERROR;
  if ((personal || head.session) && !(peer = owner_of(server, route, &head))) return;
  switch (head.type) {
  case M4N_FRAME_HELLO:
    m4n_server_note_gone(server); // of connections that had this descriptor before
    m4n_server_hello(server, route, &in, &head);
    break;
  case M4N_FRAME_STEP:
    take_step(server, peer, &head, message);
    break;
  case M4N_FRAME_BYE:
    take_bye(server, peer, &in, &head);
    break;
  case M4N_FRAME_ERROR:
    take_error(server, peer, &in, &head);
    break;
  case M4N_FRAME_PING:
    take_ping(server, route, &in, &head);
    break;
  case M4N_FRAME_STATS:
    take_stats(server, route, &in, &head);
    break;
  default:
    m4n_fail_at(M4N_EPROTO, NULL, 0, "type", "%s is what an agent sends, not a simulator",
                m4n_frame_name(head.type));
    m4n_server_complain(server, route, &head, M4N_WIRE_MALFORMED, false);
  }
}
