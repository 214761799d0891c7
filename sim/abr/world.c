// Opening the abr world: traces as rows ready to walk, the video's sizes, the utilities, and the spec that says it all.
#include "sim/abr/world.h"

#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "traces/throughput/stats.h"
#include "traces/throughput/throughput.h"
#include "traces/video/sizes.h"

// Pensieve's ladder and constants (sigcomm 2017; github.com/hongzimao/pensieve, sim/env.py).
static const double pensieve_kbps[] = {300, 750, 1200, 1850, 2850, 4300};
static const double pensieve_hd[] = {1, 2, 3, 12, 15, 20};
static const char *const set_name[M4N_SETS] = {"test", "train", "valid"};

enum {
  SLOWEST_CHUNK_S = 1000000
}; // a chunk that takes longer is no experiment, and a trace of almost zeros must not hang us

m4n_abr_options m4n_abr_defaults(void) {
  return (m4n_abr_options){
      .rebuffer = -1, .smooth = -1, .rtt_ms = -1, .buffer_cap_s = 60, .drain_ms = 500, .payload = 0.95};
}

// One integer a line, one line a trace.
static int read_pointers(const char *path, abr_trace *trace, int32_t count) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, (size_t)1 << 26));
  m4n_lines lines = m4n_lines_of(map.data, map.size);
  m4n_span line;
  int status = M4N_OK;
  int32_t n = 0;
  while (!status && m4n_lines_next(&lines, &line)) {
    int64_t row;
    line = m4n_span_trim(line);
    if (!line.size) continue;
    if (n == count)
      status =
          m4n_fail_at(M4N_EFORMAT, path, lines.number, "pointers", "more lines than the %d traces", count);
    else if (!m4n_span_int64(line, &row) || row < 1 || row >= trace[n].rows)
      status = m4n_fail_at(M4N_EFORMAT, path, lines.number, "pointers",
                           "'%.*s': expected a row from 1 to %d, which trace %s has", M4N_SPAN(line),
                           trace[n].rows - 1, trace[n].name);
    else
      trace[n++].start = (int32_t)row;
  }
  if (!status && n < count)
    status = m4n_fail_at(M4N_EFORMAT, path, lines.number, "pointers",
                         "%d lines, expected one for each of the %d traces", n, count);
  m4n_map_close(&map);
  return status;
}

static int make_rows(m4n_world *w, abr_trace *out, const m4n_trace *in, double rtt_ms) {
  abr_row *row = m4n_arena_alloc(&w->memory, (size_t)in->rows * sizeof *row);
  char *name = m4n_arena_strdup(&w->memory, in->name);
  if (!row || !name) return M4N_ENOMEM;
  row[0].time = in->time[0];
  for (int32_t i = 1; i < in->rows; i++) {
    row[i].time = in->time[i];
    row[i].rate = in->mbps[i] * 1000000 / 8;
    row[i].span = in->time[i] - in->time[i - 1];
    row[i].bytes = row[i].rate * row[i].span * w->client.payload;
  }
  *out = (abr_trace){.name = name, .row = row, .rows = in->rows, .start = 1};
  out->mbps = m4n_trace_mean(in), out->variation = m4n_trace_variation(in);
  out->rtt_ms = rtt_ms >= 0 ? rtt_ms : in->rtt_ms >= 0 ? in->rtt_ms : 80;
  return M4N_OK;
}

// A download must end: what the trace carries in one pass bounds how often it has to wrap.
static int check_capacity(const abr_trace *trace, double payload, double largest) {
  double bytes = trace->row[1].rate * trace->row[1].time * payload,
         seconds = trace->row[trace->rows - 1].time;
  for (int32_t i = 2; i < trace->rows; i++) bytes += trace->row[i].bytes;
  if (bytes > 0 && largest / bytes * seconds < SLOWEST_CHUNK_S) return M4N_OK;
  return m4n_fail_at(M4N_EFORMAT, trace->name, 0, "bandwidth",
                     "carries %g bytes in %g s: the largest chunk (%g bytes) would take more than %d s",
                     bytes, seconds, largest, SLOWEST_CHUNK_S);
}

// The traces of one folder, behind those that the set has already.
static int add_traces(m4n_world *w, abr_set *set, const char *path, int format, double rtt_ms) {
  m4n_traces traces;
  M4N_TRY(m4n_traces_open(&traces, path, format));
  int status = M4N_OK;
  size_t had = (size_t)set->count, all = had + (size_t)traces.count;
  abr_trace *trace = all <= INT32_MAX ? m4n_arena_alloc(&w->memory, all * sizeof *trace) : NULL;
  if (!trace) status = m4n_fail(M4N_ENOMEM, "no memory for %zu traces", all);
  if (!status && had) memcpy(trace, set->trace, had * sizeof *trace);
  for (int i = 0; !status && i < traces.count; i++)
    status = make_rows(w, &trace[had + (size_t)i], &traces.trace[i], rtt_ms);
  if (!status) {
    set->trace = trace;
    set->count = (int32_t)all;
  }
  m4n_traces_close(&traces);
  return status;
}

