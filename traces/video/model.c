#include "traces/video/model.h"

#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "traces/fields.h"
#include "traces/json.h"
#include "traces/models/models.h"
#include "traces/throughput/model.h"

static const char kind[] = "mamba4net video model 1";

#define AT(member) offsetof(m4n_video_model, member)
static const m4n_field fields[] = {
    {"videos", AT(videos), 0, 0, 1, 1e9, false},
    {"levels", AT(levels), 0, 0, 1, M4N_VIDEO_MAX_LEVELS, false},
    {"chunks", AT(chunks), 0, 0, 1, M4N_VIDEO_MAX_CHUNKS, false},
    {"chunk_s", AT(chunk_s), 0, 0, 0.01, 1000, false},
    {"sigma", AT(sigma), 0, 0, 0, 2, false},
    {"shared", AT(shared), 0, 0, 0, 1, false},
    {"chunk", AT(chunk), 0, 0, -0.999, 0.999, false},
};
enum { FIELDS = sizeof fields / sizeof *fields };

// The ladder has as many numbers as there are levels.
static m4n_field ladder(const m4n_video_model *model) {
  return (m4n_field){"kbps", AT(kbps), 0, (int)model->levels, 1, 1e7, true};
}

// ---- files ------------------------------------------------------------------------------------------------

static int read_model(m4n_video_model *model, const char *file, const json_t *root) {
  static const char *const others[] = {"kind", "name", "kbps", NULL};
  const char *said = json_string_value(json_object_get(root, "kind"));
  const char *name = json_string_value(json_object_get(root, "name"));
  if (!said || strcmp(said, kind) != 0)
    return m4n_fail_at(M4N_EFORMAT, file, 0, "kind", "expected \"%s\"", kind);
  if (!name || !m4n_trace_model_name_ok(name))
    return m4n_fail_at(M4N_EFORMAT, file, 0, "name", "expected letters, digits, -, _ or .");
  M4N_TRY(m4n_fields_read(model, fields, FIELDS, others, file, root));
  if (model->levels != floor(model->levels) || model->chunks != floor(model->chunks))
    return m4n_fail_at(M4N_EFORMAT, file, 0, "levels, chunks", "expected whole numbers");
  m4n_field kbps = ladder(model);
  M4N_TRY(m4n_fields_read(model, &kbps, 1, NULL, file, root));
  snprintf(model->name, sizeof model->name, "%s", name);
  return M4N_OK;
}

int m4n_video_model_parse(m4n_video_model *model, const char *name, const void *data, size_t size) {
  *model = (m4n_video_model){0};
  json_t *root;
  M4N_TRY(m4n_json_parse(&root, name, data, size));
  int status = read_model(model, name, root);
  json_decref(root);
  return status;
}

const char *m4n_video_model_builtin(int index) {
  for (int i = 0; m4n_video_models[i].name; i++)
    if (i == index) return m4n_video_models[i].name;
  return NULL;
}

int m4n_video_model_open(m4n_video_model *model, const char *name_or_path) {
  const m4n_model_file *file = m4n_video_models;
  while (file->name && strcmp(file->name, name_or_path) != 0) file++;
  if (file->name) return m4n_video_model_parse(model, file->name, file->data, file->size);
  if (!m4n_exists(name_or_path))
    return m4n_fail_at(M4N_ENOTFOUND, name_or_path, 0, NULL, "is neither a video model's name nor a file");
  m4n_map map;
  M4N_TRY(m4n_map_open(&map, name_or_path, 1 << 20));
  int status = m4n_video_model_parse(model, name_or_path, map.data, map.size);
  m4n_map_close(&map);
  return status;
}

int m4n_video_model_write(const m4n_video_model *model, const char *path) {
  m4n_writer file;
  M4N_TRY(m4n_writer_open(&file, path));
  fprintf(file.stream, "{\n  \"kind\": \"%s\",\n  \"name\": \"%s\"", kind, model->name);
  m4n_field kbps = ladder(model);
  m4n_fields_write(model, fields, FIELDS, file.stream);
  m4n_fields_write(model, &kbps, 1, file.stream);
  fputs("\n}\n", file.stream);
  return m4n_writer_commit(&file);
}

