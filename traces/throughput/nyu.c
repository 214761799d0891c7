// NYU-METS: a line a second, "3.97,Mbits/sec"; the unit changes from line to line. Line i is the second from i
// to i+1; the first line's rate also stands at time 0.
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

static double mbps_of_unit(m4n_span unit) {
  static const struct {
    const char *name;
    double divisor; // dividing by a power of ten is exact where multiplying by its inverse is not
  } units[] = {{"Mbits/sec", 1}, {"Kbits/sec", 1e3}, {"bits/sec", 1e6}, {"Gbits/sec", 1e-3}};
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (m4n_span_is(unit, units[i].name)) return units[i].divisor;
  return 0;
}

int m4n_trace_read_nyu(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  M4N_TRY(m4n_rows_reserve(rows, arena, m4n_rows_lines(data, size) + 1));
  m4n_lines lines = m4n_lines_of(data, size);
  int64_t second = 0;
  for (m4n_span line; m4n_rows_line(&lines, &line);) {
    m4n_span rest = line, field, unit = {0};
    double value, divisor;
    m4n_span_split(&rest, ',', &field);
    M4N_TRY(m4n_rows_number(rows, lines.number, "bandwidth", "a throughput", field, &value));
    if (!m4n_span_split(&rest, ',', &unit) || rest.at || (divisor = mbps_of_unit(unit)) == 0)
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "unit",
                         "\"%.*s\": expected value,unit with Gbits/sec, Mbits/sec, Kbits/sec or bits/sec",
                         M4N_SPAN(line));
    if (!second) M4N_TRY(m4n_rows_add(rows, lines.number, 0, value / divisor));
    M4N_TRY(m4n_rows_add(rows, lines.number, (double)++second, value / divisor));
  }
  return M4N_OK;
}
