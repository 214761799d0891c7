// Sessions: their lanes, the slots these have, and the group of those that speak of the same spec.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bridge/server_internal.h"
#include "kernels/base/log.h"

// ---- groups

static void free_arrays(m4n_group *g) {
  free(g->rows.lane), free(g->rows.episode), free(g->rows.sim_time_ns), free(g->rows.reward);
  free(g->rows.flags), free(g->rows.obs), free(g->rows.info), free(g->rows.metrics);
  free(g->rows.advice), free(g->rows.advised), free(g->rows.label), free(g->session), free(g->slot);
  free(g->replies.action), free(g->replies.served_by), free(g->replies.delay_ns);
  free(g->replies.logp), free(g->replies.value);
}

static void close_group(m4n_group *g) {
  free_arrays(g);
  free(g);
}

// Zeroed, and never empty: padding inside rows stays zero for ever.
static bool make(void *array, size_t count, size_t size) {
  void **at = array;
  *at = calloc(count, size ? size : 1);
  return *at != NULL;
}

static bool make_arrays(m4n_group *g, size_t n) {
  const m4n_spec *s = &g->spec;
  m4n_wire_rows *r = &g->rows;
  m4n_replies *a = &g->replies;
  return make(&r->lane, n, sizeof *r->lane) && make(&r->episode, n, sizeof *r->episode) &&
         make(&r->sim_time_ns, n, sizeof *r->sim_time_ns) && make(&r->reward, n, sizeof *r->reward) &&
         make(&r->flags, n, 1) && make(&r->obs, n, s->obs_size) &&
         make(&r->info, n * sizeof *r->info, (size_t)s->n_info) &&
         make(&r->metrics, n * sizeof *r->metrics, (size_t)s->n_metrics) &&
         make(&r->advice, n, s->act_size) && make(&r->advised, n, 1) &&
         make(&r->label, n, sizeof *r->label) && make(&g->session, n, sizeof *g->session) &&
         make(&g->slot, n, sizeof *g->slot) && make(&a->action, n, s->act_size) &&
         make(&a->served_by, n, 1) && make(&a->delay_ns, n, sizeof *a->delay_ns) &&
         make(&a->logp, n, sizeof *a->logp) && make(&a->value, n, sizeof *a->value);
}

// Room for a round of `lanes` rows. Nothing is kept between rounds; where there is no memory, all stays as it was.
static int size_group(m4n_group *g, int32_t lanes) {
  m4n_group larger = {.spec = g->spec};
  if (!make_arrays(&larger, (size_t)lanes)) {
    free_arrays(&larger);
    return m4n_fail(M4N_ENOMEM, "no memory for %d lanes of %u bytes", lanes, g->spec.obs_size);
  }
  free_arrays(g);
  g->rows = larger.rows, g->replies = larger.replies, g->session = larger.session, g->slot = larger.slot;
  g->room = lanes;
  return M4N_OK;
}

static void leave_group(m4n_peer *peer) {
  if (!peer->group) return;
  peer->group->lanes -= peer->session.lanes;
  peer->group->sessions--;
  peer->group = NULL;
  peer->session.spec = NULL;
}

// Specs are equal if all their bytes are: both were made by the decoder, from zero.
static int join_group(m4n_server *server, m4n_peer *peer, const m4n_spec *spec) {
  m4n_group **at = &server->groups, *g;
  uint64_t bytes = (uint64_t)peer->session.lanes * spec->obs_size;
  for (g = server->groups; g; g = g->next) bytes += (uint64_t)g->lanes * g->spec.obs_size;
  if (bytes > M4N_MAX_OBS_BYTES)
    return m4n_fail_at(M4N_EBUSY, NULL, 0, "HELLO.lanes", "rows of all lanes would need more than %d MiB",
                       M4N_MAX_OBS_BYTES >> 20);
  while (*at && memcmp(&(*at)->spec, spec, sizeof *spec)) at = &(*at)->next;
  if (!*at) {
    if (!(*at = calloc(1, sizeof **at))) return m4n_fail(M4N_ENOMEM, "no memory for a spec");
    (*at)->spec = *spec;
    (*at)->hash = m4n_spec_hash(spec);
  }
  peer->group = g = *at;
  peer->session.spec = &g->spec;
  g->sessions++;
  g->lanes += peer->session.lanes;
  return g->lanes > g->room ? size_group(g, g->lanes) : M4N_OK;
}

// ---- slots

static int take_slots(m4n_server *server, int32_t lanes, int32_t *first) {
  int32_t run = 0;
  for (int32_t i = 0; i < server->options.slots; i++) {
    run = server->slot_used[i] ? 0 : run + 1;
    if (run < lanes) continue;
    *first = i + 1 - lanes;
    memset(server->slot_used + *first, true, (size_t)lanes);
    return M4N_OK;
  }
  return m4n_fail_at(M4N_EBUSY, NULL, 0, "HELLO.lanes", "no room for %d lanes: the agent has %d in all",
                     lanes, server->options.slots);
}

// ---- sessions

static int new_id(m4n_server *server, uint64_t *id) {
  do {
    ssize_t got;
    do got = getrandom(id, sizeof *id, 0);
    while (got < 0 && errno == EINTR);
    if (got != sizeof *id) return m4n_fail(M4N_EIO, "no random numbers: %s", strerror(errno));
  } while (*id == 0 || m4n_peer_find(server, *id));
  return M4N_OK;
}

// Sessions that are over stay for their last reply; when there are as many as slots, the oldest make room.
static void make_room(m4n_server *server) {
  for (int i = 0, many = server->n_peers; many >= server->options.slots && i < server->n_peers; i++)
    if (server->peer[i]->over) m4n_peer_drop(server, server->peer[i], false), many--;
  m4n_server_sweep(server);
}

