// Sabre's JSON: an array of {"duration_ms", "bandwidth_kbps", "latency_ms"}. A period becomes the row at its
// end; the first period's rate also stands at time 0.
#include "kernels/base/status.h"
#include "traces/json.h"
#include "traces/throughput/rows.h"

typedef struct source {
  m4n_rows *rows;
  const void *data;
  size_t size;
} source;

static int number(const source *in, size_t index, const json_t *period, const char *key, const char *unit,
                  double most, double *value) {
  const json_t *item = json_object_get(period, key);
  *value = json_number_value(item);
  if (json_is_number(item) && *value >= 0 && *value <= most) return M4N_OK;
  long line = m4n_json_line(in->data, in->size, NULL, index);
  return m4n_fail_at(M4N_EFORMAT, in->rows->file, line, key,
                     "period %zu: expected %s, a number from 0 to %g%s", index, unit, most,
                     item ? "" : " (the key is missing)");
}

static int read_periods(const source *in, m4n_arena *arena, const json_t *root) {
  m4n_rows *rows = in->rows;
  if (!json_is_array(root))
    return m4n_fail_at(M4N_EFORMAT, rows->file, 1, NULL,
                       "expected a JSON array of {\"duration_ms\", \"bandwidth_kbps\", \"latency_ms\"}");
  M4N_TRY(m4n_rows_reserve(rows, arena, json_array_size(root) + 1));
  double ms = 0, latency = 0, latency_ms = 0; // latency: weighted by the ms that state one
  for (size_t i = 0; i < json_array_size(root); i++) {
    const json_t *period = json_array_get(root, i);
    if (!json_is_object(period))
      return m4n_fail_at(M4N_EFORMAT, rows->file, m4n_json_line(in->data, in->size, NULL, i), NULL,
                         "period %zu: expected an object with duration_ms and bandwidth_kbps", i);
    double duration, kbps, delay;
    M4N_TRY(number(in, i, period, "duration_ms", "ms", 1e12, &duration));
    M4N_TRY(number(in, i, period, "bandwidth_kbps", "kbit/s", 1e9, &kbps));
    if (json_object_get(period, "latency_ms")) {
      M4N_TRY(number(in, i, period, "latency_ms", "ms", 1e6, &delay));
      latency += delay * duration;
      latency_ms += duration;
    }
    ms += duration;
    if (duration == 0) continue;
    if (!rows->count) M4N_TRY(m4n_rows_add(rows, 0, 0, kbps / 1000));
    M4N_TRY(m4n_rows_add(rows, 0, ms / 1000, kbps / 1000));
  }
  if (latency_ms > 0) rows->rtt_ms = latency / latency_ms;
  return M4N_OK;
}

int m4n_trace_read_sabre(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size) {
  json_t *root;
  M4N_TRY(m4n_json_parse(&root, rows->file, data, size));
  source in = {rows, data, size};
  int status = read_periods(&in, arena, root);
  json_decref(root);
  return status;
}
