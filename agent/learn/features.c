#include "agent/learn/features.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "agent/rules/estimate.h"
#include "kernels/base/status.h"

// A float64 field of that shape; dimensions of `count` 0 are any.
static int find(const m4n_spec *spec, const char *name, int rank, const m4n_field **out) {
  const m4n_field *f = m4n_spec_obs(spec, name);
  if (!f || f->dtype != M4N_F64 || f->rank != rank || (rank && f->shape[0] < 1))
    return m4n_fail(
        M4N_EUNSUPPORTED,
        "the expert needs an f64 field '%s' with %d dimensions, which task '%s' of this simulator lacks",
        name, rank, spec->task);
  *out = f;
  return M4N_OK;
}

int m4n_features_open(m4n_features *f, const m4n_spec *spec) {
  const m4n_field *throughput = NULL, *download = NULL, *buffer = NULL, *last = NULL, *left = NULL,
                  *sizes = NULL;
  int levels;
  *f = (m4n_features){0};
  M4N_TRY(find(spec, M4N_ABR_THROUGHPUT, 1, &throughput));
  M4N_TRY(find(spec, M4N_ABR_DOWNLOAD, 1, &download));
  M4N_TRY(find(spec, M4N_ABR_BUFFER, 0, &buffer));
  M4N_TRY(find(spec, M4N_ABR_LAST_LEVEL, 0, &last));
  M4N_TRY(find(spec, M4N_ABR_CHUNKS_LEFT, 0, &left));
  M4N_TRY(find(spec, M4N_ABR_NEXT_SIZES, 2, &sizes));
  M4N_TRY(m4n_spec_number(spec, M4N_ABR_CHUNK_SECONDS, &f->chunk_s));
  M4N_TRY(m4n_spec_number(spec, M4N_ABR_CHUNKS, &f->chunks));
  const double *ladder = m4n_spec_constant(spec, M4N_ABR_LADDER, &levels);
  if (!ladder || levels < 1 || levels > M4N_ABR_MAX_LEVELS || levels != sizes->shape[1] ||
      spec->act[0].high != levels - 1)
    return m4n_fail(M4N_EUNSUPPORTED,
                    "the expert needs a ladder of 1 to %d levels that agrees with '%s' and the action",
                    M4N_ABR_MAX_LEVELS, M4N_ABR_NEXT_SIZES);
  if (throughput->shape[0] != download->shape[0])
    return m4n_fail(M4N_EUNSUPPORTED, "the expert needs '%s' and '%s' of one length", M4N_ABR_THROUGHPUT,
                    M4N_ABR_DOWNLOAD);
  if (!(ladder[levels - 1] > 0 && f->chunk_s > 0 && f->chunks > 0))
    return m4n_fail(M4N_EUNSUPPORTED, "the expert needs a positive ladder, chunk_s and chunks");
  f->levels = levels;
  f->history = throughput->shape[0];
  f->lookahead = sizes->shape[0];
  f->top_mbps = ladder[levels - 1] / 1000;
  f->throughput = throughput->offset, f->download = download->offset, f->buffer = buffer->offset;
  f->last_level = last->offset, f->chunks_left = left->offset, f->next_sizes = sizes->offset;
  f->n = 2 * f->history + 2 + f->levels + f->lookahead * f->levels + 2 * f->levels;
  return M4N_OK;
}

// Rates and times span decades: logarithms. A rate counts in top rates, a time in chunk durations, a size in chunks of the top rate.
void m4n_features_fill(const m4n_features *f, m4n_real *x, const uint8_t *row) {
  const double *throughput = (const double *)(row + f->throughput),
               *download = (const double *)(row + f->download);
  const double *sizes = (const double *)(row + f->next_sizes);
  for (int i = 0; i < f->history; i++) *x++ = (m4n_real)(log1p(4 * 8 * throughput[i] / f->top_mbps) - 0.8);
  for (int i = 0; i < f->history; i++) *x++ = (m4n_real)(log1p(4 * download[i] / f->chunk_s) - 0.8);
  *x++ = (m4n_real)(*(const double *)(row + f->buffer) / (2.5 * f->chunk_s) - 1);
  *x++ = (m4n_real)(2 * *(const double *)(row + f->chunks_left) / f->chunks - 1);
  int last = (int)*(const double *)(row + f->last_level);
  for (int i = 0; i < f->levels; i++) *x++ = i == last;
  double top = f->top_mbps * f->chunk_s * 1e6 / 8;
  for (int i = 0; i < f->lookahead * f->levels; i++) *x++ = (m4n_real)(2 * sizes[i] / top);
  // How long the next chunk, and the mean one of those ahead, would take if the rate stayed: a ratio, so that what is learned at
  // one rate holds at another.
  double rate = m4n_harmonic_mean(throughput, f->history) * 1e6;
  for (int l = 0; l < f->levels; l++) {
    double ahead = 0;
    for (int k = 0; k < f->lookahead; k++) ahead += sizes[k * f->levels + l] / f->lookahead;
    *x++ = (m4n_real)(rate > 0 ? log1p(4 * sizes[l] / rate / f->chunk_s) - 0.8 : 0);
    *x++ = (m4n_real)(rate > 0 ? log1p(4 * ahead / rate / f->chunk_s) - 0.8 : 0);
  }
}

char *m4n_features_text(const m4n_features *f) {
  json_t *o =
      json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "levels", f->levels, "history", f->history, "lookahead",
                f->lookahead, "top_mbps", f->top_mbps, "chunk_s", f->chunk_s, "chunks", f->chunks);
  char *text = o ? json_dumps(o, JSON_REAL_PRECISION(17)) : NULL;
  json_decref(o);
  if (!text) m4n_fail(M4N_ENOMEM, "no memory for a checkpoint's metadata");
  return text;
}

int m4n_features_match(const m4n_features *f, const char *text, const char *path) {
  const struct {
    const char *key;
    double here;
  } same[] = {{"levels", f->levels}, {"history", f->history}, {"lookahead", f->lookahead}};
  json_error_t error;
  json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
  int status =
      json_is_object(o) ? M4N_OK : m4n_fail_at(M4N_EFORMAT, path, 0, "features", "expected a JSON object");
  for (size_t i = 0; !status && i < sizeof same / sizeof *same; i++) {
    const json_t *there = json_object_get(o, same[i].key);
    if (!json_is_number(there))
      status = m4n_fail_at(M4N_EFORMAT, path, 0, same[i].key, "expected a number");
    else if (json_number_value(there) != same[i].here)
      status = m4n_fail_at(M4N_EUNSUPPORTED, path, 0, same[i].key,
                           "the expert was trained with %g, this simulator has %g", json_number_value(there),
                           same[i].here);
  }
  json_decref(o);
  return status;
}
