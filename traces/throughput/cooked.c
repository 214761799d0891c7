// Pensieve's cooked form: a line is "time-in-s  Mbit/s"; the numbers come through exactly as strtod reads them.
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

// Pensieve's simulator wraps to time 0: a trace that begins at an epoch's stamp would spend years in its first row.
static const double latest_start = 86400;

int m4n_trace_read_cooked(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  M4N_TRY(m4n_rows_reserve(rows, arena, m4n_rows_lines(data, size)));
  m4n_lines lines = m4n_lines_of(data, size);
  for (m4n_span line; m4n_rows_line(&lines, &line);) {
    m4n_words words = {line};
    m4n_span first, second = {0}, more;
    m4n_words_next(&words, &first);
    if (!m4n_words_next(&words, &second) || m4n_words_next(&words, &more))
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, second.at ? NULL : "bandwidth",
                         "\"%.*s\": expected two columns, time in s and throughput in Mbit/s",
                         M4N_SPAN(line));
    double time, mbps;
    M4N_TRY(m4n_rows_number(rows, lines.number, "time", "seconds", first, &time));
    M4N_TRY(m4n_rows_number(rows, lines.number, "bandwidth", "Mbit/s", second, &mbps));
    if (!rows->count && time > latest_start)
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "time",
                         "begins at %.17g s: expected seconds since the recording's start", time);
    M4N_TRY(m4n_rows_add(rows, lines.number, time, mbps));
  }
  return M4N_OK;
}
