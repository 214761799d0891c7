/* The simulator's side of the bridge: one DEALER socket that plays the lanes of a vec against an agent.
 *
 *     m4n_client_options options = {.endpoint = "ipc:///run/…/agent.sock"};
 *     M4N_TRY(m4n_client_run(&options, vec, &stats, &stop));
 */
#ifndef M4N_BRIDGE_CLIENT_H
#define M4N_BRIDGE_CLIENT_H

#include "bridge/endpoint.h"
#include "kernels/base/stop.h"
#include "sim/vec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_client_options {
  const char *endpoint;
  void *context;  /* the server's, in the same process (inproc); NULL: its own */
  int connect_ms; /* 0: 10 s; negative: no deadline (--debug) */
  int first_ms;   /* first ACT; 0: 10 s */
  int act_ms;     /* every ACT; 0: 1 s, then `resends` more with doubled waits; then every PONG */
  int resends;    /* 0: 3 */
  int spin_us;    /* busy-poll this long before blocking (inproc only) */
  bool patient;   /* the agent is a thread of this process: asks again until it answers or `stop` */
} m4n_client_options;

typedef struct m4n_client_stats {
  int64_t messages, steps, episodes, resent;
  char policy[64]; /* as WELCOME named it */
} m4n_client_stats;

/* An agent that sends no ACT in time but answers a PING (in lockstep it waits for another simulator) is waited for until
 * it must have dropped a silent one: the deadline above and the agent's `idle ms` together.
 *
 * Plays until the agent says it is done (0), the agent dies or stays silent (ETIMEOUT, EPROTO with its
 * reason), or `stop` is requested (ECANCELLED, after a BYE). Nothing hangs: every wait has one of the
 * deadlines above, and messages name the one that passed; a patient one ends with `stop`. */
int m4n_client_run(const m4n_client_options *options, m4n_vec *vec, m4n_client_stats *stats,
                   const m4n_stop *stop);

#ifdef __cplusplus
}
#endif
#endif
