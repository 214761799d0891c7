#include "agent/loop.h"

#include <pthread.h>

#include "kernels/base/status.h"

int m4n_loop_open(m4n_loop *loop, const m4n_loop_options *options) {
  *loop = (m4n_loop){.o = *options};
  // A simulator that is a thread of this process cannot be lost alone, however long it is held up.
  const int idle_ms = options->simulator ? -1 : options->scenario->bridge.idle_ms;
  const m4n_server_options server = {.endpoint = options->endpoint,
                                     .slots = options->slots,
                                     .lockstep = options->scenario->bridge.lockstep,
                                     .idle_ms = idle_ms,
                                     .wait_ms = options->wait_ms,
                                     .policy = options->policy};
  return m4n_server_open(&loop->server, &server);
}

void m4n_loop_close(m4n_loop *loop) {
  m4n_server_close(loop->server);
  *loop = (m4n_loop){0};
}

typedef struct player {
  const m4n_loop *loop;
  m4n_stop *stop; // of both sides
  int status;
  m4n_error error;
} player;

static void *play(void *self) {
  player *p = self;
  const m4n_loop *loop = p->loop;
  p->status = m4n_simulator_play(loop->o.simulator, loop->o.scenario, m4n_server_endpoint(loop->server),
                                 m4n_server_context(loop->server), p->stop);
  p->error = *m4n_last_error();
  if (p->status) m4n_stop_request(p->stop); // nobody else will come: the server need not wait
  return NULL;
}

int m4n_loop_run(m4n_loop *loop, const m4n_server_owner *owner, const m4n_stop *stop) {
  m4n_stop both = {.also = stop};
  player p = {.loop = loop, .stop = &both};
  pthread_t thread;
  if (!loop->o.simulator) return m4n_server_run(loop->server, owner, stop);
  if (pthread_create(&thread, NULL, play, &p))
    return m4n_fail(M4N_ENOMEM, "cannot start the simulator's thread");
  int status = m4n_server_run(loop->server, owner, &both);
  m4n_error why = *m4n_last_error();
  if (status) m4n_stop_request(&both);
  pthread_join(thread, NULL);
  // Where nobody outside asked to stop, the server was stopped for what happened to the simulator.
  if (status == M4N_ECANCELLED && p.status && !m4n_stop_requested(stop)) return m4n_set_error(&p.error);
  return status ? m4n_set_error(&why) : M4N_OK;
}
