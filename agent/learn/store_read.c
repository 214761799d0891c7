/* The event log's reading side. Files are strangers: everything is bounded and checked before it is used. */
#include "agent/learn/store.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "agent/learn/store_format.h"
#include "kernels/base/status.h"

struct m4n_events_file {
  FILE *stream;
  char *path, *strings;
  uint64_t size, record, at; /* of the file; where the record begins that is read, and what follows it */
  m4n_events_header header;
  m4n_row_plan plan;
  uint64_t episodes;
  bool ended, truncated;
  ZSTD_DCtx *zstd;
  m4n_bytes frame, content;
  m4n_bytes fixed, obs, action, advice, info, served; /* what is not used in place of the content */
};

static int broken(const m4n_events_file *file, const char *what) {
  return m4n_fail_at(M4N_EFORMAT, file->path, 0, NULL, "at byte %llu: %s", (unsigned long long)file->record,
                     what);
}

static int no_memory(const m4n_events_file *file) {
  return m4n_fail_at(M4N_ENOMEM, file->path, 0, NULL, "no memory to read the event log");
}

// Room for `size` bytes, the old ones are forgotten.
static bool room_for(m4n_bytes *bytes, size_t size) {
  bytes->size = 0;
  if (!m4n_bytes_reserve(bytes, size + 8)) return false;
  bytes->size = size;
  return true;
}

/* ---- records */

static int read_bytes(m4n_events_file *file, void *data, size_t size) {
  if (fread(data, 1, size, file->stream) == size) return M4N_OK;
  return m4n_fail_at(M4N_EIO, file->path, 0, NULL, "cannot read: %s",
                     ferror(file->stream) ? strerror(errno) : "the file became shorter");
}

// What is left of a record that the file ends in, or that is its last and damaged.
static int end_here(m4n_events_file *file, bool *more) {
  file->truncated = true;
  *more = false;
  return M4N_OK;
}

/* Reads the next record into file->content. *more is false at the end of the file. */
static int next_record(m4n_events_file *file, uint32_t *kind, bool *more) {
  uint8_t head[M4N_RECORD_HEAD];
  m4n_record record;
  uint64_t left = file->size - file->at;
  file->record = file->at;
  if (left < sizeof head) return end_here(file, more);
  M4N_TRY(read_bytes(file, head, sizeof head));
  const char *wrong = m4n_record_get(&record, head);
  if (wrong) return broken(file, wrong);
  if (record.frame > left - sizeof head) return end_here(file, more);
  bool last = record.frame == left - sizeof head;

  if (!room_for(&file->frame, record.frame)) return no_memory(file);
  M4N_TRY(read_bytes(file, file->frame.data, record.frame));
  size_t size = 0;
  if (ZSTD_getFrameContentSize(file->frame.data, record.frame) != record.content)
    wrong = "the record's frame is damaged";
  else if (!room_for(&file->content, record.content))
    return no_memory(file);
  else if (size = ZSTD_decompressDCtx(file->zstd, file->content.data, record.content, file->frame.data,
                                      record.frame),
           ZSTD_isError(size) || size != record.content)
    wrong = "the record does not decompress";
  else if (XXH3_64bits(file->content.data, size) != record.hash)
    wrong = "the record's hash does not fit";
  if (wrong) return last ? end_here(file, more) : broken(file, wrong);

  *kind = record.kind;
  *more = true;
  file->at += sizeof head + record.frame;
  return M4N_OK;
}

static int open_stream(m4n_events_file *file) {
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a fifo must not block us
  struct stat about;
  if (fd < 0)
    return m4n_fail_at(errno == ENOENT ? M4N_ENOTFOUND : M4N_EIO, file->path, 0, NULL, "cannot open: %s",
                       strerror(errno));
  if (fstat(fd, &about) || !S_ISREG(about.st_mode)) {
    close(fd);
    return m4n_fail_at(M4N_EFORMAT, file->path, 0, NULL, "expected a regular file");
  }
  file->size = (uint64_t)about.st_size;
  file->stream = fdopen(fd, "rb");
  if (!file->stream) {
    close(fd);
    return no_memory(file);
  }
  return M4N_OK;
}

