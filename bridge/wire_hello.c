// HELLO and WELCOME: the spec as a stranger writes it, and the agent's answer.
#include <math.h>
#include <string.h>

#include "bridge/wire.h"

// A field is the same eight items wherever it stands; nil is "no bound".
static void encode_field(m4n_buffer *out, const m4n_field *f) {
  m4n_pack_array(out, 8);
  m4n_pack_str(out, f->name, M4N_NAME - 1);
  m4n_pack_i64(out, f->dtype);
  m4n_pack_array(out, (size_t)f->rank);
  for (int i = 0; i < f->rank; i++) m4n_pack_i64(out, f->shape[i]);
  m4n_pack_i64(out, f->max_rows);
  m4n_pack_str(out, f->unit, M4N_NAME - 1);
  const double bound[] = {f->low, f->high};
  for (int i = 0; i < 2; i++)
    if (isfinite(bound[i]))
      m4n_pack_f64(out, bound[i]);
    else
      m4n_pack_nil(out);
  m4n_pack_str(out, f->mask, M4N_NAME - 1);
}

static int decode_bound(m4n_reader *in, const char *name, double none, double *bound) {
  *bound = none;
  return m4n_read_nil(in) ? M4N_OK : m4n_read_number(in, name, bound);
}

static int decode_field(m4n_reader *in, m4n_field *f) {
  int64_t number;
  uint64_t rank;
  M4N_TRY(m4n_read_array(in, NULL, 8, 8, NULL));
  M4N_TRY(m4n_read_text(in, "name", f->name, sizeof f->name));
  M4N_TRY(m4n_read_int(in, "dtype", M4N_F64, M4N_U32, &number));
  f->dtype = (int32_t)number;
  M4N_TRY(m4n_read_array(in, "shape", 0, M4N_MAX_RANK, &rank));
  f->rank = (int32_t)rank;
  for (int i = 0; i < f->rank; i++) {
    M4N_TRY(m4n_read_int(in, NULL, i == 0 ? -1 : 1, M4N_MAX_ROW, &number));
    f->shape[i] = (int32_t)number;
  }
  M4N_TRY(m4n_read_leave(in));
  M4N_TRY(m4n_read_int(in, "max_rows", 0, M4N_MAX_ROW, &number));
  f->max_rows = (int32_t)number;
  M4N_TRY(m4n_read_text(in, "unit", f->unit, sizeof f->unit));
  M4N_TRY(decode_bound(in, "low", -HUGE_VAL, &f->low));
  M4N_TRY(decode_bound(in, "high", HUGE_VAL, &f->high));
  M4N_TRY(m4n_read_text(in, "mask", f->mask, sizeof f->mask));
  return m4n_read_leave(in);
}

static void encode_fields(m4n_buffer *out, const m4n_field *list, int n) {
  m4n_pack_array(out, (size_t)n);
  for (int i = 0; i < n; i++) encode_field(out, &list[i]);
}

static int decode_fields(m4n_reader *in, const char *name, int most, m4n_field *list, int32_t *n) {
  uint64_t count;
  M4N_TRY(m4n_read_array(in, name, 1, (uint64_t)most, &count));
  *n = (int32_t)count;
  for (int i = 0; i < *n; i++) M4N_TRY(decode_field(in, &list[i]));
  return m4n_read_leave(in);
}

static void encode_figures(m4n_buffer *out, const m4n_figure *list, int n) {
  m4n_pack_array(out, (size_t)n);
  for (int i = 0; i < n; i++) {
    m4n_pack_array(out, 3);
    m4n_pack_str(out, list[i].name, M4N_NAME - 1);
    m4n_pack_str(out, list[i].unit, M4N_NAME - 1);
    m4n_pack_i64(out, list[i].better);
  }
}

static int decode_figures(m4n_reader *in, const char *name, int most, m4n_figure *list, int32_t *n) {
  uint64_t count;
  int64_t better;
  M4N_TRY(m4n_read_array(in, name, 0, (uint64_t)most, &count));
  *n = (int32_t)count;
  for (int i = 0; i < *n; i++) {
    M4N_TRY(m4n_read_array(in, NULL, 3, 3, NULL));
    M4N_TRY(m4n_read_text(in, "name", list[i].name, sizeof list[i].name));
    M4N_TRY(m4n_read_text(in, "unit", list[i].unit, sizeof list[i].unit));
    M4N_TRY(m4n_read_int(in, "better", -1, 1, &better));
    M4N_TRY(m4n_read_leave(in));
    list[i].better = (int32_t)better;
  }
  return m4n_read_leave(in);
}

