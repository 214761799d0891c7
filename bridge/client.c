#include "bridge/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bridge/link_zmq.h"
#include "bridge/wire.h"
#include "kernels/base/log.h"

enum { CONNECT_MS = 10000, FIRST_MS = 10000, ACT_MS = 1000, RESENDS = 3, LINGER_MS = 500 };

typedef struct client {
  const char *endpoint; /* full */
  int connect_ms, first_ms, act_ms, resends;
  m4n_link *link;
  m4n_vec *vec;
  const m4n_spec *spec;
  int32_t lanes;
  bool patient;
  const m4n_stop *stop;
  m4n_client_stats *stats;
  uint64_t session, seq;
  int64_t idle_ms;          /* for so long the agent waits for a silent simulator; -1: for ever */
  bool asked, there;        /* a PING is on its way; a PONG came */
  bool over;                /* the agent said so */
  bool cut;                 /* the connection broke */
  m4n_buffer frame[2];      /* in turn: the last may still be on its way when the next is written */
  m4n_buffer small;         /* BYE, ERROR */
  m4n_act act;              /* the agent's last word; arrays for all lanes */
  bool *live;               /* [lanes] */
  int32_t *lane;            /* [lanes] to be stepped */
  char (*label)[M4N_LABEL]; /* [lanes] */
} client;

// ---- opening

static int open_arrays(client *c) {
  size_t n = (size_t)c->lanes;
  m4n_act *a = &c->act;
  a->action = calloc(n, c->spec->act_size), a->reset = calloc(n, sizeof *a->reset);
  a->delay_ns = calloc(n, sizeof *a->delay_ns), a->served_by = calloc(n, 1);
  a->logp = calloc(n, sizeof *a->logp), a->value = calloc(n, sizeof *a->value);
  c->live = calloc(n, sizeof *c->live), c->lane = calloc(n, sizeof *c->lane),
  c->label = calloc(n, sizeof *c->label);
  if (a->action && a->reset && a->delay_ns && a->served_by && a->logp && a->value && c->live && c->lane &&
      c->label)
    return M4N_OK;
  return m4n_fail(M4N_ENOMEM, "no memory for %d lanes", c->lanes);
}

// Only bad news is worth waiting for, where there is somebody to hear it.
static void close_client(client *c, int status) {
  m4n_link_close(c->link, status && c->session && !c->cut ? LINGER_MS : 0);
  for (int i = 0; i < 2; i++) m4n_buffer_close(&c->frame[i]);
  m4n_buffer_close(&c->small);
  free(c->act.action), free(c->act.reset), free(c->act.delay_ns), free(c->act.served_by);
  free(c->act.logp), free(c->act.value), free(c->live), free(c->lane), free(c->label);
}

static int deadline(int asked, int usual) {
  return asked ? asked : usual;
}

// ---- talking

// BYE: the agent has finished, or has a reason to give up.
static int closed_by_agent(client *c, m4n_reader *in) {
  m4n_bye bye;
  M4N_TRY(m4n_decode_bye(in, &bye));
  c->session = 0; // there is nobody to take leave of
  c->over = bye.status == 0;
  if (c->over) return M4N_OK;
  return m4n_fail(M4N_EPROTO, "the agent at %s leaves: %s (exit status %d)", c->endpoint, bye.reason,
                  (int)bye.status);
}

static int refused_by_agent(client *c, m4n_reader *in) {
  m4n_wire_error error;
  M4N_TRY(m4n_decode_error(in, &error));
  if (error.fatal) c->session = 0;
  return m4n_fail_at(M4N_EPROTO, NULL, 0, error.path, "the agent at %s refuses: %s", c->endpoint, error.text);
}

static int note_pong(client *c, m4n_reader *in) {
  uint64_t token;
  c->there = true;
  return m4n_decode_ping(in, &token);
}

