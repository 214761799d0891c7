/* Statuses and the error record: how everything in mamba4net that can fail says so.
 *
 * A function that can fail returns an int status, 0 being ok. Where a failure is found, `m4n_fail` (or
 * `m4n_fail_at` when an input file is to blame) writes the message into a record of the calling thread and
 * returns the status; callers pass it on with M4N_TRY, and may put what they were doing in front of it with
 * `m4n_context`:
 *
 *     int m4n_trace_read(...) {
 *       M4N_TRY(m4n_map_open(&map, path, limit));
 *       if (t < last) return m4n_fail_at(M4N_EFORMAT, path, line, "time", "%g is before %g: times must rise",
 * t, last);
 *     }
 *
 * Only the world's faults (files, peers, memory, devices) are statuses; a caller's own mistake is an assert.
 */
#ifndef M4N_BASE_STATUS_H
#define M4N_BASE_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#define M4N_STATUS_LIST(X)                                                                                   \
  X(OK, "ok")                                                                                                \
  X(EARG, "bad argument")      /* an option or a scenario's key has a value we refuse */                     \
  X(EFORMAT, "bad input")      /* a file or frame is not what it should be */                                \
  X(ENOTFOUND, "not found")    /* a file, a key or a name does not exist */                                  \
  X(EIO, "input/output error") /* the system refused to read or write */                                     \
  X(ENOMEM, "out of memory")                                                                                 \
  X(EBUSY, "in use") /* an address or a file is taken */                                                     \
  X(ETIMEOUT, "deadline passed")                                                                             \
  X(EPROTO, "protocol error")      /* a peer broke the bridge's protocol */                                  \
  X(EUNSUPPORTED, "not supported") /* understood, but this build or policy cannot do it */                   \
  X(ECANCELLED, "interrupted")     /* a signal asked to stop */                                              \
  X(EDIVERGED, "training diverged")                                                                          \
  X(EDIFFERS, "results differ") /* a replay or a comparison found a difference */                            \
  X(EDEVICE, "device error")

enum m4n_status {
#define M4N_STATUS_ENUM(name, text) M4N_##name,
  M4N_STATUS_LIST(M4N_STATUS_ENUM)
#undef M4N_STATUS_ENUM
      M4N_STATUS_COUNT
};

/* The last failure of this thread. `file`, `line` and `key` are empty, 0 and empty where no input is to
 * blame. */
typedef struct m4n_error {
  int status;
  char file[256];
  long line;
  char key[96];
  char context[256]; /* what callers were doing, outermost first: "reading x: row 3: " */
  char text[1024];   /* what was wrong and what was expected */
} m4n_error;

#if defined(__GNUC__)
#define M4N_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define M4N_PRINTF(a, b)
#endif

/* Records a failure and returns `status`. */
int m4n_fail(int status, const char *format, ...) M4N_PRINTF(2, 3);

/* The same for an input: `file` (may be NULL), `line` (from 1; 0 unknown) and the offending `key` (may be
 * NULL). */
int m4n_fail_at(int status, const char *file, long line, const char *key, const char *format, ...)
    M4N_PRINTF(5, 6);

/* Puts "format: " in front of the recorded message; returns `status`. */
int m4n_context(int status, const char *format, ...) M4N_PRINTF(2, 3);

/* The record of the calling thread; never NULL. */
const m4n_error *m4n_last_error(void);

/* Hands a record of another thread to this one (a worker's failure to the thread that waits for it); returns
 * its status. */
int m4n_set_error(const m4n_error *error);

/* "CONTEXT: FILE:LINE: KEY: TEXT" with the parts that are known; the string lives until the thread's next failure. */
const char *m4n_error_message(void);

/* A short name of the status, "bad input"; for an unknown number "unknown status". */
const char *m4n_status_text(int status);

#define M4N_TRY(expression)                                                                                  \
  do {                                                                                                       \
    int m4n_try_status = (expression);                                                                       \
    if (m4n_try_status) return m4n_try_status;                                                               \
  } while (0)

/* The static analyzer does not look into status.c: it is told that a failure returns the status it is given. */
#if defined(__clang_analyzer__) && !defined(__cplusplus) && !defined(M4N_STATUS_C)
static inline int m4n_analyzer_status(int recorded, int status) {
  (void)recorded;
  return status;
}
#define m4n_fail(status, ...) m4n_analyzer_status((m4n_fail)(status, __VA_ARGS__), status)
#define m4n_fail_at(status, ...) m4n_analyzer_status((m4n_fail_at)(status, __VA_ARGS__), status)
#define m4n_context(status, ...) m4n_analyzer_status((m4n_context)(status, __VA_ARGS__), status)
#endif

#ifdef __cplusplus
}
#endif
#endif
