#include "agent/model/optimiser.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/base/text.h"

// A step's numbers are copied from host memory that must stay as it is until the copy is done: a ring of them.
enum { RING = 16, GROUPS = 4 };

struct m4n_optimiser {
  m4n_params *params;
  m4n_optimiser_options options;
  int64_t steps;
  m4n_real *m, *v;
  m4n_adamw_step *step, *host_step;
  m4n_adamw_group *groups;
  uint8_t *group_of;
  m4n_real *norm, *factor;
};

static m4n_backend *backend_of(const m4n_optimiser *o) {
  return m4n_stream_backend(o->params->stream);
}

size_t m4n_optimiser_bytes(const m4n_params *params) {
  return (size_t)params->n * 2 * sizeof(m4n_real) + (size_t)(params->n / M4N_ADAMW_CHUNK);
}

static int take_memory(m4n_optimiser *o) {
  m4n_backend *backend = backend_of(o);
  const size_t n = (size_t)o->params->n;
  if (!(o->m = m4n_alloc(backend, n * sizeof *o->m)) || !(o->v = m4n_alloc(backend, n * sizeof *o->v)) ||
      !(o->step = m4n_alloc(backend, sizeof *o->step)) ||
      !(o->host_step = m4n_alloc_host(backend, RING * sizeof *o->host_step)) ||
      !(o->groups = m4n_alloc(backend, GROUPS * sizeof *o->groups)) ||
      !(o->group_of = m4n_alloc(backend, n / M4N_ADAMW_CHUNK + 1)) ||
      !(o->norm = m4n_alloc(backend, sizeof *o->norm)) ||
      !(o->factor = m4n_alloc(backend, sizeof *o->factor)))
    return m4n_context(m4n_last_error()->status, "the optimiser's state");
  return M4N_OK;
}

static int copy_groups(m4n_optimiser *o) {
  const size_t chunks = (size_t)(o->params->n / M4N_ADAMW_CHUNK);
  uint8_t *group_of = malloc(chunks + 1);
  if (!group_of) return m4n_fail(M4N_ENOMEM, "no memory for the optimiser's groups");
  m4n_params_groups(o->params, group_of);
  m4n_adamw_group groups[GROUPS];
  for (int i = 0; i < GROUPS; i++)
    groups[i] = (m4n_adamw_group){.lr_scale = (m4n_real)(i & 2 ? o->options.fresh : 1),
                                  .decay = (m4n_real)(i & 1 ? o->options.decay : 0)};
  m4n_copy_in(o->params->stream, o->group_of, group_of, chunks);
  m4n_copy_in(o->params->stream, o->groups, groups, sizeof groups);
  int status = m4n_sync(o->params->stream);
  free(group_of);
  return status;
}

int m4n_optimiser_open(m4n_optimiser **optimiser, m4n_params *params, const m4n_optimiser_options *options) {
  m4n_optimiser *o = *optimiser = calloc(1, sizeof *o);
  if (!o) return m4n_fail(M4N_ENOMEM, "no memory for the optimiser");
  o->params = params;
  o->options = *options;
  int status = take_memory(o);
  if (!status) status = copy_groups(o);
  if (!status) return M4N_OK;
  m4n_optimiser_close(o);
  *optimiser = NULL;
  return status;
}

void m4n_optimiser_close(m4n_optimiser *o) {
  if (!o) return;
  m4n_backend *backend = backend_of(o);
  m4n_free(backend, o->m);
  m4n_free(backend, o->v);
  m4n_free(backend, o->step);
  m4n_free_host(backend, o->host_step);
  m4n_free(backend, o->groups);
  m4n_free(backend, o->group_of);
  m4n_free(backend, o->norm);
  m4n_free(backend, o->factor);
  free(o);
}