static int open_file(m4n_events_file *file) {
  uint32_t kind = 0;
  bool more;
  file->zstd = ZSTD_createDCtx();
  if (!file->path || !file->zstd) return m4n_fail(M4N_ENOMEM, "no memory to read an event log");
  M4N_TRY(open_stream(file));
  M4N_TRY(next_record(file, &kind, &more));
  if (!more) return broken(file, "expected an event log, and its header is not whole");
  if (kind != M4N_RECORD_HEADER) return broken(file, "expected the header of an event log");
  int status = m4n_header_get(&file->header, &file->strings, file->content.data, file->content.size);
  if (status) return m4n_context(status, "%s", file->path);
  file->plan = m4n_row_plan_of(&file->header.spec);
  return M4N_OK;
}

int m4n_events_open(m4n_events_file **out, const char *path) {
  *out = NULL;
  m4n_events_file *file = calloc(1, sizeof *file);
  if (!file) return m4n_fail(M4N_ENOMEM, "no memory to read an event log");
  file->path = strdup(path);
  int status = open_file(file);
  if (status) {
    m4n_events_free(file);
    return status;
  }
  *out = file;
  return M4N_OK;
}

const m4n_events_header *m4n_events_header_of(const m4n_events_file *file) {
  return &file->header;
}

bool m4n_events_truncated(const m4n_events_file *file) {
  return file->truncated;
}

void m4n_events_free(m4n_events_file *file) {
  if (!file) return;
  if (file->stream) fclose(file->stream);
  ZSTD_freeDCtx(file->zstd);
  m4n_bytes *const all[] = {&file->frame,  &file->content, &file->fixed, &file->obs,
                            &file->action, &file->advice,  &file->info,  &file->served};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) m4n_bytes_free(all[i]);
  free(file->strings);
  free(file->path);
  free(file);
}

/* ---- episodes: the content is walked from its front, each part after its size is known to be there */

typedef struct walk {
  const uint8_t *at;
  size_t left;
} walk;

static const uint8_t *take(walk *w, size_t size) {
  if (size > w->left) return NULL;
  const uint8_t *at = w->at;
  w->at += size;
  w->left -= size;
  return at;
}

static const char *get_head(const m4n_events_file *file, m4n_episode *e, walk *w, uint32_t *extras) {
  const m4n_spec *spec = &file->header.spec;
  uint32_t label;
  const uint8_t *head = take(w, M4N_EPISODE_HEAD);
  if (!head) return "an episode without a head";
  memcpy(&e->policy, head, 4);
  memcpy(&e->set, head + 4, 4);
  memcpy(&e->episode, head + 8, 8);
  memcpy(&e->seed, head + 16, 8);
  memcpy(&e->flags, head + 24, 4);
  memcpy(&e->steps, head + 28, 4);
  memcpy(&label, head + 32, 4);
  memcpy(extras, head + 36, 4);
  if (e->policy < 0 || e->policy >= file->header.n_policies)
    return "an episode of a policy that the header lacks";
  if (e->set < 0 || e->set >= M4N_SETS) return "an episode of an unknown set";
  if (!e->flags || (e->flags & ~(uint32_t)M4N_ENDED)) return "an episode that ended in an unknown way";
  if (e->steps < 0) return "an episode with too many decisions";
  if (*extras & ~(uint32_t)M4N_EXTRA_ADVICE)
    return "an episode with something that this version does not know";
  if (label >= M4N_LABEL) return "an episode whose label is too long";
  const uint8_t *text = take(w, m4n_round8(label));
  if (!text || memchr(text, 0, label)) return "an episode whose label is damaged";
  memcpy(e->label, text, label);
  e->label[label] = 0;
  e->metrics = (const double *)(const void *)take(w, (size_t)spec->n_metrics * 8);
  if (!e->metrics) return "an episode without its metrics";
  for (int i = 0; i < spec->n_metrics; i++)
    if (isinf(e->metrics[i])) return "an episode with an infinite metric";
  return NULL;
}