static void encode_constants(m4n_buffer *out, const m4n_spec *spec) {
  m4n_pack_map(out, (size_t)spec->n_constants);
  for (int i = 0; i < spec->n_constants; i++) {
    const m4n_constant *c = &spec->constant[i];
    m4n_pack_str(out, c->name, M4N_NAME - 1);
    m4n_pack_array(out, (size_t)c->count);
    for (int j = 0; j < c->count; j++) m4n_pack_f64(out, spec->value[c->first + j]);
  }
}

static int decode_constants(m4n_reader *in, m4n_spec *spec) {
  uint64_t count, values;
  M4N_TRY(m4n_read_map(in, "constants", M4N_MAX_CONSTANTS, &count));
  for (int i = 0; i < (int)count; i++) {
    m4n_constant *c = &spec->constant[i];
    M4N_TRY(m4n_read_text(in, NULL, c->name, sizeof c->name));
    m4n_read_key(in, c->name);
    for (int j = 0; j < i; j++)
      if (!strcmp(c->name, spec->constant[j].name)) return m4n_read_fail(in, NULL, "is given twice");
    M4N_TRY(m4n_read_array(in, NULL, 0, (uint64_t)(M4N_MAX_VALUES - spec->n_values), &values));
    c->first = spec->n_values;
    c->count = (int32_t)values;
    for (int j = 0; j < c->count; j++) M4N_TRY(m4n_read_number(in, NULL, &spec->value[spec->n_values++]));
    M4N_TRY(m4n_read_leave(in));
    m4n_read_key(in, NULL);
  }
  spec->n_constants = (int32_t)count;
  return m4n_read_leave(in);
}

void m4n_encode_hello(m4n_buffer *out, const m4n_hello *hello) {
  const m4n_spec *spec = &hello->spec;
  m4n_encode_head(out, M4N_FRAME_HELLO, 0, 0, 13);
  m4n_pack_array(out, 2);
  m4n_pack_u64(out, hello->oldest);
  m4n_pack_u64(out, hello->newest);
  m4n_pack_str(out, hello->simulator, sizeof hello->simulator - 1);
  m4n_pack_str(out, hello->version, sizeof hello->version - 1);
  uint8_t *uid = m4n_pack_bin(out, sizeof hello->uid);
  if (uid) memcpy(uid, hello->uid, sizeof hello->uid);
  m4n_pack_i64(out, hello->lanes);
  m4n_pack_str(out, spec->task, M4N_NAME - 1);
  encode_fields(out, spec->obs, spec->n_obs);
  encode_fields(out, spec->act, spec->n_act);
  encode_figures(out, spec->info, spec->n_info);
  encode_figures(out, spec->metric, spec->n_metrics);
  encode_constants(out, spec);
  m4n_pack_str(out, spec->reward, sizeof spec->reward - 1);
  m4n_pack_u64(out, spec->capabilities);
}

static int decode_spec(m4n_reader *in, m4n_spec *spec) {
  uint64_t capabilities;
  M4N_TRY(m4n_read_text(in, "task", spec->task, sizeof spec->task));
  M4N_TRY(decode_fields(in, "obs", M4N_MAX_FIELDS, spec->obs, &spec->n_obs));
  M4N_TRY(decode_fields(in, "act", M4N_MAX_ACTIONS, spec->act, &spec->n_act));
  M4N_TRY(decode_figures(in, "info", M4N_MAX_INFO, spec->info, &spec->n_info));
  M4N_TRY(decode_figures(in, "metrics", M4N_MAX_METRICS, spec->metric, &spec->n_metrics));
  M4N_TRY(decode_constants(in, spec));
  M4N_TRY(m4n_read_text(in, "reward", spec->reward, sizeof spec->reward));
  M4N_TRY(m4n_read_uint(in, "capabilities", UINT32_MAX, &capabilities));
  spec->capabilities = (uint32_t)capabilities;
  return M4N_OK;
}

