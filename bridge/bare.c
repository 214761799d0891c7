#include "bridge/bare.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zmq.h>

#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum { PATIENCE_MS = 10000 };

typedef struct bare {
  void *context, *socket;
  bool own;
  uint8_t *bytes; // what is sent
} bare;

static int failure(const char *endpoint, const char *what) {
  return m4n_fail(M4N_EIO, "endpoint '%s': cannot %s: %s", endpoint, what, zmq_strerror(errno));
}

static void close_bare(bare *b) {
  if (b->socket) zmq_close(b->socket);
  if (b->own && b->context) zmq_ctx_term(b->context);
  free(b->bytes);
}

static int open_bare(bare *b, int kind, const char *endpoint, void *context, size_t size) {
  int patience = PATIENCE_MS;
  *b = (bare){.context = context ? context : zmq_ctx_new(), .own = !context, .bytes = calloc(1, size + 1)};
  if (!b->bytes || !b->context || !(b->socket = zmq_socket(b->context, kind)))
    return failure(endpoint, "open");
  zmq_setsockopt(b->socket, ZMQ_RCVTIMEO, &patience, sizeof patience);
  zmq_setsockopt(b->socket, ZMQ_LINGER, &patience, sizeof patience);
  if (kind == ZMQ_ROUTER ? zmq_bind(b->socket, endpoint) : zmq_connect(b->socket, endpoint))
    return failure(endpoint, kind == ZMQ_ROUTER ? "bind" : "connect");
  return M4N_OK;
}

// Receives one message of any size without keeping it.
static int swallow(bare *b, const char *endpoint) {
  zmq_msg_t message;
  zmq_msg_init(&message);
  int size = zmq_msg_recv(&message, b->socket, 0);
  zmq_msg_close(&message);
  return size < 0 ? failure(endpoint, "receive") : M4N_OK;
}

static int answer(bare *b, const char *endpoint, size_t size, int rounds) {
  for (int i = 0; i < rounds; i++) {
    uint8_t peer[64];
    int n = zmq_recv(b->socket, peer, sizeof peer, 0);
    if (n < 0) return failure(endpoint, "receive");
    M4N_TRY(swallow(b, endpoint));
    if (zmq_send(b->socket, peer, (size_t)n, ZMQ_SNDMORE) < 0 || zmq_send(b->socket, b->bytes, size, 0) < 0)
      return failure(endpoint, "send");
  }
  return M4N_OK;
}

static int ask(bare *b, const char *endpoint, size_t size, int rounds, int64_t *round_ns) {
  for (int i = 0; i < rounds; i++) {
    int64_t start = m4n_now_ns();
    if (zmq_send(b->socket, b->bytes, size, 0) < 0) return failure(endpoint, "send");
    M4N_TRY(swallow(b, endpoint));
    round_ns[i] = m4n_now_ns() - start;
  }
  return M4N_OK;
}

int m4n_bare_answer(const char *endpoint, void *context, size_t size, int rounds) {
  bare b;
  int status = open_bare(&b, ZMQ_ROUTER, endpoint, context, size);
  if (!status) status = answer(&b, endpoint, size, rounds);
  close_bare(&b);
  return status;
}

int m4n_bare_ask(const char *endpoint, void *context, size_t size, int rounds, int64_t *round_ns) {
  bare b;
  int status = open_bare(&b, ZMQ_DEALER, endpoint, context, size);
  if (!status) status = ask(&b, endpoint, size, rounds, round_ns);
  close_bare(&b);
  return status;
}
