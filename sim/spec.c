#include "sim/spec.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/base/status.h"

static void set_name(char out[M4N_NAME], const char *name) {
  snprintf(out, M4N_NAME, "%s", name);
}

m4n_field *m4n_spec_add_obs(m4n_spec *spec, const char *name, int dtype, const char *unit, double low,
                            double high, int rank, ...) {
  static m4n_field overflow;
  // A field too many is counted but kept nowhere: layout reports it.
  m4n_field *f = spec->n_obs < M4N_MAX_FIELDS ? &spec->obs[spec->n_obs] : &overflow;
  spec->n_obs++;
  *f = (m4n_field){.dtype = dtype, .rank = rank, .low = low, .high = high};
  set_name(f->name, name);
  set_name(f->unit, unit);
  va_list arguments;
  va_start(arguments, rank);
  for (int i = 0; i < rank && i < M4N_MAX_RANK; i++) f->shape[i] = va_arg(arguments, int);
  va_end(arguments);
  return f;
}

m4n_field *m4n_spec_add_choice(m4n_spec *spec, const char *name, int choices) {
  static m4n_field overflow;
  m4n_field *f = spec->n_act < M4N_MAX_ACTIONS ? &spec->act[spec->n_act] : &overflow;
  spec->n_act++;
  *f = (m4n_field){.dtype = M4N_I32, .low = 0, .high = choices - 1};
  set_name(f->name, name);
  set_name(f->unit, "index");
  return f;
}

static void add_figure(m4n_figure *list, int32_t *n, int max, const char *name, const char *unit,
                       int better) {
  if (*n < max) {
    list[*n] = (m4n_figure){.better = better};
    set_name(list[*n].name, name);
    set_name(list[*n].unit, unit);
  }
  (*n)++;
}

void m4n_spec_add_info(m4n_spec *spec, const char *name, const char *unit, int better) {
  add_figure(spec->info, &spec->n_info, M4N_MAX_INFO, name, unit, better);
}

void m4n_spec_add_metric(m4n_spec *spec, const char *name, const char *unit, int better) {
  add_figure(spec->metric, &spec->n_metrics, M4N_MAX_METRICS, name, unit, better);
}

void m4n_spec_add_constant(m4n_spec *spec, const char *name, int count, const double *values) {
  if (spec->n_constants < M4N_MAX_CONSTANTS && count >= 0 && spec->n_values <= M4N_MAX_VALUES - count) {
    m4n_constant *c = &spec->constant[spec->n_constants];
    *c = (m4n_constant){.first = spec->n_values, .count = count};
    set_name(c->name, name);
    memcpy(spec->value + spec->n_values, values, (size_t)count * sizeof *values);
    spec->n_values += count;
    spec->n_constants++;
  } else {
    spec->n_constants = M4N_MAX_CONSTANTS + 1;
  }
}

static int layout_field(m4n_field *f, uint32_t *offset) {
  size_t element = m4n_dtype_size(f->dtype);
  if (!f->name[0]) return m4n_fail(M4N_EARG, "a field without a name");
  if (!element) return m4n_fail(M4N_EARG, "field '%s': unknown type code %d", f->name, f->dtype);
  if (f->rank < 0 || f->rank > M4N_MAX_RANK)
    return m4n_fail(M4N_EARG, "field '%s': rank %d, expected 0 to %d", f->name, f->rank, M4N_MAX_RANK);
  if (isnan(f->low) || isnan(f->high) || f->low > f->high)
    return m4n_fail(M4N_EARG, "field '%s': range [%g, %g] is empty", f->name, f->low, f->high);
  uint64_t count = 1, bytes;
  bool varies = f->rank > 0 && f->shape[0] == -1;
  for (int i = 0; i < f->rank; i++) {
    int64_t n = i == 0 && varies ? f->max_rows : f->shape[i];
    if (n < 1 || n > M4N_MAX_ROW)
      return m4n_fail(M4N_EARG, "field '%s': dimension %d is %lld", f->name, i, (long long)n);
    count *= (uint64_t)n;
    if (count * element > M4N_MAX_ROW)
      return m4n_fail(M4N_EARG, "field '%s' is larger than %d bytes", f->name, M4N_MAX_ROW);
  }
  bytes = (varies ? 8 : 0) + (count * element + 7) / 8 * 8;
  if (*offset + bytes > M4N_MAX_ROW) return m4n_fail(M4N_EARG, "a row is larger than %d bytes", M4N_MAX_ROW);
  f->count = (uint32_t)count;
  f->offset = *offset;
  *offset += (uint32_t)bytes;
  return M4N_OK;
}

static int layout_fields(m4n_field *list, int n, uint32_t *size, const char *what) {
  *size = 0;
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < i; j++)
      if (!strcmp(list[i].name, list[j].name))
        return m4n_fail(M4N_EARG, "two %s are named '%s'", what, list[i].name);
    M4N_TRY(layout_field(&list[i], size));
  }
  return M4N_OK;
}

