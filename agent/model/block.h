/* THE block interface: teacher, student and every other backbone are arrays of blocks over a residual stream.
 *
 * A block adds something to the stream x [B·T][d]: attention, a Mamba mixer, a feed-forward layer, each with its own
 * norm in front. (The final norm is a block too, the one that replaces x.) It has parameters but no memory of its own:
 * the chain owns the stream, what a forward leaves for its backward (`work`), scratch, and the state of lanes. Sizes are
 * asked for when planned, so nothing is allocated, and nothing can fail, in a pass.
 *
 * A new block is one file with one exported symbol, an entry in `m4n_block_kinds` (blocks.c) and one in the table of
 * tests/agent/model/blocks_test.cc, which fails without it: gradients against differences, decode against forward.
 */
#ifndef M4N_MODEL_BLOCK_H
#define M4N_MODEL_BLOCK_H

#include "agent/model/config.h"
#include "agent/model/layout.h"
#include "agent/model/linear.h"
#include "agent/model/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pass is about. Arrays are on the backend. */
typedef struct m4n_pass {
  m4n_stream *s;
  int B, T;                /* B sequences (or lanes) of T tokens; rows = B·T */
  bool train;              /* a backward will follow */
  const int32_t *length;   /* [B] tokens that count, NULL: all T */
  const uint32_t *dropout; /* [2] key of this step; NULL: no dropout */
  /* Decoding only. */
  const int32_t *slot;    /* [B] whose state; all different */
  const int32_t *pos;     /* [B] tokens that the slot has seen */
  const int32_t *row_pos; /* [B·T] position of every token: pos[b] + t */
} m4n_pass;

/* Whose past is kept for decoding. */
typedef struct m4n_lanes {
  int slots;  /* lanes that may be live at once; 0: no decoding */
  int window; /* tokens that attention sees, the newest included */
  int step;   /* the most new tokens of a call */
} m4n_lanes;

typedef struct m4n_block m4n_block;

typedef struct m4n_block_kind {
  const char *name;
  /* Makes the block in at->arena and declares its parameters, called at->prefix + name. */
  int (*declare)(m4n_block **block, m4n_builder *at, const m4n_backbone *config);

  /* Bytes of `work` for a pass of B sequences of T tokens, of `scratch` for its backward, of the state of the lanes
   * that block->lanes says (NULL where a block has none). */
  size_t (*work)(const m4n_block *block, int B, int T);
  size_t (*scratch)(const m4n_block *block, int B, int T);
  size_t (*state)(const m4n_block *block);

  /* y = block(x), both [B·T][d]; y may be x. */
  void (*forward)(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *work);
  /* d: in dL/dy, out dL/dx. x and work as the forward had and left them. Gradients of parameters are added to. */
  void (*backward)(const m4n_block *block, const m4n_pass *pass, m4n_real *d, const m4n_real *x, void *work,
                   void *scratch);
  /* The same as forward for T new tokens of the lanes pass->slot, with what they saw before in `state`. */
  void (*decode)(const m4n_block *block, const m4n_pass *pass, m4n_real *y, const m4n_real *x, void *state,
                 void *work);
  /* Forgets what a slot has seen (NULL where a block has no state). */
  void (*reset)(const m4n_block *block, m4n_stream *s, void *state, int slot);
} m4n_block_kind;

/* The first member of every block's own struct. */
struct m4n_block {
  const m4n_block_kind *kind;
  int d;
  m4n_lanes lanes; /* set by the chain when it is planned */
};

extern const m4n_block_kind m4n_attention_block, m4n_mamba_block, m4n_mamba1_block, m4n_ffn_block,
    m4n_norm_block;

/* All of them, NULL at the end. */
extern const m4n_block_kind *const m4n_block_kinds[];

#ifdef __cplusplus
}
#endif
#endif
