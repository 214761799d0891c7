/* What the model-predictive rules maximise, and two ways to find the maximum.
 *
 * A plan is a level for each of the next `horizon` chunks. Played at one assumed rate, chunk by chunk, with the
 * buffer b and the chunk's download time t:
 *
 *     if b < t: R += t - b, b = 0, else b -= t;  b += chunk_s
 *     value = U / unit - rebuffer * R - smooth * (S / unit)
 *
 * with U the sum of what the levels pay and S the sum of what the steps between them change it by, the step from
 * `last` included, both summed from the first chunk to the last. Payments are counted in 1 / `unit`: where all
 * utilities are whole thousandths (the linear QoE of a ladder in kbit/s) unit is 1000, and U and S are integers,
 * exact in a double.
 *
 * Plans whose values tie are common. Meant is the last of them in lexicographic order, the first chunk counting
 * most; so the level of the first chunk, which is all that is asked for, is the highest one that a best plan
 * begins with.
 *
 *     m4n_mpc_qoe qoe = m4n_mpc_qoe_make(levels, utility, rebuffer, smooth, chunk_s);
 *     m4n_mpc_problem problem = {.qoe = &qoe, .horizon = 5, .last = last, .buffer = buffer, .time = {…}};
 *     int level = m4n_mpc_search(&problem);
 */
#ifndef M4N_AGENT_RULES_MPC_SEARCH_H
#define M4N_AGENT_RULES_MPC_SEARCH_H

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a plan is paid for: the same for all decisions. */
typedef struct m4n_mpc_qoe {
  int levels; /* 1 … 16 */
  double chunk_s;
  double rebuffer, smooth; /* weights, not negative */
  double unit;
  double pay[M4N_ABR_MAX_LEVELS];                      /* utility * unit */
  double gain[M4N_ABR_MAX_LEVELS];                     /* utility */
  double step[M4N_ABR_MAX_LEVELS][M4N_ABR_MAX_LEVELS]; /* smooth * |difference of utilities| */
} m4n_mpc_qoe;

m4n_mpc_qoe m4n_mpc_qoe_make(int levels, const double *utility, double rebuffer, double smooth,
                             double chunk_s);

/* One decision. */
typedef struct m4n_mpc_problem {
  const m4n_mpc_qoe *qoe;
  int horizon;                                        /* 1 … 5 */
  int last;                                           /* level of the chunk before */
  double buffer;                                      /* s */
  double time[M4N_ABR_LOOKAHEAD][M4N_ABR_MAX_LEVELS]; /* s that the chunk takes at the level; finite */
} m4n_mpc_problem;

/* The level to fetch next: by branch and bound. */
int m4n_mpc_search(const m4n_mpc_problem *problem);

/* The same by trying every plan whose steps are at most `max_step` levels; equal to the search where that is no
 * limit. */
int m4n_mpc_enumerate(const m4n_mpc_problem *problem, int max_step);

#ifdef __cplusplus
}
#endif
#endif
