// Every reader of traces/ on whatever comes: the first byte chooses which. What a reader takes must be a trace that
// a simulator can use.
#include <math.h>
#include <stdlib.h>

#include "traces/throughput/model.h"
#include "traces/throughput/throughput.h"
#include "traces/video/model.h"
#include "traces/video/sizes.h"

static void require(int truth) {
  if (!truth) abort();
}

static void one_trace(int format, const uint8_t *data, size_t size) {
  m4n_arena arena = {.block_size = 1 << 16};
  m4n_trace t;
  if (m4n_trace_parse(&t, &arena, "fuzz", data, size, format) == 0) {
    double mbit = 0;
    require(t.rows >= 2 && t.time[0] >= 0);
    for (int i = 1; i < t.rows; i++) {
      require(t.time[i] > t.time[i - 1] && isfinite(t.time[i]) && t.mbps[i] >= 0 && isfinite(t.mbps[i]));
      mbit += t.mbps[i] * (t.time[i] - t.time[i - 1]);
    }
    require(mbit > 0);
  }
  m4n_arena_close(&arena);
}

static void one_video(m4n_video *video, int status) {
  if (status) return;
  for (int i = 0; i < video->chunks * video->levels; i++)
    require(video->size[i] > 0 && isfinite(video->size[i]));
  m4n_video_close(video);
}

// Levels are parted by a byte 0.
static void one_folder(const uint8_t *data, size_t size) {
  m4n_video_text level[M4N_VIDEO_MAX_LEVELS + 2];
  int levels = 0;
  for (size_t at = 0, i = 0; i <= size && levels < M4N_VIDEO_MAX_LEVELS + 2; i++) {
    if (i < size && data[i]) continue;
    level[levels++] = (m4n_video_text){"fuzz", data + at, i - at};
    at = i + 1;
  }
  m4n_video video;
  one_video(&video, m4n_video_parse_sizes(&video, level, levels));
}

static void one_model(const uint8_t *data, size_t size) {
  m4n_trace_model model;
  m4n_trace trace;
  m4n_arena arena = {.block_size = 1 << 16};
  if (m4n_trace_model_parse(&model, "fuzz", data, size) == 0 &&
      m4n_trace_generate(&trace, &arena, &model, 1, 0, 20 * model.period_s) == 0)
    for (int i = 0; i < trace.rows; i++) require(trace.mbps[i] >= 0 && isfinite(trace.mbps[i]));
  m4n_arena_close(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!size) return 0;
  m4n_video video;
  m4n_video_model model;
  int which = data[0] % 11;
  data++, size--;
  if (which <= M4N_TRACE_UCC)
    one_trace(which, data, size);
  else if (which == 7)
    one_video(&video, m4n_video_parse_json(&video, "fuzz", data, size));
  else if (which == 8)
    one_folder(data, size);
  else if (which == 9)
    one_model(data, size);
  else if (m4n_video_model_parse(&model, "fuzz", data, size) == 0 && model.chunks < 1000)
    one_video(&video, m4n_video_generate(&video, &model, 1, 0));
  return 0;
}