static int set_scale(abr_set *set, const m4n_abr_traces *o) {
  set->scale_low = set->scale_ratio = 1;
  if (o->scale[0] == 0 && o->scale[1] == 0) return M4N_OK;
  if (!(o->scale[0] >= 0.01 && o->scale[1] <= 100 && o->scale[0] <= o->scale[1]))
    return m4n_fail(M4N_EARG, "scale: [%g, %g] is no range inside [0.01, 100]", o->scale[0], o->scale[1]);
  if (o->start != M4N_START_SEEDED)
    return m4n_fail(M4N_EARG, "scale: only seeded starts draw a factor; set `start: seeded`");
  set->scale_low = o->scale[0];
  set->scale_ratio = o->scale[1] / o->scale[0];
  return M4N_OK;
}

static int open_set(m4n_world *w, abr_set *set, const m4n_abr_traces *o, double rtt_ms, double largest) {
  for (int i = 0; i < o->n_paths; i++) M4N_TRY(add_traces(w, set, o->paths[i], o->format, rtt_ms));
  for (int32_t i = 0; i < set->count; i++)
    M4N_TRY(check_capacity(&set->trace[i], w->client.payload, largest));
  if (!(o->noise >= 0 && o->noise < 1)) return m4n_fail(M4N_EARG, "noise: %g is not in [0, 1)", o->noise);
  set->noise = o->noise;
  set->seeded = o->start == M4N_START_SEEDED;
  M4N_TRY(set_scale(set, o));
  if (o->start != M4N_START_LISTED) return M4N_OK;
  if (!o->pointers)
    return m4n_fail(M4N_EARG, "start 'listed' needs 'pointers': a file with one row number a trace");
  return read_pointers(o->pointers, set->trace, set->count);
}

// Sizes with a horizon of zeros behind the video's end, so that an observation is one copy.
static int open_video(m4n_world *w, const m4n_abr_options *o, double *largest) {
  m4n_video video;
  if (!o->video)
    return m4n_fail(M4N_EARG, "no video: expected a folder of video_size_N files or a Sabre JSON file");
  M4N_TRY(m4n_video_open(&video, o->video));
  int status = M4N_OK;
  size_t cells = (size_t)video.chunks * (size_t)video.levels;
  double *size =
      m4n_arena_alloc(&w->memory, (cells + M4N_ABR_LOOKAHEAD * (size_t)video.levels) * sizeof *size);
  w->levels = video.levels;
  w->chunks = o->chunks ? o->chunks : video.chunks > 1 ? video.chunks - 1 : 1;
  w->client.chunk_ms = 1000 * (o->chunk_s > 0 ? o->chunk_s : video.chunk_s > 0 ? video.chunk_s : 4);
  const double *kbps = o->ladder ? o->ladder : video.kbps ? video.kbps : pensieve_kbps;
  int levels = o->ladder    ? o->levels
               : video.kbps ? video.levels
                            : (int)(sizeof pensieve_kbps / sizeof *pensieve_kbps);
  if (!size)
    status = M4N_ENOMEM;
  else if (video.levels > M4N_ABR_MAX_LEVELS)
    status = m4n_fail_at(M4N_EFORMAT, o->video, 0, "levels", "%d levels, at most %d are supported",
                         video.levels, M4N_ABR_MAX_LEVELS);
  else if (levels != video.levels)
    status = m4n_fail_at(M4N_EFORMAT, o->video, 0, "ladder",
                         "the video has %d levels and the ladder %d: set `ladder`", video.levels, levels);
  else if (w->chunks < 2 || w->chunks > video.chunks)
    status = m4n_fail_at(M4N_EFORMAT, o->video, 0, "chunks",
                         "%d chunks to play: expected 2 to %d, which the video has", w->chunks, video.chunks);
  if (!status) {
    memcpy(size, video.size, cells * sizeof *size);
    for (size_t i = 0; i < cells; i++) *largest = size[i] > *largest ? size[i] : *largest;
    for (int i = 0; i < levels; i++) {
      w->kbps[i] = kbps[i], w->mbps[i] = kbps[i] / 1000;
      if (!(kbps[i] > 0 && kbps[i] < 1e9) || (i && kbps[i] <= kbps[i - 1]))
        status = m4n_fail(M4N_EARG, "ladder: %g kbit/s at level %d: expected rates that rise", kbps[i], i);
    }
  }
  w->size = size;
  m4n_video_close(&video);
  return status;
}

