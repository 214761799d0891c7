/* What the program tells while it works: lines on standard error, and the same as JSON lines in the run's
 * log.jsonl. */
#ifndef M4N_BASE_LOG_H
#define M4N_BASE_LOG_H

#include <stdint.h>

#include "kernels/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_log_level { M4N_LOG_DEBUG, M4N_LOG_INFO, M4N_LOG_WARN, M4N_LOG_ERROR, M4N_LOG_QUIET };

void m4n_log_set_level(int level);  /* what is shown on standard error; default INFO */
int m4n_log_open(const char *path); /* also append JSON lines there; EIO */
void m4n_log_close(void);
void m4n_log(int level, const char *format, ...) M4N_PRINTF(2, 3);

/* Progress of a long job: one line that is rewritten on a terminal, a plain line every few seconds elsewhere.
 */
typedef struct m4n_progress {
  const char *what, *unit;
  int64_t done, total; /* total 0: unknown */
  int64_t first;       /* what had been done before: a job that goes on sets it after `begin` */
  int64_t start_ns, shown_ns;
  char note[96]; /* shown behind the numbers; the owner's to write */
} m4n_progress;
void m4n_progress_begin(m4n_progress *p, const char *what, const char *unit, int64_t total);
void m4n_progress_at(m4n_progress *p, int64_t done); /* cheap: prints at most a few times a second */
void m4n_progress_end(m4n_progress *p);

int64_t m4n_now_ns(void); /* monotonic wall clock: for measurements, never for results */

#ifdef __cplusplus
}
#endif
#endif
