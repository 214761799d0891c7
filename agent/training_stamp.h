/* What a stage's outputs were made with and from, as lines of text: two stamps are equal exactly if the outputs would be.
 *
 *     m4n_stamp stamp;
 *     M4N_TRY(m4n_stamp_open(&stamp, "collect", scenario));
 *     M4N_TRY(m4n_stamp_keys(&stamp, "collect."));              // keys with their values; of paths what lies there
 *     M4N_TRY(m4n_stamp_file(&stamp, "expert", path));          // a hash of its content
 *     …
 *     m4n_stamp_close(&stamp);
 */
#ifndef M4N_AGENT_TRAINING_STAMP_H
#define M4N_AGENT_TRAINING_STAMP_H

#include <stdio.h>

#include "agent/scenario.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_stamp {
  const m4n_scenario *scenario;
  FILE *stream;
  char *text;
  size_t size;
} m4n_stamp;

int m4n_stamp_open(m4n_stamp *stamp, const char *stage, const m4n_scenario *scenario);
/* All keys that begin with `prefix`. */
int m4n_stamp_keys(m4n_stamp *stamp, const char *prefix);
/* A file, or all files of a folder; NULL writes that there is none. EIO, ENOTFOUND. */
int m4n_stamp_file(m4n_stamp *stamp, const char *what, const char *path);
int m4n_stamp_done(m4n_stamp *stamp); /* the text is whole; ENOMEM */
void m4n_stamp_close(m4n_stamp *stamp);

enum m4n_stamp_state {
  M4N_STAMP_OTHER, /* none there, or one of other options or inputs */
  M4N_STAMP_BEGUN,
  M4N_STAMP_DONE
};
/* What the file at `path` says of this stamp. */
int m4n_stamp_state(const m4n_stamp *stamp, const char *path);
int m4n_stamp_write(const m4n_stamp *stamp, const char *path, int state); /* EIO */

#ifdef __cplusplus
}
#endif
#endif
