// How fast the abr world is, on one core.
#include <math.h>
#include <stdlib.h>

#include "agent/bench/bench.h"
#include "agent/simulator.h"
#include "kernels/base/arena.h"
#include "kernels/base/status.h"
#include "sim/abr/player.h"
#include "traces/throughput/throughput.h"
#include "traces/video/sizes.h"

enum { LANES = 64 };
static const double least_s = 0.5; // measured at least so long

// The same levels for both: chunk k of lane i.
static int level_of(int lane, int k, int levels) {
  return (7 * k + 3 + lane) % levels;
}

/* The best of several passes, each of `steps` steps, as steps a second. */
static double best_rate(void (*pass)(void *), void *self, double steps) {
  double best = HUGE_VAL;
  pass(self); // caches and frequencies settle
  for (double start = m4n_bench_clock(), now = start; now - start < least_s;) {
    pass(self);
    double end = m4n_bench_clock();
    best = fmin(best, end - now);
    now = end;
  }
  return steps / best;
}

// ---- the task as everybody calls it

typedef struct task_pass {
  const m4n_task *task;
  m4n_world *world;
  uint8_t *state[LANES], *obs;
  int64_t episodes; // passes play all of them
  int levels, steps;
} task_pass;

static void play_task(void *self) {
  task_pass *p = self;
  const m4n_spec *spec = p->task->spec(p->world);
  for (int64_t first = 0; first < p->episodes; first += LANES) {
    m4n_io io = {0};
    for (int i = 0; i < LANES; i++) {
      io.obs = p->obs + (size_t)i * spec->obs_size;
      p->task->reset(p->state[i], p->world, &(m4n_reset){.episode = first + i, .seed = 1, .copy_of = -1},
                     &io);
    }
    for (int k = 1; k <= p->steps; k++)
      for (int i = 0; i < LANES; i++) {
        int32_t action[2] = {level_of(i, k, p->levels)};
        io.action = action;
        io.obs = p->obs + (size_t)i * spec->obs_size;
        p->task->step(p->state[i], p->world, &io);
      }
  }
}

static int measure_task(const m4n_scenario *s, double limit) {
  m4n_arena memory = {0};
  task_pass p = {0};
  double chunks = 0;
  M4N_TRY(m4n_simulator_world(&p.task, &p.world, s));
  const m4n_spec *spec = p.task->spec(p.world);
  int status = m4n_spec_number(spec, M4N_ABR_CHUNKS, &chunks);
  if (!status) m4n_spec_constant(spec, M4N_ABR_LADDER, &p.levels);
  p.steps = (int)chunks - 1;
  p.episodes = 4 * LANES;
  p.obs = m4n_arena_alloc(&memory, LANES * (size_t)spec->obs_size);
  for (int i = 0; i < LANES && !status; i++) {
    p.state[i] = m4n_arena_alloc(&memory, p.task->state_size(p.world));
    if (!p.state[i] || !p.obs) status = M4N_ENOMEM;
  }
  if (!status) {
    double rate = best_rate(play_task, &p, (double)p.episodes * p.steps);
    m4n_bench_emit(&(m4n_bench_result){"sim", "abr-step", rate, "steps/s", limit});
  }
  m4n_arena_close(&memory);
  p.task->world_close(p.world);
  return status;
}

// ---- the downloads alone

typedef struct loop_pass {
  m4n_traces traces;
  m4n_video video;
  abr_row **row; // [traces.count]
  abr_client client;
  double sum; // keeps the compiler from leaving a download out
} loop_pass;

static void play_loop(void *self) {
  loop_pass *p = self;
  int levels = p->video.levels, chunks = p->video.chunks - 1;
  for (int first = 0; first < 4 * LANES; first += LANES) {
    abr_cursor at[LANES];
    double buffer_ms[LANES] = {0};
    for (int i = 0; i < LANES; i++) {
      const m4n_trace *t = &p->traces.trace[(first + i) % p->traces.count];
      at[i] = (abr_cursor){t->time[0], 1, t->rows};
    }
    for (int k = 0; k < chunks; k++)
      for (int i = 0; i < LANES; i++) {
        const abr_row *row = p->row[(first + i) % p->traces.count];
        double bytes = p->video.size[k * levels + (k ? level_of(i, k, levels) : 0)];
        p->sum += abr_play(row, &p->client, bytes, 1, 1, &at[i], &buffer_ms[i]).rebuffer_s;
      }
  }
}

static int make_rows(loop_pass *p, m4n_arena *memory) {
  p->row = m4n_arena_alloc(memory, (size_t)p->traces.count * sizeof *p->row);
  if (!p->row) return M4N_ENOMEM;
  for (int t = 0; t < p->traces.count; t++) {
    const m4n_trace *trace = &p->traces.trace[t];
    abr_row *row = p->row[t] = m4n_arena_alloc(memory, (size_t)trace->rows * sizeof *row);
    if (!row) return M4N_ENOMEM;
    for (int i = 0; i < trace->rows; i++) {
      double span = i ? trace->time[i] - trace->time[i - 1] : 0, rate = trace->mbps[i] * 1000000 / 8;
      row[i] = (abr_row){trace->time[i], rate, span, rate * span * p->client.payload};
    }
  }
  return M4N_OK;
}

static int measure_loop(const m4n_scenario *s, double *rate) {
  m4n_arena memory = {0};
  loop_pass p = {.client = {.payload = s->abr.payload,
                            .rtt_ms = 80,
                            .chunk_ms = 4000,
                            .cap_ms = 1000 * s->abr.buffer_cap_s,
                            .drain_ms = s->abr.drain_ms}};
  M4N_TRY(m4n_traces_open(&p.traces, s->abr.set[M4N_SET_TEST].paths[0], s->abr.set[M4N_SET_TEST].format));
  int status = m4n_video_open(&p.video, s->abr.video);
  if (!status) status = make_rows(&p, &memory);
  if (!status) *rate = best_rate(play_loop, &p, 4.0 * LANES * (p.video.chunks - 1));
  if (!status && !isfinite(p.sum)) status = m4n_fail(M4N_EFORMAT, "the traces stall for ever");
  m4n_arena_close(&memory);
  m4n_video_close(&p.video);
  m4n_traces_close(&p.traces);
  return status;
}

int m4n_bench_sim(const char *traces, const char *video) {
  m4n_scenario *s;
  double limit = 0;
  M4N_TRY(m4n_bench_scenario(&s, traces, video, NULL));
  int status = measure_loop(s, &limit);
  if (!status) status = measure_task(s, limit);
  m4n_scenario_free(s);
  return status;
}
