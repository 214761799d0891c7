#include "agent/model/params.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/arena.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

struct m4n_params_private {
  m4n_arena arena; // weights, names, constants
  int room_weights, room_parts;
};

static int no_memory(void) {
  return m4n_fail(M4N_ENOMEM, "no memory for the list of parameters");
}

int m4n_params_open(m4n_params **params, m4n_stream *stream) {
  m4n_params *p = *params = calloc(1, sizeof *p);
  if (!p) return no_memory();
  p->stream = stream;
  p->private_ = calloc(1, sizeof *p->private_);
  if (p->private_) return M4N_OK;
  m4n_params_close(p);
  *params = NULL;
  return no_memory();
}

void m4n_params_close(m4n_params *p) {
  if (!p) return;
  m4n_backend *backend = m4n_stream_backend(p->stream);
  m4n_free(backend, p->w);
  m4n_free(backend, p->g);
  m4n_free(backend, p->frozen);
  if (p->private_) m4n_arena_close(&p->private_->arena);
  free(p->private_);
  free(p->weight);
  free(p->part);
  free(p);
}

// ---- declaring -------------------------------------------------------------------------------------------------------

// Room for one more of `count` entries of `size` bytes.
static bool grow(void *array, int count, int *room, size_t size) {
  if (count < *room) return true;
  int more = *room ? 2 * *room : 64;
  void *old, *moved;
  memcpy(&old, array, sizeof old);
  moved = realloc(old, (size_t)more * size);
  if (!moved) return false;
  memcpy(array, &moved, sizeof moved);
  *room = more;
  return true;
}

m4n_weight *m4n_params_add(m4n_params *p, int cols, int set, bool trainable) {
  m4n_weight *w = m4n_arena_alloc(&p->private_->arena, sizeof *w);
  if (!w || !grow(&p->weight, p->n_weights, &p->private_->room_weights, sizeof *p->weight)) {
    no_memory();
    return NULL;
  }
  *w = (m4n_weight){.cols = cols, .set = set, .trainable = trainable, .format = M4N_W_REAL};
  return p->weight[p->n_weights++] = w;
}

int m4n_params_part(m4n_params *p, m4n_weight *w, const char *prefix, const char *name, int rank,
                    const int64_t *shape, m4n_init init) {
  assert(!p->w && !p->frozen && rank <= M4N_TENSOR_RANK);
  if (!grow(&p->part, p->n_parts, &p->private_->room_parts, sizeof *p->part)) return no_memory();
  size_t size = strlen(prefix) + strlen(name) + 1;
  char *full = m4n_arena_alloc(&p->private_->arena, size);
  if (!full) return no_memory();
  snprintf(full, size, "%s%s", prefix, name);
  m4n_part part = {
      .name = full, .of = w, .first = (int64_t)w->rows * w->cols, .count = 1, .rank = rank, .init = init};
  for (int i = 0; i < rank; i++) part.count *= part.shape[i] = shape[i];
  assert(part.count % w->cols == 0);
  w->rows += (int)(part.count / w->cols);
  p->part[p->n_parts++] = part;
  return M4N_OK;
}

void m4n_params_gap(m4n_weight *w, int rows) {
  w->rows += rows;
}

m4n_weight *m4n_params_constant(m4n_params *p, int64_t n, const m4n_real *values) {
  m4n_weight *w = m4n_params_add(p, 1, 0, false);
  m4n_real *kept = w ? m4n_arena_alloc(&p->private_->arena, (size_t)n * sizeof *kept) : NULL;
  if (!kept) {
    no_memory();
    return NULL;
  }
  if (values) memcpy(kept, values, (size_t)n * sizeof *kept);
  w->rows = (int)n;
  w->given = kept;
  return w;
}

static int64_t elements(const m4n_weight *w) {
  return (int64_t)w->rows * w->cols;
}

static int64_t rounded_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

int m4n_params_place(m4n_params *p) {
  m4n_backend *backend = m4n_stream_backend(p->stream);
  for (int i = 0; i < p->n_weights; i++) {
    m4n_weight *w = p->weight[i];
    if (w->trainable) {
      w->offset = p->n;
      p->n += rounded_up(elements(w), M4N_ADAMW_CHUNK);
    } else {
      w->offset = (int64_t)p->frozen_bytes;
      size_t bytes = w->plan ? m4n_linear_bytes(w->plan) : (size_t)elements(w) * sizeof(m4n_real);
      p->frozen_bytes += (size_t)rounded_up((int64_t)bytes, 64);
    }
  }
  if (p->n) {
    p->w = m4n_alloc(backend, (size_t)p->n * sizeof *p->w);
    p->g = m4n_alloc(backend, (size_t)p->n * sizeof *p->g);
  }
  if (p->frozen_bytes) p->frozen = m4n_alloc(backend, p->frozen_bytes);
  if ((p->n && (!p->w || !p->g)) || (p->frozen_bytes && !p->frozen))
    return m4n_context(m4n_last_error()->status, "weights");
  for (int i = 0; i < p->n_weights; i++) {
    m4n_weight *w = p->weight[i];
    w->w = w->trainable ? (void *)(p->w + w->offset) : (void *)((char *)p->frozen + w->offset);
    w->g = w->trainable ? p->g + w->offset : NULL;
    if (w->given) m4n_copy_in(p->stream, w->w, w->given, (size_t)elements(w) * sizeof(m4n_real));
  }
  return m4n_sync(p->stream);
}

