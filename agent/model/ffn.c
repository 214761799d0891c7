/* The feed-forward layer: x + W_down·(silu(W_gate·b) ⊙ W_up·b), b = RMS(x) (algorithms.md §2.2, §5.7). */
#include "agent/model/block.h"
#include "agent/model/fields.h"
#include "kernels/base/status.h"

#define PARAMETERS(VECTOR, PRODUCT)                                                                          \
  VECTOR(norm, "post_attention_layernorm.weight", m4n_start_at(1), d)                                        \
  PRODUCT(in, d, 0, {"mlp.gate_proj", F, m4n_fan_in(d), false, m4n_start_at(0)},                             \
          {"mlp.up_proj", F, m4n_fan_in(d), false, m4n_start_at(0)})                                         \
  PRODUCT(out, F, 0, {"mlp.down_proj", d, m4n_fan_in_times(F, at->write), false, m4n_start_at(0)})

typedef struct ffn {
  m4n_block base;
  M4N_FIELDS(PARAMETERS)
  int F;
  m4n_real eps;
} ffn;

static int declare(m4n_block **block, m4n_builder *at, const m4n_backbone *config) {
  ffn *b = m4n_arena_alloc(at->arena, sizeof *b);
  if (!b) return M4N_ENOMEM;
  *block = &b->base;
  *b = (ffn){.base = {&m4n_ffn_block, config->d, {0}}, .F = config->ffn, .eps = (m4n_real)config->eps};
  const int d = config->d, F = b->F;
  M4N_DECLARE(PARAMETERS)
  return m4n_dense_gate(at, &b->in);
}

typedef struct work {
  m4n_real *b, *r; // normed input [rows][d], [rows]
  m4n_real *in;    // [rows][gate|up]
  m4n_real *m;     // [rows][F]
  void *lora[2];
} work;

static size_t place(const ffn *b, m4n_layout *at, work *w, size_t rows) {
  w->b = m4n_place(at, rows * (size_t)b->base.d);
  w->r = m4n_place(at, rows);
  w->in = m4n_place(at, rows * (size_t)b->in.out);
  w->m = m4n_place(at, rows * (size_t)b->F);
  w->lora[0] = m4n_place_bytes(at, m4n_dense_work(&b->in, (int)rows));
  w->lora[1] = m4n_place_bytes(at, m4n_dense_work(&b->out, (int)rows));
  return at->used;
}

static size_t work_bytes(const m4n_block *block, int B, int T) {
  work w;
  return place((const ffn *)block, &(m4n_layout){0}, &w, (size_t)B * (size_t)T);
}

typedef struct scratch {
  m4n_real *dm, *din, *db;
  void *lora;
} scratch;

static size_t place_scratch(const ffn *b, m4n_layout *at, scratch *s, size_t rows) {
  size_t lora[2] = {m4n_dense_scratch(&b->in, (int)rows), m4n_dense_scratch(&b->out, (int)rows)};
  s->dm = m4n_place(at, rows * (size_t)b->F);
  s->din = m4n_place(at, rows * (size_t)b->in.out);
  s->db = m4n_place(at, rows * (size_t)b->base.d);
  s->lora = m4n_place_bytes(at, lora[0] > lora[1] ? lora[0] : lora[1]);
  return at->used;
}

static size_t scratch_bytes(const m4n_block *block, int B, int T) {
  scratch s;
  return place_scratch((const ffn *)block, &(m4n_layout){0}, &s, (size_t)B * (size_t)T);
}

static void forward(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                    void *memory) {
  const ffn *b = (const ffn *)block;
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  work w;
  place(b, &(m4n_layout){.base = memory}, &w, (size_t)rows);
  m4n_rmsnorm_fwd(s, w.b, pass->train ? w.r : NULL, x, b->norm->w, rows, b->base.d, b->eps);
  m4n_dense_forward(&b->in, pass, b->in.gated ? w.m : w.in, w.b, rows, 0, w.lora[0]);
  if (!b->in.gated) m4n_swiglu_fwd(s, w.m, w.in, w.in + b->F, rows, b->F, b->in.out);
  if (y != x) m4n_copy(s, y, x, (size_t)rows * (size_t)b->base.d * sizeof *y);
  m4n_dense_forward(&b->out, pass, y, w.m, rows, 1, w.lora[1]);
}

// Every token stands for itself.
static void decode(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                   void *memory) {
  (void)state;
  forward(block, pass, y, x, memory);
}

static void backward(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x,
                     void *memory, void *scratch_memory) {
  const ffn *b = (const ffn *)block;
  m4n_stream *s = pass->s;
  const int rows = pass->B * pass->T;
  work w;
  scratch g;
  place(b, &(m4n_layout){.base = memory}, &w, (size_t)rows);
  place_scratch(b, &(m4n_layout){.base = scratch_memory}, &g, (size_t)rows);
  m4n_dense_backward(&b->out, pass, g.dm, d, w.m, rows, 0, w.lora[1], g.lora);
  m4n_swiglu_bwd(s, g.din, g.din + b->F, g.dm, w.in, w.in + b->F, rows, b->F, b->in.out);
  m4n_dense_backward(&b->in, pass, g.db, g.din, w.b, rows, 0, w.lora[0], g.lora);
  m4n_rmsnorm_bwd(s, d, b->norm->g, g.db, d, x, w.r, b->norm->w, rows, b->base.d);
}

const m4n_block_kind m4n_ffn_block = {
    .name = "ffn",
    .declare = declare,
    .work = work_bytes,
    .scratch = scratch_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