static bool choices_fit(const m4n_spec *spec, const uint8_t *rows, size_t steps, int32_t least) {
  for (size_t t = 0; t < steps; t++)
    for (int i = 0; i < spec->n_act; i++) {
      int32_t choice;
      memcpy(&choice, rows + t * spec->act_size + spec->act[i].offset, 4);
      if (choice < least || choice > spec->act[i].high) return false;
    }
  return true;
}

static const char *check_decisions(const m4n_events_file *file, const m4n_episode *e) {
  const m4n_spec *spec = &file->header.spec;
  size_t steps = (size_t)e->steps;
  for (size_t i = 0; i < steps; i++)
    if (!isfinite(e->reward[i])) return "a reward that is not a number";
  for (size_t i = 0; i < steps * (size_t)spec->n_info; i++)
    if (isinf(e->info[i])) return "an infinite info figure";
  if (!choices_fit(spec, e->action, steps, 0)) return "an action that is none of the choices";
  if (e->advice && !choices_fit(spec, e->advice, steps, -1)) return "advice that is none of the choices";
  return NULL;
}

static int get_decisions(m4n_events_file *file, m4n_episode *e, walk *w, bool advised, const char **wrong) {
  const m4n_spec *spec = &file->header.spec;
  size_t steps = (size_t)e->steps, n_info = (size_t)spec->n_info, action = spec->act_size / 8;
  // Compared by division: the product of two hostile numbers may wrap.
  size_t words = M4N_DECISION_WORDS + n_info + action * (advised ? 2 : 1);
  if (steps > w->left / 8 / words) {
    *wrong = "an episode with fewer decisions than it says";
    return M4N_OK;
  }
  const uint64_t *columns = (const uint64_t *)(const void *)take(w, steps * words * 8);
  if (!room_for(&file->served, steps) || !room_for(&file->info, steps * n_info * 8) ||
      !room_for(&file->action, steps * action * 8) || !room_for(&file->advice, steps * action * 8))
    return no_memory(file);
  e->delay_ns = (const int64_t *)columns;
  for (size_t t = 0; t < steps; t++) file->served.data[t] = columns[steps + t] != 0;
  e->served_by = file->served.data;
  e->reward = (const double *)(columns + 2 * steps);
  m4n_columns((uint64_t *)(void *)file->info.data, columns + M4N_DECISION_WORDS * steps, n_info, steps);
  e->info = (const double *)(void *)file->info.data;
  m4n_columns((uint64_t *)(void *)file->action.data, columns + (M4N_DECISION_WORDS + n_info) * steps, action,
              steps);
  e->action = file->action.data;
  if (advised) {
    m4n_columns((uint64_t *)(void *)file->advice.data,
                columns + (M4N_DECISION_WORDS + n_info + action) * steps, action, steps);
    e->advice = file->advice.data;
  }
  *wrong = check_decisions(file, e);
  return M4N_OK;
}

// Every element of a field in [low, high], so that an index can be used as one. NaN is in no range.
#define ALL_IN(type)                                                                                         \
  for (size_t i = 0; i < n; i++) {                                                                           \
    type value;                                                                                              \
    memcpy(&value, data + i * sizeof value, sizeof value);                                                   \
    inside &= (double)value >= f->low && (double)value <= f->high && isfinite((double)value);                \
  }                                                                                                          \
  return inside

static bool in_range(const m4n_field *f, const uint8_t *data, size_t n) {
  bool inside = true;
  switch (f->dtype) {
  case M4N_F64:
    ALL_IN(double);
  case M4N_F32:
    ALL_IN(float);
  case M4N_I32:
    ALL_IN(int32_t);
  case M4N_I64:
    ALL_IN(int64_t);
  case M4N_U32:
    ALL_IN(uint32_t);
  default:
    ALL_IN(uint8_t);
  }
}
#undef ALL_IN

static const char *check_row(const m4n_spec *spec, const uint8_t *row) {
  for (const m4n_field *f = spec->obs; f < spec->obs + spec->n_obs; f++) {
    const uint8_t *data = row + f->offset;
    size_t n = f->count;
    if (f->rank > 0 && f->shape[0] == -1) {
      uint32_t rows;
      memcpy(&rows, data, 4);
      n = f->count / (uint32_t)f->max_rows * rows;
      data += 8;
    }
    if (!in_range(f, data, n)) return "an observation outside its range";
  }
  return NULL;
}

