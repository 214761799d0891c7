/* A backbone: an array of blocks over the residual stream, run forward, backward in reverse order, or token by token.
 *
 *     m4n_chain *chain;
 *     M4N_TRY(m4n_chain_declare(&chain, &builder, &config.backbone));
 *     M4N_TRY(m4n_params_place(params));                                // weights have addresses now
 *     M4N_TRY(m4n_chain_plan(chain, &(m4n_chain_plan_options){…}));     // and activations
 *     m4n_real *y = m4n_chain_forward(chain, &pass);                    // of what lies in m4n_chain_input(chain)
 *     … y's gradient into m4n_chain_gradient(chain) …
 *     m4n_chain_backward(chain, &pass);                                 // and there dL/dx is afterwards
 *
 * No tape: what a block's forward leaves for its backward lies in the block's own piece of one arena. With `recompute`
 * all blocks share one piece and only the stream is kept; the backward runs each forward again.
 *
 * Taps: the stream behind every block can be read after a forward (hidden-state losses, weight reuse), and a gradient
 * can be added there in the backward.
 */
#ifndef M4N_MODEL_CHAIN_H
#define M4N_MODEL_CHAIN_H

#include "agent/model/block.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_chain m4n_chain;

/* Declares all parameters in order, "model.layers.0…", the final norm last. The builder's arena keeps the chain. */
int m4n_chain_declare(m4n_chain **chain, m4n_builder *at, const m4n_backbone *config);

typedef struct m4n_chain_plan_options {
  bool train;      /* passes with a backward */
  bool recompute;  /* slower by one forward, needs a fraction of the memory */
  bool taps;       /* keep the stream behind every block also where nothing is trained */
  m4n_lanes lanes; /* slots 0: no decoding */
} m4n_chain_plan_options;

typedef struct m4n_chain_bytes {
  size_t saved;   /* the stream and what blocks leave for their backward */
  size_t scratch; /* of a backward */
  size_t state;   /* of all lanes */
} m4n_chain_bytes;

/* What a plan would take, before or after there is one. */
m4n_chain_bytes m4n_chain_measure(m4n_chain *chain, const m4n_chain_plan_options *options);
/* Takes the memory; once. ENOMEM, EDEVICE. */
int m4n_chain_plan(m4n_chain *chain, const m4n_chain_plan_options *options);
void m4n_chain_release(m4n_chain *chain); /* gives the memory back; NULL is fine */

int m4n_chain_width(const m4n_chain *chain);
int m4n_chain_blocks(const m4n_chain *chain);
const m4n_block *m4n_chain_block(const m4n_chain *chain, int index);
/* The number of blocks up to and with layer `layer` (a layer is one or two blocks): an index for taps. */
int m4n_chain_behind_layer(const m4n_chain *chain, int layer);

/* [max_B·max_T][d], where the input of the next pass is to be written. */
m4n_real *m4n_chain_input(const m4n_chain *chain);
/* The output [B·T][d], valid until the next pass. pass->train needs a plan with `train`. */
m4n_real *m4n_chain_forward(const m4n_chain *chain, const m4n_pass *pass);
m4n_real *m4n_chain_decode(const m4n_chain *chain, const m4n_pass *pass);

/* [max_B·max_T][d]: dL/dy before a backward, dL/dx after it. */
m4n_real *m4n_chain_gradient(const m4n_chain *chain);
void m4n_chain_backward(const m4n_chain *chain, const m4n_pass *pass);

/* The stream behind `blocks` blocks (0: the input) as the last forward left it; needs `train` or `taps`. */
const m4n_real *m4n_chain_tap(const m4n_chain *chain, int blocks);
/* In every backward, adds gradient [B·T][d] there; NULL: no more. */
void m4n_chain_inject(m4n_chain *chain, int blocks, const m4n_real *gradient);

/* Forgets what a slot has seen; its position has to start at 0 again. */
void m4n_chain_reset(const m4n_chain *chain, m4n_stream *s, int slot);

#ifdef __cplusplus
}
#endif
#endif
