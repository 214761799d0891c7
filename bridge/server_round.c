// A round: the STEPs that wait become one batch a spec, the owner decides, and each session gets its ACT.
#include <math.h>
#include <string.h>

#include "bridge/server_internal.h"
#include "kernels/base/log.h"

// The part of a group's arrays that begins at `row`.
static m4n_wire_rows rows_from(const m4n_group *g, int32_t row) {
  const m4n_wire_rows *r = &g->rows;
  size_t i = (size_t)row;
  return (m4n_wire_rows){.lane = r->lane + i,
                         .episode = r->episode + i,
                         .sim_time_ns = r->sim_time_ns + i,
                         .reward = r->reward + i,
                         .flags = r->flags + i,
                         .obs = r->obs + i * g->spec.obs_size,
                         .info = r->info + i * (size_t)g->spec.n_info,
                         .metrics = r->metrics + i * (size_t)g->spec.n_metrics,
                         .advice = r->advice + i * g->spec.act_size,
                         .advised = r->advised + i,
                         .label = r->label + i};
}

// Decodes the session's STEP behind the rows that are there already. A session that lies is closed, and the others
// go on.
static void add_session(m4n_server *server, m4n_group *g, m4n_peer *peer) {
  m4n_envelope head;
  m4n_reader in;
  m4n_wire_rows rows = rows_from(g, g->rows.n);
  int status = m4n_decode_head(&in, &head, peer->pending.data, peer->pending.size);
  if (!status) status = m4n_decode_step(&in, &g->spec, peer->session.lanes, &rows);
  m4n_message_close(&peer->pending);
  int code = M4N_WIRE_MALFORMED;
  for (int32_t i = 0; !status && i < rows.n; i++) {
    status = m4n_peer_row(peer, rows.lane[i], rows.episode[i], rows.flags[i]);
    if (status) code = M4N_WIRE_LANE;
  }
  if (status) {
    m4n_server_reject(server, peer, code);
    return;
  }
  peer->first_row = g->rows.n;
  peer->n_rows = rows.n;
  for (int32_t i = 0; i < rows.n; i++) {
    g->session[g->rows.n + i] = &peer->session;
    g->slot[g->rows.n + i] = peer->session.first_slot + rows.lane[i];
  }
  g->rows.n += rows.n;
  server->stats.rows += rows.n;
}

static int decide(m4n_server *server, m4n_group *g) {
  const m4n_wire_rows *r = &g->rows;
  m4n_replies *a = &g->replies;
  size_t n = (size_t)r->n;
  m4n_rows rows = {.n = r->n,
                   .spec = &g->spec,
                   .session = g->session,
                   .slot = g->slot,
                   .episode = r->episode,
                   .sim_time_ns = r->sim_time_ns,
                   .reward = r->reward,
                   .flags = r->flags,
                   .obs = r->obs,
                   .info = g->spec.n_info ? r->info : NULL,
                   .metrics = g->spec.n_metrics ? r->metrics : NULL,
                   .advice = memchr(r->advised, 1, n) ? r->advice : NULL,
                   .advised = r->advised,
                   .label = (const char(*)[M4N_LABEL])r->label};
  memset(a->action, 0, n * g->spec.act_size);
  memset(a->served_by, 0, n);
  memset(a->delay_ns, 0, n * sizeof *a->delay_ns);
  for (size_t i = 0; i < n; i++) a->logp[i] = a->value[i] = NAN;
  a->infer_ns = 0;
  return server->owner->decide(server->owner->self, server, &rows, a);
}

static void answer(m4n_server *server, m4n_group *g, m4n_peer *peer) {
  const m4n_replies *a = &g->replies;
  size_t i = (size_t)peer->first_row;
  m4n_act act = {.n = peer->n_rows,
                 .action = a->action + i * g->spec.act_size,
                 .n_resets = peer->n_orders,
                 .reset = peer->order,
                 .done = m4n_peer_finished(peer),
                 .delay_ns = a->delay_ns + i,
                 .served_by = a->served_by + i,
                 .infer_ns = a->infer_ns,
                 .policy_hash = server->options.policy_hash,
                 .logp = a->logp + i,
                 .value = a->value + i};
  m4n_encode_act(&peer->reply, &g->spec, peer->session.id, peer->seq, &act);
  peer->n_rows = 0;
  if (m4n_pack_end(&peer->reply, "ACT")) {
    m4n_server_reject(server, peer, M4N_WIRE_INTERNAL);
    return;
  }
  peer->n_orders = 0;
  peer->heard_ns = m4n_now_ns(); // the time we took is not its silence
  m4n_server_send(server, peer, &peer->route, &peer->reply);
  if (act.done) m4n_peer_end(server, peer, false);
}

static int round_of(m4n_server *server, m4n_group *g) {
  g->rows.n = 0;
  // Sessions in the order they came, so that in lockstep a round's rows are the same whoever was first.
  for (int i = 0; i < server->n_peers; i++)
    if (server->peer[i]->group == g && server->peer[i]->pending.open) add_session(server, g, server->peer[i]);
  if (g->rows.n == 0) return M4N_OK;
  M4N_TRY(decide(server, g));
  for (int i = 0; i < server->n_peers; i++)
    if (server->peer[i]->group == g && server->peer[i]->n_rows) answer(server, g, server->peer[i]);
  return M4N_OK;
}

int m4n_server_round(m4n_server *server) {
  for (m4n_group *g = server->groups; g; g = g->next) M4N_TRY(round_of(server, g));
  return M4N_OK;
}
