/* The throughput that a rule expects, in MB/s, from an observation's last throughputs.
 */
#ifndef M4N_AGENT_RULES_ESTIMATE_H
#define M4N_AGENT_RULES_ESTIMATE_H

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_ESTIMATE_WINDOW = 5
}; /* throughputs in the mean and errors in the maximum (Yin et al., SIGCOMM 2015) */

/* Harmonic mean k / Σ 1/x of the last up to five of n throughputs, those that are there (above 0); 0 where none is. */
double m4n_harmonic_mean(const double *throughput, int n);

/* RobustMPC's estimate: the harmonic mean h over 1 + the largest of the last five relative errors, an error being
 * |h of the decision before - x| / x with x the newest throughput. `first_error` is the error of a decision that
 * has none before it. Zeroed at the start of an episode. */
typedef struct m4n_robust {
  double mean; /* h of the decision before; 0: there was none */
  double error[M4N_ESTIMATE_WINDOW];
  int next; /* place of the oldest error */
} m4n_robust;

double m4n_robust_estimate(m4n_robust *memory, const double throughput[M4N_ABR_HISTORY], double first_error);

#ifdef __cplusplus
}
#endif
#endif
