/* The operations that models are made of, the same on every backend.
 *
 * `ops.def` is THE list: the table of a backend, the functions to call and the tests are generated from it, so an
 * op that a backend lacks does not link and a backward that nobody checks fails the tests.
 *
 *     m4n_rmsnorm_fwd(s, y, r, x, g, rows, C, 1e-5f);      // calls the backend that the stream `s` belongs to
 *
 * Rules that hold for every op, and that the list does not repeat:
 *
 * - Order of arguments: stream, outputs, inputs, sizes, scalars. All pointers are memory of the stream's backend
 *   (backend.h); only shape structs are read on the host, during the call. "May be NULL" is said where it holds.
 * - Ops run in the order in which they are put on the stream; on a device they may still be running when the call
 *   returns. They never allocate, fail, read a clock or block: what can fail fails when planned or in m4n_sync.
 * - Arrays are row-major and dense. `_ld` in a shape is the distance between rows in elements, 0 for dense: so a
 *   fused projection [rows][q|k|v] is read in place. An op may write over an input only where "in place" is said.
 * - Gradients: dx is written, dw (of anything shared between rows) is added to. Sums run in a fixed order: threads do
 *   not change a byte, and a row's result does not depend on which other rows are in the batch.
 * - Numbers below the normal ones may be taken as 0 and become 0.
 * - m4n_real is float; with the build option M4N_F64 (gradient checks) it is double, also inside.
 *
 * Sizes: B batch, T time, C channels, H heads, D head width, N state, R rank, V classes, rows = B·T mostly.
 */
#ifndef M4N_KERNELS_OPS_H
#define M4N_KERNELS_OPS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef M4N_REAL_F64
typedef double m4n_real;
#else
typedef float m4n_real;
#endif

typedef struct m4n_stream m4n_stream; /* backend.h */
typedef struct m4n_linear m4n_linear; /* linear.h: the plan of a matrix product */

/* Depthwise causal convolution over T, then silu (algorithms.md §5.2). */
typedef struct m4n_conv {
  int B, T, C, K; /* K taps, 1 … 8 */
  int x_ld, y_ld;
} m4n_conv;

/* Selective scan (§5.2, §5.4). C channels are cut into G groups of equal width that share their B and C. */
typedef struct m4n_scan {
  int B, T, C, N, G; /* N at most M4N_SCAN_STATE; G divides C */
  int u_ld, dt_ld, b_ld, c_ld, z_ld, y_ld;
  int softplus; /* 1: Δ = softplus(dt + bias); 0: Δ = dt + bias */
} m4n_scan;
enum { M4N_SCAN_STATE = 128, M4N_SCAN_SEGMENT = 16, M4N_SCAN_TILE = 64 };

/* Elements of `saved`, the states at every 16th step, from which the backward recomputes the others. */
size_t m4n_scan_saved(const m4n_scan *shape);
/* Elements of `scratch` for the backward; any content, content is lost. */
size_t m4n_scan_scratch(const m4n_scan *shape);

/* Softmax attention with grouped heads: query head h uses key/value head ⌊h·Hkv/H⌋. Heads lie side by side in a row. */
typedef struct m4n_attention {
  int B, T, H, Hkv, D;   /* Hkv divides H; D at most M4N_ATTENTION_WIDTH */
  int q_ld, kv_ld, o_ld; /* also of their gradients */
  int causal;            /* 1: token t sees tokens ≤ t; 0: all */
  int window;            /* > 0: token t sees only the last `window` tokens, itself included (causal only) */
  m4n_real scale;        /* of the scores; usually 1/√D, but a block may carry another */
} m4n_attention;
enum { M4N_ATTENTION_WIDTH = 256 };

/* The keys and values of past tokens, a ring per slot: token at position p lies in row p mod capacity. */
typedef struct m4n_cache {
  m4n_real *k, *v; /* [slots][capacity][Hkv·D], memory of the backend */
  int capacity;    /* ≥ window + T − 1 for a step of T tokens */
} m4n_cache;

/* Rotary embedding of H heads that lie side by side in a row. */
typedef struct m4n_rope {
  int B, T, H, D; /* D even */
  int x_ld;
  int interleaved; /* 0: pairs (i, i + D/2), the Hugging Face layout; 1: pairs (2i, 2i+1), Meta's and GGUF's */
  int per_batch;   /* row of the table for token t of batch b: 0: t; 1: b·T + t */
} m4n_rope;

/* Divergences between teacher and student distributions (§7). */
enum m4n_divergence { M4N_KL_FORWARD, M4N_KL_REVERSE, M4N_JSD };
typedef struct m4n_kl {
  int rows, V;
  int divergence;       /* enum m4n_divergence */
  m4n_real temperature; /* ϑ > 0 */
  m4n_real b;           /* of JSD, inside (0, 1) */
} m4n_kl;

/* Numbers of one optimiser step, in memory of the backend so that a captured step can be replayed. */
typedef struct m4n_adamw_step {
  m4n_real lr;
  m4n_real correct1, correct2; /* 1 − β1^k, 1 − β2^k, k = 1, 2, … */
} m4n_adamw_step;
typedef struct m4n_adamw {
  m4n_real beta1, beta2, eps;
} m4n_adamw_rates;
/* What a range of parameters has of its own. Parameters come in chunks of M4N_ADAMW_CHUNK, one group a chunk. */
typedef struct m4n_adamw_group {
  m4n_real lr_scale, decay; /* decay 0 for norms, biases, A_log, D */
} m4n_adamw_group;
enum { M4N_ADAMW_CHUNK = 64 };

/* The table of a backend: one pointer an op, in the order of the list. */
typedef struct m4n_ops {
#define OP(name, parameters, arguments) void(*name) parameters;
#include "kernels/ops.def"
#undef OP
} m4n_ops;

/* The table that a stream's ops go to; what the functions below look up. */
struct m4n_stream_head {
  const m4n_ops *ops;
};

#define OP(name, parameters, arguments)                                                                      \
  static inline void m4n_##name parameters {                                                                 \
    ((const struct m4n_stream_head *)s)->ops->name arguments;                                                \
  }
#include "kernels/ops.def"
#undef OP

#ifdef __cplusplus
}
#endif
#endif
