/* The description of a task as data: all that a policy, a learner and the server know of it.
 *
 * A spec says what a lane's observation, action, info and metrics are: names, types, shapes, units, ranges,
 * and the task's named constants (ladder, chunk seconds, QoE weights …). It is plain bytes without pointers,
 * made by a task's `world_open`, sent in HELLO, and rebuilt by the agent from what a stranger's simulator
 * sent.
 *
 * Everything a lane says at one moment is a **row**: the fields behind one another at the offsets that
 * `m4n_spec_layout` sets. Simulator, wire, policies and event log speak of the same rows.
 *
 *     const m4n_field *f = m4n_spec_obs(spec, "buffer");
 *     double buffer = *(const double *)(row + f->offset);
 *
 * A field whose first dimension varies (a job graph's nodes) has shape[0] == -1 and `max_rows`: in a row it
 * starts with the count as a uint32_t, padded to 8 bytes, and room for max_rows rows follows.
 */
#ifndef M4N_SIM_SPEC_H
#define M4N_SIM_SPEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_NAME = 32,        /* bytes of a name, the ending zero included */
  M4N_MAX_FIELDS = 16,  /* of an observation */
  M4N_MAX_ACTIONS = 4,  /* components of an action */
  M4N_MAX_INFO = 16,    /* figures of a step */
  M4N_MAX_METRICS = 16, /* figures of an episode */
  M4N_MAX_CONSTANTS = 32,
  M4N_MAX_VALUES = 512, /* of all constants together */
  M4N_MAX_RANK = 4,
  M4N_MAX_ROW = 1 << 20, /* bytes of one row */
  M4N_MAX_LANES = 4096
};

/* Codes of the wire and of the event log: never renumber. */
enum m4n_dtype { M4N_F64 = 1, M4N_F32 = 2, M4N_I32 = 3, M4N_I64 = 4, M4N_U8 = 5, M4N_U32 = 6 };

typedef struct m4n_field {
  char name[M4N_NAME];
  char unit[M4N_NAME];
  int32_t dtype, rank;
  int32_t shape[M4N_MAX_RANK]; /* rank 0: a scalar; shape[0] == -1: varies up to max_rows */
  int32_t max_rows;
  int32_t reserved;
  double low, high;    /* every element lies in [low, high]; ±HUGE_VAL where there is no bound */
  char mask[M4N_NAME]; /* of an action: the u8 observation field that says which choices are allowed, or "" */
  uint32_t count;      /* set by layout: elements, max_rows rows where it varies */
  uint32_t offset;     /* set by layout: bytes from the row's start, a multiple of 8 */
} m4n_field;

/* A figure that is reported but that no policy sees: per step (info) or per episode (metric). Always float64.
 */
typedef struct m4n_figure {
  char name[M4N_NAME];
  char unit[M4N_NAME];
  int32_t better; /* 1: higher is better, -1: lower, 0: neither */
  int32_t reserved;
} m4n_figure;

typedef struct m4n_constant {
  char name[M4N_NAME];
  int32_t first, count; /* in spec->value */
} m4n_constant;

enum m4n_capability {
  M4N_CAN_FORK = 1,  /* a reset may copy another lane's state */
  M4N_CAN_ORACLE = 2 /* advice that uses what a policy cannot know */
};

typedef struct m4n_spec {
  char task[M4N_NAME];
  char reward[64]; /* what the reward is, "qoe-linear 4.3 1.0" */
  uint32_t capabilities;
  int32_t n_obs, n_act, n_info, n_metrics, n_constants, n_values;
  uint32_t obs_size, act_size; /* bytes of a row, multiples of 8; set by layout */
  m4n_field obs[M4N_MAX_FIELDS];
  m4n_field act[M4N_MAX_ACTIONS]; /* discrete: I32, rank 0, choices low … high */
  m4n_figure info[M4N_MAX_INFO];
  m4n_figure metric[M4N_MAX_METRICS]; /* the first is the one policies are compared by */
  m4n_constant constant[M4N_MAX_CONSTANTS];
  double value[M4N_MAX_VALUES];
} m4n_spec;

/* Building: each call adds one entry to a zeroed spec, then layout sets counts, offsets and sizes and checks
 * everything. Adding reports nothing; what did not fit is reported by layout (EARG). */
m4n_field *m4n_spec_add_obs(m4n_spec *spec, const char *name, int dtype, const char *unit, double low,
                            double high, int rank, ...); /* the rank dimensions as ints */