void m4n_optimiser_step(m4n_optimiser *o, double lr) {
  m4n_stream *s = o->params->stream;
  const m4n_params *p = o->params;
  o->steps++;
  m4n_adamw_step *step = &o->host_step[o->steps % RING];
  *step = (m4n_adamw_step){.lr = (m4n_real)lr,
                           .correct1 = (m4n_real)(1 - pow(o->options.beta1, (double)o->steps)),
                           .correct2 = (m4n_real)(1 - pow(o->options.beta2, (double)o->steps))};
  m4n_copy_in(s, o->step, step, sizeof *step);
  const m4n_adamw_rates rates = {(m4n_real)o->options.beta1, (m4n_real)o->options.beta2,
                                 (m4n_real)o->options.eps};
  m4n_grad_norm(s, o->norm, p->g, p->n);
  m4n_clip_factor(s, o->factor, o->norm, (m4n_real)o->options.clip);
  m4n_adamw(s, p->w, o->m, o->v, p->g, o->factor, o->step, o->groups, o->group_of, p->n, &rates);
}

int64_t m4n_optimiser_steps(const m4n_optimiser *o) {
  return o->steps;
}

int m4n_optimiser_norm(m4n_optimiser *o, double *norm) {
  m4n_real value;
  m4n_copy_out(o->params->stream, &value, o->norm, sizeof value);
  M4N_TRY(m4n_sync(o->params->stream));
  *norm = (double)value;
  return M4N_OK;
}

// ---- checkpoints -------------------------------------------------------------------------------------------------------

int m4n_optimiser_save(const m4n_optimiser *o, const char *path) {
  const size_t n = (size_t)o->params->n;
  const int type = sizeof(m4n_real) == 4 ? M4N_TENSOR_F32 : M4N_TENSOR_F64;
  const m4n_tensor_shape shapes[] = {{"m", type, 1, {o->params->n}}, {"v", type, 1, {o->params->n}}};
  char steps[32];
  snprintf(steps, sizeof steps, "%" PRId64, o->steps);
  const m4n_metadata about = {"steps", steps};
  m4n_real *host = malloc(n * sizeof *host + 1);
  m4n_safetensors_writer *w = NULL;
  int status = host ? m4n_safetensors_create(&w, path, shapes, 2, &about, 1)
                    : m4n_fail(M4N_ENOMEM, "no memory for the optimiser's state");
  for (int i = 0; i < 2 && !status; i++) {
    m4n_copy_out(o->params->stream, host, i ? o->v : o->m, n * sizeof *host);
    status = m4n_sync(o->params->stream);
    if (!status) m4n_safetensors_put(w, host, (int64_t)n);
  }
  free(host);
  if (!status) return m4n_safetensors_commit(w);
  m4n_safetensors_abort(w);
  return status;
}

static int read_moment(m4n_optimiser *o, const m4n_safetensors *file, const char *name, m4n_real *to,
                       m4n_real *host) {
  const m4n_tensor *t;
  M4N_TRY(m4n_safetensors_need(&t, file, name, 1, &o->params->n));
  M4N_TRY(m4n_tensor_read(t, 0, t->count, host));
  m4n_copy_in(o->params->stream, to, host, (size_t)t->count * sizeof *host);
  return m4n_sync(o->params->stream);
}

int m4n_optimiser_load(m4n_optimiser *o, const char *path) {
  m4n_safetensors *file;
  M4N_TRY(m4n_safetensors_open(&file, path));
  const char *text = m4n_safetensors_metadata(file, "steps");
  int64_t steps = -1;
  bool known = text && m4n_span_int64((m4n_span){text, strlen(text)}, &steps) && steps >= 0;
  int status =
      known ? M4N_OK : m4n_fail_at(M4N_EFORMAT, path, 0, "steps", "expected the number of steps so far");
  m4n_real *host = malloc((size_t)o->params->n * sizeof *host + 1);
  if (!host) status = m4n_fail(M4N_ENOMEM, "no memory for the optimiser's state");
  if (!status) status = read_moment(o, file, "m", o->m, host);
  if (!status) status = read_moment(o, file, "v", o->v, host);
  if (!status) o->steps = steps;
  free(host);
  m4n_safetensors_close(file);
  return status;
}
