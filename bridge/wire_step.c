// STEP: what the lanes say.
#include <math.h>
#include <string.h>

#include "bridge/transpose.h"
#include "bridge/wire.h"

enum { FIELDS = 12 };

static int32_t count_flags(const m4n_wire_rows *rows, uint8_t any) {
  int32_t count = 0;
  for (int32_t i = 0; i < rows->n; i++) count += (rows->flags[i] & any) != 0;
  return count;
}

static void pack_bytes(m4n_buffer *out, const void *bytes, size_t size) {
  uint8_t *to = m4n_pack_bin(out, size);
  if (to && size) memcpy(to, bytes, size);
}

static void encode_fields(m4n_buffer *out, const m4n_field *list, int fields, const uint8_t *rows,
                          size_t stride, int32_t n) {
  m4n_pack_array(out, (size_t)fields);
  for (int i = 0; i < fields; i++) {
    uint8_t *to = m4n_pack_bin(out, m4n_wire_size(&list[i], rows, stride, n));
    if (to) m4n_gather_field(to, &list[i], rows, stride, n);
  }
}

static void encode_metrics(m4n_buffer *out, const m4n_wire_rows *rows, size_t figures) {
  uint8_t *to = m4n_pack_bin(out, (size_t)count_flags(rows, M4N_ENDED) * figures * sizeof(double));
  for (int32_t i = 0; to && i < rows->n; i++) {
    if (!(rows->flags[i] & M4N_ENDED)) continue;
    memcpy(to, rows->metrics + (size_t)i * figures, figures * sizeof(double));
    to += figures * sizeof(double);
  }
}

static void encode_labels(m4n_buffer *out, const m4n_wire_rows *rows, int32_t first) {
  m4n_pack_array(out, (size_t)first);
  for (int32_t i = 0; i < rows->n; i++)
    if (rows->flags[i] & M4N_FIRST) m4n_pack_str(out, rows->label[i], M4N_LABEL - 1);
}

static void encode_advice(m4n_buffer *out, const m4n_spec *spec, const m4n_wire_rows *rows) {
  if (!rows->advised || !memchr(rows->advised, 1, (size_t)rows->n)) {
    m4n_pack_nil(out);
    m4n_pack_nil(out);
    return;
  }
  encode_fields(out, spec->act, spec->n_act, rows->advice, spec->act_size, rows->n);
  pack_bytes(out, rows->advised, (size_t)rows->n);
}

void m4n_encode_step(m4n_buffer *out, const m4n_spec *spec, uint64_t session, uint64_t seq,
                     const m4n_wire_rows *rows) {
  size_t n = (size_t)rows->n;
  m4n_encode_head(out, M4N_FRAME_STEP, session, seq, FIELDS);
  m4n_pack_i64(out, rows->n);
  pack_bytes(out, rows->lane, n * sizeof *rows->lane);
  pack_bytes(out, rows->episode, n * sizeof *rows->episode);
  pack_bytes(out, rows->sim_time_ns, n * sizeof *rows->sim_time_ns);
  encode_fields(out, spec->obs, spec->n_obs, rows->obs, spec->obs_size, rows->n);
  pack_bytes(out, rows->reward, n * sizeof *rows->reward);
  pack_bytes(out, rows->flags, n);
  if (spec->n_info && rows->info)
    pack_bytes(out, rows->info, n * (size_t)spec->n_info * sizeof(double));
  else
    m4n_pack_nil(out);
  if (spec->n_metrics && rows->metrics && count_flags(rows, M4N_ENDED))
    encode_metrics(out, rows, (size_t)spec->n_metrics);
  else
    m4n_pack_nil(out);
  int32_t first = count_flags(rows, M4N_FIRST);
  if (first && rows->label)
    encode_labels(out, rows, first);
  else
    m4n_pack_nil(out);
  encode_advice(out, spec, rows);
}

