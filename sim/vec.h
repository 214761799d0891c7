/* Many lanes of one task, stepped together by a thread pool: rows in, rows out.
 *
 * Lanes are independent; the numbers do not depend on how many there are or on the pool. Rows of all lanes
 * lie behind one another in the order of the call. What a peer may get wrong (lane, episode, action out of
 * range) is checked here.
 *
 *     m4n_vec_reset(vec, orders, n);                                     // rows().n is n, flags M4N_FIRST
 *     m4n_vec_step(vec, n, lanes, actions, delays);                      // rows().n is n
 */
#ifndef M4N_SIM_VEC_H
#define M4N_SIM_VEC_H

#include "kernels/base/pool.h"
#include "sim/env.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_vec m4n_vec;

/* What the lanes last said; arrays of n entries that belong to the vec and are overwritten by its next call.
 */
typedef struct m4n_vec_rows {
  int n;
  int32_t *lane;
  int64_t *episode;
  int64_t *sim_time_ns;
  double *reward;
  uint8_t *flags;
  uint8_t *obs;       /* [n][spec obs_size] */
  double *info;       /* [n][spec n_info] */
  double *metrics;    /* [n][spec n_metrics]; of ended rows, else 0 */
  uint8_t *advice;    /* [n][spec act_size], of rows whose reset asked for it */
  uint8_t *advised;   /* [n] 1 where advice is given */
  const char **label; /* [n] the episode's name */
} m4n_vec_rows;

int m4n_vec_open(m4n_vec **vec, const m4n_task *task, const m4n_world *world, int lanes, m4n_pool *pool);
void m4n_vec_close(m4n_vec *vec);
int m4n_vec_lanes(const m4n_vec *vec);
const m4n_task *m4n_vec_task(const m4n_vec *vec);
const m4n_spec *m4n_vec_spec(const m4n_vec *vec);

/* Clears the rows; then reset and step append rows, so that one message may carry both. */
void m4n_vec_clear(m4n_vec *vec);
/* EPROTO names the order's lane, episode, set or copy_of that is out of range; nothing is changed then. */
int m4n_vec_reset(m4n_vec *vec, const m4n_reset *orders, int n);
/* `actions` [n][act_size], `delay_ns` [n] or NULL. EPROTO for a lane that is out of range, not live or named
 * twice, or for an action outside its range; nothing is changed then. */
int m4n_vec_step(m4n_vec *vec, int n, const int32_t *lane, const uint8_t *actions, const int64_t *delay_ns);
const m4n_vec_rows *m4n_vec_rows_of(const m4n_vec *vec);

#ifdef __cplusplus
}
#endif
#endif
