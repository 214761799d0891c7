/* THE task interface: a simulated world as constants, plain-bytes states and a few functions.
 *
 * A task exports one `m4n_task`, listed in tasks.c; everything else in its folder is static. Seen by sim/ and
 * bridge/client alone: an agent knows a task by its spec.
 *
 * A **world** is what does not change: traces, video, weights. It is opened once, shared by threads, const
 * afterwards. A **state** is `state_size(world)` plain bytes without pointers: a snapshot is memcpy, a
 * determinism test is memcmp, look-ahead is copy, step, discard. `step` does not allocate, log, read a clock
 * or fail.
 *
 *     m4n_task_abr.reset(state, world, &order, &io);            // io.obs holds the first observation
 *     while (!(io.flags & M4N_ENDED)) { choose(io.obs, io.action); m4n_task_abr.step(state, world, &io); }
 */
#ifndef M4N_SIM_ENV_H
#define M4N_SIM_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/arena.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_world m4n_world; /* each task defines its own */

/* What goes in and out of a lane. The buffers belong to the caller. */
typedef struct m4n_io {
  const void *action;  /* in: one action row (spec act_size) */
  int64_t delay_ns;    /* in: how long the decision took on the simulated clock */
  void *obs;           /* out: one observation row (spec obs_size), 8-byte aligned */
  double *info;        /* out: spec n_info figures of this step; NULL: not wanted */
  double reward;       /* out: of the action just taken; 0 after reset */
  int64_t sim_time_ns; /* out: simulated time since the episode began */
  uint32_t flags;      /* out: m4n_flag */
} m4n_io;

typedef struct m4n_task {
  const char *name;
  /* Opens the world from the task's own options struct (sim/<task>/options.h). The only one that can fail. */
  int (*world_open)(m4n_world **world, const void *options);
  void (*world_close)(m4n_world *world);
  const m4n_spec *(*spec)(const m4n_world *world);
  size_t (*state_size)(const m4n_world *world);
  /* Begins the episode that `order` names; io->obs, flags = M4N_FIRST, sim_time_ns are set. An order that is
   * out of range (episode, set) is a caller's bug: check with the constant "episodes". */
  void (*reset)(void *state, const m4n_world *world, const m4n_reset *order, m4n_io *io);
  /* Writes io->obs for a state as it stands (reset has done so already): after a fork, or for a look-ahead. */
  void (*observe)(const void *state, const m4n_world *world, m4n_io *io);
  /* One decision. An action outside its range is a caller's bug: vec.c checks what comes from a peer. */
  void (*step)(void *state, const m4n_world *world, m4n_io *io);
  /* After an ended step: the episode's spec n_metrics figures. */
  void (*report)(const void *state, const m4n_world *world, double *metrics);
  /* What the episode that `order` names is called ("trace_13562…"); inside the world, never NULL. */
  const char *(*label)(const m4n_world *world, const m4n_reset *order);
  /* Optional (NULL): the best action for `state`, using what a policy cannot know. `scratch` belongs to one lane; `*plan`
   * is what the task keeps in it from call to call, so that a plan found once is followed while the lane keeps to it.
   * The caller resets scratch and sets *plan to NULL when an episode begins. ENOMEM. */
  int (*oracle)(const void *state, const m4n_world *world, m4n_arena *scratch, void **plan, void *action);
} m4n_task;

/* The registry (tasks.c). NULL for an unknown name. */
const m4n_task *m4n_task_find(const char *name);
const m4n_task *m4n_task_at(int index); /* NULL behind the last */

#ifdef __cplusplus
}
#endif
#endif
