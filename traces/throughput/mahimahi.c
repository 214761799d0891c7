// Mahimahi's packet times: a line is the ms at which one packet of 1500 bytes may pass; stamps repeat.
//
// Second i carries (lines with i <= t/1000 < i+1) · 12000 bit. The partial last second is dropped, and the
// rate of second 0 also stands at time 0.
#include "kernels/base/status.h"
#include "traces/throughput/rows.h"

static const double packet_mbit = 1500 * 8 / 1e6;
static const int64_t day_ms = 86400 * 1000;

// The ms of the next line; `last` is the line before. False at the end; a failure is in *status.
static bool next_packet(const m4n_rows *rows, m4n_lines *lines, int64_t *ms, int *status) {
  m4n_span line;
  if (!m4n_rows_line(lines, &line)) return false;
  int64_t last = *ms;
  line = m4n_span_trim(line);
  if (!m4n_span_int64(line, ms) || *ms < 0)
    *status = m4n_fail_at(M4N_EFORMAT, rows->file, lines->number, "time",
                          "\"%.*s\": expected milliseconds, a whole number of at least 0", M4N_SPAN(line));
  else if (*ms < last)
    *status =
        m4n_fail_at(M4N_EFORMAT, rows->file, lines->number, "time",
                    "%lld ms comes after %lld ms: expected times that rise", (long long)*ms, (long long)last);
  else if (*ms - last > day_ms)
    *status = m4n_fail_at(M4N_EFORMAT, rows->file, lines->number, "time",
                          "%lld ms after %lld ms: expected milliseconds, with less than a day of silence",
                          (long long)*ms, (long long)last);
  return !*status;
}

int m4n_trace_read_mahimahi(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  // First the checks and the length, then the bins: a silent stretch has rows but no lines.
  int status = M4N_OK;
  int64_t ms = 0, packets = 0;
  m4n_lines lines = m4n_lines_of(data, size);
  while (next_packet(rows, &lines, &ms, &status)) packets++;
  M4N_TRY(status);
  if (ms == 0)
    return m4n_fail_at(M4N_EFORMAT, rows->file, lines.number, "time",
                       "the recording has length 0: expected a last packet time of at least 1 ms");

  // Mahimahi repeats a recording; one shorter than a bin ("1" alone is a fixed 12 Mbit/s) is its mean rate.
  if (ms < 1000) {
    M4N_TRY(m4n_rows_reserve(rows, arena, 2));
    double mean = (double)packets * packet_mbit / ((double)ms / 1000);
    M4N_TRY(m4n_rows_add(rows, 0, 0, mean));
    return m4n_rows_add(rows, 0, 1, mean);
  }

  int64_t seconds = ms / 1000;
  M4N_TRY(m4n_rows_reserve(rows, arena, (size_t)seconds + 1));
  lines = m4n_lines_of(data, size);
  ms = 0;
  bool more = next_packet(rows, &lines, &ms, &status);
  for (int64_t i = 0; i < seconds; i++) {
    int64_t count = 0;
    for (; more && ms < (i + 1) * 1000; more = next_packet(rows, &lines, &ms, &status)) count++;
    double mbps = (double)count * packet_mbit;
    if (i == 0) M4N_TRY(m4n_rows_add(rows, 0, 0, mbps));
    M4N_TRY(m4n_rows_add(rows, 0, (double)(i + 1), mbps));
  }
  return M4N_OK;
}
