// An agent for clients that are not ours: `push_server ENDPOINT EPISODES` prints its address, plays EPISODES episodes on
// whoever comes, and chooses by the first observation field alone: floor(4 x) modulo the number of choices.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bridge/server.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace {

struct pusher {
  int64_t episodes, next = 0, played = 0;
};

int order(pusher *p, m4n_server *server, m4n_session *session, int32_t lane) {
  if (p->next == p->episodes) return 0;
  const uint32_t options = session->spec->capabilities & M4N_CAN_ORACLE ? M4N_RESET_ADVICE : 0;
  m4n_reset reset = {lane, M4N_SET_TEST, p->next, (uint64_t)(100 + p->next), options, -1};
  p->next++;
  return m4n_server_reset(server, session, &reset);
}

int began(void *self, m4n_server *server, m4n_session *session) {
  if (session->spec->obs[0].dtype != M4N_F64)
    return m4n_fail_at(M4N_EUNSUPPORTED, NULL, 0, "HELLO.obs[0].dtype", "expected f64");
  for (int32_t lane = 0; lane < session->lanes; lane++)
    M4N_TRY(order(static_cast<pusher *>(self), server, session, lane));
  return 0;
}

int decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies) {
  pusher *p = static_cast<pusher *>(self);
  for (int32_t i = 0; i < rows->n; i++) {
    if (rows->flags[i] & M4N_ENDED) {
      p->played++;
      M4N_TRY(order(p, server, rows->session[i], rows->slot[i] - rows->session[i]->first_slot));
      continue;
    }
    double x;
    memcpy(&x, rows->obs + (size_t)i * rows->spec->obs_size + rows->spec->obs[0].offset, sizeof x);
    for (int a = 0; a < rows->spec->n_act; a++) {
      const int32_t choices = (int32_t)rows->spec->act[a].high + 1;
      int32_t choice = (int32_t)((int64_t)std::floor(4 * x) % choices);
      if (choice < 0) choice += choices;
      memcpy(replies->action + (size_t)i * rows->spec->act_size + rows->spec->act[a].offset, &choice,
             sizeof choice);
    }
    replies->delay_ns[i] = 1000000 * i;
  }
  return 0;
}

void ended(void *, m4n_server *, m4n_session *session, bool lost) {
  printf("session of '%s' ended%s\n", session->simulator, lost ? ", lost" : "");
  fflush(stdout);
}

bool finished(void *self) {
  const pusher *p = static_cast<pusher *>(self);
  return p->played == p->episodes;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  pusher p{atoll(argv[2])};
  m4n_server_options options = {};
  options.endpoint = argv[1];
  options.slots = 64;
  options.wait_ms = 60000;
  options.policy = "push";
  m4n_server *server;
  m4n_log_set_level(M4N_LOG_QUIET);
  int status = m4n_server_open(&server, &options);
  if (!status) {
    printf("%s\n", m4n_server_endpoint(server));
    fflush(stdout);
    m4n_server_owner owner = {&p, began, decide, ended, finished};
    status = m4n_server_run(server, &owner, NULL);
    m4n_server_close(server);
  }
  if (status) fprintf(stderr, "%s\n", m4n_error_message());
  return status != 0;
}
