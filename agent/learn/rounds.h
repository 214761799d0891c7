/* Rounds of playing (algorithms.md §7.3, §7.4): the student plays train episodes, sampling its actions, and where there is a
 * labeller it answers at the states that the student came to. What distillation's on-policy part and tuning share.
 *
 * Round r lies in the folder "round-00000r" of the stage: the student that played, the log, its labels. The last ones are
 * kept, older ones removed; a resumed run finds them there.
 */
#ifndef M4N_LEARN_ROUNDS_H
#define M4N_LEARN_ROUNDS_H

#include "agent/learn/fitting.h"
#include "agent/learn/labelling.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_rounds_options {
  m4n_fitting *fitting;     /* whose model plays, in the folder of whose stage */
  m4n_labelling *labelling; /* NULL: nobody labels */
  int64_t every, start, episodes;
  int keep;
  bool advice;     /* the simulator's oracle advises: it is the labeller */
  bool current;    /* the weights themselves play; else their average, where there is one */
  uint64_t stream; /* a number of the stage's own: which episodes are drawn */
} m4n_rounds_options;

typedef struct m4n_rounds {
  m4n_rounds_options o;
  int64_t first, n;   /* rounds first … first + n − 1 are open */
  m4n_played *played; /* [keep], by number modulo keep; labels NULL without a labeller */
} m4n_rounds;

int m4n_rounds_open(m4n_rounds *rounds, const m4n_rounds_options *options);
void m4n_rounds_close(m4n_rounds *rounds); /* harmless on a zeroed one */

bool m4n_rounds_due(const m4n_rounds *rounds, int64_t step);
/* Makes the rounds that a step draws from ready: plays the one that is due, opens those that are there. ENOTFOUND if one is
 * missing that cannot be played any more. */
int m4n_rounds_at(m4n_rounds *rounds, int64_t step, const m4n_real *weights);

/* The path of a round's file. EARG where it is too long. */
int m4n_rounds_path(const m4n_rounds *rounds, int64_t round, const char *file, char path[M4N_PATH]);

/* Removes all rounds in a stage's folder. */
int m4n_rounds_clear(const char *work);

#ifdef __cplusplus
}
#endif
#endif