m4n_field *m4n_spec_add_choice(m4n_spec *spec, const char *name,
                               int choices); /* a discrete action 0 … choices-1 */
void m4n_spec_add_info(m4n_spec *spec, const char *name, const char *unit, int better);
void m4n_spec_add_metric(m4n_spec *spec, const char *name, const char *unit, int better);
void m4n_spec_add_constant(m4n_spec *spec, const char *name, int count, const double *values);
int m4n_spec_layout(m4n_spec *spec);

/* Looking up; NULL where there is none. */
const m4n_field *m4n_spec_obs(const m4n_spec *spec, const char *name);
const m4n_field *m4n_spec_act(const m4n_spec *spec, const char *name);
const double *m4n_spec_constant(const m4n_spec *spec, const char *name, int *count);
/* The same for one number; EFORMAT with the constant's name if it is missing or not a single number. */
int m4n_spec_number(const m4n_spec *spec, const char *name, double *value);

/* 64-bit hash (XXH3) of everything a policy depends on: fields, actions, constants, reward. */
uint64_t m4n_spec_hash(const m4n_spec *spec);

/* How many figures two lists begin with in common, by name: a newer simulator may have appended some. */
int m4n_figures_common(const m4n_figure *a, int n_a, const m4n_figure *b, int n_b);

size_t m4n_dtype_size(int dtype);      /* 0 for an unknown code */
const char *m4n_dtype_name(int dtype); /* "f64"; NULL for an unknown code */

/* ABR's names, so that simulator and rules cannot drift apart. Units: MB is 1e6 bytes. */
#define M4N_ABR_THROUGHPUT                                                                                   \
  "throughput" /* f64 [8] MB/s of the last chunks, oldest first, 0 where there is none */
#define M4N_ABR_DOWNLOAD "download_time"   /* f64 [8] s, likewise */
#define M4N_ABR_BUFFER "buffer"            /* f64 s */
#define M4N_ABR_LAST_LEVEL "last_level"    /* f64 index */
#define M4N_ABR_NEXT_SIZES "next_sizes"    /* f64 [5][levels] bytes; 0 beyond the last chunk of the video */
#define M4N_ABR_CHUNKS_LEFT "chunks_left"  /* f64 */
#define M4N_ABR_LADDER "ladder_kbps"       /* constant [levels] */
#define M4N_ABR_CHUNK_SECONDS "chunk_s"    /* constant */
#define M4N_ABR_CHUNKS "chunks"            /* constant: chunks of an episode, the forced first one included */
#define M4N_ABR_UTILITY "utility"          /* constant [levels]: what QoE pays for a level */
#define M4N_ABR_REBUFFER "rebuffer_weight" /* constant: a second of rebuffering costs this */
#define M4N_ABR_SMOOTH "smooth_weight"     /* constant: a step of one utility unit costs this */
#define M4N_ABR_BUFFER_CAP "buffer_cap_s"  /* constant */
#define M4N_EPISODES "episodes" /* constant [3] of any task: episodes in test, train, valid (0: none) */
enum { M4N_ABR_HISTORY = 8, M4N_ABR_LOOKAHEAD = 5, M4N_ABR_MAX_LEVELS = 16 };

enum m4n_set { M4N_SET_TEST, M4N_SET_TRAIN, M4N_SET_VALID, M4N_SETS };

/* What befell a row. */
enum m4n_flag {
  M4N_FIRST = 1,      /* first observation of an episode: the reward means nothing */
  M4N_TERMINATED = 2, /* the episode is over: the observation is its last one, its value is 0 */
  M4N_TRUNCATED = 4,  /* cut off from outside: the value does not end */
  M4N_LOST = 8        /* the lane went silent or its simulator died: never trained on */
};
#define M4N_ENDED (M4N_TERMINATED | M4N_TRUNCATED | M4N_LOST)

/* The agent's order to a lane to begin an episode. */
typedef struct m4n_reset {
  int32_t lane;
  int32_t set;     /* m4n_set */
  int64_t episode; /* the agent's global number: names the random streams, and by it the trace */
  uint64_t seed;
  uint32_t options; /* m4n_reset_option bits */
  int32_t copy_of;  /* lane whose state is copied (capability fork), or -1 */
} m4n_reset;
enum m4n_reset_option { M4N_RESET_ADVICE = 1 /* send the oracle's action with every row */ };

#ifdef __cplusplus
}
#endif
#endif
