// Adaptive bitrate streaming as a task: reset plays the forced first chunk, step plays the chunk a policy chose.
#include <string.h>

#include "sim/abr/world.h"

static const m4n_spec *world_spec(const m4n_world *world) {
  return &world->spec;
}

static size_t state_size(const m4n_world *world) {
  (void)world;
  return sizeof(abr_state);
}

static const abr_trace *trace_of(const m4n_world *w, const abr_state *s) {
  return &w->set[s->set].trace[s->trace];
}

double abr_noise(const abr_set *set, m4n_rng *rng) {
  return set->noise > 0 ? 1 + set->noise * (2 * m4n_rng_uniform(rng) - 1) : 1;
}

static void push(double history[M4N_ABR_HISTORY], double newest) {
  memmove(history, history + 1, (M4N_ABR_HISTORY - 1) * sizeof *history);
  history[M4N_ABR_HISTORY - 1] = newest;
}

// The row is laid out in the order in which world.c declared the fields.
static void observe(const void *memory, const m4n_world *w, m4n_io *io) {
  const abr_state *s = memory;
  double *row = io->obs;
  memcpy(row, s->throughput, sizeof s->throughput);
  memcpy(row + M4N_ABR_HISTORY, s->download, sizeof s->download);
  row += 2 * M4N_ABR_HISTORY;
  row[0] = s->buffer_ms / 1000;
  row[1] = s->level;
  row[2] = w->chunks - s->chunk;
  memcpy(row + 3, w->size + (size_t)s->chunk * (size_t)w->levels,
         M4N_ABR_LOOKAHEAD * (size_t)w->levels * sizeof(double));
}

// Fetches the next chunk at `level` and moves everything that every chunk moves.
abr_chunk abr_advance(const m4n_world *w, abr_state *s, int level) {
  const abr_trace *trace = trace_of(w, s);
  abr_client client = w->client;
  client.rtt_ms = trace->rtt_ms;
  double bytes = w->size[(size_t)s->chunk * (size_t)w->levels + (size_t)level];
  abr_chunk c = abr_play(trace->row, &client, bytes, abr_noise(&w->set[s->set], &s->noise), s->scale, &s->at,
                         &s->buffer_ms);
  s->clock_ms += c.delay_ms + c.sleep_ms;
  s->used_s += c.fetch_s + c.sleep_ms / 1000;
  s->sleep_left = c.sleep_left;
  push(s->throughput, bytes / c.delay_ms / 1000);
  push(s->download, c.delay_ms / 1000);
  s->level = level;
  s->chunk++;
  return c;
}

// Where the ordered episode begins: its trace, the row behind the cursor, the factor on the rates.
static void start_of(const abr_set *set, const m4n_reset *order, int32_t *trace, int32_t *row,
                     double *scale) {
  if (set->seeded) {
    m4n_rng rng = m4n_rng_make(order->seed, (uint64_t)order->episode, M4N_RNG_START);
    *trace = (int32_t)m4n_rng_below(&rng, (uint32_t)set->count);
    *row = 1 + (int32_t)m4n_rng_below(&rng, (uint32_t)set->trace[*trace].rows - 1);
    *scale =
        set->scale_ratio > 1 ? set->scale_low * pow(set->scale_ratio, m4n_rng_uniform(&rng)) : set->scale_low;
  } else {
    *trace = (int32_t)(order->episode % set->count);
    *row = set->trace[*trace].start;
    *scale = 1;
  }
}

static void reset(void *memory, const m4n_world *w, const m4n_reset *order, m4n_io *io) {
  abr_state *s = memory;
  memset(s, 0, sizeof *s);
  s->set = order->set;
  s->noise = m4n_rng_make(order->seed, (uint64_t)order->episode, M4N_RNG_NOISE);
  start_of(&w->set[order->set], order, &s->trace, &s->at.p, &s->scale);
  s->at.rows = trace_of(w, s)->rows;
  s->at.cursor = trace_of(w, s)->row[s->at.p - 1].time;
  // The forced first chunk is no decision and is not counted; its level does count in the first step's smoothness.
  s->startup_s = abr_advance(w, s, w->first_level).delay_ms / 1000;
  io->reward = 0;
  io->sim_time_ns = (int64_t)(s->clock_ms * 1e6);
  io->flags = M4N_FIRST;
  observe(s, w, io);
}

