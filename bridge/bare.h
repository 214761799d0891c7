/* libzmq by itself: messages to and fro with nothing in them. What a bridge over it could reach at best, for
 * `mamba4net bench`.
 */
#ifndef M4N_BRIDGE_BARE_H
#define M4N_BRIDGE_BARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Binds a ROUTER and answers `rounds` messages with `size` bytes each. */
int m4n_bare_answer(const char *endpoint, void *context, size_t size, int rounds);
/* Connects a DEALER, asks `rounds` times with `size` bytes each, one at a time, and notes how long each took:
 * round_ns[rounds]. `context` of both: shared for inproc, else NULL. EIO if nobody answers for 10 s. */
int m4n_bare_ask(const char *endpoint, void *context, size_t size, int rounds, int64_t *round_ns);

#ifdef __cplusplus
}
#endif
#endif
