/* Mixers of a student from a teacher's attention (algorithms.md §6.2, §6.4, §6.7, §6.8). */
#include <math.h>
#include <string.h>

#include "agent/model/reuse_job.h"
#include "kernels/base/status.h"

int m4n_reuse_first_pair(const m4n_backbone *S, const m4n_backbone *T) {
  return T->head_dim / 2 - S->head_dim / 2;
}

typedef struct attention {
  double *q, *k, *v, *o; // [H·P][d], [Hkv·P][d] twice, [d][H·P]
} attention;

static int read_attention(m4n_reuse_job *j, int layer, attention *a, double **gain) {
  const m4n_backbone *T = j->T;
  const int q = T->heads * T->head_dim, kv = T->kv_heads * T->head_dim;
  M4N_TRY(m4n_reuse_read(j, gain, false, T->d, 0, M4N_LAYER "input_layernorm.weight", layer));
  M4N_TRY(m4n_reuse_read(j, &a->q, false, q, T->d, M4N_LAYER "self_attn.q_proj.weight", layer));
  M4N_TRY(m4n_reuse_read(j, &a->k, false, kv, T->d, M4N_LAYER "self_attn.k_proj.weight", layer));
  M4N_TRY(m4n_reuse_read(j, &a->v, false, kv, T->d, M4N_LAYER "self_attn.v_proj.weight", layer));
  M4N_TRY(m4n_reuse_read(j, &a->o, false, T->d, q, M4N_LAYER "self_attn.o_proj.weight", layer));
  m4n_reuse_fold(j, a->q, q, *gain);
  m4n_reuse_fold(j, a->k, kv, *gain);
  m4n_reuse_fold(j, a->v, kv, *gain);
  return M4N_OK;
}

// GQA: the rows of the key head that head h uses (§6.8: at the granularity of heads).
static const double *head_rows(const m4n_reuse_job *j, const double *w, int h, bool grouped) {
  const m4n_backbone *T = j->T;
  const int head = grouped ? h * T->kv_heads / T->heads : h;
  return w + (size_t)head * (size_t)T->head_dim * (size_t)T->d;
}

// The columns of w_o of head h, as rows: [P][d].
static double *head_columns(const m4n_reuse_job *j, const double *o, int h) {
  const m4n_backbone *T = j->T;
  const int P = T->head_dim, q = T->heads * P;
  double *rows = m4n_cut_array(&j->cut, (size_t)P * (size_t)T->d);
  for (int p = 0; rows && p < P; p++)
    for (int i = 0; i < T->d; i++)
      rows[(size_t)p * (size_t)T->d + (size_t)i] = o[(size_t)i * (size_t)q + (size_t)(h * P + p)];
  return rows;
}

static double *expand_heads(m4n_reuse_job *j, const double *w) {
  const m4n_backbone *T = j->T;
  const size_t head = (size_t)T->head_dim * (size_t)T->d;
  double *all = m4n_cut_array(&j->cut, (size_t)T->heads * head);
  for (int h = 0; all && h < T->heads; h++)
    memcpy(all + (size_t)h * head, head_rows(j, w, h, true), head * sizeof *all);
  return all;
}

static int slice_mixer(m4n_reuse_job *j, const attention *a, int width, double **q, double **k, double **v,
                       double **o) {
  const int d = j->S->d, from = j->T->d, rows = j->T->heads * j->T->head_dim;
  const double *keys = expand_heads(j, a->k), *values = expand_heads(j, a->v);
  if (!keys || !values || !(*q = m4n_reuse_slice(j, a->q, width, d, rows, from)) ||
      !(*k = m4n_reuse_slice(j, keys, width, d, rows, from)) ||
      !(*v = m4n_reuse_slice(j, values, width, d, rows, from)) ||
      !(*o = m4n_reuse_slice(j, a->o, d, width, from, rows)))
    return M4N_ENOMEM;
  return M4N_OK;
}

