#include "traces/video/sizes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "traces/json.h"

static const double max_bytes = 1e12; // of a chunk

static int allocate(m4n_video *video, const char *name, size_t levels, size_t chunks, double **size) {
  if (levels < 1 || levels > M4N_VIDEO_MAX_LEVELS)
    return m4n_fail_at(M4N_EFORMAT, name, 0, "levels", "%zu levels: expected 1 to %d", levels,
                       M4N_VIDEO_MAX_LEVELS);
  if (chunks < 1 || chunks > M4N_VIDEO_MAX_CHUNKS)
    return m4n_fail_at(M4N_EFORMAT, name, 0, "chunks", "%zu chunks: expected 1 to %d", chunks,
                       M4N_VIDEO_MAX_CHUNKS);
  video->levels = (int32_t)levels;
  video->chunks = (int32_t)chunks;
  video->size = *size = m4n_arena_alloc(&video->memory, chunks * levels * sizeof(double));
  return *size ? M4N_OK : M4N_ENOMEM;
}

// ---- folders of video_size_N ------------------------------------------------------------------------------

static bool next_chunk(m4n_lines *lines, m4n_span *line) {
  while (m4n_lines_next(lines, line)) {
    *line = m4n_span_trim(*line);
    if (line->size) return true;
  }
  return false;
}

static size_t count_chunks(const m4n_video_text *text) {
  m4n_lines lines = m4n_lines_of(text->data, text->size);
  size_t count = 0;
  for (m4n_span line; next_chunk(&lines, &line);) count++;
  return count;
}

static int parse_level(const m4n_video_text *text, int level, int levels, double *size) {
  m4n_lines lines = m4n_lines_of(text->data, text->size);
  m4n_span line;
  for (size_t chunk = 0; next_chunk(&lines, &line); chunk++) {
    double bytes;
    if (!m4n_span_double(line, &bytes) || !(bytes > 0 && bytes <= max_bytes))
      return m4n_fail_at(M4N_EFORMAT, text->name, lines.number, "size",
                         "\"%.*s\": expected a chunk's bytes, one number above 0 a line", M4N_SPAN(line));
    size[chunk * (size_t)levels + (size_t)level] = bytes;
  }
  return M4N_OK;
}

static int parse_sizes(m4n_video *video, const m4n_video_text *level, int levels) {
  size_t chunks = count_chunks(&level[0]);
  double *size = NULL;
  M4N_TRY(allocate(video, level[0].name, (size_t)levels, chunks, &size));
  for (int i = 0; i < levels; i++) {
    size_t count = count_chunks(&level[i]);
    if (count != chunks)
      return m4n_fail_at(M4N_EFORMAT, level[i].name, 0, "chunks", "%zu chunks: expected %zu, as level 0 has",
                         count, chunks);
    M4N_TRY(parse_level(&level[i], i, levels, size));
  }
  return M4N_OK;
}

int m4n_video_parse_sizes(m4n_video *video, const m4n_video_text *level, int levels) {
  *video = (m4n_video){0};
  int status =
      levels < 1 ? m4n_fail(M4N_EARG, "a video has at least one level") : parse_sizes(video, level, levels);
  if (status) m4n_video_close(video);
  return status;
}

// How many levels the folder has: the names must be exactly video_size_0 … video_size_N-1.
static int count_levels(const char *folder, const m4n_names *names, int *levels) {
  static const char stem[] = "video_size_";
  bool there[M4N_VIDEO_MAX_LEVELS] = {false};
  int top = -1;
  for (int i = 0; i < names->count; i++) {
    if (strncmp(names->name[i], stem, sizeof stem - 1) != 0) continue;
    char canonical[32];
    long level = strtol(names->name[i] + sizeof stem - 1, NULL, 10);
    if (level < 0 || level >= M4N_VIDEO_MAX_LEVELS) level = -1;
    snprintf(canonical, sizeof canonical, "%s%ld", stem, level);
    if (level < 0 || strcmp(canonical, names->name[i]) != 0)
      return m4n_fail_at(M4N_EFORMAT, folder, 0, names->name[i], "expected video_size_0 to video_size_%d",
                         M4N_VIDEO_MAX_LEVELS - 1);
    there[level] = true;
    if (level > top) top = (int)level;
  }
  for (int i = 0; i < top; i++)
    if (!there[i])
      return m4n_fail_at(M4N_EFORMAT, folder, 0, NULL, "video_size_%d is missing: expected all of 0 to %d", i,
                         top);
  if (top < 0)
    return m4n_fail_at(M4N_ENOTFOUND, folder, 0, NULL, "expected files video_size_0, video_size_1, …");
  *levels = top + 1;
  return M4N_OK;
}

static int open_folder(m4n_video *video, const char *folder) {
  m4n_names names;
  int levels = 0;
  M4N_TRY(m4n_list_dir(&names, folder));
  int status = count_levels(folder, &names, &levels);
  m4n_names_free(&names);

  m4n_map map[M4N_VIDEO_MAX_LEVELS] = {{0}};
  char *path[M4N_VIDEO_MAX_LEVELS] = {NULL};
  m4n_video_text text[M4N_VIDEO_MAX_LEVELS] = {{0}};
  for (int i = 0; i < levels && !status; i++) {
    char name[32];
    snprintf(name, sizeof name, "video_size_%d", i);
    path[i] = m4n_path_join(folder, name);
    status = path[i] ? m4n_map_open(&map[i], path[i], M4N_VIDEO_MAX_BYTES)
                     : m4n_fail(M4N_ENOMEM, "no memory for a path");
    text[i] = (m4n_video_text){path[i], map[i].data, map[i].size};
  }
  if (!status) status = m4n_video_parse_sizes(video, text, levels);
  for (int i = 0; i < levels; i++) {
    m4n_map_close(&map[i]);
    free(path[i]);
  }
  return status;
}

