// ACT: what the lanes shall do.
#include <math.h>
#include <string.h>

#include "bridge/transpose.h"
#include "bridge/wire.h"

enum { FIELDS = 10 };

static bool any_delay(const m4n_act *act) {
  int64_t any = 0;
  for (int32_t i = 0; act->delay_ns && i < act->n; i++) any |= act->delay_ns[i];
  return any != 0;
}

static bool any_known(const float *figure, int32_t n) {
  for (int32_t i = 0; figure && i < n; i++)
    if (!isnan(figure[i])) return true;
  return false;
}

static void encode_array(m4n_buffer *out, bool wanted, const void *array, size_t size) {
  uint8_t *to = NULL;
  if (!wanted)
    m4n_pack_nil(out);
  else if ((to = m4n_pack_bin(out, size)) && size)
    memcpy(to, array, size);
}

void m4n_encode_act(m4n_buffer *out, const m4n_spec *spec, uint64_t session, uint64_t seq,
                    const m4n_act *act) {
  size_t n = (size_t)act->n;
  m4n_encode_head(out, M4N_FRAME_ACT, session, seq, FIELDS);
  m4n_pack_i64(out, act->n);
  m4n_pack_array(out, (size_t)spec->n_act);
  for (int i = 0; i < spec->n_act; i++) {
    uint8_t *to = m4n_pack_bin(out, m4n_wire_size(&spec->act[i], act->action, spec->act_size, act->n));
    if (to) m4n_gather_field(to, &spec->act[i], act->action, spec->act_size, act->n);
  }
  m4n_encode_resets(out, act->reset, act->n_resets);
  m4n_pack_bool(out, act->done);
  encode_array(out, any_delay(act), act->delay_ns, n * sizeof *act->delay_ns);
  encode_array(out, true, act->served_by, n);
  m4n_pack_i64(out, act->infer_ns);
  m4n_pack_u64(out, act->policy_hash);
  encode_array(out, any_known(act->logp, act->n), act->logp, n * sizeof *act->logp);
  encode_array(out, any_known(act->value, act->n), act->value, n * sizeof *act->value);
}

static int decode_actions(m4n_reader *in, const m4n_spec *spec, m4n_act *act) {
  M4N_TRY(m4n_read_array(in, "action", (uint64_t)spec->n_act, (uint64_t)spec->n_act, NULL));
  for (int i = 0; i < spec->n_act; i++) {
    const m4n_field *f = &spec->act[i];
    const uint8_t *data;
    size_t size = (size_t)act->n * f->count * m4n_dtype_size(f->dtype);
    m4n_misfit misfit;
    m4n_read_key(in, f->name);
    M4N_TRY(m4n_read_bin(in, NULL, size, &data));
    if (!m4n_scatter_field(act->action, spec->act_size, f, data, size, act->n, &misfit))
      return m4n_read_fail(in, NULL, "row %d: %.0f, expected %.0f to %.0f", misfit.row, misfit.value, f->low,
                           f->high);
  }
  return m4n_read_leave(in);
}

static int decode_delays(m4n_reader *in, m4n_act *act) {
  size_t size = (size_t)act->n * sizeof *act->delay_ns;
  const uint8_t *data;
  if (m4n_read_nil(in)) return memset(act->delay_ns, 0, size), M4N_OK;
  M4N_TRY(m4n_read_bin(in, "delay_ns", size, &data));
  memcpy(act->delay_ns, data, size);
  for (int32_t i = 0; i < act->n; i++)
    if (act->delay_ns[i] < 0)
      return m4n_read_fail(in, "delay_ns", "row %d: %lld is negative", i, (long long)act->delay_ns[i]);
  return M4N_OK;
}

static int decode_figure(m4n_reader *in, const char *name, float *figure, int32_t n) {
  const uint8_t *data;
  for (int32_t i = 0; i < n; i++) figure[i] = NAN;
  if (m4n_read_nil(in)) return M4N_OK;
  M4N_TRY(m4n_read_bin(in, name, (size_t)n * sizeof *figure, &data));
  memcpy(figure, data, (size_t)n * sizeof *figure);
  return M4N_OK;
}

int m4n_decode_act(m4n_reader *in, const m4n_spec *spec, int32_t n, int32_t lanes, m4n_act *act) {
  int64_t count;
  const uint8_t *served_by;
  act->n = act->n_resets = 0;
  M4N_TRY(m4n_read_int(in, "n", n, n, &count));
  act->n = n;
  M4N_TRY(decode_actions(in, spec, act));
  M4N_TRY(m4n_decode_resets(in, lanes, act->reset, &act->n_resets));
  M4N_TRY(m4n_read_bool(in, "done", &act->done));
  M4N_TRY(decode_delays(in, act));
  M4N_TRY(m4n_read_bin(in, "served_by", (size_t)n, &served_by));
  memcpy(act->served_by, served_by, (size_t)n);
  M4N_TRY(m4n_read_int(in, "infer_ns", 0, INT64_MAX, &act->infer_ns));
  M4N_TRY(m4n_read_uint(in, "policy_hash", UINT64_MAX, &act->policy_hash));
  M4N_TRY(decode_figure(in, "logp", act->logp, n));
  M4N_TRY(decode_figure(in, "value", act->value, n));
  return m4n_decode_tail(in);
}
