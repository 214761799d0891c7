/* The table of an ablation: variants of one method, each trained with several seeds, compared with the full method on the
 * episodes that all of them were evaluated on.
 *
 *     const m4n_ablation_row rows[] = {{"full", ""}, {"no-teacher", "label.by=none …"}};
 *     const char *folders[2][3] = {…};                      // runs' folders, [variant][seed]
 *     M4N_TRY(m4n_ablation_write("runs/x", &(m4n_ablation_runs){.row = rows, .n = 2, .folder = &folders[0][0], .seeds = 3,
 *                                                               .policy = "student"}, stdout));
 *
 * An episode's value is the mean over seeds. Intervals are over episodes, of these means and of their differences to the
 * full method, episode by episode and seed by seed (stats.h); they say nothing of other seeds, whose spread stands beside
 * them: the smallest and the largest of the seeds' own means. Other policies of the full runs come last, for comparison.
 */
#ifndef M4N_LEARN_REPORT_ABLATION_H
#define M4N_LEARN_REPORT_ABLATION_H

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_ablation_row {
  const char *name, *settings; /* settings: for people */
} m4n_ablation_row;

typedef struct m4n_ablation_runs {
  const m4n_ablation_row *row; /* [n]; the first is the full method */
  int n, seeds;
  const char *const *folder; /* [n][seeds] with an events.bin each */
  const char *policy;        /* whose episodes are compared */
} m4n_ablation_runs;

/* Writes ablation.csv and ablation.txt into the folder `out`, and the latter to `table` too (NULL: not). As
 * m4n_report_write; EARG where a run did not evaluate the policy. */
int m4n_ablation_write(const char *out, const m4n_ablation_runs *runs, FILE *table);

#ifdef __cplusplus
}
#endif
#endif
