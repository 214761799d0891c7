/* Where agent and simulators meet: addresses, and the context that inproc needs both sides to share.
 *
 *     void *context;
 *     M4N_TRY(m4n_bridge_context_open(&context));     // one for `run`; for ipc and tcp pass NULL instead
 */
#ifndef M4N_BRIDGE_ENDPOINT_H
#define M4N_BRIDGE_ENDPOINT_H

#ifdef __cplusplus
extern "C" {
#endif

/* The full URI of what a user wrote. "inproc" gives inproc://mamba4net; "tcp" gives tcp://127.0.0.1:5555;
 * "ipc" gives a socket in a 0700 folder of the user's own, which is made if need be: $XDG_RUNTIME_DIR/mamba4net,
 * or mamba4net-UID under $TMPDIR or /tmp, refused (EARG) if somebody else owns or may enter it. A full URI is
 * checked and kept, "localhost" becoming 127.0.0.1. tcp beyond loopback is EARG: it needs CURVE, and that is not
 * configured. The text is freed by the caller. */
int m4n_endpoint_resolve(char **uri, const char *endpoint);

/* Readies an ipc address for binding: EBUSY if a server lives there; the socket file of a dead one is removed;
 * anything that is no socket is left alone (EARG). Other kinds of addresses need nothing. `*lock` is a descriptor
 * that keeps other starters of this program out until it is closed (-1: none). */
int m4n_endpoint_claim(const char *uri, int *lock);

/* A messaging context (libzmq's) for a server and clients of one process. Close it after they are closed. */
int m4n_bridge_context_open(void **context);
void m4n_bridge_context_close(void **context); /* sets it to NULL; harmless on NULL */

#ifdef __cplusplus
}
#endif
#endif
