/* Multi-head attention with grouped heads and rotary positions: x + W_o·Attn(RMS(x)) (algorithms.md §2.2). */
#include <math.h>

#include "agent/model/block.h"
#include "agent/model/fields.h"
#include "kernels/base/status.h"

#define PARAMETERS(VECTOR, PRODUCT)                                                                          \
  VECTOR(norm, "input_layernorm.weight", m4n_start_at(1), d)                                                 \
  PRODUCT(qkv, d, 0, {"self_attn.q_proj", q, linear, bias, m4n_start_at(0)},                                 \
          {"self_attn.k_proj", kv, linear, bias, m4n_start_at(0)},                                           \
          {"self_attn.v_proj", kv, linear, bias, m4n_start_at(0)})                                           \
  PRODUCT(out, q, 0, {"self_attn.o_proj", d, m4n_fan_in_times(q, at->write), false, m4n_start_at(0)})

typedef struct attention {
  m4n_block base;
  M4N_FIELDS(PARAMETERS)
  m4n_weight *freq; // [D/2]
  int H, Hkv, D, interleaved;
  m4n_real eps;
} attention;

static int declare(m4n_block **block, m4n_builder *at, const m4n_backbone *config) {
  attention *b = m4n_arena_alloc(at->arena, sizeof *b);
  if (!b) return M4N_ENOMEM;
  *block = &b->base;
  *b = (attention){.base = {&m4n_attention_block, config->d, {0}},
                   .H = config->heads,
                   .Hkv = config->kv_heads,
                   .D = config->head_dim,
                   .interleaved = config->interleaved,
                   .eps = (m4n_real)config->eps};
  const int d = config->d, q = b->H * b->D, kv = b->Hkv * b->D;
  const bool bias = config->qkv_bias;
  const m4n_init linear = m4n_fan_in(d);
  M4N_DECLARE(PARAMETERS)
  m4n_real freq[M4N_MAX_FREQUENCIES];
  for (int i = 0; i < b->D / 2; i++) freq[i] = (m4n_real)m4n_rope_frequency(config, i);
  b->freq = m4n_params_constant(at->params, b->D / 2, freq);
  return b->freq ? M4N_OK : M4N_ENOMEM;
}

typedef struct work {
  m4n_real *a, *r;   // normed input [rows][d], [rows]
  m4n_real *qkv;     // [rows][q|k|v], q and k rotated
  m4n_real *o, *lse; // heads' outputs [rows][H·D], [B][H][T]
  m4n_real *table;   // cos, sin of every token
  void *lora[2];
} work;

static size_t place(const attention *b, m4n_layout *at, work *w, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T;
  w->a = m4n_place(at, rows * (size_t)b->base.d);
  w->r = m4n_place(at, rows);
  w->qkv = m4n_place(at, rows * (size_t)b->qkv.out);
  w->o = m4n_place(at, rows * (size_t)b->out.in);
  w->lse = m4n_place(at, rows * (size_t)b->H);
  w->table = m4n_place(at, rows * (size_t)b->D);
  w->lora[0] = m4n_place_bytes(at, m4n_dense_work(&b->qkv, (int)rows));
  w->lora[1] = m4n_place_bytes(at, m4n_dense_work(&b->out, (int)rows));
  return at->used;
}

static size_t work_bytes(const m4n_block *block, int B, int T) {
  work w;
  return place((const attention *)block, &(m4n_layout){0}, &w, B, T);
}

typedef struct scratch {
  m4n_real *d_o, *d_qkv, *d_a;
  void *lora;
} scratch;

static size_t place_scratch(const attention *b, m4n_layout *at, scratch *s, int B, int T) {
  const size_t rows = (size_t)B * (size_t)T;
  size_t lora[2] = {m4n_dense_scratch(&b->qkv, (int)rows), m4n_dense_scratch(&b->out, (int)rows)};
  s->d_o = m4n_place(at, rows * (size_t)b->out.in);
  s->d_qkv = m4n_place(at, rows * (size_t)b->qkv.out);
  s->d_a = m4n_place(at, rows * (size_t)b->base.d);
  s->lora = m4n_place_bytes(at, lora[0] > lora[1] ? lora[0] : lora[1]);
  return at->used;
}

static size_t scratch_bytes(const m4n_block *block, int B, int T) {
  scratch s;
  return place_scratch((const attention *)block, &(m4n_layout){0}, &s, B, T);
}

// Keys and values of the last tokens of every slot, rings of `capacity` rows.
static m4n_cache place_cache(const attention *b, m4n_layout *at) {
  m4n_cache cache = {.capacity = b->base.lanes.window + b->base.lanes.step - 1};
  const size_t n = (size_t)b->base.lanes.slots * (size_t)cache.capacity * (size_t)(b->Hkv * b->D);
  cache.k = m4n_place(at, n);
  cache.v = m4n_place(at, n);
  return cache;
}

