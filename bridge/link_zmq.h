/* One socket of the bridge: the agent's ROUTER or a simulator's DEALER, with every option that keeps it bounded.
 *
 * Waits are bounded and end early when `stop` is requested; sends never block. A message's bytes are read where they
 * lie, and lent to libzmq where they are written: nothing is copied on our side. One thread at a time uses a link.
 *
 *     m4n_link *link;
 *     M4N_TRY(m4n_link_connect(&link, "ipc:///run/…/agent.sock", &options));
 *     M4N_TRY(m4n_link_send(link, NULL, &buffer));
 *     M4N_TRY(m4n_link_wait(link, deadline_ns, stop, &ready));
 *     M4N_TRY(m4n_link_receive(link, &message));        // message.size 0: there is none
 *     m4n_message_close(&message);
 */
#ifndef M4N_BRIDGE_LINK_ZMQ_H
#define M4N_BRIDGE_LINK_ZMQ_H

#include "bridge/packer.h"
#include "kernels/base/stop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_link m4n_link;

typedef struct m4n_link_options {
  void *context;      /* shared with others of this process (inproc); NULL: its own */
  int spin_us;        /* busy-poll this long before sleeping; inproc only, ignored elsewhere */
  bool no_heartbeats; /* a peer that stands still (in a debugger) is not cut off */
} m4n_link_options;

/* How to reach a peer of a ROUTER. */
typedef struct m4n_route {
  uint8_t id[255];
  uint8_t size;
  bool delimited; /* a REQ socket: an empty frame goes first */
  int fd;         /* of its connection, for m4n_link_gone; -1: unknown (inproc) */
} m4n_route;

/* A received message, to be closed; a zeroed one is harmless to close. */
typedef struct m4n_message {
  union {
    void *align;
    unsigned char bytes[64];
  } zmq; /* libzmq's own; used while `open` */
  bool open;
  const uint8_t *data;
  size_t size;
  bool malformed; /* too many frames, or none; what there was is drained */
} m4n_message;

/* `uri` as m4n_endpoint_resolve gives it. EBUSY: the address is taken; EARG: it cannot be bound. */
int m4n_link_bind(m4n_link **link, const char *uri, const m4n_link_options *options);
int m4n_link_connect(m4n_link **link, const char *uri, const m4n_link_options *options);
/* Messages that are under way get `linger_ms` to leave. Harmless on NULL. */
void m4n_link_close(m4n_link *link, int linger_ms);
const char *m4n_link_endpoint(const m4n_link *link); /* as bound: with the port that was found */
void *m4n_link_context(const m4n_link *link);

/* Waits until there is something to receive or `deadline_ns` of m4n_now_ns has passed (negative: no deadline), the
 * peers change, or `stop` is requested; whichever it was, the caller looks. */
int m4n_link_wait(m4n_link *link, int64_t deadline_ns, const m4n_stop *stop);
/* The next message, if there is one: message->open. `route` is a ROUTER's; NULL for a DEALER. */
int m4n_link_receive(m4n_link *link, m4n_route *route, m4n_message *message);
void m4n_message_close(m4n_message *message);
void m4n_message_move(m4n_message *to, m4n_message *from); /* closes what `to` held; `from` is empty then */
/* Hands the buffer's bytes over, without waiting: EIO if the peer is gone, EBUSY if it does not read. */
int m4n_link_send(m4n_link *link, const m4n_route *route, m4n_buffer *buffer);
/* The descriptor of a connection that broke since the last call; -1: none. Not known for inproc. */
int m4n_link_gone(m4n_link *link);

#ifdef __cplusplus
}
#endif
#endif
