/* What both Mamba mixers (mamba.c, mamba1.c) begin with, a state space model: the shape of convolution and scan, and what a
 * lane remembers of them. A mixer's own struct has this as its first member, so that it is a block, too. */
#ifndef M4N_MODEL_SSM_H
#define M4N_MODEL_SSM_H

#include "agent/model/block.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_ssm {
  m4n_block base;
  int C, N, R, K; /* channels, states of each, rank of Δ, taps */
  m4n_real eps;
} m4n_ssm;

m4n_ssm m4n_ssm_of(const m4n_block_kind *kind, const m4n_backbone *config);

/* The convolution over C channels of rows that are x_ld apart. */
m4n_conv m4n_ssm_conv(const m4n_ssm *ssm, int B, int T, int x_ld);

/* A lane's past: the convolution's last K−1 inputs [slots][K−1][C] and the scan's states [slots][N][C]. */
typedef struct m4n_ssm_state {
  m4n_real *x, *h;
} m4n_ssm_state;
m4n_ssm_state m4n_ssm_state_at(const m4n_ssm *ssm, void *state);

/* A block's `state` and `reset`. */
size_t m4n_ssm_state_bytes(const m4n_block *block);
void m4n_ssm_reset(const m4n_block *block, m4n_stream *s, void *state, int slot);

/* y = x + out·from; y may be x. */
void m4n_ssm_add_output(const m4n_dense *out, const m4n_pass *pass, m4n_real *y, const m4n_real *x,
                        const m4n_real *from);

#ifdef __cplusplus
}
#endif
#endif