static size_t state_bytes(const m4n_block *block) {
  m4n_layout dry = {0};
  place_cache((const attention *)block, &dry);
  return dry.used;
}

static m4n_attention shape_of(const attention *b, const m4n_pass *pass, int window) {
  return (m4n_attention){.B = pass->B,
                         .T = pass->T,
                         .H = b->H,
                         .Hkv = b->Hkv,
                         .D = b->D,
                         .q_ld = b->qkv.out,
                         .kv_ld = b->qkv.out,
                         .o_ld = b->out.in,
                         .causal = 1,
                         .window = window,
                         .scale = (m4n_real)(1 / sqrt((double)b->D))};
}

// q and k lie side by side, so one call turns the heads of both.
static m4n_rope rope_of(const attention *b, const m4n_pass *pass, int per_batch) {
  return (m4n_rope){.B = pass->B,
                    .T = pass->T,
                    .H = b->H + b->Hkv,
                    .D = b->D,
                    .x_ld = b->qkv.out,
                    .interleaved = b->interleaved,
                    .per_batch = per_batch};
}

// q, k, v of the normed input, q and k turned by the positions in `pos` (NULL: 0, 1, …).
static void project(const attention *b, const m4n_pass *pass, const m4n_real *x, const int32_t *pos,
                    const work *w) {
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  m4n_rmsnorm_fwd(s, w->a, pass->train ? w->r : NULL, x, b->norm->w, rows, b->base.d, b->eps);
  m4n_dense_forward(&b->qkv, pass, w->qkv, w->a, rows, 0, w->lora[0]);
  m4n_rope_table(s, w->table, b->freq->w, pos, pos ? rows : pass->T, b->D / 2);
  const m4n_rope rope = rope_of(b, pass, pos != NULL);
  m4n_rope_fwd(s, w->qkv, w->qkv, w->table, &rope);
}

static void add_output(const attention *b, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                       const work *w) {
  const int rows = pass->B * pass->T;
  if (y != x) m4n_copy(pass->s, y, x, (size_t)rows * (size_t)b->base.d * sizeof *y);
  m4n_dense_forward(&b->out, pass, y, w->o, rows, 1, w->lora[1]);
}

static void forward(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                    void *memory) {
  const attention *b = (const attention *)block;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  project(b, pass, x, NULL, &w);
  const m4n_attention shape = shape_of(b, pass, 0);
  const m4n_real *q = w.qkv, *k = q + b->H * b->D, *v = k + b->Hkv * b->D;
  m4n_attention_fwd(pass->s, w.o, pass->train ? w.lse : NULL, q, k, v, pass->length, &shape);
  add_output(b, pass, y, x, &w);
}

static void decode(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                   void *memory) {
  const attention *b = (const attention *)block;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  project(b, pass, x, pass->row_pos, &w);
  const m4n_cache cache = place_cache(b, &(m4n_layout){.base = state});
  const m4n_attention shape = shape_of(b, pass, b->base.lanes.window);
  const m4n_real *q = w.qkv, *k = q + b->H * b->D, *v = k + b->Hkv * b->D;
  m4n_attention_step(pass->s, w.o, &cache, q, k, v, pass->pos, pass->slot, &shape);
  add_output(b, pass, y, x, &w);
}

static void backward(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x,
                     void *memory, void *scratch_memory) {
  const attention *b = (const attention *)block;
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  work w;
  scratch g;
  place(b, &(m4n_layout){.base = memory}, &w, pass->B, pass->T);
  place_scratch(b, &(m4n_layout){.base = scratch_memory}, &g, pass->B, pass->T);

  m4n_dense_backward(&b->out, pass, g.d_o, d, w.o, rows, 0, w.lora[1], g.lora);
  const m4n_attention shape = shape_of(b, pass, 0);
  const int k_at = b->H * b->D, v_at = k_at + b->Hkv * b->D;
  m4n_attention_bwd(s, g.d_qkv, g.d_qkv + k_at, g.d_qkv + v_at, g.d_o, w.qkv, w.qkv + k_at, w.qkv + v_at, w.o,
                    w.lse, pass->length, &shape);
  const m4n_rope rope = rope_of(b, pass, 0);
  m4n_rope_bwd(s, g.d_qkv, g.d_qkv, w.table, &rope);
  m4n_dense_backward(&b->qkv, pass, g.d_a, g.d_qkv, w.a, rows, 0, w.lora[0], g.lora);
  m4n_rmsnorm_bwd(s, d, b->norm->g, g.d_a, d, x, w.r, b->norm->w, rows, b->base.d);
}

const m4n_block_kind m4n_attention_block = {
    .name = "attention",
    .declare = declare,
    .work = work_bytes,
    .scratch = scratch_bytes,
    .state = state_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
    .reset = NULL, // with its position back at 0, nothing that a slot's rings hold is seen
};