// A Mamba layer head by head (§6.4b): group g gets N singular triples of teacher head ⌊g·H/G⌋'s map of scores (C, B) and
// of its map of values (x, W_o); groups that share a head take turns.
static int map_group(m4n_reuse_job *j, const attention *a, int g, int groups, double *C, double *B, double *x,
                     double *o) {
  const m4n_backbone *T = j->T;
  const int N = j->S->state, d = j->S->d, P = T->head_dim, h = g * T->heads / groups;
  int turn = 0;
  while (turn < g && (g - turn - 1) * T->heads / groups == h) turn++;
  const double *q = head_rows(j, a->q, h, false), *k = head_rows(j, a->k, h, true),
               *v = head_rows(j, a->v, h, true);
  const double *out = head_columns(j, a->o, h);
  if (!out) return M4N_ENOMEM;
  const double *qs = m4n_cut_inputs(&j->cut, q, P), *ks = m4n_cut_inputs(&j->cut, k, P),
               *vs = m4n_cut_inputs(&j->cut, v, P), *os = m4n_cut_inputs(&j->cut, out, P);
  if (!qs || !ks || !vs || !os) return M4N_ENOMEM;
  const size_t at = (size_t)g * (size_t)N * (size_t)d, n = (size_t)N * (size_t)d;
  M4N_TRY(m4n_cut_map(&j->cut, C + at, B + at, qs, ks, P, d, turn * N, N));
  double *left = m4n_cut_array(&j->cut, n);
  if (!left) return M4N_ENOMEM;
  M4N_TRY(m4n_cut_map(&j->cut, left, x + at, os, vs, P, d, turn * N, N));
  if (j->gain) {
    // Cutting the stream takes energy from both maps: scores get it back, values per coordinate of the stream.
    double scores, values, kept_scores = 0, kept_values = 0;
    M4N_TRY(m4n_cut_map_energy(&j->cut, &scores, q, k, P, T->d));
    M4N_TRY(m4n_cut_map_energy(&j->cut, &values, out, v, P, T->d));
    for (int i = 0; i < N; i++) {
      const size_t row = (size_t)i * (size_t)d;
      kept_scores += m4n_energy(C + at + row, (size_t)d) * m4n_energy(B + at + row, (size_t)d);
      kept_values += m4n_energy(left + row, (size_t)d) * m4n_energy(x + at + row, (size_t)d);
    }
    const double score_gain = kept_scores > 0 ? pow(scores / kept_scores, 0.25) : 1;
    const double value_gain = kept_values > 0 ? pow(values / T->d / (kept_values / d), 0.25) : 1;
    m4n_reuse_multiply(C + at, n, score_gain), m4n_reuse_multiply(B + at, n, score_gain);
    m4n_reuse_multiply(left, n, value_gain), m4n_reuse_multiply(x + at, n, value_gain);
  }
  for (int i = 0; i < N; i++)
    for (int c = 0; c < d; c++)
      o[(size_t)c * (size_t)j->S->inner + (size_t)(g * N + i)] = left[(size_t)i * (size_t)d + (size_t)c];
  return M4N_OK;
}

static int map_mixer(m4n_reuse_job *j, const attention *a, double **C, double **B, double **x, double **o) {
  const size_t n = (size_t)j->S->inner * (size_t)j->S->d;
  if (!(*C = m4n_cut_array(&j->cut, n)) || !(*B = m4n_cut_array(&j->cut, n)) ||
      !(*x = m4n_cut_array(&j->cut, n)) || !(*o = m4n_cut_array(&j->cut, n)))
    return M4N_ENOMEM;
  const int groups = j->S->inner / j->S->state;
  for (int g = 0; g < groups; g++) M4N_TRY(map_group(j, a, g, groups, *C, *B, *x, *o));
  return M4N_OK;
}