// linear: Mbit/s, 4.3.  log: ln(q / q_min), 2.66.  hd: a table, 8.  Smoothness weighs 1 in all three.
static int set_utilities(m4n_world *w, const m4n_abr_options *o) {
  static const double rebuffer[] = {[M4N_QOE_LINEAR] = 4.3, [M4N_QOE_LOG] = 2.66, [M4N_QOE_HD] = 8};
  static const char *const kind[] = {[M4N_QOE_LINEAR] = "linear", [M4N_QOE_LOG] = "log", [M4N_QOE_HD] = "hd"};
  w->rebuffer = o->rebuffer >= 0 ? o->rebuffer : rebuffer[o->qoe];
  w->smooth = o->smooth >= 0 ? o->smooth : 1;
  const double *hd = o->levels_hd ? o->utility : pensieve_hd;
  int levels_hd = o->levels_hd ? o->levels_hd : (int)(sizeof pensieve_hd / sizeof *pensieve_hd);
  w->has_hd = levels_hd == w->levels;
  if (o->levels_hd && !w->has_hd)
    return m4n_fail(M4N_EARG, "qoe.utility: %d values, the ladder has %d levels", o->levels_hd, w->levels);
  if (o->qoe == M4N_QOE_HD && !w->has_hd)
    return m4n_fail(
        M4N_EARG,
        "qoe.kind hd: the published utilities are for 6 levels, this ladder has %d: set qoe.utility",
        w->levels);
  for (int i = 0; i < w->levels; i++) {
    w->log[i] = log(w->mbps[i] / w->mbps[0]);
    w->hd[i] = w->has_hd ? hd[i] : 0;
    w->utility[i] = o->qoe == M4N_QOE_LINEAR ? w->mbps[i] : o->qoe == M4N_QOE_LOG ? w->log[i] : w->hd[i];
  }
  // The published program takes the difference of the rates in kbit/s and then divides: exact ties hang on it.
  for (int i = 0; i < w->levels; i++)
    for (int j = 0; j < w->levels; j++)
      w->change[i][j] = o->qoe == M4N_QOE_LINEAR ? fabs(w->kbps[i] - w->kbps[j]) / 1000
                                                 : fabs(w->utility[i] - w->utility[j]);
  snprintf(w->spec.reward, sizeof w->spec.reward, "qoe-%s rebuffer %g smooth %g", kind[o->qoe], w->rebuffer,
           w->smooth);
  return M4N_OK;
}

static int make_spec(m4n_world *w) {
  m4n_spec *s = &w->spec;
  double count[M4N_SETS];
  for (int i = 0; i < M4N_SETS; i++) count[i] = w->set[i].count;
  snprintf(s->task, sizeof s->task, "abr");
  s->capabilities = M4N_CAN_FORK | M4N_CAN_ORACLE;
  // abr.c writes the row in this order.
  m4n_spec_add_obs(s, M4N_ABR_THROUGHPUT, M4N_F64, "MB/s", 0, HUGE_VAL, 1, M4N_ABR_HISTORY);
  m4n_spec_add_obs(s, M4N_ABR_DOWNLOAD, M4N_F64, "s", 0, HUGE_VAL, 1, M4N_ABR_HISTORY);
  m4n_spec_add_obs(s, M4N_ABR_BUFFER, M4N_F64, "s", 0, (w->client.cap_ms + w->client.chunk_ms) / 1000, 0);
  m4n_spec_add_obs(s, M4N_ABR_LAST_LEVEL, M4N_F64, "index", 0, w->levels - 1, 0);
  m4n_spec_add_obs(s, M4N_ABR_CHUNKS_LEFT, M4N_F64, "chunks", 0, w->chunks, 0);
  m4n_spec_add_obs(s, M4N_ABR_NEXT_SIZES, M4N_F64, "byte", 0, HUGE_VAL, 2, M4N_ABR_LOOKAHEAD, w->levels);
  m4n_spec_add_choice(s, "level", w->levels);
  m4n_spec_add_info(s, "level", "index", 0);
  m4n_spec_add_info(s, "bitrate_mbps", "Mbit/s", 1);
  m4n_spec_add_info(s, "rebuffer_s", "s", -1);
  m4n_spec_add_info(s, "buffer_s", "s", 0);
  m4n_spec_add_info(s, "download_s", "s", -1);
  m4n_spec_add_info(s, "sleep_s", "s", 0);
  m4n_spec_add_info(s, "link_mbps", "Mbit/s", 0);
  m4n_spec_add_metric(s, "qoe", "per chunk", 1);
  m4n_spec_add_metric(s, "quality", "per chunk", 1);
  m4n_spec_add_metric(s, "rebuffer_s", "s per chunk", -1);
  m4n_spec_add_metric(s, "smooth", "per chunk", -1);
  m4n_spec_add_metric(s, "bitrate_mbps", "Mbit/s", 1);
  m4n_spec_add_metric(s, "rebuffer_ratio", "1", -1);
  m4n_spec_add_metric(s, "switches_per_min", "1/min", -1);
  m4n_spec_add_metric(s, "startup_s", "s", -1);
  m4n_spec_add_metric(s, "qoe_log", "per chunk", 1);
  if (w->has_hd) m4n_spec_add_metric(s, "qoe_hd", "per chunk", 1);
  // Not what a policy achieves but what it meets. Behind the others, so that older logs begin with the same ones.
  m4n_spec_add_metric(s, "trace_mbps", "Mbit/s", 0);
  m4n_spec_add_metric(s, "trace_variation", "deviation / mean", 0);
  m4n_spec_add_constant(s, M4N_ABR_LADDER, w->levels, w->kbps);
  m4n_spec_add_constant(s, M4N_ABR_UTILITY, w->levels, w->utility);
  m4n_spec_add_constant(s, M4N_EPISODES, M4N_SETS, count);
  const struct {
    const char *name;
    double value;
  } single[] = {{M4N_ABR_CHUNK_SECONDS, w->client.chunk_ms / 1000},
                {M4N_ABR_CHUNKS, w->chunks},
                {M4N_ABR_REBUFFER, w->rebuffer},
                {M4N_ABR_SMOOTH, w->smooth},
                {M4N_ABR_BUFFER_CAP, w->client.cap_ms / 1000}};
  for (size_t i = 0; i < sizeof single / sizeof *single; i++)
    m4n_spec_add_constant(s, single[i].name, 1, &single[i].value);
  return m4n_spec_layout(s);
}

