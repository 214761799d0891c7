// Writers: cooked is exact; the other two are what their programs expect, as near as the format allows.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "traces/throughput/throughput.h"

// The shortest of 15 to 17 digits that reads back as the same double: 0.66 and not 0.66000000000000003.
static const char *exact(double x, char text[32]) {
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, 32, "%.*g", digits, x);
    if (strtod(text, NULL) == x) break;
  }
  return text;
}

static int write_cooked(const m4n_trace *trace, FILE *out) {
  char time[32], mbps[32];
  for (int i = 0; i < trace->rows; i++)
    fprintf(out, "%s\t%s\n", exact(trace->time[i], time), exact(trace->mbps[i], mbps));
  return M4N_OK;
}

// Packet k passes when (k + ½) · 12000 bit have come: then every second holds its bits to within half a packet.
// One last line at the trace's end keeps its length, which Mahimahi takes from there.
static int write_mahimahi(const m4n_trace *trace, FILE *out) {
  static const double packet = 1500 * 8; // bit
  int n = trace->rows;
  double bits = 0;
  for (int i = 1; i < n; i++) bits += trace->mbps[i] * 1e6 * (trace->time[i] - trace->time[i - 1]);
  if (bits / packet * 8 > M4N_TRACE_MAX_BYTES)
    return m4n_fail(M4N_EUNSUPPORTED, "%s: %.0f packet times are more than a Mahimahi file should have",
                    trace->name, bits / packet);

  double passed = 0, next = packet / 2;
  long long ms = 0;
  for (int i = 1; i < n; i++) {
    double start = (trace->time[i - 1] - trace->time[0]) * 1000,
           end = (trace->time[i] - trace->time[0]) * 1000;
    double per_ms = trace->mbps[i] * 1000, row_bits = per_ms * (end - start);
    for (; next < passed + row_bits; next += packet) {
      ms = (long long)(start + (next - passed) / per_ms);
      fprintf(out, "%lld\n", ms);
    }
    passed += row_bits;
  }
  long long last = llround((trace->time[n - 1] - trace->time[0]) * 1000);
  if (last > ms) fprintf(out, "%lld\n", last);
  return M4N_OK;
}

static int write_sabre(const m4n_trace *trace, FILE *out) {
  char duration[32], kbps[32], latency[32];
  exact(trace->rtt_ms >= 0 ? trace->rtt_ms : 80, latency); // Sabre wants one; 80 ms is Pensieve's
  for (int i = 1; i < trace->rows; i++)
    fprintf(out, "%s{\"duration_ms\": %s, \"bandwidth_kbps\": %s, \"latency_ms\": %s}",
            i == 1 ? "[\n  " : ",\n  ", exact((trace->time[i] - trace->time[i - 1]) * 1000, duration),
            exact(trace->mbps[i] * 1000, kbps), latency);
  fputs("\n]\n", out);
  return M4N_OK;
}

int m4n_trace_write(const m4n_trace *trace, const char *path, int format) {
  int (*write)(const m4n_trace *, FILE *) = format == M4N_TRACE_COOKED     ? write_cooked
                                            : format == M4N_TRACE_MAHIMAHI ? write_mahimahi
                                            : format == M4N_TRACE_SABRE    ? write_sabre
                                                                           : NULL;
  if (!write) {
    const char *name = m4n_trace_format_name(format);
    return m4n_fail(M4N_EUNSUPPORTED, "%s is not written: expected cooked, mahimahi or sabre",
                    name ? name : "an unknown format");
  }
  m4n_writer file;
  M4N_TRY(m4n_writer_open(&file, path));
  int status = write(trace, file.stream);
  if (!status) return m4n_writer_commit(&file);
  m4n_writer_abort(&file);
  return status;
}
