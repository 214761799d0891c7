/* Inside of the abr task: its world and its state. For sim/abr and its tests alone. */
#ifndef M4N_SIM_ABR_WORLD_H
#define M4N_SIM_ABR_WORLD_H

#include "kernels/base/arena.h"
#include "kernels/base/rng.h"
#include "sim/abr/options.h"
#include "sim/abr/player.h"
#include "sim/env.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct abr_trace {
  const char *name;
  const abr_row *row; /* [rows] */
  int32_t rows;
  int32_t start; /* row pointer where a listed or fixed episode begins */
  double rtt_ms;
  double mbps, variation; /* mean, and deviation as a share of it, over the whole trace: for the metrics */
} abr_trace;

typedef struct abr_set {
  abr_trace *trace; /* [count] */
  int32_t count;
  int32_t seeded;
  double scale_low, scale_ratio; /* factor on an episode's rates: low · ratio^U(0,1) */
  double noise;                  /* of a chunk's delay */
} abr_set;

struct m4n_world {
  m4n_spec spec;
  m4n_arena memory;
  abr_set set[M4N_SETS];
  abr_client client; /* its rtt_ms is replaced by the trace's */
  int32_t levels;
  int32_t chunks; /* of an episode, the forced first one included */
  int32_t first_level;
  double rebuffer, smooth;
  double utility[M4N_ABR_MAX_LEVELS];                    /* of the scenario's QoE */
  double change[M4N_ABR_MAX_LEVELS][M4N_ABR_MAX_LEVELS]; /* [level][last] |difference of their utilities| */
  double kbps[M4N_ABR_MAX_LEVELS], mbps[M4N_ABR_MAX_LEVELS];
  double log[M4N_ABR_MAX_LEVELS]; /* utilities of the two other kinds, for the metrics */
  double hd[M4N_ABR_MAX_LEVELS];
  int32_t has_hd;
  const double *size; /* [video chunks + lookahead][levels] bytes, zeros behind the video's end */
};

/* One lane. Plain bytes. */
typedef struct abr_state {
  int32_t set, trace;
  int32_t chunk; /* the next one to fetch */
  int32_t level; /* of the last one */
  abr_cursor at;
  double buffer_ms;
  double clock_ms; /* since the episode began */
  double used_s;   /* of the trace: downloads without round trip, and sleeps (the offline optimum's clock) */
  double sleep_left;
  double scale;                       /* factor on the trace's rates */
  double throughput[M4N_ABR_HISTORY]; /* MB/s, oldest first */
  double download[M4N_ABR_HISTORY];   /* s */
  m4n_rng noise;
  /* sums over the counted chunks */
  double reward, quality, rebuffer_s, smooth, bitrate, log_smooth, hd_smooth, log_quality, hd_quality;
  double startup_s;
  int32_t switches, counted;
} abr_state;

/* The factor on the next chunk's delay; 1 without noise. */
double abr_noise(const abr_set *set, m4n_rng *rng);

/* Fetches the next chunk of a lane at `level`: all that every chunk moves, without reward and sums. */
abr_chunk abr_advance(const m4n_world *world, abr_state *state, int level);

/* QoE of a chunk: utility − rebuffer · s − smooth · |utility − utility of the chunk before|. */
static inline double abr_reward(const m4n_world *w, int level, int last, double rebuffer_s) {
  return w->utility[level] - w->rebuffer * rebuffer_s - w->smooth * w->change[level][last];
}

int abr_world_open(m4n_world **world, const void *options);
void abr_world_close(m4n_world *world);
int abr_oracle(const void *state, const m4n_world *world, m4n_arena *scratch, void **plan, void *action);

/* The row of info of one step, in the spec's order. */
enum {
  ABR_INFO_LEVEL,
  ABR_INFO_BITRATE,
  ABR_INFO_REBUFFER,
  ABR_INFO_BUFFER,
  ABR_INFO_DOWNLOAD,
  ABR_INFO_SLEEP,
  ABR_INFO_LINK,
  ABR_INFOS
};

#ifdef __cplusplus
}
#endif
#endif
