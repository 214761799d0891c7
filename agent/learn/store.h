/* The event log (events.bin): every observation, action, reward and flag of a run, episode by episode.
 *
 * One format (store_format.h), written by the agent while it serves, read by replay, report and learner. A
 * file is a header (the task's spec, the policies, the scenario's text) and records, one a finished episode,
 * each a zstd frame with an XXH3 hash: after a crash the file reads up to its last whole record. A record
 * holds no lane, no transport and no wall clock, so equal runs hold equal records (their order is that of
 * finishing).
 *
 *     m4n_events *w;
 *     M4N_TRY(m4n_events_create(&w, "events.bin", &header, slots));
 *     m4n_events_begin(w, slot, policy, &order, label, obs, t);
 *     do {
 *       m4n_events_action(w, slot, action, delay_ns, served_by);
 *       m4n_events_result(w, slot, obs, reward, info, t, flags, metrics);
 *     } while (!(flags & M4N_ENDED));
 *     M4N_TRY(m4n_events_close(w));
 */
#ifndef M4N_LEARN_STORE_H
#define M4N_LEARN_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_POLICY_TEXT =
      4352, /* bytes of a policy's name (a file's, perhaps) or of what is said about it, with the zero */
  M4N_LABEL = 96,          /* bytes of an episode's name, the ending zero included */
  M4N_MAX_POLICIES = 4096, /* of a run */
  M4N_MAX_EPISODE =
      1 << 30, /* bytes of one episode, in the file's terms and as rows: longer ones are an error */
};

/* What a file says of itself. */
typedef struct m4n_events_header {
  m4n_spec spec;
  uint64_t seed;
  int n_policies;
  const char *const *policy; /* [n_policies] names */
  const char *scenario;      /* the resolved scenario's text, "" where there is none */
  const char *const
      *about; /* [n_policies] how each was made, "" where there is nothing to say; NULL: of none */
} m4n_events_header;

/* An episode of T decisions: the rows a policy saw, what it did, and what came of it. At step t it saw obs[t],
 * did action[t] and got reward[t] and info[t]; obs[T] is the last observation, to which nobody answered. */
typedef struct m4n_episode {
  int32_t policy; /* index into the header's names */
  int32_t set;
  int64_t episode;
  uint64_t seed;
  uint32_t flags; /* how it ended: m4n_flag bits */
  int32_t steps;  /* T; 0 where a lane was lost before its first result */
  char label[M4N_LABEL];
  const uint8_t *obs;         /* [steps + 1][spec obs_size]; what no field covers is zero */
  const uint8_t *action;      /* [steps][spec act_size] */
  const double *reward;       /* [steps] finite */
  const double *info;         /* [steps][spec n_info], NaN where unknown */
  const double *metrics;      /* [spec n_metrics], NaN where unknown */
  const int64_t *sim_time_ns; /* [steps + 1] */
  const int64_t *delay_ns;    /* [steps] decision delay charged to the simulated clock */
  const uint8_t *served_by;   /* [steps] 0: the policy, 1: its fallback */
  const uint8_t
      *advice; /* [steps][spec act_size] the simulator's oracle on obs[t], components -1 where it gave
                                 none; NULL for an episode that was played without */
} m4n_episode;

/* ---- writing: one thread calls, a thread of the log's own compresses and writes */
typedef struct m4n_events m4n_events;

/* `slots` lanes may be recorded at once. Replaces what is at `path`. EARG names what a file cannot hold of the
 * header; EIO, ENOMEM. */
int m4n_events_create(m4n_events **log, const char *path, const m4n_events_header *header, int slots);

/* The slot's episode begins with its first observation. `label` may be NULL. With M4N_RESET_ADVICE in the order's
 * options the record has room for advice. */
void m4n_events_begin(m4n_events *log, int slot, int policy, const m4n_reset *order, const char *label,
                      const uint8_t *obs, int64_t sim_time_ns);
/* The decision on the slot's last observation … */
void m4n_events_action(m4n_events *log, int slot, const uint8_t *action, int64_t delay_ns, int served_by);
/* The simulator's advice on that observation, before or after its action; harmless in an episode
 * that was begun without it. */
void m4n_events_advice(m4n_events *log, int slot, const uint8_t *advice);
/* … and what came of it. `info` may be NULL. With an ended flag the record is complete and goes to the file;
 * `metrics` may be NULL. Waits where the disk or the compressor cannot follow; nothing is dropped. */
void m4n_events_result(m4n_events *log, int slot, const uint8_t *obs, double reward, const double *info,
                       int64_t sim_time_ns, uint32_t flags, const double *metrics);
/* The slot's lane died: what there is is recorded with the flag M4N_LOST; a decision without a result is not.
 * Harmless on a slot without an episode. */
void m4n_events_lost(m4n_events *log, int slot);
/* The slot's episode will be played again from its beginning: nothing of it is recorded. Harmless likewise. */
void m4n_events_drop(m4n_events *log, int slot);

/* The first failure since creation (a full disk: EIO), so that a long run can stop early; M4N_OK without one.
 * After a failure to write, the file ends with its last whole record and later episodes are left out. */
int m4n_events_status(m4n_events *log);
/* Episodes without an end are recorded as lost; then everything is written and the first failure since
 * creation reported. NULL is harmless. */
int m4n_events_close(m4n_events *log);

/* ---- reading: memory is bounded by the longest episode */
typedef struct m4n_events_file m4n_events_file;

int m4n_events_open(m4n_events_file **file, const char *path); /* ENOTFOUND, EFORMAT, EIO, ENOMEM */
const m4n_events_header *m4n_events_header_of(const m4n_events_file *file);
/* The next episode; its arrays are valid until the next call. *more is false at the end. A broken tail after
 * the last whole record ends the file (m4n_events_truncated tells); a broken record in the middle is EFORMAT
 * with its offset. Everything is checked against the spec: values in their range, actions among the choices. */
int m4n_events_next(m4n_events_file *file, m4n_episode *episode, bool *more);
/* At the end: true if the writer did not come to close it, so that episodes may be missing. */
bool m4n_events_truncated(const m4n_events_file *file);
void m4n_events_free(m4n_events_file *file); /* NULL is harmless */

#ifdef __cplusplus
}
#endif
#endif