// ---- fit --------------------------------------------------------------------------------------------------

// One video's σ, mean correlation of its levels and mean correlation of neighbouring chunks, of log sizes.
static int statistics(const m4n_video *video, double *sigma, double *shared, double *chunk) {
  size_t levels = (size_t)video->levels, chunks = (size_t)video->chunks;
  double *logs = malloc(levels * chunks * sizeof *logs);
  if (!logs) return m4n_fail(M4N_ENOMEM, "no memory for %zu sizes", levels * chunks);
  for (size_t i = 0; i < levels * chunks; i++) logs[i] = log(video->size[i]);
  double correlation = 0, pairs = 0;
  *sigma = *chunk = 0;
  for (size_t a = 0; a < levels; a++) {
    *sigma += gsl_stats_sd(logs + a, levels, chunks) / (double)levels;
    *chunk += gsl_stats_lag1_autocorrelation(logs + a, levels, chunks) / (double)levels;
    for (size_t b = 0; b < a; b++, pairs++)
      correlation += gsl_stats_correlation(logs + a, levels, logs + b, levels, chunks);
  }
  *shared = correlation / pairs;
  free(logs);
  return M4N_OK;
}

int m4n_video_model_fit(m4n_video_model *model, const m4n_video *video, int count, const char *name) {
  *model = (m4n_video_model){
      .videos = count, .levels = 6, .chunks = 49, .chunk_s = 4, .kbps = {300, 750, 1200, 1850, 2850, 4300}};
  if (!m4n_trace_model_name_ok(name))
    return m4n_fail(M4N_EARG, "\"%.80s\" is no model name: expected letters, digits, -, _ or .", name);
  snprintf(model->name, sizeof model->name, "%s", name);
  for (int i = 0; i < count; i++) {
    if (video[i].chunks < 3 || video[i].levels < 2)
      return m4n_fail(M4N_EFORMAT,
                      "a video of %d chunks and %d levels: expected at least 3 and 2 to fit a model",
                      video[i].chunks, video[i].levels);
    double sigma = 0, shared = 0, chunk = 0;
    M4N_TRY(statistics(&video[i], &sigma, &shared, &chunk));
    if (!isfinite(shared) || !isfinite(chunk))
      return m4n_fail(M4N_EFORMAT, "a video whose chunks have all one size: nothing to fit a model to");
    model->sigma += sigma / count;
    model->shared += fmax(shared, 0) / count;
    model->chunk += chunk / count;
  }
  return M4N_OK;
}

// ---- generate ---------------------------------------------------------------------------------------------

int m4n_video_generate(m4n_video *video, const m4n_video_model *model, uint64_t seed, uint64_t index) {
  int levels = (int)model->levels, chunks = (int)model->chunks;
  *video = (m4n_video){.levels = levels, .chunks = chunks, .chunk_s = model->chunk_s};
  double *kbps = m4n_arena_alloc(&video->memory, (size_t)levels * sizeof *kbps);
  double *size = m4n_arena_alloc(&video->memory, (size_t)levels * (size_t)chunks * sizeof *size);
  if (!kbps || !size) {
    m4n_video_close(video);
    return M4N_ENOMEM;
  }
  memcpy(kbps, model->kbps, (size_t)levels * sizeof *kbps);
  m4n_rng rng = m4n_rng_make(seed, index, M4N_RNG_GENERATE);
  double r = model->chunk, own[M4N_VIDEO_MAX_LEVELS] = {0}, x = 0;
  for (int c = 0; c < chunks; c++) {
    double keep = c ? r : 0, renew = sqrt(1 - keep * keep);
    x = keep * x + renew * m4n_rng_normal(&rng);
    for (int l = 0; l < levels; l++) {
      own[l] = keep * own[l] + renew * m4n_rng_normal(&rng);
      double g = sqrt(model->shared) * x + sqrt(1 - model->shared) * own[l];
      double mean = kbps[l] * 1000 / 8 * model->chunk_s;
      size[c * levels + l] = fmax(1, round(mean * exp(model->sigma * (g - model->sigma / 2))));
    }
  }
  video->kbps = kbps;
  video->size = size;
  return M4N_OK;
}
