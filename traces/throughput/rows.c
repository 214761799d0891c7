#include "traces/throughput/rows.h"

#include <math.h>
#include <string.h>

#include "kernels/base/status.h"

// Beyond these a file's unit is not what its format says: a terabit a second, a recording of thirty years.
static const double max_mbps = 1e6, max_time = 1e9;

int m4n_rows_reserve(m4n_rows *rows, m4n_arena *arena, size_t room) {
  if (room > M4N_TRACE_MAX_ROWS)
    return m4n_fail_at(M4N_EFORMAT, rows->file, 0, NULL, "%zu rows, at most %d are accepted", room,
                       M4N_TRACE_MAX_ROWS);
  rows->time = m4n_arena_alloc(arena, room * sizeof(double));
  rows->mbps = m4n_arena_alloc(arena, room * sizeof(double));
  if (!rows->time || !rows->mbps) return M4N_ENOMEM;
  rows->room = (int32_t)room;
  return M4N_OK;
}

int m4n_rows_add(m4n_rows *rows, long line, double time, double mbps) {
  if (!(time >= 0 && time <= max_time))
    return m4n_fail_at(M4N_EFORMAT, rows->file, line, "time", "%g s: expected 0 to %g s", time, max_time);
  if (!(mbps >= 0 && mbps <= max_mbps))
    return m4n_fail_at(M4N_EFORMAT, rows->file, line, "bandwidth", "%g Mbit/s: expected 0 to %g Mbit/s", mbps,
                       max_mbps);
  if (rows->count) {
    double last = rows->time[rows->count - 1];
    if (time < last)
      return m4n_fail_at(M4N_EFORMAT, rows->file, line, "time",
                         "%g s comes after %g s: expected times that rise", time, last);
    if (time == last) return M4N_OK; // a repeated stamp: an interval of length 0 carries nothing
  }
  if (rows->count == rows->room)
    return m4n_fail_at(M4N_EFORMAT, rows->file, line, NULL, "more than %d rows", rows->room);
  rows->time[rows->count] = time;
  rows->mbps[rows->count++] = mbps;
  return M4N_OK;
}

int m4n_rows_number(const m4n_rows *rows, long line, const char *key, const char *expected, m4n_span text,
                    double *value) {
  if (m4n_span_double(text, value) && isfinite(*value) && *value >= 0) return M4N_OK;
  return m4n_fail_at(M4N_EFORMAT, rows->file, line, key,
                     "\"%.*s\": expected %s, a finite number of at least 0", M4N_SPAN(text), expected);
}

bool m4n_rows_line(m4n_lines *lines, m4n_span *line) {
  while (m4n_lines_next(lines, line))
    if (m4n_span_trim(*line).size) return true;
  return false;
}

size_t m4n_rows_lines(const void *data, size_t size) {
  size_t lines = 1;
  const char *at = data, *end = at + size;
  while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) lines++, at++;
  return lines;
}
