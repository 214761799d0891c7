/* From event logs to tables and plots: episodes.csv, summary.json and report.html of a run's folder.
 *
 *     m4n_report_options options = {.plots = true, .table = stdout};
 *     M4N_TRY(m4n_report_write("runs/x", folders, n_folders, &options));
 *
 * Works with any task: what is measured are the spec's metrics, the first being the one that policies are
 * compared by; a simulator that reports none is measured by its rewards. Equal logs give equal bytes of
 * episodes.csv and summary.json, in whatever order their episodes finished.
 */
#ifndef M4N_LEARN_REPORT_H
#define M4N_LEARN_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_report_options {
  bool plots;    /* draw them, by gnuplot; where it is missing a warning is logged and the report has none */
  int resamples; /* of the bootstrap; 0: 10,000 */
  FILE *table;   /* where the table goes, NULL: nowhere */
  FILE *json;    /* where summary.json goes too (--json), NULL: nowhere */
  const char *gnuplot; /* the program; NULL: "gnuplot" on the PATH */
} m4n_report_options;

/* Reads `events.bin` of every folder and writes the report into `out` (made where it is missing): episodes.csv,
 * summary.json, report.html and plots/. With several folders the policies are named "folder/policy" and are
 * compared across folders by episode (set, number and name); task, reward and metrics must agree (EARG says what
 * differs). EFORMAT for a broken log; ENOTFOUND; EIO, and then the file in question is as it was before. */
int m4n_report_write(const char *out, const char *const *folders, int n_folders,
                     const m4n_report_options *options);

#ifdef __cplusplus
}
#endif
#endif
