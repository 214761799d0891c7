// UCC's 4G and 5G logs: CSV with a header. Timestamp "YYYY.MM.DD_HH.MM.SS" in steps of 1 s, DL_bitrate in kbit/s.
//
// A second may repeat: its rate is the mean of what its lines state. "-" states nothing: the last rate holds,
// as it does until the next second that appears. The trace begins at the first second that states a rate and
// ends 1 s after the last one. State (D, I) is not looked at.
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

typedef struct columns {
  int time, rate;
} columns;

static int read_header(const m4n_rows *rows, m4n_lines *lines, columns *where) {
  *where = (columns){-1, -1};
  m4n_span line, field;
  if (m4n_rows_line(lines, &line))
    for (int i = 0; m4n_span_split(&line, ',', &field); i++) {
      if (m4n_span_is(field, "Timestamp")) where->time = i;
      if (m4n_span_is(field, "DL_bitrate")) where->rate = i;
    }
  if (where->time >= 0 && where->rate >= 0) return M4N_OK;
  return m4n_fail_at(M4N_EFORMAT, rows->file, lines->number, where->time < 0 ? "Timestamp" : "DL_bitrate",
                     "expected a CSV header that names this column");
}

// Days since 1970-01-01 in the Gregorian calendar; years count from March, so that the leap day comes last.
static int64_t days_of(int year, int month, int day) {
  int64_t y = month > 2 ? year : year - 1, m = (month + 9) % 12;
  return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool two_digits(const char *at, int low, int high, int *value) {
  if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9') return false;
  *value = 10 * (at[0] - '0') + at[1] - '0';
  return *value >= low && *value <= high;
}

// "2017.11.30_16.48.26" as seconds.
static bool seconds_of(m4n_span s, int64_t *seconds) {
  int century, year, month, day, hour, minute, second;
  if (s.size != 19 || s.at[4] != '.' || s.at[7] != '.' || s.at[10] != '_' || s.at[13] != '.' ||
      s.at[16] != '.')
    return false;
  if (!two_digits(s.at, 0, 99, &century) || !two_digits(s.at + 2, 0, 99, &year) ||
      !two_digits(s.at + 5, 1, 12, &month) || !two_digits(s.at + 8, 1, 31, &day) ||
      !two_digits(s.at + 11, 0, 23, &hour) || !two_digits(s.at + 14, 0, 59, &minute) ||
      !two_digits(s.at + 17, 0, 60, &second))
    return false;
  *seconds = ((days_of(100 * century + year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
  return true;
}

// One CSV line: its second, and its rate or -1 where it states none.
static int read_line(const m4n_rows *rows, long number, m4n_span line, columns where, int64_t *second,
                     double *kbps) {
  m4n_span rest = line, field, time = {0}, rate = {0};
  for (int i = 0; m4n_span_split(&rest, ',', &field); i++) {
    if (i == where.time) time = field;
    if (i == where.rate) rate = field;
  }
  if (!time.at || !seconds_of(time, second))
    return m4n_fail_at(M4N_EFORMAT, rows->file, number, "Timestamp", "\"%.*s\": expected YYYY.MM.DD_HH.MM.SS",
                       M4N_SPAN(time));
  *kbps = -1;
  if (m4n_span_is(rate, "-")) return M4N_OK;
  return m4n_rows_number(rows, number, "DL_bitrate", "kbit/s or \"-\"", rate, kbps);
}

int m4n_trace_read_ucc(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  M4N_TRY(m4n_rows_reserve(rows, arena, m4n_rows_lines(data, size) + 1));
  m4n_lines lines = m4n_lines_of(data, size);
  columns where;
  M4N_TRY(read_header(rows, &lines, &where));

  // The second under way: its lines' sum and number; `held` is the rate of the last one that stated any.
  int64_t start = 0, current = 0;
  double sum = 0, held = 0;
  int stated = 0;
  bool begun = false;
  for (m4n_span line; m4n_rows_line(&lines, &line);) {
    int64_t second = 0;
    double kbps;
    M4N_TRY(read_line(rows, lines.number, line, where, &second, &kbps));
    if (!begun && kbps < 0) continue;
    if (!begun) start = current = second, begun = true;
    if (second < current)
      return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "Timestamp",
                         "%lld s before the line above: expected times that rise",
                         (long long)(current - second));
    if (second > current) {
      if (stated) held = sum / stated / 1000;
      if (!rows->count) M4N_TRY(m4n_rows_add(rows, lines.number, 0, held));
      M4N_TRY(m4n_rows_add(rows, lines.number, (double)(second - start), held));
      current = second, sum = 0, stated = 0;
    }
    if (kbps >= 0) sum += kbps, stated++;
  }
  if (!begun)
    return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "DL_bitrate",
                       "expected at least one known rate");
  if (stated) held = sum / stated / 1000;
  if (!rows->count) M4N_TRY(m4n_rows_add(rows, lines.number, 0, held));
  return m4n_rows_add(rows, lines.number, (double)(current - start + 1), held);
}
