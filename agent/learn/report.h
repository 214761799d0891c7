/* From event logs to tables and plots: episodes.csv, summary.json and report.html of a run's folder.
 *
 *     M4N_TRY(m4n_report_write("runs/x", folders, n_folders, &(m4n_report_options){0}));
 */
#ifndef M4N_LEARN_REPORT_H
#define M4N_LEARN_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_report_options {
  bool plots;    /* report.html with SVG by gnuplot (a message and no plots where gnuplot is missing) */
  int resamples; /* of the bootstrap; 0: 10,000 */
  FILE *table;   /* where the table goes, NULL: nowhere */
  FILE *json;    /* where summary.json goes too (--json), NULL: nowhere */
} m4n_report_options;

/* Reads `events.bin` of every folder and writes the report into `out`. With several folders the policies are
 * named "folder/policy" and are compared across folders by episode; tasks and rewards must agree (EARG says
 * what differs). */
int m4n_report_write(const char *out, const char *const *folders, int n_folders,
                     const m4n_report_options *options);

#ifdef __cplusplus
}
#endif
#endif