// ---- filling ---------------------------------------------------------------------------------------------------------

// Puts a weight's host values where they belong, packed if need be; `plain` is room on the backend for packing.
static int put_weight(m4n_params *p, m4n_weight *w, const m4n_real *host, m4n_real *plain) {
  size_t bytes = (size_t)elements(w) * sizeof *host;
  m4n_copy_in(p->stream, w->plan ? plain : w->w, host, bytes);
  if (w->plan) m4n_linear_pack(p->stream, w->w, plain, w->plan);
  return m4n_sync(p->stream); // `host` and `plain` serve the next weight
}

static int fill_weight(m4n_params *p, m4n_weight *w, m4n_part_fill fill, void *self, m4n_real *host,
                       m4n_real *plain) {
  memset(host, 0, (size_t)elements(w) * sizeof *host);
  for (int i = 0; i < p->n_parts; i++)
    if (p->part[i].of == w) M4N_TRY(fill(self, &p->part[i], host + p->part[i].first));
  return put_weight(p, w, host, plain);
}

int m4n_params_fill(m4n_params *p, int sets, m4n_part_fill fill, void *self) {
  int64_t largest = 0, packed = 0;
  for (int i = 0; i < p->n_weights; i++) {
    const m4n_weight *w = p->weight[i];
    if (!(w->set & sets)) continue;
    if (elements(w) > largest) largest = elements(w);
    if (w->plan && elements(w) > packed) packed = elements(w);
  }
  m4n_backend *backend = m4n_stream_backend(p->stream);
  m4n_real *host = m4n_alloc_host(backend, (size_t)largest * sizeof *host);
  m4n_real *plain = m4n_alloc(backend, (size_t)packed * sizeof *plain);
  int status = host && plain ? M4N_OK : m4n_last_error()->status;
  for (int i = 0; i < p->n_weights && !status; i++)
    if (p->weight[i]->set & sets) status = fill_weight(p, p->weight[i], fill, self, host, plain);
  m4n_free(backend, plain);
  m4n_free_host(backend, host);
  return status;
}

// 64-bit FNV-1a: the stream of random numbers that belongs to a name.
static uint64_t hash(const char *name) {
  uint64_t h = 14695981039346656037u;
  for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
  return h;
}

static int start_part(void *self, const m4n_part *part, m4n_real *values) {
  m4n_rng rng = m4n_rng_make(*(const uint64_t *)self, hash(part->name), M4N_RNG_INIT);
  const double value = part->init.value;
  const int64_t columns = part->rank ? part->shape[part->rank - 1] : 1;
  for (int64_t i = 0; i < part->count; i++) switch (part->init.kind) {
    case M4N_START_UNIFORM:
      values[i] = (m4n_real)(value * (2 * m4n_rng_uniform(&rng) - 1));
      break;
    case M4N_START_NORMAL:
      values[i] = (m4n_real)(value * m4n_rng_normal(&rng));
      break;
    case M4N_START_A_LOG:
      values[i] = (m4n_real)log((double)(i % columns + 1));
      break;
    case M4N_START_DT_BIAS: {
      // Δ0 log-uniform in 0.001 … 0.1; b = Δ0 + ln(1 − exp(−Δ0)), the inverse of softplus (§5.2)
      double dt = exp(m4n_rng_uniform(&rng) * (log(0.1) - log(0.001)) + log(0.001));
      if (dt < 1e-4) dt = 1e-4;
      values[i] = (m4n_real)(dt + log(-expm1(-dt)));
      break;
    }
    default:
      values[i] = (m4n_real)value;
    }
  return M4N_OK;
}

int m4n_params_start(m4n_params *p, int sets, uint64_t seed) {
  return m4n_params_fill(p, sets, start_part, &seed);
}

struct loading {
  const m4n_safetensors *file;
  const char *prefix;
};

static int load_part(void *self, const m4n_part *part, m4n_real *values) {
  const struct loading *from = self;
  char name[512];
  snprintf(name, sizeof name, "%s%s", from->prefix, part->name);
  const m4n_tensor *t;
  M4N_TRY(m4n_safetensors_need(&t, from->file, name, part->rank, part->shape));
  return m4n_tensor_read(t, 0, part->count, values);
}

