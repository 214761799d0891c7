// The template for a new task: copy this folder, name it in tasks.c, and fill in a world. It compiles and does nothing:
// an episode shows ten random numbers, and no action changes anything.
#include <stdlib.h>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "sim/env.h"

enum { STEPS = 10, EPISODES = 100 };

struct m4n_world {
  m4n_spec spec;
};

// Plain bytes without pointers: copying it is a snapshot.
typedef struct state {
  m4n_rng rng;
  int32_t step;
  double number;
} state;

static int world_open(m4n_world **out, const void *options) {
  (void)options; // a real task has an options struct of its own
  m4n_world *world = calloc(1, sizeof *world);
  if (!world) return m4n_fail(M4N_ENOMEM, "no memory for a world");
  m4n_spec *spec = &world->spec;
  *spec = (m4n_spec){.task = "null", .reward = "none", .capabilities = M4N_CAN_FORK};
  m4n_spec_add_obs(spec, "number", M4N_F64, "1", 0, 1, 0);
  m4n_spec_add_choice(spec, "choice", 2);
  m4n_spec_add_metric(spec, "steps", "1", 0);
  m4n_spec_add_constant(spec, M4N_EPISODES, M4N_SETS, (const double[]){EPISODES, EPISODES, EPISODES});
  int status = m4n_spec_layout(spec);
  if (status) {
    free(world);
    return status;
  }
  *out = world;
  return M4N_OK;
}

static void world_close(m4n_world *world) {
  free(world);
}

static const m4n_spec *world_spec(const m4n_world *world) {
  return &world->spec;
}

static size_t state_size(const m4n_world *world) {
  (void)world;
  return sizeof(state);
}

static void observe(const void *memory, const m4n_world *world, m4n_io *io) {
  (void)world;
  *(double *)io->obs = ((const state *)memory)->number;
}

static void reset(void *memory, const m4n_world *world, const m4n_reset *order, m4n_io *io) {
  state *s = memory;
  *s = (state){.rng = m4n_rng_make(order->seed, (uint64_t)order->episode, M4N_RNG_NOISE)};
  s->number = m4n_rng_uniform(&s->rng);
  io->reward = 0, io->sim_time_ns = 0, io->flags = M4N_FIRST;
  observe(s, world, io);
}

static void step(void *memory, const m4n_world *world, m4n_io *io) {
  state *s = memory;
  s->number = m4n_rng_uniform(&s->rng);
  s->step++;
  io->reward = 0, io->sim_time_ns = s->step * (int64_t)1000000000;
  io->flags = s->step == STEPS ? M4N_TERMINATED : 0;
  observe(s, world, io);
}

static void report(const void *memory, const m4n_world *world, double *metrics) {
  (void)world;
  metrics[0] = ((const state *)memory)->step;
}

static const char *label(const m4n_world *world, const m4n_reset *order) {
  (void)world, (void)order;
  return "nothing";
}

const m4n_task m4n_task_null = {.name = "null",
                                .world_open = world_open,
                                .world_close = world_close,
                                .spec = world_spec,
                                .state_size = state_size,
                                .reset = reset,
                                .observe = observe,
                                .step = step,
                                .report = report,
                                .label = label};