int m4n_decode_hello(m4n_reader *in, const m4n_envelope *head, m4n_hello *hello) {
  uint64_t oldest, newest;
  int64_t lanes;
  const uint8_t *uid;
  memset(hello, 0, sizeof *hello);
  M4N_TRY(m4n_read_array(in, "versions", 2, 2, NULL));
  M4N_TRY(m4n_read_uint(in, NULL, UINT32_MAX, &oldest));
  M4N_TRY(m4n_read_uint(in, NULL, UINT32_MAX, &newest));
  M4N_TRY(m4n_read_leave(in));
  // Before all else, since what follows is of the version that the simulator speaks.
  if (oldest > M4N_WIRE_NEWEST || newest < M4N_WIRE_OLDEST || oldest > newest)
    return m4n_fail_at(M4N_EUNSUPPORTED, NULL, 0, "HELLO.versions",
                       "no version in common: the simulator speaks %llu to %llu, this agent %d to %d",
                       (unsigned long long)oldest, (unsigned long long)newest, M4N_WIRE_OLDEST,
                       M4N_WIRE_NEWEST);
  if (head->session || head->seq) return m4n_read_fail(in, "session", "session and seq of HELLO are 0");
  hello->oldest = (uint32_t)oldest;
  hello->newest = (uint32_t)newest;
  M4N_TRY(m4n_read_text(in, "simulator", hello->simulator, sizeof hello->simulator));
  M4N_TRY(m4n_read_text(in, "simulator_version", hello->version, sizeof hello->version));
  M4N_TRY(m4n_read_bin(in, "uid", sizeof hello->uid, &uid));
  memcpy(hello->uid, uid, sizeof hello->uid);
  M4N_TRY(m4n_read_int(in, "lanes", 1, M4N_MAX_LANES, &lanes));
  hello->lanes = (int32_t)lanes;
  M4N_TRY(decode_spec(in, &hello->spec));
  // Later versions append to HELLO; what we do not know is passed over, within bounds.
  while (m4n_read_left(in)) M4N_TRY(m4n_read_skip(in, "appended"));
  M4N_TRY(m4n_decode_tail(in));
  if (!m4n_spec_layout(&hello->spec)) return M4N_OK;
  const m4n_error why = *m4n_last_error();
  return m4n_fail_at(M4N_EARG, NULL, 0, "HELLO.spec", "%s", why.text);
}

void m4n_encode_welcome(m4n_buffer *out, uint64_t session, const m4n_welcome *welcome) {
  m4n_encode_head(out, M4N_FRAME_WELCOME, session, 0, 9);
  m4n_pack_u64(out, welcome->version);
  m4n_pack_str(out, welcome->agent, sizeof welcome->agent - 1);
  m4n_pack_str(out, welcome->policy, sizeof welcome->policy - 1);
  m4n_pack_u64(out, welcome->policy_hash);
  m4n_pack_u64(out, welcome->spec_hash);
  m4n_pack_i64(out, welcome->max_frame);
  m4n_pack_i64(out, welcome->idle_ms);
  m4n_encode_resets(out, welcome->reset, welcome->n_resets);
  m4n_pack_bool(out, welcome->done);
}

int m4n_decode_welcome(m4n_reader *in, int32_t lanes, m4n_welcome *welcome) {
  uint64_t version;
  M4N_TRY(m4n_read_uint(in, "agreed", UINT32_MAX, &version));
  if (version < M4N_WIRE_OLDEST || version > M4N_WIRE_NEWEST)
    return m4n_read_fail(in, "agreed", "%llu was not offered", (unsigned long long)version);
  welcome->version = (uint32_t)version;
  M4N_TRY(m4n_read_text(in, "agent", welcome->agent, sizeof welcome->agent));
  M4N_TRY(m4n_read_text(in, "policy", welcome->policy, sizeof welcome->policy));
  M4N_TRY(m4n_read_uint(in, "policy_hash", UINT64_MAX, &welcome->policy_hash));
  M4N_TRY(m4n_read_uint(in, "spec_hash", UINT64_MAX, &welcome->spec_hash));
  M4N_TRY(m4n_read_int(in, "max_frame", 1, INT64_MAX, &welcome->max_frame));
  M4N_TRY(m4n_read_int(in, "idle_ms", -1, INT64_MAX, &welcome->idle_ms));
  M4N_TRY(m4n_decode_resets(in, lanes, welcome->reset, &welcome->n_resets));
  M4N_TRY(m4n_read_bool(in, "done", &welcome->done));
  return m4n_decode_tail(in);
}
