/* LoRA adapters in the files of the PEFT library: adapter_config.json and adapter_model.safetensors in one folder.
 *
 *     m4n_lora lora;
 *     M4N_TRY(m4n_lora_read(&lora, "my-adapter"));          // then declare a model with it, and
 *     M4N_TRY(m4n_lora_load(params, "my-adapter"));         // train it on, or
 *     M4N_TRY(m4n_lora_fold(params, base, "", "my-adapter"));  // declare without it, and fold it in: W = W0 + s·U·D
 */
#ifndef M4N_MODEL_LORA_H
#define M4N_MODEL_LORA_H

#include "agent/model/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* EFORMAT, and EUNSUPPORTED for what PEFT can do beyond plain LoRA (DoRA, biases, ranks by pattern …). */
int m4n_lora_read(m4n_lora *lora, const char *folder);
/* Fills the parameters' adapter set. */
int m4n_lora_load(m4n_params *params, const char *folder);
/* Fills the backbone from `base` (names with `prefix`), each weight that has an adapter with it added; packed or not. */
int m4n_lora_fold(m4n_params *params, const m4n_safetensors *base, const char *prefix, const char *folder);
/* Writes both files; `base` is kept as the base model's name; values as in m4n_params_copy. */
int m4n_lora_save(const m4n_params *params, const m4n_lora *lora, const char *folder, const char *base,
                  const m4n_real *values);

/* A tensor [rows][cols] of a checkpoint with an adapter added where it has one. `adapter` NULL: the tensor alone. What
 * weight reuse reads a teacher with. */
typedef struct m4n_folded {
  const m4n_safetensors *base;
  const char *prefix;
  const m4n_safetensors *adapter;
  double scale;
} m4n_folded;
int m4n_folded_open(m4n_folded *folded, const m4n_safetensors *base, const char *prefix, const char *folder);
void m4n_folded_close(m4n_folded *folded); /* the adapter; the base is the caller's */
int m4n_folded_read(const m4n_folded *folded, const char *name, int rank, const int64_t *shape,
                    m4n_real *values);

#ifdef __cplusplus
}
#endif
#endif