static int check_options(const m4n_abr_options *o) {
  const struct {
    const char *name;
    double value, low, high;
  } range[] = {{"rtt_ms", o->rtt_ms, -DBL_MAX, 60000},
               {"buffer_cap_s", o->buffer_cap_s, 0.001, 86400},
               {"drain_ms", o->drain_ms, 1, 60000},
               {"payload", o->payload, 0.01, 1},
               {"chunk_s", o->chunk_s, 0, 3600},
               {"chunks", o->chunks, 0, M4N_VIDEO_MAX_CHUNKS},
               {"qoe.rebuffer", o->rebuffer, -DBL_MAX, 1e6},
               {"qoe.smooth", o->smooth, -DBL_MAX, 1e6},
               {"qoe.kind", o->qoe, M4N_QOE_LINEAR, M4N_QOE_HD}};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++)
    if (!(range[i].value >= range[i].low && range[i].value <= range[i].high))
      return m4n_fail(M4N_EARG, "%s: %g is not in [%g, %g]", range[i].name, range[i].value, range[i].low,
                      range[i].high);
  return M4N_OK;
}

static int open_world(m4n_world *w, const m4n_abr_options *o) {
  double largest = 0;
  int sets = 0;
  M4N_TRY(check_options(o));
  w->client = (abr_client){o->payload, 0, 0, o->buffer_cap_s * 1000, o->drain_ms};
  M4N_TRY(open_video(w, o, &largest));
  if (w->client.chunk_ms > w->client.cap_ms)
    return m4n_fail(M4N_EARG, "buffer_cap_s: %g s holds no chunk of %g s", o->buffer_cap_s,
                    w->client.chunk_ms / 1000);
  w->first_level = o->first_level;
  if (w->first_level < 0 || w->first_level >= w->levels)
    return m4n_fail(M4N_EARG, "first_level: %d is not a level of 0 to %d", o->first_level, w->levels - 1);
  M4N_TRY(set_utilities(w, o));
  for (int i = 0; i < M4N_SETS; i++) {
    if (!o->set[i].n_paths) continue;
    int status = open_set(w, &w->set[i], &o->set[i], o->rtt_ms, largest);
    if (status) return m4n_context(status, "abr.%s", set_name[i]);
    sets++;
  }
  if (!sets) return m4n_fail(M4N_EARG, "abr: no traces: set abr.test.traces");
  return make_spec(w);
}

int abr_world_open(m4n_world **out, const void *options) {
  *out = NULL;
  m4n_world *w = calloc(1, sizeof *w);
  if (!w) return m4n_fail(M4N_ENOMEM, "no memory for a world");
  int status = open_world(w, options);
  if (status)
    abr_world_close(w);
  else
    *out = w;
  return status;
}

void abr_world_close(m4n_world *world) {
  if (!world) return;
  m4n_arena_close(&world->memory);
  free(world);
}
