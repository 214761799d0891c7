/* A run's folder: made only when there is something to put in, never over a folder that is not a run's.
 *
 *     m4n_run_folder folder;
 *     M4N_TRY(m4n_run_folder_open(&folder, NULL, scenario, M4N_FOLDER_REPLACE));     // runs/<name>-<UTC time>
 *     …
 *     m4n_run_folder_close(&folder, finished > 0);               // nothing came of it: leaves no trace
 *
 * It holds scenario.yaml and log.jsonl from the start; events.bin grows while the run goes on; tables and plots come
 * last.
 */
#ifndef M4N_AGENT_RUN_FOLDER_H
#define M4N_AGENT_RUN_FOLDER_H

#include <stdbool.h>

#include "agent/scenario.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_run_folder {
  char *path, *scenario, *events, *log; /* the folder and its files */
  bool made;                            /* the folder was not there before */
} m4n_run_folder;

enum m4n_run_folder_use {
  M4N_FOLDER_REPLACE, /* an older run's is taken, and what that left is removed; but no training's */
  M4N_FOLDER_NEW,     /* an older run's is refused */
  M4N_FOLDER_KEEP     /* an older run's is taken as it is */
};

/* `out` NULL: a new folder under runs/. An empty folder is taken, an older run's as `use` says; EARG for any other; EIO if
 * it cannot be written. Progress is logged to its log.jsonl from here on. */
int m4n_run_folder_open(m4n_run_folder *folder, const char *out, const m4n_scenario *scenario, int use);
/* `keep` false: removes the files again, and the folder if it was made. */
void m4n_run_folder_close(m4n_run_folder *folder, bool keep);

#ifdef __cplusplus
}
#endif
#endif