// ---- Sabre's JSON -----------------------------------------------------------------------------------------

typedef struct json_text {
  const char *name;
  const void *data;
  size_t size;
  const json_t *root;
} json_text;

static int wants(const json_text *in, const char *key, size_t index, const char *expected) {
  return m4n_fail_at(M4N_EFORMAT, in->name, m4n_json_line(in->data, in->size, key, index), key,
                     "element %zu: expected %s", index, expected);
}

static bool positive(const json_t *number, double limit, double *value) {
  *value = json_number_value(number);
  return json_is_number(number) && *value > 0 && *value <= limit;
}

static int parse_ladder(m4n_video *video, const json_text *in, size_t levels) {
  const json_t *rates = json_object_get(in->root, "bitrates_kbps");
  double *kbps = m4n_arena_alloc(&video->memory, levels * sizeof(double));
  if (!kbps) return M4N_ENOMEM;
  for (size_t i = 0; i < levels; i++)
    if (!positive(json_array_get(rates, i), 1e9, &kbps[i]) || (i && kbps[i] <= kbps[i - 1]))
      return wants(in, "bitrates_kbps", i, "a rate in kbit/s above 0 and above the one before");
  video->kbps = kbps;
  return M4N_OK;
}

static int parse_segments(const m4n_video *video, const json_text *in, double *size) {
  const json_t *segments = json_object_get(in->root, "segment_sizes_bits");
  size_t levels = (size_t)video->levels;
  for (size_t chunk = 0; chunk < (size_t)video->chunks; chunk++) {
    const json_t *row = json_array_get(segments, chunk);
    if (json_array_size(row) != levels)
      return wants(in, "segment_sizes_bits", chunk, "an array with one size for each of bitrates_kbps");
    for (size_t level = 0; level < levels; level++) {
      double bits;
      if (!positive(json_array_get(row, level), 8 * max_bytes, &bits))
        return wants(in, "segment_sizes_bits", chunk, "sizes in bits, numbers above 0");
      size[chunk * levels + level] = bits / 8;
    }
  }
  return M4N_OK;
}

static int parse_json(m4n_video *video, const json_text *in) {
  double ms, *size = NULL;
  const json_t *rates = json_object_get(in->root, "bitrates_kbps");
  const json_t *segments = json_object_get(in->root, "segment_sizes_bits");
  if (!positive(json_object_get(in->root, "segment_duration_ms"), 1e6, &ms))
    return m4n_fail_at(M4N_EFORMAT, in->name, 0, "segment_duration_ms", "expected a number of ms above 0");
  if (!json_is_array(rates))
    return m4n_fail_at(M4N_EFORMAT, in->name, 0, "bitrates_kbps", "expected an array of rates in kbit/s");
  if (!json_is_array(segments))
    return m4n_fail_at(M4N_EFORMAT, in->name, 0, "segment_sizes_bits", "expected an array, one row a chunk");
  video->chunk_s = ms / 1000;
  M4N_TRY(allocate(video, in->name, json_array_size(rates), json_array_size(segments), &size));
  M4N_TRY(parse_ladder(video, in, json_array_size(rates)));
  return parse_segments(video, in, size);
}

int m4n_video_parse_json(m4n_video *video, const char *name, const void *data, size_t size) {
  *video = (m4n_video){0};
  json_t *root;
  M4N_TRY(m4n_json_parse(&root, name, data, size));
  int status = parse_json(video, &(json_text){name, data, size, root});
  json_decref(root);
  if (status) m4n_video_close(video);
  return status;
}

static int open_file(m4n_video *video, const char *path) {
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, path, M4N_VIDEO_MAX_BYTES));
  int status = m4n_video_parse_json(video, path, map.data, map.size);
  m4n_map_close(&map);
  return status;
}

// ---- the whole --------------------------------------------------------------------------------------------

int m4n_video_open(m4n_video *video, const char *path) {
  *video = (m4n_video){0};
  return m4n_is_dir(path) ? open_folder(video, path) : open_file(video, path);
}

void m4n_video_close(m4n_video *video) {
  m4n_arena_close(&video->memory);
  *video = (m4n_video){0};
}

static int write_level(const m4n_video *video, const char *path, int level) {
  m4n_writer file;
  M4N_TRY(m4n_writer_open(&file, path));
  for (int chunk = 0; chunk < video->chunks; chunk++)
    fprintf(file.stream, "%.17g\n", video->size[chunk * video->levels + level]);
  return m4n_writer_commit(&file);
}

int m4n_video_write(const m4n_video *video, const char *folder) {
  M4N_TRY(m4n_mkdirs(folder));
  for (int level = 0; level < video->levels; level++) {
    char name[32];
    snprintf(name, sizeof name, "video_size_%d", level);
    char *path = m4n_path_join(folder, name);
    int status = path ? write_level(video, path, level) : m4n_fail(M4N_ENOMEM, "no memory for a path");
    free(path);
    M4N_TRY(status);
  }
  return M4N_OK;
}
