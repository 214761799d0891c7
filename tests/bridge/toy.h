// A task that uses everything the wire can carry, and an agent's owner that plays it: for the bridge's tests.
#ifndef M4N_TESTS_BRIDGE_TOY_H
#define M4N_TESTS_BRIDGE_TOY_H

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "bridge/server.h"
#include "kernels/base/status.h"
#include "sim/vec.h"

// Observation: every type, a matrix, a mask, and a list whose length varies. An episode e has 2 + e % 4 decisions.
extern const m4n_task toy_task;
int toy_length(int64_t episode);

// What happened, in the order in which the owner saw it: one line an episode, equal for all transports and lanes.
struct toy_record {
  std::map<int64_t, std::string> episodes;
};

// Plays episodes 0 … n-1 on whoever connects, one a free lane, with actions that depend on the rows alone.
class toy_owner {
public:
  explicit toy_owner(int64_t episodes) : episodes_(episodes) {}
  m4n_server_owner owner();

  toy_record record;
  int began = 0, ended = 0, lost = 0, decided = 0, rows = 0;
  std::vector<int> batches; // rows of each call of decide
  int refuse = 0;           // status to refuse sessions with
  int sessions = 1;         // that are waited for before it finishes
  bool serve_on = false;    // do not finish when the episodes are played
  bool want_advice = false;
  int64_t delay_ns = 0;
  std::function<int(m4n_server *, const m4n_rows *, m4n_replies *)> hook; // instead of deciding

private:
  static int on_began(void *self, m4n_server *server, m4n_session *session);
  static int on_decide(void *self, m4n_server *server, const m4n_rows *rows, m4n_replies *replies);
  static void on_ended(void *self, m4n_server *server, m4n_session *session, bool lost);
  static bool on_finished(void *self);
  int order(m4n_server *server, m4n_session *session, int32_t lane);
  void note(const m4n_rows *rows, int32_t i);
  int64_t episodes_, next_ = 0, played_ = 0;
};

// The toy's world with lanes that a client can play.
class toy_simulator {
public:
  explicit toy_simulator(int lanes);
  ~toy_simulator();
  m4n_vec *vec = nullptr;

private:
  m4n_world *world_ = nullptr;
};

// A server with its owner on a thread of its own. Stopped and joined when it goes out of scope.
class toy_agent {
public:
  toy_agent(m4n_server_options options, m4n_server_owner owner);
  ~toy_agent();
  int join(); // waits for the server to return; its status
  int stop(); // asks it to, and waits
  m4n_server *server = nullptr;
  int opened = 0;
  std::string message; // of the status
private:
  m4n_server_owner owner_;
  m4n_stop stop_{};
  int status_ = 0;
  std::thread thread_;
};

#endif
