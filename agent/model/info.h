/* What a model is, for people and programs: shapes, counts, bytes, memory. What `mamba4net model info` prints. */
#ifndef M4N_MODEL_INFO_H
#define M4N_MODEL_INFO_H

#include <stdbool.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `what`: a preset's name, a checkpoint of ours, a Hugging Face folder, or any other safetensors file (whose tensors are
 * listed). A model's file must have all of its tensors in their shapes. `tensors`: list them all. ENOTFOUND, EFORMAT,
 * EUNSUPPORTED with file and key. */
int m4n_model_info(FILE *out, const char *what, bool json, bool tensors);

#ifdef __cplusplus
}
#endif
#endif