// What a mixer has beside the teacher's matrices (§5.2); δ and A stay as they start.
static int start_mixer(m4n_reuse_job *j, int layer) {
  const m4n_backbone *S = j->S;
  const size_t C = (size_t)S->inner, K = (size_t)S->conv;
  const int64_t before = j->report->reused;
  double *D = m4n_cut_array(&j->cut, C), *taps = m4n_cut_array(&j->cut, C * K),
         *none = m4n_cut_array(&j->cut, C), *open = m4n_cut_array(&j->cut, C);
  if (!D || !taps || !none || !open) return M4N_ENOMEM;
  for (size_t c = 0; c < C; c++) D[c] = j->o->D, taps[c * K + K - 1] = 1, open[c] = 1.278; // silu(1.278) = 1
  M4N_TRY(m4n_reuse_write(j, D, M4N_LAYER "mixer.D", layer));
  if (j->o->identity_conv) {
    M4N_TRY(m4n_reuse_write(j, taps, M4N_LAYER "mixer.conv1d.weight", layer));
    M4N_TRY(m4n_reuse_write(j, none, M4N_LAYER "mixer.conv1d.bias", layer));
  }
  if (j->o->open_gate && S->gate_bias) {
    double *z;
    int64_t n;
    M4N_TRY(m4n_reuse_current(j, &z, &n, M4N_LAYER "mixer.z_proj.weight", layer));
    m4n_reuse_multiply(z, (size_t)n, 0.1);
    M4N_TRY(m4n_reuse_write(j, z, M4N_LAYER "mixer.z_proj.weight", layer));
    M4N_TRY(m4n_reuse_write(j, open, M4N_LAYER "mixer.z_proj.bias", layer));
  }
  j->report->reused = before;
  return M4N_OK;
}

int m4n_reuse_mamba(m4n_reuse_job *j, int layer, int from) {
  attention a;
  double *gain, *C, *B, *x, *o;
  M4N_TRY(read_attention(j, from, &a, &gain));
  M4N_TRY(m4n_reuse_norm(j, gain, 2 * from, M4N_LAYER "%s", layer,
                         j->S->mixer == M4N_MIXER_MAMBA ? "input_layernorm.weight" : "norm.weight"));
  // In the standard block B and C act on the conv's output, so attention's matrices have no place there.
  if (j->S->mixer != M4N_MIXER_MAMBA) return M4N_OK;
  if (j->o->mode == M4N_REUSE_SLICE)
    M4N_TRY(slice_mixer(j, &a, j->S->inner, &C, &B, &x, &o));
  else
    M4N_TRY(map_mixer(j, &a, &C, &B, &x, &o));
  const size_t n = (size_t)j->S->inner * (size_t)j->S->d;
  m4n_reuse_multiply(C, n, 1 / sqrt((double)j->T->head_dim)); // no softmax absorbs the scale of scores
  m4n_reuse_multiply(o, n, m4n_reuse_skip_factor(j));
  M4N_TRY(start_mixer(j, layer));
  M4N_TRY(m4n_reuse_write(j, C, M4N_LAYER "mixer.c_proj.weight", layer));
  M4N_TRY(m4n_reuse_write(j, B, M4N_LAYER "mixer.b_proj.weight", layer));
  M4N_TRY(m4n_reuse_write(j, x, M4N_LAYER "mixer.x_proj.weight", layer));
  return m4n_reuse_write(j, o, M4N_LAYER "mixer.out_proj.weight", layer);
}

// An attention layer: of each head the slowest rotary pairs of q and k, and the strongest channels of v and o (§6.7).
static int choose_head(m4n_reuse_job *j, const attention *a, int h, double *q, double *k, double *v,
                       double *o) {
  const m4n_backbone *S = j->S, *T = j->T;
  const int from = h * T->heads / S->heads, P = T->head_dim, D = S->head_dim, d = T->d, inner = S->heads * D;
  const double *qr = head_rows(j, a->q, from, false), *kr = head_rows(j, a->k, from, true),
               *vr = head_rows(j, a->v, from, true), *out = head_columns(j, a->o, from);
  double *strength = m4n_cut_array(&j->cut, (size_t)P);
  if (!out || !strength) return M4N_ENOMEM;
  const size_t row = (size_t)d * sizeof *q;
  for (int i = 0; i < D / 2; i++) {
    const int pair = m4n_reuse_first_pair(S, T) + i;
    const int low = T->interleaved ? 2 * pair : pair, high = T->interleaved ? 2 * pair + 1 : pair + P / 2;
    const size_t to_low = (size_t)(h * D + i) * (size_t)d, to_high = (size_t)(h * D + D / 2 + i) * (size_t)d;
    memcpy(q + to_low, qr + (size_t)low * (size_t)d, row),
        memcpy(q + to_high, qr + (size_t)high * (size_t)d, row);
    memcpy(k + to_low, kr + (size_t)low * (size_t)d, row),
        memcpy(k + to_high, kr + (size_t)high * (size_t)d, row);
  }
  for (int p = 0; p < P; p++)
    strength[p] = m4n_energy(vr + (size_t)p * (size_t)d, (size_t)d) *
                  m4n_energy(out + (size_t)p * (size_t)d, (size_t)d);
  const int *chosen = m4n_cut_largest(&j->cut, strength, P, D);
  if (!chosen) return M4N_ENOMEM;
  for (int i = 0; i < D; i++) {
    memcpy(v + (size_t)(h * D + i) * (size_t)d, vr + (size_t)chosen[i] * (size_t)d, row);
    for (int c = 0; c < d; c++)
      o[(size_t)c * (size_t)inner + (size_t)(h * D + i)] = out[(size_t)chosen[i] * (size_t)d + (size_t)c];
  }
  return M4N_OK;
}

