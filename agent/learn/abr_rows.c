#include "agent/learn/abr_rows.h"

#include <string.h>

#include "kernels/base/status.h"

static int missing(const m4n_spec *spec, const char *name, const char *expected) {
  return m4n_fail(M4N_EUNSUPPORTED,
                  "the model reads rows of task 'abr' and the simulator has '%s': '%s' is missing or not %s",
                  spec->task, name, expected);
}

// The field `name` of doubles: a number (columns 0), a list, or a table with `columns` columns. Its first dimension goes to *rows.
static int find(const m4n_spec *spec, const char *name, int rank, int columns, uint32_t *offset, int *rows) {
  static const char *const kind[] = {"a number", "a list of numbers",
                                     "a table of numbers with a column a level"};
  const m4n_field *f = m4n_spec_obs(spec, name);
  if (!f || f->dtype != M4N_F64 || f->rank != rank || (rank && f->shape[0] < 1) ||
      (rank == 2 && f->shape[1] != columns))
    return missing(spec, name, kind[rank]);
  *offset = f->offset;
  if (rows) *rows = f->shape[0];
  return M4N_OK;
}

static int find_ladder(const m4n_spec *spec, const double **ladder, int *levels) {
  *ladder = m4n_spec_constant(spec, M4N_ABR_LADDER, levels);
  if (!*ladder || *levels < 1 || *levels > M4N_ABR_MAX_LEVELS)
    return missing(spec, M4N_ABR_LADDER, "a list of bitrates");
  for (int i = 0; i < *levels; i++)
    if (!((*ladder)[i] > 0)) return missing(spec, M4N_ABR_LADDER, "a list of bitrates");
  return M4N_OK;
}

int m4n_abr_rows_shape(m4n_abr_shape *shape, const m4n_spec *spec) {
  const double *ladder;
  double chunks;
  M4N_TRY(find_ladder(spec, &ladder, &shape->levels));
  M4N_TRY(m4n_spec_number(spec, M4N_ABR_CHUNKS, &chunks));
  if (!(chunks >= 2 && chunks <= 65536)) return missing(spec, M4N_ABR_CHUNKS, "a number from 2 to 65536");
  shape->max_steps = (int)chunks - 1; // nobody decides about the first chunk
  return M4N_OK;
}

int m4n_abr_rows_open(m4n_abr_rows *rows, const m4n_spec *spec, const m4n_abr_shape *shape) {
  const double *ladder;
  int levels, lookahead = 0, downloads = 0;
  *rows = (m4n_abr_rows){.shape = *shape};
  M4N_TRY(find_ladder(spec, &ladder, &levels));
  if (levels != shape->levels)
    return m4n_fail(M4N_EUNSUPPORTED, "the model chooses among %d levels and the simulator has %d",
                    shape->levels, levels);
  memcpy(rows->bitrate, ladder, (size_t)levels * sizeof *ladder);
  M4N_TRY(find(spec, M4N_ABR_THROUGHPUT, 1, 0, &rows->throughput, &rows->history));
  M4N_TRY(find(spec, M4N_ABR_DOWNLOAD, 1, 0, &rows->download_time, &downloads));
  M4N_TRY(find(spec, M4N_ABR_BUFFER, 0, 0, &rows->buffer, NULL));
  M4N_TRY(find(spec, M4N_ABR_LAST_LEVEL, 0, 0, &rows->last_level, NULL));
  M4N_TRY(find(spec, M4N_ABR_NEXT_SIZES, 2, levels, &rows->next_sizes, &lookahead));
  M4N_TRY(find(spec, M4N_ABR_CHUNKS_LEFT, 0, 0, &rows->chunks_left, NULL));
  if (rows->history < shape->history || downloads != rows->history || lookahead < shape->lookahead)
    return m4n_fail(
        M4N_EUNSUPPORTED,
        "the model looks at %d chunks behind and %d ahead, the simulator's rows have %d throughputs, %d "
        "download times and %d rows of sizes",
        shape->history, shape->lookahead, rows->history, downloads, lookahead);
  return M4N_OK;
}

static const double *doubles_at(const uint8_t *obs, uint32_t offset) {
  return (const double *)(const void *)(obs + offset);
}

void m4n_abr_rows_fill(const m4n_abr_rows *rows, m4n_real *features, const uint8_t *obs) {
  const int top = rows->shape.levels - 1;
  // The field's range is what a stranger's simulator said it is.
  const double said = *doubles_at(obs, rows->last_level);
  const int level = said < 0 ? 0 : said > top ? top : (int)said;
  const m4n_abr_state state = {.throughput = doubles_at(obs, rows->throughput),
                               .download_time = doubles_at(obs, rows->download_time),
                               .history_given = rows->history,
                               .next_sizes = doubles_at(obs, rows->next_sizes),
                               .last_bitrate = rows->bitrate[level],
                               .top_bitrate = rows->bitrate[top],
                               .buffer = *doubles_at(obs, rows->buffer),
                               .chunks_left = *doubles_at(obs, rows->chunks_left)};
  m4n_abr_fill(&rows->shape, features, &state);
}
