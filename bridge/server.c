#include "bridge/server.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/server_internal.h"
#include "kernels/base/log.h"

enum {
  LINGER_MS = 500, // for the last replies
  DRAIN = 256      // messages taken before the next round: a flood must not keep others waiting
};

int m4n_server_open(m4n_server **out, const m4n_server_options *options) {
  *out = NULL;
  if (options->slots < 1 || options->slots > M4N_MAX_SLOTS)
    return m4n_fail(M4N_EARG, "%d slots for lanes, expected 1 to %d", options->slots, M4N_MAX_SLOTS);
  m4n_server *server = calloc(1, sizeof *server);
  if (!server) return m4n_fail(M4N_ENOMEM, "no memory for a server");
  server->options = *options;
  if (!server->options.idle_ms) server->options.idle_ms = M4N_IDLE_MS;
  server->slot_used = calloc((size_t)options->slots, sizeof *server->slot_used);
  server->peer = calloc((size_t)options->slots + 1, sizeof *server->peer);
  char *uri = NULL;
  int status = server->slot_used && server->peer
                   ? m4n_endpoint_resolve(&uri, options->endpoint)
                   : m4n_fail(M4N_ENOMEM, "no memory for %d slots", options->slots);
  if (!status)
    status = m4n_link_bind(&server->link, uri,
                           &(m4n_link_options){.context = options->context,
                                               .spin_us = options->spin_us,
                                               .no_heartbeats = options->idle_ms < 0});
  free(uri);
  if (status)
    m4n_server_close(server);
  else
    *out = server;
  return status;
}

const char *m4n_server_endpoint(const m4n_server *server) {
  return m4n_link_endpoint(server->link);
}

void *m4n_server_context(const m4n_server *server) {
  return m4n_link_context(server->link);
}

m4n_server_stats m4n_server_stats_of(const m4n_server *server) {
  return server->stats;
}

void m4n_server_close(m4n_server *server) {
  if (!server) return;
  m4n_link_close(server->link, LINGER_MS);
  m4n_server_sweep(server);
  m4n_buffer_close(&server->scratch);
  free(server->slot_used);
  free(server->peer);
  free(server);
}

// ---- the loop

static int take_messages(m4n_server *server) {
  m4n_message message = {.open = false};
  m4n_route route;
  for (int i = 0; i < DRAIN; i++) {
    M4N_TRY(m4n_link_receive(server->link, &route, &message));
    if (!message.open) break;
    m4n_server_take(server, &route, &message);
    m4n_message_close(&message);
  }
  return M4N_OK;
}

// A session is lost when its connection broke, or when it owes us a STEP and is silent for too long.
static void drop_lost(m4n_server *server, int64_t now) {
  int64_t idle_ns = server->options.idle_ms * INT64_C(1000000);
  for (int i = 0; i < server->n_peers; i++) {
    m4n_peer *peer = server->peer[i];
    bool late = idle_ns > 0 && !peer->pending.open && now - peer->heard_ns > idle_ns;
    if (peer->over && (peer->gone || late)) {
      m4n_peer_drop(server, peer, false);
    } else if (peer->gone) {
      m4n_log(M4N_LOG_WARN, "bridge: simulator '%s' is gone", peer->session.simulator);
      m4n_peer_drop(server, peer, true);
    } else if (late && !peer->dropped) {
      m4n_fail(M4N_ETIMEOUT, "silent for longer than its deadline of %d ms", server->options.idle_ms);
      m4n_server_reject(server, peer, M4N_WIRE_LATE);
    }
  }
}

// How many STEPs wait, and when the time to gather more of them is over.
static int waiting(const m4n_server *server, int64_t *gathered_ns) {
  int count = 0;
  int64_t first_ns = INT64_MAX;
  for (int i = 0; i < server->n_peers; i++) {
    const m4n_peer *peer = server->peer[i];
    if (!peer->pending.open) continue;
    count++;
    if (peer->pending_ns < first_ns) first_ns = peer->pending_ns;
  }
  *gathered_ns = count ? first_ns + server->options.gather_us * INT64_C(1000) : INT64_MAX;
  return count;
}

// When is it time for a round? In lockstep when everybody has spoken; else at once, or after the time to gather.
static bool round_is_due(const m4n_server *server, int64_t now) {
  int64_t gathered_ns;
  int count = waiting(server, &gathered_ns);
  if (count == 0 || count == server->n_active) return count > 0;
  return !server->options.lockstep && now >= gathered_ns;
}

// The next moment at which something is due though nobody speaks; -1: none.
static int64_t next_deadline(const m4n_server *server, int64_t alone_ns) {
  const m4n_server_options *o = &server->options;
  int64_t next = INT64_MAX, gathered_ns;
#define SOONER(at) next = (at) < next ? (at) : next
  for (int i = 0; i < server->n_peers && o->idle_ms > 0; i++)
    if (!server->peer[i]->pending.open) SOONER(server->peer[i]->heard_ns + o->idle_ms * INT64_C(1000000) + 1);
  if (waiting(server, &gathered_ns) && !o->lockstep) SOONER(gathered_ns);
  if (server->n_active == 0 && o->wait_ms > 0) SOONER(alone_ns + o->wait_ms * INT64_C(1000000));
#undef SOONER
  return next == INT64_MAX ? -1 : next;
}

static int serve(m4n_server *server, const m4n_stop *stop) {
  const m4n_server_owner *owner = server->owner;
  int64_t now = m4n_now_ns(), alone_ns = now;
  for (;;) {
    if (m4n_stop_requested(stop)) return m4n_fail(M4N_ECANCELLED, "the agent was told to stop");
    m4n_server_note_gone(server);
    M4N_TRY(take_messages(server));
    now = m4n_now_ns();
    drop_lost(server, now);
    m4n_server_sweep(server);
    if (owner->finished && owner->finished(owner->self)) return M4N_OK; // also by refusing whoever came
    if (server->n_active) alone_ns = now;
    if (server->options.wait_ms > 0 && now - alone_ns >= server->options.wait_ms * INT64_C(1000000))
      return m4n_fail(M4N_ETIMEOUT, "endpoint '%s': no simulator was connected for %d ms",
                      m4n_server_endpoint(server), server->options.wait_ms);
    if (round_is_due(server, now))
      M4N_TRY(m4n_server_round(server));
    else
      M4N_TRY(m4n_link_wait(server->link, next_deadline(server, alone_ns), stop));
  }
}

// Nobody is left waiting: whoever has a session is told why there will be no more.
static void dismiss(m4n_server *server, int status) {
  const m4n_error why = *m4n_last_error();
  for (int i = 0; i < server->n_peers; i++) {
    m4n_peer *peer = server->peer[i];
    if (!peer->over)
      m4n_server_say_bye(server, peer, status ? why.text : "the agent has finished", status ? 1 : 0);
    m4n_peer_drop(server, peer, peer->n_busy > 0);
  }
  m4n_server_sweep(server);
  if (status) m4n_set_error(&why);
}

int m4n_server_run(m4n_server *server, const m4n_server_owner *owner, const m4n_stop *stop) {
  server->owner = owner;
  int status = serve(server, stop);
  dismiss(server, status);
  server->owner = NULL;
  return status;
}
