#include "agent/learn/store_format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/base/status.h"

/* ---- bytes that grow */

bool m4n_bytes_reserve(m4n_bytes *bytes, size_t more) {
  if (more <= bytes->room - bytes->size) return true;
  size_t room = bytes->room ? bytes->room : 4096;
  while (room - bytes->size < more) {
    if (room > SIZE_MAX / 2) return false;
    room *= 2;
  }
  uint8_t *data = realloc(bytes->data, room);
  if (!data) return false;
  bytes->data = data;
  bytes->room = room;
  return true;
}

void m4n_bytes_free(m4n_bytes *bytes) {
  free(bytes->data);
  *bytes = (m4n_bytes){0};
}

/* ---- the record's head */

static const char magic[4] = {'M', '4', 'E', '1'};

void m4n_record_put(uint8_t out[M4N_RECORD_HEAD], const m4n_record *record) {
  memcpy(out, magic, 4);
  memcpy(out + 4, &record->kind, 4);
  memcpy(out + 8, &record->content, 8);
  memcpy(out + 16, &record->frame, 8);
  memcpy(out + 24, &record->hash, 8);
  uint64_t check = XXH3_64bits(out, 32);
  memcpy(out + 32, &check, 8);
}

const char *m4n_record_get(m4n_record *record, const uint8_t in[M4N_RECORD_HEAD]) {
  uint64_t check;
  memcpy(&record->kind, in + 4, 4);
  memcpy(&record->content, in + 8, 8);
  memcpy(&record->frame, in + 16, 8);
  memcpy(&record->hash, in + 24, 8);
  memcpy(&check, in + 32, 8);
  if (memcmp(in, magic, 3) != 0) return "not a record of an event log";
  if (in[3] != (uint8_t)magic[3]) return "an event log of another version";
  if (check != XXH3_64bits(in, 32)) return "the record's head is damaged";
  uint64_t most = record->kind == M4N_RECORD_EPISODE ? M4N_MAX_EPISODE : M4N_MAX_HEADER;
  if (record->kind < M4N_RECORD_HEADER || record->kind > M4N_RECORD_END) return "unknown kind of record";
  if (record->content > most) return "the record is larger than is accepted";
  if (!record->frame || record->frame > 2 * most + 1024) return "the record's frame has an impossible size";
  // Nobody gets to reserve a gigabyte with a few bytes.
  if (record->content / M4N_MAX_EXPANSION > record->frame) return "the record's frame is too small";
  return NULL;
}

/* ---- the header's content, out: numbers and texts behind one another; `full` remembers a lack of memory */

typedef struct sink {
  m4n_bytes *bytes;
  bool full;
} sink;

static void put(sink *o, const void *data, size_t size) {
  if (o->full || !m4n_bytes_reserve(o->bytes, size)) {
    o->full = true;
    return;
  }
  if (size) memcpy(o->bytes->data + o->bytes->size, data, size);
  o->bytes->size += size;
}

static void put_u32(sink *o, uint32_t value) {
  put(o, &value, 4);
}

static void put_text(sink *o, const char *text) {
  size_t size = strlen(text);
  put_u32(o, (uint32_t)size);
  put(o, text, size);
}

static void put_fields(sink *o, const m4n_field *field, int n) {
  put_u32(o, (uint32_t)n);
  for (const m4n_field *f = field; f < field + n; f++) {
    put_text(o, f->name);
    put_text(o, f->unit);
    put_u32(o, (uint32_t)f->dtype);
    put_u32(o, (uint32_t)f->rank);
    put(o, f->shape, (size_t)f->rank * 4);
    put(o, &f->max_rows, 4);
    put(o, &f->low, 8);
    put(o, &f->high, 8);
    put_text(o, f->mask);
  }
}

static void put_figures(sink *o, const m4n_figure *figure, int n) {
  put_u32(o, (uint32_t)n);
  for (const m4n_figure *f = figure; f < figure + n; f++) {
    put_text(o, f->name);
    put_text(o, f->unit);
    put(o, &f->better, 4);
  }
}