// The rows of field i of all moments, back to back, to their places; counts were unpacked before.
static const char *get_varying(m4n_events_file *file, int i, size_t moments, walk *w) {
  const m4n_row_plan *plan = &file->plan;
  size_t obs_size = file->header.spec.obs_size, total = 0;
  for (size_t t = 0; t < moments; t++) {
    uint8_t *count_at = file->obs.data + t * obs_size + plan->varying[i].offset;
    uint32_t count;
    memcpy(&count, count_at, 4);
    if (count > plan->varying[i].max_rows) return "an observation with too many rows";
    size_t size = (size_t)count * plan->varying[i].row;
    const uint8_t *rows = take(w, size);
    if (!rows) return "an episode with fewer rows than it says";
    memcpy(count_at + 8, rows, size);
    total += size;
  }
  return take(w, m4n_round8(total) - total) ? NULL : "an episode with fewer rows than it says";
}

static int get_moments(m4n_events_file *file, m4n_episode *e, walk *w, const char **wrong) {
  const m4n_spec *spec = &file->header.spec;
  const m4n_row_plan *plan = &file->plan;
  size_t moments = (size_t)e->steps + 1, words = plan->words;
  if (moments > w->left / 8 / (words + 1) || moments > M4N_MAX_EPISODE / spec->obs_size) {
    *wrong = "an episode with fewer observations than it says";
    return M4N_OK;
  }
  const uint64_t *columns = (const uint64_t *)(const void *)take(w, moments * (words + 1) * 8);
  if (!room_for(&file->fixed, moments * words * 8) || !room_for(&file->obs, moments * spec->obs_size))
    return no_memory(file);
  e->sim_time_ns = (const int64_t *)columns;
  m4n_columns((uint64_t *)(void *)file->fixed.data, columns + moments, words, moments);
  memset(file->obs.data, 0, moments * spec->obs_size);
  const uint8_t *fixed = file->fixed.data;
  for (size_t t = 0; t < moments; t++)
    for (int i = 0; i < plan->n_spans; i++) {
      memcpy(file->obs.data + t * spec->obs_size + plan->span[i].offset, fixed, plan->span[i].bytes);
      fixed += m4n_round8(plan->span[i].bytes);
    }
  for (int i = 0; i < plan->n_varying && !*wrong; i++) *wrong = get_varying(file, i, moments, w);
  for (size_t t = 0; t < moments && !*wrong; t++)
    *wrong = check_row(spec, file->obs.data + t * spec->obs_size);
  e->obs = file->obs.data;
  return M4N_OK;
}

static int get_episode(m4n_events_file *file, m4n_episode *e) {
  walk w = {file->content.data, file->content.size};
  uint32_t extras = 0;
  const char *wrong = get_head(file, e, &w, &extras);
  if (!wrong) M4N_TRY(get_decisions(file, e, &w, extras & M4N_EXTRA_ADVICE, &wrong));
  if (!wrong) M4N_TRY(get_moments(file, e, &w, &wrong));
  if (!wrong && w.left) wrong = "an episode with bytes too many";
  return wrong ? broken(file, wrong) : M4N_OK;
}

static int check_end(m4n_events_file *file) {
  uint64_t episodes;
  if (file->content.size != sizeof episodes) return broken(file, "a damaged last record");
  memcpy(&episodes, file->content.data, sizeof episodes);
  if (episodes != file->episodes) return broken(file, "the last record counts other episodes than there are");
  if (file->at != file->size) return broken(file, "something follows the last record");
  file->ended = true;
  return M4N_OK;
}

int m4n_events_next(m4n_events_file *file, m4n_episode *episode, bool *more) {
  *more = false;
  *episode = (m4n_episode){0};
  if (file->ended || file->truncated) return M4N_OK;
  uint32_t kind;
  M4N_TRY(next_record(file, &kind, more));
  if (!*more) return M4N_OK;
  *more = false;
  if (kind == M4N_RECORD_END) return check_end(file);
  if (kind != M4N_RECORD_EPISODE) return broken(file, "a second header");
  M4N_TRY(get_episode(file, episode));
  file->episodes++;
  *more = true;
  return M4N_OK;
}