int m4n_peer_open(m4n_server *server, m4n_peer **out, const m4n_hello *hello) {
  *out = NULL;
  make_room(server);
  m4n_peer *peer = calloc(1, sizeof *peer);
  if (!peer) return m4n_fail(M4N_ENOMEM, "no memory for a session");
  m4n_session *s = &peer->session;
  s->lanes = hello->lanes;
  memcpy(s->simulator, hello->simulator, sizeof s->simulator);
  memcpy(s->version, hello->version, sizeof s->version);
  memcpy(peer->uid, hello->uid, sizeof peer->uid);
  int status = new_id(server, &s->id);
  if (!status) status = take_slots(server, s->lanes, &s->first_slot);
  if (status) {
    free(peer);
    return status;
  }
  server->peer[server->n_peers++] = peer;
  server->n_active++;
  status = join_group(server, peer, &hello->spec);
  peer->lane = calloc((size_t)s->lanes, sizeof *peer->lane);
  peer->order = calloc((size_t)s->lanes, sizeof *peer->order);
  if (!status && (!peer->lane || !peer->order))
    status = m4n_fail(M4N_ENOMEM, "no memory for %d lanes", s->lanes);
  if (status) {
    m4n_peer_drop(server, peer, true);
    return status;
  }
  *out = peer;
  return M4N_OK;
}

void m4n_peer_end(m4n_server *server, m4n_peer *peer, bool lost) {
  if (peer->over) return;
  peer->over = true;
  server->n_active--;
  if (peer->begun) {
    server->stats.lost_sessions += lost;
    server->owner->ended(server->owner->self, server, &peer->session, lost);
  }
  memset(server->slot_used + peer->session.first_slot, false, (size_t)peer->session.lanes);
  peer->n_rows = 0;
  m4n_message_close(&peer->pending);
  leave_group(peer);
}

void m4n_peer_drop(m4n_server *server, m4n_peer *peer, bool lost) {
  m4n_peer_end(server, peer, lost);
  peer->dropped = true;
}

static void free_peer(m4n_peer *peer) {
  m4n_buffer_close(&peer->reply);
  free(peer->lane);
  free(peer->order);
  free(peer);
}

void m4n_server_sweep(m4n_server *server) {
  int kept = 0;
  for (int i = 0; i < server->n_peers; i++)
    if (server->peer[i]->dropped)
      free_peer(server->peer[i]);
    else
      server->peer[kept++] = server->peer[i];
  server->n_peers = kept;
  for (m4n_group **at = &server->groups, *g; (g = *at);)
    if (g->sessions == 0)
      *at = g->next, close_group(g);
    else
      at = &g->next;
}

m4n_peer *m4n_peer_find(m4n_server *server, uint64_t session) {
  for (int i = 0; i < server->n_peers; i++)
    if (server->peer[i]->session.id == session && !server->peer[i]->dropped) return server->peer[i];
  return NULL;
}

// ---- lanes

int m4n_peer_row(m4n_peer *peer, int32_t number, int64_t episode, uint8_t flags) {
  m4n_lane *lane = &peer->lane[number];
  bool first = flags & M4N_FIRST;
  const char *expected = NULL;
  if (lane->seen == peer->seq)
    expected = "has two rows";
  else if (first && !lane->ordered)
    expected = "begins an episode that nobody asked for";
  else if (!first && lane->ordered)
    expected = "was told to begin an episode: expected its first row";
  else if (!first && !lane->live)
    expected = "has no episode";
  if (expected) return m4n_fail_at(M4N_EPROTO, NULL, 0, "STEP.lane", "lane %d %s", number, expected);
  if (episode != lane->episode)
    return m4n_fail_at(M4N_EPROTO, NULL, 0, "STEP.episode", "lane %d: episode %lld, expected %lld", number,
                       (long long)episode, (long long)lane->episode);
  lane->seen = peer->seq;
  if (first) lane->ordered = false, lane->live = true;
  if (flags & M4N_ENDED) lane->live = false, peer->n_busy--;
  return M4N_OK;
}

bool m4n_peer_finished(const m4n_peer *peer) {
  return peer->done || peer->n_busy == 0;
}

int m4n_server_reset(m4n_server *server, m4n_session *session, const m4n_reset *order) {
  m4n_peer *peer = (m4n_peer *)session;
  (void)server;
  if (peer->over) return m4n_fail(M4N_EARG, "the session is over");
  if (order->lane < 0 || order->lane >= session->lanes || order->copy_of < -1 ||
      order->copy_of >= session->lanes || order->set < 0 || order->set >= M4N_SETS || order->episode < 0)
    return m4n_fail(M4N_EARG, "reset of lane %d (copy of %d) with episode %lld of set %d: out of range",
                    order->lane, order->copy_of, (long long)order->episode, order->set);
  if (order->copy_of >= 0 && !(session->spec->capabilities & M4N_CAN_FORK))
    return m4n_fail(M4N_EARG, "simulator '%s' cannot copy a lane", session->simulator);
  if (order->options & M4N_RESET_ADVICE && !(session->spec->capabilities & M4N_CAN_ORACLE))
    return m4n_fail(M4N_EARG, "simulator '%s' has no oracle to give advice", session->simulator);
  m4n_lane *lane = &peer->lane[order->lane];
  if (lane->live || lane->ordered)
    return m4n_fail(M4N_EARG, "lane %d is live and cannot begin another episode", order->lane);
  lane->ordered = true;
  lane->episode = order->episode;
  peer->order[peer->n_orders++] = *order;
  peer->n_busy++;
  return M4N_OK;
}

void m4n_server_done(m4n_server *server, m4n_session *session) {
  (void)server;
  ((m4n_peer *)session)->done = true;
}