int m4n_header_put(m4n_bytes *bytes, const m4n_events_header *header) {
  const m4n_spec *spec = &header->spec;
  sink o = {bytes, false};
  put(&o, &header->seed, 8);
  put_text(&o, header->scenario);
  put_u32(&o, (uint32_t)header->n_policies);
  for (int i = 0; i < header->n_policies; i++) {
    put_text(&o, header->policy[i]);
    put_text(&o, header->about ? header->about[i] : "");
  }
  put_text(&o, spec->task);
  put_text(&o, spec->reward);
  put_u32(&o, spec->capabilities);
  put_fields(&o, spec->obs, spec->n_obs);
  put_fields(&o, spec->act, spec->n_act);
  put_figures(&o, spec->info, spec->n_info);
  put_figures(&o, spec->metric, spec->n_metrics);
  put_u32(&o, (uint32_t)spec->n_constants);
  for (int i = 0; i < spec->n_constants; i++) {
    const m4n_constant *c = &spec->constant[i];
    put_text(&o, c->name);
    put_u32(&o, (uint32_t)c->count);
    put(&o, spec->value + c->first, (size_t)c->count * sizeof(double));
  }
  return o.full ? m4n_fail(M4N_ENOMEM, "no memory for an event log's header") : M4N_OK;
}

/* ---- and in: whatever is wrong sets `bad` to what was being read, and all later reads give zeros */

typedef struct source {
  const uint8_t *at;
  size_t left;
  const char *bad;
} source;

static bool get(source *i, void *data, size_t size, const char *what) {
  if (i->bad || size > i->left) {
    if (!i->bad) i->bad = what;
    memset(data, 0, size);
    return false;
  }
  if (size) memcpy(data, i->at, size);
  i->at += size;
  i->left -= size;
  return true;
}

static uint32_t get_u32(source *i, uint32_t most, const char *what) {
  uint32_t value;
  get(i, &value, 4, what);
  if (value > most) {
    if (!i->bad) i->bad = what;
    return 0;
  }
  return value;
}

// A text of at most room - 1 bytes, ended by a zero.
static void get_text(source *i, char *text, size_t room, const char *what) {
  uint32_t size = get_u32(i, (uint32_t)room - 1, what);
  get(i, text, size, what);
  text[size] = 0;
  if (strlen(text) != size && !i->bad) i->bad = what;
}

static void get_fields(source *i, m4n_field *field, int32_t *n, int most, const char *what) {
  *n = (int32_t)get_u32(i, (uint32_t)most, what);
  for (m4n_field *f = field; f < field + *n; f++) {
    get_text(i, f->name, sizeof f->name, what);
    get_text(i, f->unit, sizeof f->unit, what);
    f->dtype = (int32_t)get_u32(i, INT32_MAX, what);
    f->rank = (int32_t)get_u32(i, M4N_MAX_RANK, what);
    get(i, f->shape, (size_t)f->rank * 4, what);
    get(i, &f->max_rows, 4, what);
    get(i, &f->low, 8, what);
    get(i, &f->high, 8, what);
    get_text(i, f->mask, sizeof f->mask, what);
  }
}

static void get_figures(source *i, m4n_figure *figure, int32_t *n, int most, const char *what) {
  *n = (int32_t)get_u32(i, (uint32_t)most, what);
  for (m4n_figure *f = figure; f < figure + *n; f++) {
    get_text(i, f->name, sizeof f->name, what);
    get_text(i, f->unit, sizeof f->unit, what);
    get(i, &f->better, 4, what);
    if ((f->better < -1 || f->better > 1) && !i->bad) i->bad = what;
  }
}

static void get_spec(source *i, m4n_spec *spec) {
  get_text(i, spec->task, sizeof spec->task, "the task");
  get_text(i, spec->reward, sizeof spec->reward, "the reward");
  get(i, &spec->capabilities, 4, "the capabilities");
  get_fields(i, spec->obs, &spec->n_obs, M4N_MAX_FIELDS, "the observation fields");
  get_fields(i, spec->act, &spec->n_act, M4N_MAX_ACTIONS, "the action components");
  get_figures(i, spec->info, &spec->n_info, M4N_MAX_INFO, "the info figures");
  get_figures(i, spec->metric, &spec->n_metrics, M4N_MAX_METRICS, "the metrics");
  spec->n_constants = (int32_t)get_u32(i, M4N_MAX_CONSTANTS, "the constants");
  for (m4n_constant *c = spec->constant; c < spec->constant + spec->n_constants; c++) {
    get_text(i, c->name, sizeof c->name, "the constants");
    c->first = spec->n_values;
    c->count = (int32_t)get_u32(i, (uint32_t)(M4N_MAX_VALUES - spec->n_values), "the constants");
    get(i, spec->value + c->first, (size_t)c->count * sizeof(double), "the constants");
    spec->n_values += c->count;
  }
  for (int v = 0; v < spec->n_values; v++)
    if (!isfinite(spec->value[v]) && !i->bad) i->bad = "the constants";
}