int m4n_params_load(m4n_params *p, int sets, const m4n_safetensors *file, const char *prefix) {
  return m4n_params_fill(p, sets, load_part, &(struct loading){file, prefix});
}

struct copying {
  const m4n_params *from;
  const m4n_real *values;
};

static int copy_part(void *self, const m4n_part *part, m4n_real *values) {
  const struct copying *c = self;
  const m4n_part *source = m4n_params_find(c->from, part->name);
  if (!source || source->count != part->count)
    return m4n_fail(M4N_EARG, "the other model has no %s of this size", part->name);
  return m4n_part_read(c->from, source, c->values, values);
}

int m4n_params_copy(m4n_params *p, int sets, const m4n_params *from, const m4n_real *values) {
  return m4n_params_fill(p, sets, copy_part, &(struct copying){from, values});
}

// ---- single parts ----------------------------------------------------------------------------------------------------

m4n_part *m4n_params_find(const m4n_params *p, const char *name) {
  for (int i = 0; i < p->n_parts; i++)
    if (strcmp(p->part[i].name, name) == 0) return &p->part[i];
  return NULL;
}

static int packed(const m4n_part *part) {
  return m4n_fail(M4N_EUNSUPPORTED, "%s is packed for products and cannot be read or written alone",
                  part->name);
}

int m4n_part_read(const m4n_params *p, const m4n_part *part, const m4n_real *values, m4n_real *to) {
  const m4n_weight *w = part->of;
  if (w->plan) return packed(part);
  const m4n_real *from = w->trainable && values ? values + w->offset : w->w;
  m4n_copy_out(p->stream, to, from + part->first, (size_t)part->count * sizeof *to);
  return m4n_sync(p->stream);
}

int m4n_part_write(m4n_params *p, const m4n_part *part, const m4n_real *from) {
  if (part->of->plan) return packed(part);
  m4n_copy_in(p->stream, (m4n_real *)part->of->w + part->first, from, (size_t)part->count * sizeof *from);
  return m4n_sync(p->stream);
}

// ---- saving and counting ---------------------------------------------------------------------------------------------

static int save_parts(const m4n_params *p, int sets, const m4n_real *values, m4n_safetensors_writer *w) {
  int64_t largest = 0;
  for (int i = 0; i < p->n_parts; i++)
    if (p->part[i].of->set & sets && p->part[i].count > largest) largest = p->part[i].count;
  m4n_real *host = malloc((size_t)largest * sizeof *host + 1);
  int status = host ? M4N_OK : no_memory();
  for (int i = 0; i < p->n_parts && !status; i++) {
    if (!(p->part[i].of->set & sets)) continue;
    status = m4n_part_read(p, &p->part[i], values, host);
    if (!status) m4n_safetensors_put(w, host, p->part[i].count);
  }
  free(host);
  return status;
}

int m4n_params_save(const m4n_params *p, int sets, const m4n_real *values, const char *path, int type,
                    const m4n_metadata *metadata, int n_metadata) {
  m4n_tensor_shape *shape = malloc((size_t)(p->n_parts + 1) * sizeof *shape);
  if (!shape) return no_memory();
  int n = 0;
  for (int i = 0; i < p->n_parts; i++) {
    const m4n_part *part = &p->part[i];
    if (!(part->of->set & sets)) continue;
    shape[n] = (m4n_tensor_shape){.name = part->name, .type = type, .rank = part->rank};
    memcpy(shape[n++].shape, part->shape, sizeof part->shape);
  }
  m4n_safetensors_writer *w;
  int status = m4n_safetensors_create(&w, path, shape, n, metadata, n_metadata);
  free(shape);
  if (status) return status;
  status = save_parts(p, sets, values, w);
  if (!status) return m4n_safetensors_commit(w);
  m4n_safetensors_abort(w);
  return status;
}

int64_t m4n_params_count(const m4n_params *p, int sets, bool trainable_only) {
  int64_t n = 0;
  for (int i = 0; i < p->n_parts; i++)
    if (p->part[i].of->set & sets && (p->part[i].of->trainable || !trainable_only)) n += p->part[i].count;
  return n;
}

void m4n_params_groups(const m4n_params *p, uint8_t *group_of) {
  memset(group_of, 0, (size_t)(p->n / M4N_ADAMW_CHUNK));
  for (int i = 0; i < p->n_parts; i++) {
    const m4n_weight *w = p->part[i].of;
    if (!w->trainable) continue;
    // A chunk on the border of two parts belongs to the first.
    int64_t from = rounded_up(w->offset + p->part[i].first, M4N_ADAMW_CHUNK) / M4N_ADAMW_CHUNK;
    int64_t to =
        rounded_up(w->offset + p->part[i].first + p->part[i].count, M4N_ADAMW_CHUNK) / M4N_ADAMW_CHUNK;
    memset(group_of + from, (w->decay ? 1 : 0) | (p->part[i].fresh ? 2 : 0), (size_t)(to - from));
  }
}