static int copy_bin(m4n_reader *in, const char *name, void *to, size_t size) {
  const uint8_t *data;
  M4N_TRY(m4n_read_bin(in, name, size, &data));
  if (size) memcpy(to, data, size);
  return M4N_OK;
}

static int explain(m4n_reader *in, const m4n_field *f, const m4n_misfit *misfit, size_t size) {
  if (misfit->row < 0)
    return m4n_read_fail(in, NULL, "bin of %zu bytes does not hold what its counts say", size);
  if (misfit->element < 0)
    return m4n_read_fail(in, NULL, "row %d: count %.0f, expected at most %d", misfit->row, misfit->value,
                         f->max_rows);
  if (!isfinite(misfit->value))
    return m4n_read_fail(in, NULL, "row %d, element %lld: %g, expected a finite number", misfit->row,
                         (long long)misfit->element, misfit->value);
  return m4n_read_fail(in, NULL, "row %d, element %lld: %.17g is outside [%.17g, %.17g], as HELLO declared",
                       misfit->row, (long long)misfit->element, misfit->value, f->low, f->high);
}

static int decode_fields(m4n_reader *in, const char *name, const m4n_field *list, int fields, uint8_t *rows,
                         size_t stride, int32_t n) {
  M4N_TRY(m4n_read_array(in, name, (uint64_t)fields, (uint64_t)fields, NULL));
  for (int i = 0; i < fields; i++) {
    const m4n_field *f = &list[i];
    const uint8_t *data;
    size_t size = (size_t)n * f->count * m4n_dtype_size(f->dtype);
    m4n_misfit misfit;
    m4n_read_key(in, f->name);
    if (f->rank > 0 && f->shape[0] == -1)
      M4N_TRY(m4n_read_any_bin(in, NULL, &data, &size));
    else
      M4N_TRY(m4n_read_bin(in, NULL, size, &data));
    if (!m4n_scatter_field(rows, stride, f, data, size, n, &misfit)) return explain(in, f, &misfit, size);
  }
  return m4n_read_leave(in);
}

static int check_rows(m4n_reader *in, int32_t lanes, const m4n_wire_rows *rows) {
  for (int32_t i = 0; i < rows->n; i++) {
    uint8_t flags = rows->flags[i], ended = flags & M4N_ENDED;
    if (rows->lane[i] < 0 || rows->lane[i] >= lanes)
      return m4n_read_fail(in, "lane", "row %d: lane %d, expected 0 to %d", i, rows->lane[i], lanes - 1);
    if (rows->episode[i] < 0)
      return m4n_read_fail(in, "episode", "row %d: %lld is negative", i, (long long)rows->episode[i]);
    if (rows->sim_time_ns[i] < 0)
      return m4n_read_fail(in, "sim_time_ns", "row %d: %lld is negative", i, (long long)rows->sim_time_ns[i]);
    if (!isfinite(rows->reward[i]))
      return m4n_read_fail(in, "reward", "row %d: %g, expected a finite number", i, rows->reward[i]);
    if (flags > (M4N_FIRST | M4N_ENDED) || (ended & (ended - 1)) || (ended && flags & M4N_FIRST))
      return m4n_read_fail(in, "flags", "row %d: %u, expected 0 or one of first, terminated, truncated, lost",
                           i, flags);
  }
  return M4N_OK;
}

// Figures that are unknown are NaN; infinite ones are nothing.
static int check_figures(m4n_reader *in, const char *name, const double *figure, size_t count) {
  uint64_t bad = 0;
  for (size_t i = 0; i < count; i++) bad |= isinf(figure[i]) != 0;
  return bad ? m4n_read_fail(in, name, "infinite; expected finite numbers, NaN where unknown") : M4N_OK;
}

static void fill_nan(double *figure, size_t count) {
  for (size_t i = 0; i < count; i++) figure[i] = NAN;
}

