/* A linear layer of a model: one product for all that reads the same input, biases, LoRA. Nothing else knows of LoRA.
 *
 * Layers that read the same rows are one product: q|k|v, gate|up, and all five projections of a Mamba mixer lie behind
 * one another in one weight, and a file's tensors are rows of it.
 *
 *     m4n_dense qkv;
 *     const m4n_rows rows[] = {{"self_attn.q_proj", 512, init}, {"self_attn.k_proj", 128, init}, …};
 *     M4N_TRY(m4n_dense_declare(at, &qkv, d, 0, rows, 3));
 *     m4n_dense_forward(&qkv, pass, y, x, rows, 0, work);                  // y[rows][768] = x[rows][d]·Wᵀ + b
 *     m4n_dense_backward(&qkv, pass, dx, dy, x, rows, 0, work, scratch);   // dx = dy·W, dW += dyᵀ·x, db += Σ dy
 *
 * With LoRA (algorithms.md §3) on rows i: y_i += s·U_i·(D_i·drop(x)), s = α/r, and only U and D are trained.
 */
#ifndef M4N_MODEL_LINEAR_H
#define M4N_MODEL_LINEAR_H

#include "agent/model/layout.h"
#include "agent/model/params.h"
#include "kernels/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

struct m4n_pass;

enum { M4N_MAX_TARGETS = 8 };

typedef struct m4n_lora {
  int rank; /* 0: none */
  double alpha, dropout;
  char target[M4N_MAX_TARGETS][32]; /* "q_proj": every layer whose name ends so */
  int targets;
} m4n_lora;

/* Where blocks are being declared. */
typedef struct m4n_builder {
  m4n_params *params;
  m4n_arena *arena;   /* the blocks themselves */
  const char *prefix; /* "model.layers.3." */
  int set;            /* enum m4n_param_set of what is declared */
  int max_B, max_T;   /* of a pass */
  bool train;         /* passes with a backward will be run */
  bool trainable;     /* and these parameters are trained by it */
  int format;         /* enum m4n_weight_format of products that are not trained */
  double write;       /* start of what writes the residual stream: times this (1/√(2·layers), §5.2) */
  m4n_lora lora;
  uint32_t dropouts; /* places of dropout so far: each has its own random numbers */
} m4n_builder;

/* Rows of a layer: what a file calls NAME.weight [rows][in] and, with bias, NAME.bias [rows]. */
typedef struct m4n_rows {
  const char *name;
  int rows;
  m4n_init init;
  bool bias;
  m4n_init bias_init;
} m4n_rows;

enum { M4N_MAX_ROWS = 6 };

typedef struct m4n_dense {
  int in, out, x_ld, y_ld;
  m4n_weight *w, *bias; /* bias NULL: none */
  int bias_first, bias_count;
  const m4n_linear *plan;
  bool gated; /* y is silu(first half)·(second half), out/2 wide */
  /* LoRA */
  int adapters, rank;
  m4n_real scale, dropout;
  uint32_t use;
  m4n_weight *down; /* [adapters·rank][in] */
  const m4n_linear *down_plan;
  struct {
    m4n_weight *up; /* [rows][rank] */
    const m4n_linear *plan;
    int first;
  } adapter[M4N_MAX_ROWS];
} m4n_dense;

/* x_ld, y_ld: row distances of input and output, 0 for dense. Layers with LoRA need a dense input. */
int m4n_dense_declare(m4n_builder *at, m4n_dense *layer, int in, int x_ld, int y_ld, const m4n_rows *rows,
                      int n);

/* Makes silu(first half of the rows)·(second half) the layer's output, if it only infers, without bias and adapters, and the
 * backend has such a product: layer->gated says so. Else nothing changes, and the gate is an op of its own. */
int m4n_dense_gate(m4n_builder *at, m4n_dense *layer);

/* Bytes that a forward leaves for its backward, and that a backward needs beside; 0 without LoRA. */
size_t m4n_dense_work(const m4n_dense *layer, int rows);
size_t m4n_dense_scratch(const m4n_dense *layer, int rows);

/* y = x·Wᵀ + b, or += with `add`. */
void m4n_dense_forward(const m4n_dense *layer, const struct m4n_pass *pass, m4n_real *y, const m4n_real *x,
                       int rows, int add, void *work);
/* dx = dy·W, or += with `add`; dx NULL: nothing in front of this layer learns. */
void m4n_dense_backward(const m4n_dense *layer, const struct m4n_pass *pass, m4n_real *dx, const m4n_real *dy,
                        const m4n_real *x, int rows, int add, void *work, void *scratch);

/* A vector or table that is no product: NAME of that shape. */
int m4n_declare_array(m4n_builder *at, m4n_weight **weight, const char *name, int rank, const int64_t *shape,
                      m4n_init init);

static inline m4n_init m4n_start_at(double value) {
  m4n_init init = {M4N_START_CONSTANT, value};
  return init;
}
/* PyTorch's default: −1/√fan_in … 1/√fan_in. */
m4n_init m4n_fan_in(int fan_in);
m4n_init m4n_fan_in_times(int fan_in, double factor);

#ifdef __cplusplus
}
#endif
#endif