// Is this message the reply of `type` to our seq? One to what was sent twice comes twice: the second is passed over.
static int look_at(client *c, unsigned type, const m4n_message *message, m4n_reader *in, bool *wanted) {
  m4n_envelope head;
  *wanted = false;
  if (message->malformed)
    return m4n_fail(M4N_EPROTO, "a message of the agent at %s is not one frame", c->endpoint);
  M4N_TRY(m4n_decode_head(in, &head, message->data, message->size));
  if (head.type == M4N_FRAME_BYE) return closed_by_agent(c, in);
  if (head.session == c->session && head.seq < c->seq) return M4N_OK;
  if (head.type == M4N_FRAME_ERROR) return refused_by_agent(c, in);
  if (head.type == M4N_FRAME_PONG && c->asked && head.session == c->session) return note_pong(c, in);
  if (head.type != type || head.seq != c->seq || (c->session && head.session != c->session))
    return m4n_fail(M4N_EPROTO, "the agent at %s sends %s %llu, expected %s %llu", c->endpoint,
                    m4n_frame_name(head.type), (unsigned long long)head.seq, m4n_frame_name(type),
                    (unsigned long long)c->seq);
  if (!c->session) c->session = head.session, c->cut = false;
  return *wanted = true, M4N_OK;
}

// Waits for that reply. *got is false if the deadline came first, or the end of it all (c->over).
static int await(client *c, unsigned type, int64_t wait_ms, m4n_message *message, m4n_reader *in, bool *got) {
  int64_t until = wait_ms < 0 ? -1 : m4n_now_ns() + wait_ms * INT64_C(1000000);
  for (*got = false; !*got && !c->over;) {
    m4n_message_close(message);
    M4N_TRY(m4n_link_receive(c->link, NULL, message));
    if (message->open) {
      M4N_TRY(look_at(c, type, message, in, got));
      continue;
    }
    if (m4n_stop_requested(c->stop)) return m4n_fail(M4N_ECANCELLED, "the simulator was told to stop");
    // What it said before it went has been read by now. Before the handshake libzmq goes on trying to connect.
    if (c->cut && c->session) return m4n_fail(M4N_EPROTO, "the agent at %s is gone", c->endpoint);
    if (until >= 0 && m4n_now_ns() >= until) break;
    M4N_TRY(m4n_link_wait(c->link, until, c->stop));
    while (m4n_link_gone(c->link) >= 0) c->cut = true;
  }
  return M4N_OK;
}

static int say_hello(client *c, m4n_welcome *welcome) {
  m4n_hello *hello = calloc(1, sizeof *hello);
  m4n_message message = {.open = false};
  m4n_reader in;
  bool got = false;
  if (!hello) return m4n_fail(M4N_ENOMEM, "no memory for a handshake");
  *hello = (m4n_hello){.oldest = M4N_WIRE_OLDEST,
                       .newest = M4N_WIRE_NEWEST,
                       .simulator = "mamba4net",
                       .version = M4N_VERSION,
                       .lanes = c->lanes};
  hello->spec = *c->spec;
  int status = M4N_OK;
  if (getrandom(hello->uid, sizeof hello->uid, 0) != sizeof hello->uid)
    status = m4n_fail(M4N_EIO, "no random numbers: %s", strerror(errno));
  m4n_encode_hello(&c->frame[0], hello);
  free(hello);
  if (!status) status = m4n_pack_end(&c->frame[0], "HELLO");
  if (!status) status = m4n_link_send(c->link, NULL, &c->frame[0]);
  if (!status) status = await(c, M4N_FRAME_WELCOME, c->connect_ms, &message, &in, &got);
  if (!status && !got && !c->over)
    status = m4n_fail(M4N_ETIMEOUT, "no agent answered at %s within the connect deadline of %d ms",
                      c->endpoint, c->connect_ms);
  if (!status && got) status = m4n_decode_welcome(&in, c->lanes, welcome);
  if (status == M4N_EPROTO && got) m4n_context(status, "the agent at %s", c->endpoint);
  m4n_message_close(&message);
  return status;
}

// A queue that is full for a moment is what asking again is for.
static int send_now(client *c, m4n_buffer *frame) {
  int status = m4n_link_send(c->link, NULL, frame);
  return status == M4N_EBUSY ? M4N_OK : status;
}