// A decision that takes time drains the buffer (what is missing is a stall) and lets the trace run on before the download starts.
static double decide(const m4n_world *w, abr_state *s, int64_t delay_ns) {
  double ms = (double)delay_ns / 1e6, missing = ms - s->buffer_ms;
  s->buffer_ms = missing > 0 ? 0 : s->buffer_ms - ms;
  s->clock_ms += ms;
  s->used_s += ms / 1000;
  abr_pass(trace_of(w, s)->row, ms, &s->at);
  return missing > 0 ? missing / 1000 : 0;
}

static void step(void *memory, const m4n_world *w, m4n_io *io) {
  abr_state *s = memory;
  int level = *(const int32_t *)io->action, last = s->level;
  double stall = io->delay_ns > 0 ? decide(w, s, io->delay_ns) : 0;
  abr_chunk c = abr_advance(w, s, level);
  double rebuffer = c.rebuffer_s + stall;

  io->reward = abr_reward(w, level, last, rebuffer);
  s->reward += io->reward;
  s->rebuffer_s += rebuffer;
  s->quality += w->utility[level];
  s->smooth += w->change[level][last];
  s->bitrate += w->mbps[level];
  s->log_quality += w->log[level];
  s->log_smooth += fabs(w->log[level] - w->log[last]);
  s->hd_quality += w->hd[level];
  s->hd_smooth += fabs(w->hd[level] - w->hd[last]);
  s->switches += level != last;
  s->counted++;

  io->sim_time_ns = (int64_t)(s->clock_ms * 1e6);
  io->flags = s->chunk >= w->chunks ? M4N_TERMINATED : 0;
  if (io->info) {
    double bytes = w->size[(size_t)(s->chunk - 1) * (size_t)w->levels + (size_t)level];
    io->info[ABR_INFO_LEVEL] = level;
    io->info[ABR_INFO_BITRATE] = w->mbps[level];
    io->info[ABR_INFO_REBUFFER] = rebuffer;
    io->info[ABR_INFO_BUFFER] = s->buffer_ms / 1000;
    io->info[ABR_INFO_DOWNLOAD] = c.delay_ms / 1000;
    io->info[ABR_INFO_SLEEP] = c.sleep_ms / 1000;
    io->info[ABR_INFO_LINK] = bytes * 8 / 1e6 / c.fetch_s;
  }
  observe(s, w, io);
}

// In the order of world.c's metrics. QoE-log and QoE-HD by their published weights, whatever the scenario pays for.
static void report(const void *memory, const m4n_world *w, double *out) {
  const abr_state *s = memory;
  double n = s->counted > 0 ? s->counted : 1, played = s->counted * w->client.chunk_ms / 1000;
  *out++ = s->reward / n;
  *out++ = s->quality / n;
  *out++ = s->rebuffer_s / n;
  *out++ = s->smooth / n;
  *out++ = s->bitrate / n;
  *out++ = played > 0 ? s->rebuffer_s / (s->rebuffer_s + played) : 0;
  *out++ = played > 0 ? s->switches / (played / 60) : 0;
  *out++ = s->startup_s;
  *out++ = (s->log_quality - 2.66 * s->rebuffer_s - s->log_smooth) / n;
  if (w->has_hd) *out++ = (s->hd_quality - 8 * s->rebuffer_s - s->hd_smooth) / n;
  *out++ = trace_of(w, s)->mbps * s->scale;
  *out++ = trace_of(w, s)->variation;
}

static const char *label(const m4n_world *w, const m4n_reset *order) {
  int32_t trace, row;
  double scale;
  start_of(&w->set[order->set], order, &trace, &row, &scale);
  return w->set[order->set].trace[trace].name;
}

const m4n_task m4n_task_abr = {.name = "abr",
                               .world_open = abr_world_open,
                               .world_close = abr_world_close,
                               .spec = world_spec,
                               .state_size = state_size,
                               .reset = reset,
                               .observe = observe,
                               .step = step,
                               .report = report,
                               .label = label,
                               .oracle = abr_oracle};
