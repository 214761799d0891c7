#include "bridge/link_zmq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "bridge/endpoint.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

enum {
  HWM = 8,             // messages a peer may have under way: it has one, and a few that it resent
  HANDSHAKE_MS = 3000, // a connection that does not speak ZMTP by then is cut
  HEARTBEAT_MS = 1000,
  HEARTBEAT_TIMEOUT_MS = 3000,
  BACKLOG = 64,
  RECONNECT_MS = 50,
  SLICE_MS = 100 // the longest sleep: how soon a stop that came by another thread is seen
};

struct m4n_link {
  void *context, *socket, *monitor;
  bool own_context, router;
  int64_t spin_ns;
  char *endpoint;
};

_Static_assert(sizeof(zmq_msg_t) <= sizeof((m4n_message *)0)->zmq, "a zmq_msg_t fits");

int m4n_bridge_context_open(void **context) {
  *context = zmq_ctx_new();
  return *context ? M4N_OK : m4n_fail(M4N_EIO, "no messaging context: %s", zmq_strerror(errno));
}

void m4n_bridge_context_close(void **context) {
  if (!*context) return;
  while (zmq_ctx_term(*context) && errno == EINTR) {
  }
  *context = NULL;
}

// ---- opening

static int set(void *socket, int option, int value) {
  return zmq_setsockopt(socket, option, &value, sizeof value);
}

static int set_options(m4n_link *link, const char *uri, const m4n_link_options *options) {
  void *s = link->socket;
  int64_t most = M4N_MAX_FRAME;
  int failed = zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &most, sizeof most);
  failed |= set(s, ZMQ_SNDHWM, HWM) | set(s, ZMQ_RCVHWM, HWM) | set(s, ZMQ_LINGER, 0);
  failed |= set(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) | set(s, ZMQ_BACKLOG, BACKLOG);
  failed |= set(s, ZMQ_IPV6, strstr(uri, "://[") != NULL);
  if (link->router)
    failed |= set(s, ZMQ_ROUTER_MANDATORY, 1) | set(s, ZMQ_ROUTER_HANDOVER, 1);
  else
    failed |= set(s, ZMQ_RECONNECT_IVL, RECONNECT_MS);
  if (!options->no_heartbeats) {
    failed |= set(s, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) | set(s, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
    failed |= set(s, ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS);
  }
  return failed ? m4n_fail(M4N_EIO, "endpoint '%s': socket options: %s", uri, zmq_strerror(errno)) : M4N_OK;
}

// libzmq tells of broken connections through a socket of its own.
static int watch(m4n_link *link) {
  char address[64];
  snprintf(address, sizeof address, "inproc://m4n-monitor-%p", (void *)link);
  if (zmq_socket_monitor(link->socket, address, ZMQ_EVENT_DISCONNECTED) == 0 &&
      (link->monitor = zmq_socket(link->context, ZMQ_PAIR)) && set(link->monitor, ZMQ_LINGER, 0) == 0 &&
      zmq_connect(link->monitor, address) == 0)
    return M4N_OK;
  return m4n_fail(M4N_EIO, "cannot watch a socket's connections: %s", zmq_strerror(errno));
}

static int open_link(m4n_link **out, const char *uri, const m4n_link_options *options, bool router) {
  *out = NULL;
  m4n_link *link = calloc(1, sizeof *link);
  if (!link) return m4n_fail(M4N_ENOMEM, "no memory for a socket");
  int status = M4N_OK;
  link->router = router;
  link->context = options->context;
  link->own_context = !link->context;
  bool inproc = !strncmp(uri, "inproc://", 9);
  if (inproc && !router && !options->context)
    status = m4n_fail(M4N_EARG, "endpoint '%s': inproc needs the server's context", uri);
  link->spin_ns = inproc && options->spin_us > 0 ? (int64_t)options->spin_us * 1000 : 0;
  if (!status && link->own_context) status = m4n_bridge_context_open(&link->context);
  if (!status && !(link->socket = zmq_socket(link->context, router ? ZMQ_ROUTER : ZMQ_DEALER)))
    status = m4n_fail(M4N_EIO, "no socket: %s", zmq_strerror(errno));
  if (!status) status = set_options(link, uri, options);
  if (!status && !inproc) status = watch(link);
  if (status)
    m4n_link_close(link, 0);
  else
    *out = link;
  return status;
}

static int keep_endpoint(m4n_link *link, const char *uri) {
  char bound[512];
  size_t size = sizeof bound;
  // A wildcard port has become a number.
  if (link->router && zmq_getsockopt(link->socket, ZMQ_LAST_ENDPOINT, bound, &size) == 0 && size > 1)
    uri = bound;
  link->endpoint = strdup(uri);
  return link->endpoint ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for an address");
}