static const char *get_policy_text(source *i, char *text) {
  get_text(i, text, i->left < M4N_POLICY_TEXT ? i->left + 1 : M4N_POLICY_TEXT, "the policies");
  return text;
}

int m4n_header_get(m4n_events_header *header, char **strings, const uint8_t *content, size_t size) {
  *header = (m4n_events_header){0};
  source i = {content, size, NULL};
  get(&i, &header->seed, 8, "the seed");

  // Two lists and then the texts; every text's length and zero take no more room than it does here.
  const uint8_t *texts = i.at;
  size_t names = 2 * (size_t)M4N_MAX_POLICIES * sizeof(char *);
  *strings = malloc(names + i.left + 1);
  if (!*strings) return m4n_fail(M4N_ENOMEM, "no memory for an event log's header");
  const char **policy = (const char **)(void *)*strings, **about = policy + M4N_MAX_POLICIES;
  char *scenario = *strings + names;
  get_text(&i, scenario, i.left + 1 < M4N_MAX_HEADER ? i.left + 1 : M4N_MAX_HEADER, "the scenario");
  header->n_policies = (int)get_u32(&i, M4N_MAX_POLICIES, "the policies");
  for (int p = 0; p < header->n_policies; p++) {
    policy[p] = get_policy_text(&i, *strings + names + (i.at - texts));
    about[p] = get_policy_text(&i, *strings + names + (i.at - texts));
  }
  get_spec(&i, &header->spec);
  int status = M4N_OK;
  if (i.bad)
    status = m4n_fail(M4N_EFORMAT, "the header is damaged at %s", i.bad);
  else if (i.left)
    status = m4n_fail(M4N_EFORMAT, "%zu bytes too many in the header", i.left);
  else if (m4n_spec_layout(&header->spec))
    status = m4n_context(M4N_EFORMAT, "the header's spec");
  if (status) {
    free(*strings);
    *strings = NULL;
    *header = (m4n_events_header){0};
    return status;
  }
  header->policy = policy;
  header->about = about;
  header->scenario = scenario;
  return M4N_OK;
}

/* ---- rows */

m4n_row_plan m4n_row_plan_of(const m4n_spec *spec) {
  m4n_row_plan plan = {0};
  uint32_t end = UINT32_MAX; // of the last span, where it may still grow
  for (const m4n_field *f = spec->obs; f < spec->obs + spec->n_obs; f++) {
    uint32_t bytes = f->count * (uint32_t)m4n_dtype_size(f->dtype);
    if (f->rank > 0 && f->shape[0] == -1) {
      plan.varying[plan.n_varying].offset = f->offset;
      plan.varying[plan.n_varying].row = bytes / (uint32_t)f->max_rows;
      plan.varying[plan.n_varying].max_rows = (uint32_t)f->max_rows;
      plan.varying[plan.n_varying].word = (uint32_t)plan.words;
      plan.n_varying++;
      bytes = 4; // the count
    }
    if (f->offset == end)
      plan.span[plan.n_spans - 1].bytes += bytes;
    else {
      plan.span[plan.n_spans].offset = f->offset;
      plan.span[plan.n_spans++].bytes = bytes;
    }
    end = f->offset + bytes;
    plan.words += m4n_round8(bytes) / 8;
  }
  return plan;
}

void m4n_row_pack(const m4n_row_plan *plan, uint64_t *fixed, const uint8_t *row) {
  uint8_t *at = (uint8_t *)fixed;
  for (int i = 0; i < plan->n_spans; i++) {
    uint32_t bytes = plan->span[i].bytes;
    memcpy(at, row + plan->span[i].offset, bytes);
    at += bytes;
    while (bytes++ % 8) *at++ = 0;
  }
}

// Eight rows at a time, so that a column is written by whole cache lines.
void m4n_columns(uint64_t *restrict out, const uint64_t *restrict in, size_t rows, size_t words) {
  for (size_t first = 0; first < rows; first += 8) {
    size_t end = first + 8 < rows ? first + 8 : rows;
    for (size_t w = 0; w < words; w++)
      for (size_t r = first; r < end; r++) out[w * rows + r] = in[r * words + w];
  }
}
