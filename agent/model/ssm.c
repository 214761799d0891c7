#include "agent/model/ssm.h"

m4n_ssm m4n_ssm_of(const m4n_block_kind *kind, const m4n_backbone *config) {
  return (m4n_ssm){.base = {kind, config->d, {0}},
                   .C = config->inner,
                   .N = config->state,
                   .R = config->rank,
                   .K = config->conv,
                   .eps = (m4n_real)config->eps};
}

m4n_conv m4n_ssm_conv(const m4n_ssm *m, int B, int T, int x_ld) {
  return (m4n_conv){.B = B, .T = T, .C = m->C, .K = m->K, .x_ld = x_ld, .y_ld = m->C};
}

// Elements that one slot has of each.
static size_t inputs(const m4n_ssm *m) {
  return (size_t)(m->K - 1) * (size_t)m->C;
}
static size_t states(const m4n_ssm *m) {
  return (size_t)m->N * (size_t)m->C;
}

static m4n_ssm_state place(const m4n_ssm *m, m4n_layout *at) {
  const size_t slots = (size_t)m->base.lanes.slots;
  m4n_ssm_state past;
  past.x = m4n_place(at, slots * inputs(m));
  past.h = m4n_place(at, slots * states(m));
  return past;
}

m4n_ssm_state m4n_ssm_state_at(const m4n_ssm *m, void *state) {
  return place(m, &(m4n_layout){.base = state});
}

size_t m4n_ssm_state_bytes(const m4n_block *block) {
  m4n_layout count = {0};
  place((const m4n_ssm *)block, &count);
  return count.used;
}

void m4n_ssm_reset(const m4n_block *block, m4n_stream *s, void *state, int slot) {
  const m4n_ssm *m = (const m4n_ssm *)block;
  const m4n_ssm_state past = m4n_ssm_state_at(m, state);
  m4n_zero(s, past.x + (size_t)slot * inputs(m), inputs(m) * sizeof(m4n_real));
  m4n_zero(s, past.h + (size_t)slot * states(m), states(m) * sizeof(m4n_real));
}

void m4n_ssm_add_output(const m4n_dense *out, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                        const m4n_real *from) {
  const int rows = pass->B * pass->T;
  if (y != x) m4n_copy(pass->s, y, x, (size_t)rows * (size_t)out->out * sizeof *y);
  m4n_dense_forward(out, pass, y, from, rows, 1, NULL);
}
