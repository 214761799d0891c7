/* What the adaptive-bitrate world is made of. Data only: filled from a scenario's `abr:` section or by hand.
 */
#ifndef M4N_SIM_ABR_OPTIONS_H
#define M4N_SIM_ABR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_abr_qoe { M4N_QOE_LINEAR, M4N_QOE_LOG, M4N_QOE_HD };

/* Where an episode begins in its trace. Fixed: row pointer 1, episode e plays trace e mod n. Seeded: trace
 * and row are drawn for every episode. Listed: row pointers from a file, one a trace, in the traces' order.
 */
enum m4n_abr_start { M4N_START_FIXED, M4N_START_SEEDED, M4N_START_LISTED };

typedef struct m4n_abr_traces {
  const char **paths;   /* [n_paths] folders or files; the set's traces are theirs in this order */
  int n_paths;          /* 0: the set is empty */
  int format;           /* m4n_trace_format */
  int start;            /* m4n_abr_start */
  const char *pointers; /* LISTED: the file */
  double scale
      [2]; /* SEEDED: an episode's rates are multiplied by a factor drawn log-uniformly from this range; 0, 0: by 1 */
  double noise; /* a chunk's delay is multiplied by U(1-noise, 1+noise); 0: none */
} m4n_abr_traces;

typedef struct m4n_abr_options {
  m4n_abr_traces set[M4N_SETS]; /* test, train, valid */
  const char *video;            /* folder of video_size_N or Sabre JSON */
  int chunks;                   /* to play; 0: all but the last, which is only ever a next size (48 of 49) */
  double chunk_s;               /* 0: what the video says, else 4 */
  const double *ladder;         /* [levels] kbit/s; NULL: what the video says, else Pensieve's six */
  int levels;                   /* of `ladder`; must equal the video's */
  int qoe;                      /* m4n_abr_qoe */
  double rebuffer, smooth;      /* weights; negative: the kind's own (4.3 / 2.66 / 8, and 1) */
  double utility[M4N_ABR_MAX_LEVELS]; /* HD: what a level pays; levels_hd of them, 0: Pensieve's
                                         {1,2,3,12,15,20} */
  int levels_hd;
  double rtt_ms;       /* negative: the trace's own where its file states one, else 80 */
  double buffer_cap_s; /* 60 */
  double drain_ms;     /* 500: what the client sleeps at a time when the buffer is full */
  double payload;      /* 0.95: share of a packet that is video */
  int first_level;     /* level of the forced first chunk */
} m4n_abr_options;

/* The published environment's values (Pensieve, NetLLM), no paths. */
m4n_abr_options m4n_abr_defaults(void);

#ifdef __cplusplus
}
#endif
#endif
