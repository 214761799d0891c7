#include "agent/model/reuse.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/reuse_job.h"
#include "agent/model/svd.h"
#include "kernels/base/status.h"

// ---- options ---------------------------------------------------------------------------------------------------------------

m4n_reuse_options m4n_reuse_usual(int mode) {
  return (m4n_reuse_options){
      .mode = mode, .rank = 512, .gain = true, .open_gate = true, .identity_conv = true, .D = 1, .seed = 1};
}

int m4n_reuse_mode_of(const char *name) {
  static const char *const names[] = {"slice", "head", "pca", "spectrum", "random"};
  for (int i = 0; i < 5; i++)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

int m4n_reuse_layer(int map, int layer, int layers, int teacher_layers) {
  const double last = teacher_layers - 1;
  switch (map) {
  case M4N_MAP_FIRST:
    return layer < teacher_layers ? layer : teacher_layers - 1;
  case M4N_MAP_LAST:
    return layer + teacher_layers - layers > 0 ? layer + teacher_layers - layers : 0;
  case M4N_MAP_MIDDLE:
    return (int)((layer + 0.5) * teacher_layers / layers);
  default:
    return layers > 1 ? (int)floor(layer * last / (layers - 1) + 0.5) : 0;
  }
}

void m4n_reuse_shape(m4n_config *student, const m4n_config *teacher, const m4n_reuse_options *o) {
  m4n_backbone *S = &student->backbone;
  const m4n_backbone *T = &teacher->backbone;
  if (o->mode == M4N_REUSE_RANDOM) return;
  S->gate_bias = o->open_gate && S->mixer == M4N_MIXER_MAMBA;
  if (!S->attention_layers) return;
  const int per_head = S->d / T->heads;
  if (o->mode == M4N_REUSE_SLICE && S->d % T->head_dim == 0)
    S->heads = S->d / T->head_dim, S->head_dim = T->head_dim; // the first rows are whole heads
  else if (o->mode != M4N_REUSE_SLICE && S->d % T->heads == 0 && per_head % 2 == 0 && per_head <= T->head_dim)
    S->heads = T->heads, S->head_dim = per_head;
  S->kv_heads = S->heads;
  if (S->head_dim > T->head_dim) return; // refused by m4n_reuse
  S->frequencies = S->head_dim / 2;
  for (int i = 0; i < S->frequencies; i++)
    S->rope_freq[i] = m4n_rope_frequency(T, m4n_reuse_first_pair(S, T) + i);
}

static int check(const m4n_reuse_job *j) {
  const m4n_backbone *S = j->S, *T = j->T;
  if (T->mamba_layers || !T->ffn)
    return m4n_fail(M4N_EARG, "a teacher has attention and feed-forward layers alone");
  if (S->d > T->d || S->ffn > T->ffn)
    return m4n_fail(M4N_EARG, "a student of width %d, %d cannot be cut from a teacher of width %d, %d", S->d,
                    S->ffn, T->d, T->ffn);
  if (S->attention_layers &&
      (S->head_dim > T->head_dim || S->qkv_bias || S->interleaved || S->kv_heads != S->heads))
    return m4n_fail(M4N_EARG,
                    "a student's attention needs heads of at most %d, one key head a head, and no biases",
                    T->head_dim);
  if (j->o->mode == M4N_REUSE_SLICE && S->inner > T->heads * T->head_dim)
    return m4n_fail(M4N_EARG, "%d channels cannot be cut from a teacher's %d", S->inner,
                    T->heads * T->head_dim);
  const int groups = S->mamba_layers && S->mixer == M4N_MIXER_MAMBA ? S->inner / S->state : 0;
  const int share = (groups + T->heads - 1) / T->heads; // groups that one teacher head is split into, at most
  if (j->o->mode != M4N_REUSE_SLICE && share * S->state > T->head_dim)
    return m4n_fail(M4N_EARG, "%d groups of %d states are more than %d heads of width %d can fill", groups,
                    S->state, T->heads, T->head_dim);
  if (j->o->mode == M4N_REUSE_PCA && !j->o->moments)
    return m4n_fail(M4N_EARG, "pca needs moments of the teacher's stream");
  return M4N_OK;
}

// ---- reading and writing -----------------------------------------------------------------------------------------------------

static int grow_values(m4n_reuse_job *j, size_t n) {
  if (n <= j->most) return M4N_OK;
  m4n_real *more = realloc(j->values, n * sizeof *more);
  if (!more) return m4n_fail(M4N_ENOMEM, "no memory for a teacher's weights");
  j->values = more;
  j->most = n;
  return M4N_OK;
}

enum { NAME = 160 };
#define FORMAT_NAME(name)                                                                                    \
  char name[NAME];                                                                                           \
  va_list arguments;                                                                                         \
  va_start(arguments, format);                                                                               \
  vsnprintf(name, sizeof name, format, arguments);                                                           \
  va_end(arguments)

static int to_doubles(m4n_reuse_job *j, double **to, size_t n) {
  if (!(*to = m4n_cut_array(&j->cut, n))) return M4N_ENOMEM;
  for (size_t i = 0; i < n; i++) (*to)[i] = (double)j->values[i];
  return M4N_OK;
}

int m4n_reuse_read(m4n_reuse_job *j, double **to, bool task, int rows, int cols, const char *format, ...) {
  FORMAT_NAME(name);
  const size_t n = (size_t)rows * (size_t)(cols ? cols : 1);
  const int64_t shape[] = {rows, cols};
  const m4n_folded plain = {.base = j->teacher->file, .prefix = ""};
  M4N_TRY(grow_values(j, n));
  M4N_TRY(m4n_folded_read(task ? &plain : &j->teacher->backbone, name, cols ? 2 : 1, shape, j->values));
  return to_doubles(j, to, n);
}

int m4n_reuse_current(m4n_reuse_job *j, double **w, int64_t *count, const char *format, ...) {
  FORMAT_NAME(name);
  const m4n_part *part = m4n_params_find(j->student->params, name);
  assert(part);
  *count = part->count;
  M4N_TRY(grow_values(j, (size_t)part->count));
  M4N_TRY(m4n_part_read(j->student->params, part, NULL, j->values));
  return to_doubles(j, w, (size_t)part->count);
}

int m4n_reuse_write(m4n_reuse_job *j, double *w, const char *format, ...) {
  FORMAT_NAME(name);
  const m4n_part *part = m4n_params_find(j->student->params, name);
  assert(part);
  if (j->o->mode == M4N_REUSE_SPECTRUM && part->rank == 2 && part->shape[0] > 1 && part->shape[1] > 1)
    M4N_TRY(m4n_cut_rotate(&j->cut, w, (int)part->shape[0], (int)part->shape[1], name));
  M4N_TRY(grow_values(j, (size_t)part->count));
  for (int64_t i = 0; i < part->count; i++) j->values[i] = (m4n_real)w[i];
  j->report->reused += part->count;
  return m4n_part_write(j->student->params, part, j->values);
}

// ---- what all matrices go through -------------------------------------------------------------------------------------------

void m4n_reuse_multiply(double *w, size_t n, double factor) {
  for (size_t i = 0; i < n; i++) w[i] *= factor;
}

double m4n_reuse_skip_factor(const m4n_reuse_job *j) {
  const double layers = j->S->mamba_layers + j->S->attention_layers;
  return j->o->skip_gain ? j->T->attention_layers / layers : 1;
}

double *m4n_reuse_slice(m4n_reuse_job *j, const double *w, int rows, int cols, int teacher_rows,
                        int teacher_cols) {
  double *out = m4n_cut_array(&j->cut, (size_t)rows * (size_t)cols);
  if (!out ||
      m4n_svd_block(out, rows, cols, w, teacher_rows, teacher_cols, j->o->rank, j->o->seed, j->cut.pool))
    return NULL;
  if (j->gain)
    m4n_cut_gain(out, rows, cols, m4n_energy(w, (size_t)teacher_rows * (size_t)teacher_cols), teacher_rows);
  return out;
}

void m4n_reuse_fold(const m4n_reuse_job *j, double *w, int rows, const double *gain) {
  if (j->o->mode != M4N_REUSE_PCA) return;
  const size_t d = (size_t)j->T->d;
  for (size_t i = 0; i < (size_t)rows; i++)
    for (size_t c = 0; c < d; c++) w[i * d + c] *= gain[c];
}

// What the student's own norm would shrink: √(mean ‖P·x̂‖²/d), x̂ as the teacher's norm sees it (§6.5).
static int norm_size(m4n_reuse_job *j, int norm, double *size) {
  const int d = j->T->d, to = j->S->d;
  double *c = m4n_cut_array(&j->cut, (size_t)d * (size_t)d),
         *pc = m4n_cut_array(&j->cut, (size_t)to * (size_t)d);
  if (!c || !pc) return M4N_ENOMEM;
  M4N_TRY(m4n_moments_read(j->o->moments, norm, c));
  m4n_product(pc, j->cut.basis, c, to, d, d, j->cut.pool);
  double trace = 0;
  for (size_t i = 0; i < (size_t)to * (size_t)d; i++) trace += pc[i] * j->cut.basis[i];
  *size = sqrt(trace / to);
  return M4N_OK;
}

int m4n_reuse_norm(m4n_reuse_job *j, const double *gain, int norm, const char *format, ...) {
  FORMAT_NAME(name);
  double *g = m4n_cut_array(&j->cut, (size_t)j->S->d), size = 1;
  if (!g) return M4N_ENOMEM;
  const bool pca = j->o->mode == M4N_REUSE_PCA;
  if (pca) M4N_TRY(norm_size(j, norm, &size));
  for (int i = 0; i < j->S->d; i++) g[i] = pca ? size : gain[i];
  return m4n_reuse_write(j, g, "%s", name);
}

// ---- feed-forward layers -------------------------------------------------------------------------------------------------------

// The F units that matter most: what they see along the stream's directions, times what they write.
static int choose_units(m4n_reuse_job *j, double **gate, double **up, double **down) {
  const int d = j->S->d, from = j->T->ffn, F = j->S->ffn;
  const double *g = m4n_cut_inputs(&j->cut, *gate, from), *u = m4n_cut_inputs(&j->cut, *up, from),
               *w = m4n_cut_outputs(&j->cut, *down, from);
  double *value = m4n_cut_array(&j->cut, (size_t)from);
  if (!g || !u || !w || !value) return M4N_ENOMEM;
  for (int unit = 0; unit < from; unit++) {
    double gates = 0, ups = 0, downs = 0;
    for (int c = 0; c < d; c++) {
      const size_t in = (size_t)unit * (size_t)d + (size_t)c, out = (size_t)c * (size_t)from + (size_t)unit;
      const double variance = j->variance ? j->variance[c] : 1;
      gates += variance * g[in] * g[in], ups += variance * u[in] * u[in], downs += w[out] * w[out];
    }
    value[unit] = gates * ups * downs;
  }
  const int *chosen = m4n_cut_largest(&j->cut, value, from, F);
  const size_t n = (size_t)F * (size_t)d, row = (size_t)d * sizeof(double);
  double *gs = m4n_cut_array(&j->cut, n), *us = m4n_cut_array(&j->cut, n), *ds = m4n_cut_array(&j->cut, n);
  if (!chosen || !gs || !us || !ds) return M4N_ENOMEM;
  for (int i = 0; i < F; i++) {
    memcpy(gs + (size_t)i * (size_t)d, g + (size_t)chosen[i] * (size_t)d, row);
    memcpy(us + (size_t)i * (size_t)d, u + (size_t)chosen[i] * (size_t)d, row);
    for (int c = 0; c < d; c++)
      ds[(size_t)c * (size_t)F + (size_t)i] = w[(size_t)c * (size_t)from + (size_t)chosen[i]];
  }
  if (j->gain) {
    const size_t all = (size_t)from * (size_t)j->T->d;
    m4n_cut_gain(gs, F, d, m4n_energy(*gate, all), from);
    m4n_cut_gain(us, F, d, m4n_energy(*up, all), from);
    m4n_cut_gain(ds, d, F, m4n_energy(*down, all), j->T->d);
  }
  *gate = gs, *up = us, *down = ds;
  return M4N_OK;
}

static int reuse_ffn(m4n_reuse_job *j, int layer, int from) {
  const int F = j->T->ffn, d = j->T->d;
  double *gain, *gate, *up, *down;
  M4N_TRY(m4n_reuse_read(j, &gain, false, d, 0, M4N_LAYER "post_attention_layernorm.weight", from));
  M4N_TRY(m4n_reuse_read(j, &gate, false, F, d, M4N_LAYER "mlp.gate_proj.weight", from));
  M4N_TRY(m4n_reuse_read(j, &up, false, F, d, M4N_LAYER "mlp.up_proj.weight", from));
  M4N_TRY(m4n_reuse_read(j, &down, false, d, F, M4N_LAYER "mlp.down_proj.weight", from));
  m4n_reuse_fold(j, gate, F, gain);
  m4n_reuse_fold(j, up, F, gain);
  M4N_TRY(m4n_reuse_norm(j, gain, 2 * from + 1, M4N_LAYER "post_attention_layernorm.weight", layer));
  if (j->o->mode == M4N_REUSE_SLICE) {
    if (!(gate = m4n_reuse_slice(j, gate, j->S->ffn, j->S->d, F, d)) ||
        !(up = m4n_reuse_slice(j, up, j->S->ffn, j->S->d, F, d)) ||
        !(down = m4n_reuse_slice(j, down, j->S->d, j->S->ffn, d, F)))
      return M4N_ENOMEM;
  } else {
    M4N_TRY(choose_units(j, &gate, &up, &down));
  }
  m4n_reuse_multiply(down, (size_t)j->S->d * (size_t)j->S->ffn, m4n_reuse_skip_factor(j));
  M4N_TRY(m4n_reuse_write(j, gate, M4N_LAYER "mlp.gate_proj.weight", layer));
  M4N_TRY(m4n_reuse_write(j, up, M4N_LAYER "mlp.up_proj.weight", layer));
  return m4n_reuse_write(j, down, M4N_LAYER "mlp.down_proj.weight", layer);
}

// ---- encoder and head ------------------------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
  const size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

// A part of the encoder. One that knows nothing of the stream is copied; of others the side that is the stream is cut.
static int reuse_encoder_part(m4n_reuse_job *j, const m4n_part *part) {
  const int from = j->T->d, rows = (int)part->shape[0], cols = part->rank == 2 ? (int)part->shape[1] : 0;
  const bool pca = j->o->mode == M4N_REUSE_PCA, norm = strncmp(part->name, "encoder.norm.", 13) == 0;
  const bool table = strcmp(part->name, "encoder.step.weight") == 0;
  const bool writes = norm || ends_with(part->name, "_out.weight") || ends_with(part->name, "_out.bias") ||
                      strncmp(part->name, "encoder.return.", 15) == 0 ||
                      strncmp(part->name, "encoder.action.", 15) == 0;
  double *w;
  if (norm && pca)
    return M4N_OK; // LayerNorm does not commute with a projection: it starts anew behind it (§6.5)
  M4N_TRY(m4n_reuse_read(j, &w, true, writes ? from : rows, table ? from : cols, "%s", part->name));
  if (writes) w = m4n_cut_outputs(&j->cut, w, cols ? cols : 1);
  if (table) w = m4n_cut_inputs(&j->cut, w, rows);
  return w ? m4n_reuse_write(j, w, "%s", part->name) : M4N_ENOMEM;
}

static int reuse_task(m4n_reuse_job *j) {
  const m4n_abr_shape *ours = &j->student->options.config.abr, *theirs = &j->teacher->config.abr;
  // The window is a length of sequences, nothing that weights know.
  if (!ours->levels || ours->levels != theirs->levels || ours->history != theirs->history ||
      ours->lookahead != theirs->lookahead || ours->embed != theirs->embed ||
      ours->max_steps != theirs->max_steps)
    return M4N_OK;
  double *gain, *head, *bias;
  M4N_TRY(m4n_reuse_read(j, &gain, false, j->T->d, 0, "model.norm.weight"));
  M4N_TRY(m4n_reuse_read(j, &head, true, ours->levels, j->T->d, "head.weight"));
  M4N_TRY(m4n_reuse_read(j, &bias, true, ours->levels, 0, "head.bias"));
  m4n_reuse_fold(j, head, ours->levels, gain);
  double *cut = m4n_cut_inputs(&j->cut, head, ours->levels);
  if (!cut) return M4N_ENOMEM;
  if (j->gain)
    m4n_cut_gain(cut, ours->levels, j->S->d, m4n_energy(head, (size_t)ours->levels * (size_t)j->T->d),
                 ours->levels);
  M4N_TRY(m4n_reuse_write(j, cut, "head.weight"));
  M4N_TRY(m4n_reuse_write(j, bias, "head.bias"));
  const m4n_params *p = j->student->params;
  for (int i = 0; i < p->n_parts; i++)
    if (strncmp(p->part[i].name, "encoder.", 8) == 0) M4N_TRY(reuse_encoder_part(j, &p->part[i]));
  return M4N_OK;
}

// ---- all of it -----------------------------------------------------------------------------------------------------------------------

// pca: the directions with the largest mean square over all norms of the layers that are used (§6.5).
static int find_basis(m4n_reuse_job *j) {
  const int d = j->T->d, to = j->S->d, layers = j->S->mamba_layers + j->S->attention_layers;
  const size_t n = (size_t)d * (size_t)d;
  double *mean = m4n_cut_array(&j->cut, n), *c = m4n_cut_array(&j->cut, n),
         *v = m4n_cut_array(&j->cut, (size_t)to * (size_t)d);
  double *basis = m4n_arena_alloc(&j->kept, (size_t)to * (size_t)d * sizeof *basis),
         *variance = m4n_arena_alloc(&j->kept, (size_t)to * sizeof *variance);
  if (!mean || !c || !v || !basis || !variance) return M4N_ENOMEM;
  if (m4n_moments_norms(j->o->moments) != 2 * j->T->attention_layers + 1)
    return m4n_fail(M4N_EARG, "the moments are of a teacher with other layers");
  for (int i = 0; i < layers; i++)
    for (int part = 0; part < 2; part++) {
      const int from = m4n_reuse_layer(j->o->map, i, layers, j->T->attention_layers);
      M4N_TRY(m4n_moments_read(j->o->moments, 2 * from + part, c));
      for (size_t k = 0; k < n; k++) mean[k] += c[k] / (2 * layers);
    }
  double all = 0, kept = 0;
  for (int i = 0; i < d; i++) all += mean[(size_t)i * (size_t)d + (size_t)i];
  M4N_TRY(m4n_svd(basis, variance, v, mean, d, d, to, j->o->seed, j->cut.pool));
  for (int i = 0; i < to; i++) kept += variance[i];
  j->report->energy = all > 0 ? kept / all : 1;
  j->cut.basis = basis;
  j->variance = variance;
  return M4N_OK;
}

static int reuse_layers(m4n_reuse_job *j) {
  const int layers = j->S->mamba_layers + j->S->attention_layers;
  for (int i = 0; i < layers; i++) {
    const int from = m4n_reuse_layer(j->o->map, i, layers, j->T->attention_layers);
    const bool mamba = i < j->S->mamba_layers;
    m4n_arena_reset(&j->layer);
    M4N_TRY(mamba ? m4n_reuse_mamba(j, i, from) : m4n_reuse_attention(j, i, from));
    if (j->S->ffn && (!mamba || j->S->mamba_ffn)) M4N_TRY(reuse_ffn(j, i, from));
  }
  return M4N_OK;
}

static int reuse_all(m4n_reuse_job *j) {
  M4N_TRY(check(j));
  if (j->o->mode == M4N_REUSE_PCA) M4N_TRY(find_basis(j));
  M4N_TRY(reuse_layers(j));
  m4n_arena_reset(&j->layer);
  double *gain;
  M4N_TRY(m4n_reuse_read(j, &gain, false, j->T->d, 0, "model.norm.weight"));
  M4N_TRY(m4n_reuse_norm(j, gain, 2 * j->T->attention_layers, "model.norm.weight"));
  return reuse_task(j);
}

void m4n_reuse_mark(m4n_net *student) {
  static const char *const fresh[] = {"mixer.z_proj.", "mixer.conv1d.", "mixer.dt_", "mixer.A_log",
                                      "mixer.D",       "encoder.",      "head."};
  for (int i = 0; i < student->params->n_parts; i++) {
    m4n_part *part = &student->params->part[i];
    part->fresh = false;
    for (size_t k = 0; k < sizeof fresh / sizeof fresh[0]; k++)
      if (strstr(part->name, fresh[k])) part->fresh = true;
  }
}

int m4n_reuse(m4n_net *student, const m4n_teacher *teacher, const m4n_reuse_options *options,
              m4n_reuse_report *report) {
  const int64_t all = m4n_params_count(student->params, M4N_ALL_SETS, false);
  *report = (m4n_reuse_report){.energy = 1};
  m4n_reuse_job j = {.student = student,
                     .teacher = teacher,
                     .o = options,
                     .S = &student->options.config.backbone,
                     .T = &teacher->config.backbone,
                     .gain = options->gain && options->mode != M4N_REUSE_PCA,
                     .report = report};
  j.cut = (m4n_cut){
      .arena = &j.layer, .pool = options->pool, .from = j.T->d, .to = j.S->d, .seed = options->seed};
  m4n_reuse_mark(student);
  int status = options->mode == M4N_REUSE_RANDOM ? M4N_OK : reuse_all(&j);
  report->fresh = all - report->reused;
  m4n_arena_close(&j.kept);
  m4n_arena_close(&j.layer);
  free(j.values);
  return status;
}