int m4n_spec_layout(m4n_spec *spec) {
  if (!spec->task[0]) return m4n_fail(M4N_EARG, "a spec without a task's name");
  const struct {
    const char *what;
    int n, least, most;
  } lists[] = {{"observation fields", spec->n_obs, 1, M4N_MAX_FIELDS},
               {"action components", spec->n_act, 1, M4N_MAX_ACTIONS},
               {"info figures", spec->n_info, 0, M4N_MAX_INFO},
               {"metrics", spec->n_metrics, 0, M4N_MAX_METRICS},
               {"constants", spec->n_constants, 0, M4N_MAX_CONSTANTS}};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    if (lists[i].n < lists[i].least || lists[i].n > lists[i].most)
      return m4n_fail(M4N_EARG, "%d %s: expected %d to %d", lists[i].n, lists[i].what, lists[i].least,
                      lists[i].most);
  M4N_TRY(layout_fields(spec->obs, spec->n_obs, &spec->obs_size, "observation fields"));
  M4N_TRY(layout_fields(spec->act, spec->n_act, &spec->act_size, "action components"));
  for (int i = 0; i < spec->n_act; i++) {
    const m4n_field *f = &spec->act[i];
    if (f->dtype != M4N_I32 || f->rank != 0 || f->low != 0 || !(f->high >= 0 && f->high < 1 << 20))
      return m4n_fail(M4N_EARG, "action '%s': expected an i32 scalar with choices 0 to n-1", f->name);
    if (f->mask[0]) {
      const m4n_field *mask = m4n_spec_obs(spec, f->mask);
      if (!mask || mask->dtype != M4N_U8)
        return m4n_fail(M4N_EARG, "action '%s': no u8 field '%s' to mask it", f->name, f->mask);
    }
  }
  return M4N_OK;
}

const m4n_field *m4n_spec_obs(const m4n_spec *spec, const char *name) {
  for (int i = 0; i < spec->n_obs; i++)
    if (!strcmp(spec->obs[i].name, name)) return &spec->obs[i];
  return NULL;
}

const m4n_field *m4n_spec_act(const m4n_spec *spec, const char *name) {
  for (int i = 0; i < spec->n_act; i++)
    if (!strcmp(spec->act[i].name, name)) return &spec->act[i];
  return NULL;
}

const double *m4n_spec_constant(const m4n_spec *spec, const char *name, int *count) {
  for (int i = 0; i < spec->n_constants; i++) {
    if (strcmp(spec->constant[i].name, name)) continue;
    if (count) *count = spec->constant[i].count;
    return spec->value + spec->constant[i].first;
  }
  return NULL;
}

int m4n_spec_number(const m4n_spec *spec, const char *name, double *value) {
  int count;
  const double *found = m4n_spec_constant(spec, name, &count);
  if (!found || count != 1)
    return m4n_fail(M4N_EFORMAT, "the simulator's spec states no constant '%s'", name);
  *value = *found;
  return M4N_OK;
}

// Field by field, so that neither padding nor stale bytes behind a name enter.
uint64_t m4n_spec_hash(const m4n_spec *spec) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
#define PUT(x) XXH3_64bits_update(&state, &(x), sizeof(x))
#define PUT_NAME(x) XXH3_64bits_update(&state, x, strlen(x) + 1)
  PUT_NAME(spec->task);
  PUT_NAME(spec->reward);
  for (int list = 0; list < 2; list++) {
    int n = list ? spec->n_act : spec->n_obs;
    PUT(n);
    for (int i = 0; i < n; i++) {
      const m4n_field *f = list ? &spec->act[i] : &spec->obs[i];
      PUT_NAME(f->name);
      PUT_NAME(f->unit);
      PUT_NAME(f->mask);
      PUT(f->dtype);
      PUT(f->rank);
      PUT(f->shape);
      PUT(f->max_rows);
      PUT(f->low);
      PUT(f->high);
    }
  }
  for (int i = 0; i < spec->n_constants; i++) {
    PUT_NAME(spec->constant[i].name);
    PUT(spec->constant[i].count);
    XXH3_64bits_update(&state, spec->value + spec->constant[i].first,
                       (size_t)spec->constant[i].count * sizeof(double));
  }
#undef PUT
#undef PUT_NAME
  return XXH3_64bits_digest(&state);
}

int m4n_figures_common(const m4n_figure *a, int n_a, const m4n_figure *b, int n_b) {
  int n = 0;
  while (n < n_a && n < n_b && strcmp(a[n].name, b[n].name) == 0) n++;
  return n;
}

size_t m4n_dtype_size(int dtype) {
  switch (dtype) {
  case M4N_F64:
  case M4N_I64:
    return 8;
  case M4N_F32:
  case M4N_I32:
  case M4N_U32:
    return 4;
  case M4N_U8:
    return 1;
  default:
    return 0;
  }
}

const char *m4n_dtype_name(int dtype) {
  static const char *const name[] = {NULL, "f64", "f32", "i32", "i64", "u8", "u32"};
  return dtype >= M4N_F64 && dtype <= M4N_U32 ? name[dtype] : NULL;
}