// Our deadline has passed. In lockstep the agent may be waiting for another simulator, at most until it drops that one as
// silent (idle_ms): who answers a PING is there, and worth waiting for as long again. Who does not has failed.
static int wait_on(client *c, int64_t *waited_ms, m4n_message *message, m4n_reader *in, bool *got) {
  const int64_t own_ms = *waited_ms;
  if (c->act_ms < 0) return M4N_OK;
  do {
    m4n_encode_ping(&c->small, M4N_FRAME_PING, c->session, c->seq, c->seq);
    M4N_TRY(m4n_pack_end(&c->small, "PING"));
    c->asked = true, c->there = false;
    M4N_TRY(send_now(c, &c->small));
    M4N_TRY(await(c, M4N_FRAME_ACT, c->act_ms, message, in, got));
    if (*waited_ms == own_ms && c->there && !*got)
      m4n_log(M4N_LOG_INFO, "bridge: no ACT for %lld ms, but the agent is there and waits for others",
              (long long)own_ms);
    *waited_ms += c->act_ms;
  } while (c->there && !*got && !c->over && (c->idle_ms < 0 || *waited_ms - own_ms <= c->idle_ms));
  return M4N_OK;
}

static int late(const client *c, int64_t waited_ms) {
  if (c->there)
    return m4n_fail(M4N_ETIMEOUT, "the agent at %s answers PINGs, but sent no ACT for %lld ms", c->endpoint,
                    (long long)waited_ms);
  if (c->seq == 1)
    return m4n_fail(M4N_ETIMEOUT, "the agent at %s sent no first ACT within its deadline of %d ms",
                    c->endpoint, c->first_ms);
  return m4n_fail(
      M4N_ETIMEOUT,
      "the agent at %s sent no ACT within its deadline of %d ms, nor after %d resends, nor a PONG (%lld ms)",
      c->endpoint, c->act_ms, c->resends, (long long)waited_ms);
}

// Sends the STEP in `frame` and waits for its ACT; sent again, with doubled waits, while none comes.
static int ask(client *c, m4n_buffer *frame, int32_t n) {
  m4n_message message = {.open = false};
  m4n_reader in;
  bool first = c->seq == 1, got = false;
  int64_t wait_ms = first ? c->first_ms : c->act_ms, waited_ms = 0;
  int tries = first || wait_ms < 0 ? 1 : 1 + c->resends, status = M4N_OK;
  for (int i = 0; (i < tries || c->patient) && !status && !got && !c->over; i++) {
    status = send_now(c, frame);
    c->stats->resent += i > 0;
    if (!status) status = await(c, M4N_FRAME_ACT, wait_ms, &message, &in, &got);
    waited_ms += wait_ms;
    if (i < tries) wait_ms *= 2;
  }
  if (!status && !got && !c->over) status = wait_on(c, &waited_ms, &message, &in, &got);
  if (!status && got) status = m4n_decode_act(&in, c->spec, n, c->lanes, &c->act);
  m4n_message_close(&message);
  if (status || got || c->over) return status;
  return late(c, waited_ms);
}

// ---- playing

// Orders and actions of the last reply. Orders first: a copy is of what the copied lane last said.
static int play(client *c) {
  const m4n_vec_rows *rows = m4n_vec_rows_of(c->vec);
  m4n_act *a = &c->act;
  int32_t n = 0;
  size_t size = c->spec->act_size;
  // Rows that ended want no action; the others close up.
  for (int32_t i = 0; i < a->n; i++) {
    if (rows->flags[i] & M4N_ENDED) continue;
    c->lane[n] = rows->lane[i];
    a->delay_ns[n] = a->delay_ns[i];
    if (n != i) memcpy(a->action + (size_t)n * size, a->action + (size_t)i * size, size);
    n++;
  }
  for (int32_t i = 0; i < a->n_resets; i++) {
    int32_t lane = a->reset[i].lane;
    if (c->live[lane])
      return m4n_fail_at(M4N_EPROTO, NULL, 0, "ACT.resets",
                         "lane %d is live and cannot begin another episode", lane);
    c->live[lane] = true;
  }
  m4n_vec_clear(c->vec);
  if (a->n_resets) M4N_TRY(m4n_vec_reset(c->vec, a->reset, a->n_resets));
  if (n) M4N_TRY(m4n_vec_step(c->vec, n, c->lane, a->action, a->delay_ns));
  return M4N_OK;
}