static int choose_attention(m4n_reuse_job *j, const attention *a, double **q, double **k, double **v,
                            double **o) {
  const m4n_backbone *S = j->S, *T = j->T;
  const int inner = S->heads * S->head_dim, all = T->heads * T->head_dim, kv = T->kv_heads * T->head_dim;
  const size_t n = (size_t)inner * (size_t)T->d;
  double *part[4];
  for (int i = 0; i < 4; i++)
    if (!(part[i] = m4n_cut_array(&j->cut, n))) return M4N_ENOMEM;
  for (int h = 0; h < S->heads; h++) M4N_TRY(choose_head(j, a, h, part[0], part[1], part[2], part[3]));
  if (!(*q = m4n_cut_inputs(&j->cut, part[0], inner)) || !(*k = m4n_cut_inputs(&j->cut, part[1], inner)) ||
      !(*v = m4n_cut_inputs(&j->cut, part[2], inner)) || !(*o = m4n_cut_outputs(&j->cut, part[3], inner)))
    return M4N_ENOMEM;
  if (!j->gain) return M4N_OK;
  m4n_cut_gain(*q, inner, S->d, m4n_energy(a->q, (size_t)all * (size_t)T->d), all);
  m4n_cut_gain(*k, inner, S->d, m4n_energy(a->k, (size_t)kv * (size_t)T->d), kv);
  m4n_cut_gain(*v, inner, S->d, m4n_energy(a->v, (size_t)kv * (size_t)T->d), kv);
  m4n_cut_gain(*o, S->d, inner, m4n_energy(a->o, (size_t)all * (size_t)T->d), T->d);
  return M4N_OK;
}

int m4n_reuse_attention(m4n_reuse_job *j, int layer, int from) {
  const m4n_backbone *S = j->S;
  attention a;
  double *gain, *q, *k, *v, *o;
  M4N_TRY(read_attention(j, from, &a, &gain));
  M4N_TRY(m4n_reuse_norm(j, gain, 2 * from, M4N_LAYER "input_layernorm.weight", layer));
  const int inner = S->heads * S->head_dim;
  if (j->o->mode == M4N_REUSE_SLICE)
    M4N_TRY(slice_mixer(j, &a, inner, &q, &k, &v, &o));
  else
    M4N_TRY(choose_attention(j, &a, &q, &k, &v, &o));
  // The student divides scores by √of its own width; the teacher's scale is put into q.
  m4n_reuse_multiply(q, (size_t)inner * (size_t)S->d, sqrt((double)S->head_dim / j->T->head_dim));
  m4n_reuse_multiply(o, (size_t)inner * (size_t)S->d, m4n_reuse_skip_factor(j));
  M4N_TRY(m4n_reuse_write(j, q, M4N_LAYER "self_attn.q_proj.weight", layer));
  M4N_TRY(m4n_reuse_write(j, k, M4N_LAYER "self_attn.k_proj.weight", layer));
  M4N_TRY(m4n_reuse_write(j, v, M4N_LAYER "self_attn.v_proj.weight", layer));
  return m4n_reuse_write(j, o, M4N_LAYER "self_attn.o_proj.weight", layer);
}
