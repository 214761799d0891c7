// HELLO: whom we talk to, what the world looks like there, and whether the owner wants it.
#include <string.h>

#include "bridge/server_internal.h"
#include "kernels/base/log.h"

// A simulator whose WELCOME got lost asks again with the same uid.
static m4n_peer *same_run(m4n_server *server, const m4n_hello *hello) {
  for (int i = 0; i < server->n_peers; i++)
    if (!server->peer[i]->over && !memcmp(server->peer[i]->uid, hello->uid, sizeof hello->uid))
      return server->peer[i];
  return NULL;
}

static int refusal_code(int status) {
  return status == M4N_EUNSUPPORTED ? M4N_WIRE_VERSION
         : status == M4N_EARG       ? M4N_WIRE_SPEC
         : status == M4N_EPROTO     ? M4N_WIRE_MALFORMED
                                    : M4N_WIRE_INTERNAL;
}

static int welcome(m4n_server *server, m4n_peer *peer) {
  const m4n_server_options *o = &server->options;
  m4n_welcome w = {.version = M4N_WIRE_NEWEST,
                   .agent = "mamba4net " M4N_VERSION,
                   .policy_hash = o->policy_hash,
                   .spec_hash = peer->group->hash,
                   .max_frame = M4N_MAX_FRAME,
                   .idle_ms = o->idle_ms < 0 ? -1 : o->idle_ms,
                   .n_resets = peer->n_orders,
                   .reset = peer->order,
                   .done = m4n_peer_finished(peer)};
  strncat(w.policy, o->policy ? o->policy : "", sizeof w.policy - 1);
  m4n_encode_welcome(&peer->reply, peer->session.id, &w);
  M4N_TRY(m4n_pack_end(&peer->reply, "WELCOME"));
  m4n_server_send(server, peer, &peer->route, &peer->reply);
  peer->n_orders = 0;
  if (w.done) m4n_peer_end(server, peer, false);
  return M4N_OK;
}

void m4n_server_hello(m4n_server *server, const m4n_route *route, m4n_reader *in, const m4n_envelope *head) {
  m4n_hello *hello = &server->hello;
  int status = m4n_decode_hello(in, head, hello);
  if (status) {
    m4n_server_complain(server, route, head, refusal_code(status), true);
    return;
  }
  m4n_peer *peer = same_run(server, hello);
  if (peer && peer->seq == 0) {
    server->stats.resent++;
    m4n_server_send(server, peer, route, &peer->reply);
    return;
  }
  if (peer) {
    m4n_fail_at(M4N_EPROTO, NULL, 0, "HELLO.uid", "a session with this uid is under way");
    m4n_server_complain(server, route, head, M4N_WIRE_REFUSED, true);
    return;
  }
  if ((status = m4n_peer_open(server, &peer, hello))) {
    m4n_server_complain(server, route, head, status == M4N_EBUSY ? M4N_WIRE_FULL : M4N_WIRE_INTERNAL, true);
    return;
  }
  peer->route = *route;
  peer->heard_ns = m4n_now_ns();
  if (server->owner->began(server->owner->self, server, &peer->session)) {
    m4n_server_complain(server, route, head, M4N_WIRE_REFUSED, true);
    m4n_peer_drop(server, peer, true);
    return;
  }
  peer->begun = true;
  if (welcome(server, peer)) m4n_server_reject(server, peer, M4N_WIRE_INTERNAL);
}
