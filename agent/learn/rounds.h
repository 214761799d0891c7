/* On-policy rounds of distillation (algorithms.md §7.3): the student plays train episodes, sampling its actions, and the
 * labeller answers at the states that it came to.
 *
 * Round r lies in the folder "round-00000r" of the stage: the student that played, the log, its labels. The last ones are
 * drawn from, older ones removed; a resumed run finds them there.
 */
#ifndef M4N_LEARN_ROUNDS_H
#define M4N_LEARN_ROUNDS_H

#include "agent/learn/fitting.h"
#include "agent/learn/labelling.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_rounds {
  const m4n_distil_options *o;
  m4n_fitting *fitting;
  m4n_imitation *imitation;
  m4n_labelling *labelling;
  int64_t first, n;   /* rounds first … first + n − 1 are open */
  m4n_played *played; /* [keep], by number modulo keep */
} m4n_rounds;

/* EARG with the key of what is out of range. */
int m4n_rounds_open(m4n_rounds *rounds, const m4n_distil_options *options, m4n_fitting *fitting,
                    m4n_imitation *imitation, m4n_labelling *labelling);
void m4n_rounds_close(m4n_rounds *rounds); /* harmless on a zeroed one */

bool m4n_rounds_due(const m4n_rounds *rounds, int64_t step);
/* Makes the rounds that a step draws from ready: plays the one that is due, opens those that are there. ENOTFOUND if one is
 * missing that cannot be played any more. */
int m4n_rounds_at(m4n_rounds *rounds, int64_t step, const m4n_real *weights);

/* Removes all rounds in a stage's folder. */
int m4n_rounds_clear(const char *work);

#ifdef __cplusplus
}
#endif
#endif