static int decode_info(m4n_reader *in, const m4n_spec *spec, m4n_wire_rows *rows) {
  size_t count = (size_t)rows->n * (size_t)spec->n_info;
  if (m4n_read_nil(in)) return fill_nan(rows->info, count), M4N_OK;
  M4N_TRY(copy_bin(in, "info", rows->info, count * sizeof(double)));
  return check_figures(in, "info", rows->info, count);
}

static int decode_metrics(m4n_reader *in, const m4n_spec *spec, m4n_wire_rows *rows) {
  size_t figures = (size_t)spec->n_metrics, ended = (size_t)count_flags(rows, M4N_ENDED);
  const uint8_t *data;
  fill_nan(rows->metrics, (size_t)rows->n * figures);
  if (m4n_read_nil(in)) return M4N_OK;
  M4N_TRY(m4n_read_bin(in, "metrics", ended * figures * sizeof(double), &data));
  for (int32_t i = 0; i < rows->n; i++) {
    if (!(rows->flags[i] & M4N_ENDED)) continue;
    memcpy(rows->metrics + (size_t)i * figures, data, figures * sizeof(double));
    data += figures * sizeof(double);
  }
  return check_figures(in, "metrics", rows->metrics, (size_t)rows->n * figures);
}

static int decode_labels(m4n_reader *in, m4n_wire_rows *rows) {
  for (int32_t i = 0; i < rows->n; i++) rows->label[i][0] = 0;
  if (m4n_read_nil(in)) return M4N_OK;
  uint64_t first = (uint64_t)count_flags(rows, M4N_FIRST);
  M4N_TRY(m4n_read_array(in, "labels", first, first, NULL));
  for (int32_t i = 0; i < rows->n; i++)
    if (rows->flags[i] & M4N_FIRST) M4N_TRY(m4n_read_text(in, NULL, rows->label[i], M4N_LABEL));
  return m4n_read_leave(in);
}

static int decode_advice(m4n_reader *in, const m4n_spec *spec, m4n_wire_rows *rows) {
  size_t n = (size_t)rows->n;
  memset(rows->advised, 0, n);
  if (m4n_read_nil(in))
    return m4n_read_nil(in) ? M4N_OK : m4n_read_fail(in, "advised", "expected nil, since advice is nil");
  M4N_TRY(decode_fields(in, "advice", spec->act, spec->n_act, rows->advice, spec->act_size, rows->n));
  M4N_TRY(copy_bin(in, "advised", rows->advised, n));
  for (size_t i = 0; i < n; i++)
    if (rows->advised[i] > 1)
      return m4n_read_fail(in, "advised", "row %zu: %u, expected 0 or 1", i, rows->advised[i]);
  return M4N_OK;
}

int m4n_decode_step(m4n_reader *in, const m4n_spec *spec, int32_t lanes, m4n_wire_rows *rows) {
  int64_t count;
  rows->n = 0;
  M4N_TRY(m4n_read_int(in, "n", 1, lanes, &count));
  int32_t n = (int32_t)count;
  size_t rows_size = (size_t)n;
  rows->n = n;
  M4N_TRY(copy_bin(in, "lane", rows->lane, rows_size * sizeof *rows->lane));
  M4N_TRY(copy_bin(in, "episode", rows->episode, rows_size * sizeof *rows->episode));
  M4N_TRY(copy_bin(in, "sim_time_ns", rows->sim_time_ns, rows_size * sizeof *rows->sim_time_ns));
  M4N_TRY(decode_fields(in, "obs", spec->obs, spec->n_obs, rows->obs, spec->obs_size, n));
  M4N_TRY(copy_bin(in, "reward", rows->reward, rows_size * sizeof *rows->reward));
  M4N_TRY(copy_bin(in, "flags", rows->flags, rows_size));
  M4N_TRY(check_rows(in, lanes, rows));
  M4N_TRY(decode_info(in, spec, rows));
  M4N_TRY(decode_metrics(in, spec, rows));
  M4N_TRY(decode_labels(in, rows));
  M4N_TRY(decode_advice(in, spec, rows));
  return m4n_decode_tail(in);
}