int m4n_link_bind(m4n_link **out, const char *uri, const m4n_link_options *options) {
  int lock = -1;
  M4N_TRY(open_link(out, uri, options, true));
  int status = m4n_endpoint_claim(uri, &lock);
  if (!status && zmq_bind((*out)->socket, uri))
    status = errno == EADDRINUSE
                 ? m4n_fail(M4N_EBUSY, "endpoint '%s': the address is in use", uri)
                 : m4n_fail(M4N_EARG, "endpoint '%s': cannot bind: %s", uri, zmq_strerror(errno));
  if (lock >= 0) close(lock);
  if (!status) status = keep_endpoint(*out, uri);
  if (status) m4n_link_close(*out, 0), *out = NULL;
  return status;
}

int m4n_link_connect(m4n_link **out, const char *uri, const m4n_link_options *options) {
  M4N_TRY(open_link(out, uri, options, false));
  int status = zmq_connect((*out)->socket, uri) == 0
                   ? keep_endpoint(*out, uri)
                   : m4n_fail(M4N_EARG, "endpoint '%s': cannot connect: %s", uri, zmq_strerror(errno));
  if (status) m4n_link_close(*out, 0), *out = NULL;
  return status;
}

void m4n_link_close(m4n_link *link, int linger_ms) {
  if (!link) return;
  // While the address is still ours: libzmq leaves the file, and a dead one would have to be told from a living one.
  if (link->router && link->endpoint && !strncmp(link->endpoint, "ipc://", 6)) unlink(link->endpoint + 6);
  if (link->socket) {
    zmq_socket_monitor(link->socket, NULL, 0);
    set(link->socket, ZMQ_LINGER, linger_ms);
    zmq_close(link->socket);
  }
  if (link->monitor) zmq_close(link->monitor);
  if (link->own_context && link->context) m4n_bridge_context_close(&link->context);
  free(link->endpoint);
  free(link);
}

const char *m4n_link_endpoint(const m4n_link *link) {
  return link->endpoint;
}

void *m4n_link_context(const m4n_link *link) {
  return link->context;
}

// ---- waiting

static bool has_input(m4n_link *link) {
  int events = 0;
  size_t size = sizeof events;
  return zmq_getsockopt(link->socket, ZMQ_EVENTS, &events, &size) == 0 && events & ZMQ_POLLIN;
}

int m4n_link_wait(m4n_link *link, int64_t deadline_ns, const m4n_stop *stop) {
  int64_t now = m4n_now_ns(), spin_end = now + link->spin_ns;
  // A sleep and a wake-up cost more than an inproc round trip; on a network they do not.
  while (link->spin_ns && now < spin_end && !m4n_stop_requested(stop)) {
    if (has_input(link)) return M4N_OK;
    now = m4n_now_ns();
  }
  zmq_pollitem_t items[] = {{.socket = link->socket, .events = ZMQ_POLLIN},
                            {.socket = link->monitor, .events = ZMQ_POLLIN}};
  while (!m4n_stop_requested(stop)) {
    int64_t left = deadline_ns < 0 ? INT64_MAX : deadline_ns - now;
    // Rounded up, so that a wait does not end just before its deadline.
    long ms = left <= 0 ? 0 : left > SLICE_MS * 1000000LL ? SLICE_MS : (long)((left + 999999) / 1000000);
    int ready = zmq_poll(items, link->monitor ? 2 : 1, ms);
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR)
      return m4n_fail(M4N_EIO, "endpoint '%s': cannot wait: %s", link->endpoint, zmq_strerror(errno));
    now = m4n_now_ns();
    if (deadline_ns >= 0 && now >= deadline_ns) break;
  }
  return M4N_OK;
}

int m4n_link_gone(m4n_link *link) {
  int fd = -1;
  bool more = link->monitor != NULL;
  // Two frames an event: its number and descriptor, then the address. Only disconnections were asked for.
  for (int frame = 0; more; frame++) {
    zmq_msg_t part;
    zmq_msg_init(&part);
    int size = zmq_msg_recv(&part, link->monitor, ZMQ_DONTWAIT);
    if (frame == 0 && size == 6) {
      int32_t value;
      memcpy(&value, (const uint8_t *)zmq_msg_data(&part) + 2, sizeof value);
      fd = value;
    }
    more = size >= 0 && zmq_msg_more(&part);
    zmq_msg_close(&part);
  }
  return fd;
}

// ---- receiving and sending

#if defined(__SANITIZE_THREAD__)
#define M4N_SEEN_BY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define M4N_SEEN_BY_TSAN 1
#endif
#endif
#ifdef M4N_SEEN_BY_TSAN
// libzmq orders what passes through it, but ThreadSanitizer cannot see into the library: this says the same to it, and
// that what the library itself does with memory is its own business.
static int passed;
static void before_send(void) {
  __atomic_add_fetch(&passed, 1, __ATOMIC_RELEASE);
}
static void after_receive(void) {
  (void)__atomic_load_n(&passed, __ATOMIC_ACQUIRE);
}
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
  return "called_from_lib:libzmq.so\n";
}
#else
static void before_send(void) {}
static void after_receive(void) {}
#endif

