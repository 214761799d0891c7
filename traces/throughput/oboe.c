// Oboe: lines "time-in-ms  kbit/s" in pairs, start and end of one chunk download with its mean bandwidth.
//
// Between two lines the mean of both holds: inside a pair that is the download's own rate, in the gap between
// two downloads it has the integral of the line that joins them. Times count from the first line's.
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

int m4n_trace_read_oboe(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  M4N_TRY(m4n_rows_reserve(rows, arena, m4n_rows_lines(data, size)));
  m4n_lines lines = m4n_lines_of(data, size);
  double start = 0, last = 0, last_kbps = 0;
  bool first = true;
  for (m4n_span line; m4n_rows_line(&lines, &line); first = false) {
    m4n_words words = {line};
    m4n_span a, b = {0}, more;
    m4n_words_next(&words, &a);
    if (!m4n_words_next(&words, &b) || m4n_words_next(&words, &more))
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, b.at ? NULL : "bandwidth",
                         "\"%.*s\": expected two columns, time in ms and bandwidth in kbit/s",
                         M4N_SPAN(line));
    double ms, kbps;
    M4N_TRY(m4n_rows_number(rows, lines.number, "time", "milliseconds", a, &ms));
    M4N_TRY(m4n_rows_number(rows, lines.number, "bandwidth", "kbit/s", b, &kbps));
    if (first)
      start = ms, last_kbps = kbps;
    else if (ms < last)
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "time",
                         "%g ms comes after %g ms: expected times that rise", ms, last);
    M4N_TRY(m4n_rows_add(rows, lines.number, (ms - start) / 1000, (kbps + last_kbps) / 2 / 1000));
    last = ms, last_kbps = kbps;
  }
  return M4N_OK;
}
