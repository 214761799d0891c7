/* An ablation: a scenario's training as it is, "full", and its variants, each with several seeds, in one folder:
 *
 *     DIR/scenario.yaml               the scenario, with its list of variants
 *     DIR/seed-1/full/, DIR/seed-1/no-teacher/, …, DIR/seed-2/full/, …     trainings (training.h), each with its report
 *     DIR/ablation.txt, ablation.csv  the table (learn/report_ablation.h)
 *
 * What variants of a seed have in common is made once: a stage that another of them has done with the same options and from
 * the same inputs is taken from there. Everything resumes, as a training does.
 *
 * A variant is "name key=value key=value": keys of the scenario, values without blanks. Variants evaluate the compared
 * policy alone, so that nothing is trained for the sake of its report; "full" evaluates all that the scenario names.
 */
#ifndef M4N_AGENT_ABLATION_H
#define M4N_AGENT_ABLATION_H

#include "agent/options.h"
#include "agent/training.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_ablation_options {
  const char *path;           /* the scenario's file */
  const m4n_option_list *set; /* --set, for all variants; a variant's own keys win */
  const char *seed;           /* --seed; NULL: the scenario's */
  const char *out;            /* NULL: a new folder under runs/ */
  bool resume;
  const char *device;
  int threads;
} m4n_ablation_options;

/* What is wrong with any variant is said before the first is trained: EARG, EFORMAT with the variant's name. */
int m4n_ablation_run(const m4n_ablation_options *options, const m4n_stop *stop);

#ifdef __cplusplus
}
#endif
#endif
