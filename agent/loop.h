/* The closed loop: an owner that decides (agent/serve.h, a trainer) on one side of the bridge, simulators on the other.
 * Either this process plays the scenario's world in a thread of its own, or simulators connect from outside; the owner
 * sees no difference.
 *
 *     m4n_loop loop;
 *     M4N_TRY(m4n_loop_open(&loop, &(m4n_loop_options){.scenario = s, .endpoint = uri, .slots = 64, .simulator = &own}));
 *     int status = m4n_loop_run(&loop, &owner, &m4n_interrupted);      // until the owner is done
 *     m4n_loop_close(&loop);
 */
#ifndef M4N_AGENT_LOOP_H
#define M4N_AGENT_LOOP_H

#include "agent/scenario.h"
#include "agent/simulator.h"
#include "bridge/server.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_loop_options {
  const m4n_scenario *scenario; /* its section bridge */
  const char *endpoint;         /* resolved */
  m4n_simulator *simulator;     /* plays here; NULL: whoever connects */
  int slots;                    /* lanes of all simulators together */
  int wait_ms;                  /* with no simulator for so long: ETIMEOUT; 0: for ever */
  const char *policy;           /* what WELCOME calls it */
} m4n_loop_options;

typedef struct m4n_loop {
  m4n_loop_options o;
  m4n_server *server;
} m4n_loop;

/* Binds the address: simulators may come. As m4n_server_open. */
int m4n_loop_open(m4n_loop *loop, const m4n_loop_options *options);
/* As m4n_server_run, or what went wrong with the simulator that plays here. May be called again. */
int m4n_loop_run(m4n_loop *loop, const m4n_server_owner *owner, const m4n_stop *stop);
void m4n_loop_close(m4n_loop *loop); /* harmless on a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
