/* A model's file in another type of number. What `mamba4net model convert` does. */
#ifndef M4N_MODEL_CONVERT_H
#define M4N_MODEL_CONVERT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Writes what `from` (a .safetensors file or a folder of shards) holds to `to`, whole or not at all: matrices as `type`
 * (enum m4n_tensor_type, F32, F16 or BF16; rounded to nearest even), vectors in float32, since decay rates and norms are
 * few and touchy; names, shapes and metadata as they are. ENOTFOUND, EFORMAT, EUNSUPPORTED for tensors that are no
 * numbers, EIO. */
int m4n_model_convert(const char *from, const char *to, int type);

#ifdef __cplusplus
}
#endif
#endif
