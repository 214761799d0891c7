/* The norm behind the last layer: y = RMS(x), the one block that replaces the stream. */
#include "agent/model/block.h"
#include "agent/model/fields.h"
#include "kernels/base/status.h"

#define PARAMETERS(VECTOR, PRODUCT) VECTOR(gain, "weight", m4n_start_at(1), config->d)

typedef struct norm {
  m4n_block base;
  M4N_FIELDS(PARAMETERS)
  m4n_real eps;
} norm;

static int declare(m4n_block **block, m4n_builder *at, const m4n_backbone *config) {
  norm *b = m4n_arena_alloc(at->arena, sizeof *b);
  if (!b) return M4N_ENOMEM;
  *block = &b->base;
  *b = (norm){.base = {&m4n_norm_block, config->d, {0}}, .eps = (m4n_real)config->eps};
  M4N_DECLARE(PARAMETERS)
  return M4N_OK;
}

static size_t stream_bytes(const norm *b, int rows) {
  return (size_t)rows * (size_t)b->base.d * sizeof(m4n_real);
}

// The output where it may not be written over the input, and 1/rms of every row.
static size_t place(const norm *b, m4n_layout *at, m4n_real **y, m4n_real **r, int rows) {
  *y = m4n_place_bytes(at, stream_bytes(b, rows));
  *r = m4n_place(at, (size_t)rows);
  return at->used;
}

static size_t work_bytes(const m4n_block *block, int B, int T) {
  m4n_real *y, *r;
  return place((const norm *)block, &(m4n_layout){0}, &y, &r, B * T);
}

static size_t scratch_bytes(const m4n_block *block, int B, int T) {
  return stream_bytes((const norm *)block, B * T);
}

static void forward(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                    void *memory) {
  const norm *b = (const norm *)block;
  const int rows = pass->B * pass->T;
  m4n_real *aside, *r;
  place(b, &(m4n_layout){.base = memory}, &aside, &r, rows);
  m4n_rmsnorm_fwd(pass->s, y == x ? aside : y, pass->train ? r : NULL, x, b->gain->w, rows, b->base.d,
                  b->eps);
  if (y == x) m4n_copy(pass->s, y, aside, stream_bytes(b, rows));
}

static void decode(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                   void *memory) {
  (void)state;
  forward(block, pass, y, x, memory);
}

static void backward(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x,
                     void *memory, void *scratch) {
  const norm *b = (const norm *)block;
  const int rows = pass->B * pass->T;
  m4n_real *y, *r;
  place(b, &(m4n_layout){.base = memory}, &y, &r, rows);
  m4n_copy(pass->s, scratch, d, stream_bytes(b, rows));
  m4n_rmsnorm_bwd(pass->s, d, b->gain->g, scratch, NULL, x, r, b->gain->w, rows, b->base.d);
}

const m4n_block_kind m4n_norm_block = {
    .name = "norm",
    .declare = declare,
    .work = work_bytes,
    .scratch = scratch_bytes,
    .forward = forward,
    .backward = backward,
    .decode = decode,
};