static m4n_wire_rows rows_of(client *c) {
  const m4n_vec_rows *r = m4n_vec_rows_of(c->vec);
  for (int i = 0; i < r->n; i++) {
    if (r->flags[i] & M4N_FIRST) snprintf(c->label[i], sizeof c->label[i], "%s", r->label[i]);
    if (r->flags[i] & M4N_ENDED) c->live[r->lane[i]] = false, c->stats->episodes++;
  }
  return (m4n_wire_rows){.n = r->n,
                         .lane = r->lane,
                         .episode = r->episode,
                         .sim_time_ns = r->sim_time_ns,
                         .reward = r->reward,
                         .flags = r->flags,
                         .obs = r->obs,
                         .info = r->info,
                         .metrics = r->metrics,
                         .advice = r->advice,
                         .advised = r->advised,
                         .label = c->label};
}

static int play_all(client *c) {
  m4n_welcome welcome = {.reset = c->act.reset};
  M4N_TRY(say_hello(c, &welcome));
  snprintf(c->stats->policy, sizeof c->stats->policy, "%s", welcome.policy);
  c->idle_ms = welcome.idle_ms;
  c->act.n = 0;
  c->act.n_resets = welcome.n_resets;
  c->act.done = welcome.done;
  while (!c->act.done && !c->over) {
    M4N_TRY(play(c));
    m4n_wire_rows rows = rows_of(c);
    if (rows.n == 0)
      return m4n_fail(M4N_EPROTO, "the agent at %s neither ends the session nor gives a lane anything to do",
                      c->endpoint);
    m4n_buffer *frame = &c->frame[++c->seq & 1];
    m4n_encode_step(frame, c->spec, c->session, c->seq, &rows);
    M4N_TRY(m4n_pack_end(frame, "STEP"));
    M4N_TRY(ask(c, frame, rows.n));
    c->stats->messages++;
    c->stats->steps += rows.n;
  }
  return M4N_OK;
}

// The last word: what was wrong with the agent's frames, or that we leave and why. No reply is waited for.
static void take_leave(client *c, int status) {
  const m4n_error why = *m4n_last_error();
  if (!c->session) return;
  if (status == M4N_EPROTO) {
    m4n_wire_error error = {.code = M4N_WIRE_REFUSED, .fatal = true};
    snprintf(error.path, sizeof error.path, "%s", why.key);
    snprintf(error.text, sizeof error.text, "%.500s", why.text);
    m4n_encode_error(&c->small, c->session, c->seq, &error);
  } else {
    m4n_bye bye = {.status = status ? 1 : 0};
    snprintf(bye.reason, sizeof bye.reason, "%.500s", status ? why.text : "done");
    m4n_encode_bye(&c->small, c->session, c->seq, &bye);
  }
  if (!m4n_pack_end(&c->small, "BYE")) m4n_link_send(c->link, NULL, &c->small);
  if (status) m4n_set_error(&why);
}

int m4n_client_run(const m4n_client_options *options, m4n_vec *vec, m4n_client_stats *stats,
                   const m4n_stop *stop) {
  m4n_client_stats unwanted;
  client c = {.connect_ms = deadline(options->connect_ms, CONNECT_MS),
              .first_ms = deadline(options->first_ms, FIRST_MS),
              .act_ms = deadline(options->act_ms, ACT_MS),
              .resends = deadline(options->resends, RESENDS),
              .patient = options->patient,
              .vec = vec,
              .spec = m4n_vec_spec(vec),
              .lanes = m4n_vec_lanes(vec),
              .stop = stop,
              .stats = stats ? stats : &unwanted};
  char *uri;
  *c.stats = (m4n_client_stats){0};
  M4N_TRY(m4n_endpoint_resolve(&uri, options->endpoint));
  c.endpoint = uri;
  int status = open_arrays(&c);
  if (!status)
    status = m4n_link_connect(&c.link, uri,
                              &(m4n_link_options){.context = options->context,
                                                  .spin_us = options->spin_us,
                                                  .no_heartbeats = options->act_ms < 0 || options->patient});
  if (!status) {
    status = play_all(&c);
    take_leave(&c, status);
  }
  close_client(&c, status);
  free(uri);
  return status;
}
