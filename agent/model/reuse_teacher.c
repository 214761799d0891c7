/* A teacher for weight reuse: its files, and what its stream looks like. */
#include <stdlib.h>
#include <string.h>

#include "agent/model/reuse.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

// ---- files ---------------------------------------------------------------------------------------------------------------

static int open_files(m4n_teacher *t, const char *path, const char *base, const char *adapter) {
  M4N_TRY(m4n_safetensors_open(&t->file, path));
  if (m4n_safetensors_metadata(t->file, M4N_CONFIG_KEY))
    M4N_TRY(m4n_config_of(&t->config, t->file, path));
  else
    M4N_TRY(m4n_config_read(&t->config, path));
  if (base) M4N_TRY(m4n_safetensors_open(&t->base, base));
  return m4n_folded_open(&t->backbone, base ? t->base : t->file, "", adapter);
}

int m4n_teacher_open(m4n_teacher *teacher, const char *path, const char *base, const char *adapter) {
  *teacher = (m4n_teacher){0};
  int status = open_files(teacher, path, base, adapter);
  if (status) m4n_teacher_close(teacher);
  return status;
}

void m4n_teacher_close(m4n_teacher *teacher) {
  m4n_folded_close(&teacher->backbone);
  m4n_safetensors_close(teacher->file);
  m4n_safetensors_close(teacher->base);
  *teacher = (m4n_teacher){0};
}

// ---- moments -------------------------------------------------------------------------------------------------------------

struct m4n_moments {
  m4n_net *net;
  int d, layers, norms;
  int64_t tokens;
  m4n_real *sum;      // [norms][d][d], Σ x̂·x̂ᵀ
  m4n_real *x, *ones; // [rows][d], [d]
  const m4n_linear *plan;
};

int m4n_moments_open(m4n_moments **out, m4n_net *net) {
  const m4n_net_options *o = &net->options;
  m4n_moments *m = *out = calloc(1, sizeof *m);
  if (!m) return m4n_fail(M4N_ENOMEM, "no memory for a teacher's moments");
  m->net = net;
  m->d = o->config.backbone.d;
  m->layers = o->config.backbone.attention_layers;
  m->norms = 2 * m->layers + 1;
  m4n_backend *backend = m4n_stream_backend(net->stream);
  const size_t d = (size_t)m->d, rows = (size_t)o->sequences * (size_t)o->tokens;
  int status = M4N_OK;
  if (!o->taps && !o->train)
    status = m4n_fail(M4N_EARG, "a teacher's stream can only be looked at where it was opened with taps");
  else if (o->config.backbone.mamba_layers || !o->config.backbone.ffn)
    status = m4n_fail(M4N_EARG, "a teacher has attention and feed-forward layers alone");
  else if (!(m->sum = m4n_alloc(backend, (size_t)m->norms * d * d * sizeof *m->sum)) ||
           !(m->x = m4n_alloc(backend, rows * d * sizeof *m->x)) ||
           !(m->ones = m4n_alloc(backend, d * sizeof *m->ones)))
    status = m4n_context(m4n_last_error()->status, "a teacher's moments");
  if (!status)
    status = m4n_linear_plan(
        &m->plan, net->stream,
        &(m4n_linear_shape){.out = m->d, .in = m->d, .max_rows = (int)rows, .grads = M4N_GRAD_W});
  if (status) {
    m4n_moments_close(m);
    *out = NULL;
    return status;
  }
  m4n_fill(net->stream, m->ones, (int64_t)d, 1);
  return M4N_OK;
}

void m4n_moments_close(m4n_moments *m) {
  if (!m) return;
  m4n_backend *backend = m4n_stream_backend(m->net->stream);
  m4n_free(backend, m->sum);
  m4n_free(backend, m->x);
  m4n_free(backend, m->ones);
  free(m);
}

int m4n_moments_norms(const m4n_moments *m) {
  return m->norms;
}

// A norm's input is the stream behind so many blocks: a layer is two of them.
void m4n_moments_add(m4n_moments *m) {
  m4n_stream *s = m->net->stream;
  const int rows = m->net->pass.B * m->net->pass.T;
  const m4n_real eps = (m4n_real)m->net->options.config.backbone.eps;
  for (int i = 0; i < m->norms; i++) {
    m4n_rmsnorm_fwd(s, m->x, NULL, m4n_chain_tap(m->net->chain, i), m->ones, rows, m->d, eps);
    m4n_linear_bwd_w(s, m->sum + (size_t)i * (size_t)m->d * (size_t)m->d, m->x, m->x, m->plan, rows);
  }
  m->tokens += rows;
}

int m4n_moments_read(const m4n_moments *m, int norm, double *c) {
  const size_t n = (size_t)m->d * (size_t)m->d;
  if (!m->tokens) return m4n_fail(M4N_EARG, "no windows were shown to the teacher");
  m4n_real *host = malloc(n * sizeof *host);
  if (!host) return m4n_fail(M4N_ENOMEM, "no memory for a teacher's moments");
  m4n_copy_out(m->net->stream, host, m->sum + (size_t)norm * n, n * sizeof *host);
  int status = m4n_sync(m->net->stream);
  for (size_t i = 0; i < n && !status; i++) c[i] = (double)host[i] / (double)m->tokens;
  free(host);
  return status;
}