static zmq_msg_t *zmq_of(m4n_message *message) {
  return (zmq_msg_t *)(void *)message->zmq.bytes;
}

void m4n_message_close(m4n_message *message) {
  if (message->open) zmq_msg_close(zmq_of(message));
  message->open = false;
  message->data = NULL;
  message->size = 0;
}

void m4n_message_move(m4n_message *to, m4n_message *from) {
  m4n_message_close(to);
  *to = *from;
  if (!from->open) return;
  // Short messages lie inside the struct: libzmq moves it, and the data has a new address.
  zmq_msg_init(zmq_of(to));
  zmq_msg_move(zmq_of(to), zmq_of(from));
  to->data = zmq_msg_data(zmq_of(to));
  m4n_message_close(from);
}

// One frame into `message`; false: there is none. *more: others of the same message follow.
static int receive_frame(m4n_link *link, m4n_message *message, bool *got, bool *more) {
  zmq_msg_t *part = zmq_of(message);
  *got = *more = false;
  zmq_msg_init(part);
  int size;
  do size = zmq_msg_recv(part, link->socket, ZMQ_DONTWAIT);
  while (size < 0 && errno == EINTR);
  if (size < 0) {
    int why = errno;
    zmq_msg_close(part);
    return why == EAGAIN
               ? M4N_OK
               : m4n_fail(M4N_EIO, "endpoint '%s': cannot receive: %s", link->endpoint, zmq_strerror(why));
  }
  *got = message->open = true;
  *more = zmq_msg_more(part) != 0;
  message->data = zmq_msg_data(part);
  message->size = (size_t)size;
  return M4N_OK;
}

static int drain(m4n_link *link, bool more) {
  while (more) {
    m4n_message rest = {.open = false};
    bool got;
    M4N_TRY(receive_frame(link, &rest, &got, &more));
    m4n_message_close(&rest);
  }
  return M4N_OK;
}

// [identity,] [empty,] body: at most three frames of a ROUTER, two of a DEALER.
int m4n_link_receive(m4n_link *link, m4n_route *route, m4n_message *message) {
  bool got, more;
  message->open = message->malformed = false;
  if (link->router) {
    m4n_message identity = {.open = false};
    M4N_TRY(receive_frame(link, &identity, &got, &more));
    if (!got) return M4N_OK;
    route->size = (uint8_t)(identity.size <= sizeof route->id ? identity.size : 0);
    memcpy(route->id, identity.data, route->size);
    route->delimited = false;
    m4n_message_close(&identity);
    if (!more) return M4N_OK; // libzmq never gives an identity alone
  }
  M4N_TRY(receive_frame(link, message, &got, &more));
  if (!got) return M4N_OK;
  if (message->size == 0 && more) {
    if (route) route->delimited = true;
    m4n_message_close(message);
    M4N_TRY(receive_frame(link, message, &got, &more));
  }
  if (route) route->fd = message->open ? zmq_msg_get(zmq_of(message), ZMQ_SRCFD) : -1;
  message->malformed = more || message->size == 0;
  after_receive();
  return drain(link, more);
}

static void give_back(void *data, void *block) {
  (void)data;
  after_receive(); // by a thread of libzmq
  m4n_block_release(block);
}

// Whether a failed send is worth another try. libzmq counts what a peer has read only now and then, so that after HWM
// quick messages an empty queue looks full (and the peer waits for a reply that was dropped, until it asks again);
// asking for events makes it count at once.
static bool again(m4n_link *link, int *tries) {
  if (errno == EINTR) return true;
  if (errno != EAGAIN || (*tries)++) return false;
  has_input(link);
  return true;
}

static int send_part(m4n_link *link, const void *data, size_t size) {
  int sent, tries = 0;
  do sent = zmq_send(link->socket, data, size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
  while (sent < 0 && again(link, &tries));
  return sent;
}

int m4n_link_send(m4n_link *link, const m4n_route *route, m4n_buffer *buffer) {
  zmq_msg_t body;
  m4n_block *block = m4n_buffer_lend(buffer);
  before_send();
  if (zmq_msg_init_data(&body, buffer->data, buffer->size, give_back, block)) {
    m4n_block_release(block);
    return m4n_fail(M4N_ENOMEM, "no memory for a message");
  }
  int sent = route ? send_part(link, route->id, route->size) : 0;
  if (sent >= 0 && route && route->delimited) sent = send_part(link, "", 0);
  if (sent >= 0) {
    int tries = 0;
    do sent = zmq_msg_send(&body, link->socket, ZMQ_DONTWAIT);
    while (sent < 0 && again(link, &tries));
  }
  if (sent >= 0) return M4N_OK;
  int why = errno;
  zmq_msg_close(&body);
  return m4n_fail(why == EAGAIN ? M4N_EBUSY : M4N_EIO, "endpoint '%s': cannot send: %s", link->endpoint,
                  why == EAGAIN         ? "the peer does not read"
                  : why == EHOSTUNREACH ? "the peer is gone"
                                        : zmq_strerror(why));
}
