/* What a model is made of: shapes alone, from a preset, from a checkpoint of ours or from a Hugging Face folder.
 *
 *     m4n_config config;
 *     M4N_TRY(m4n_config_preset(&config, "small"));
 *     M4N_TRY(m4n_config_read(&config, "student.safetensors"));   // either of the two kinds of file
 */
#ifndef M4N_MODEL_CONFIG_H
#define M4N_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/model/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  M4N_MAX_LAYERS = 256,
  M4N_MAX_WIDTH = 65536,
  M4N_MAX_FREQUENCIES = 128, /* half of M4N_ATTENTION_WIDTH */
  M4N_MAX_LEVELS = 64,
  M4N_MAX_HISTORY = 64,
  M4N_MAX_LOOKAHEAD = 16
};

enum m4n_mixer {
  M4N_MIXER_MAMBA, /* variant A, shaped like attention (algorithms.md §5.2) */
  M4N_MIXER_MAMBA1 /* variant B, the standard block (§5.3) */
};

/* Layers are mamba_layers mixers, then attention_layers; each is followed by a feed-forward layer where ffn > 0. A
 * Llama teacher has no Mamba layers, a plain Mamba no attention. Tensors are called as in Hugging Face's Llama:
 * model.layers.3.self_attn.q_proj.weight. */
typedef struct m4n_backbone {
  int d; /* width of the residual stream */
  int mamba_layers, attention_layers;
  double eps;    /* of RMSNorm */
  int ffn;       /* width of SwiGLU, 0: none */
  int mamba_ffn; /* 0: Mamba layers have no feed-forward part */
  /* attention */
  int heads, kv_heads, head_dim;
  int qkv_bias;    /* Qwen2's */
  int interleaved; /* rotary pairs (2i, 2i+1): GGUF's and llama2.c's layout */
  double rope_theta;
  double rope_freq[M4N_MAX_FREQUENCIES]; /* explicit table of head_dim/2, where frequencies > 0 */
  int frequencies;
  /* Mamba */
  int mixer; /* enum m4n_mixer */
  int inner, state, rank, conv;
  int gate_bias; /* z has a bias: weight reuse opens the gate with it (§5.2) */
  int hf_mamba;  /* tensors are called as in Hugging Face's MambaModel: layers.0.mixer.in_proj.weight */
} m4n_backbone;

/* The ABR encoder and head (§4.2). levels 0: the model has none. */
typedef struct m4n_abr_shape {
  int levels;
  int history;   /* chunks whose throughput and download time are seen */
  int lookahead; /* chunks whose sizes are seen */
  int embed;     /* width of the first layers */
  int window;    /* steps of a sequence */
  int max_steps; /* of an episode: rows of the step table; later steps take its last */
} m4n_abr_shape;

typedef struct m4n_config {
  m4n_backbone backbone;
  m4n_abr_shape abr;
} m4n_config;

/* Teachers "mini", "base"; students "tiny", "small", "paper"; all with the ABR task's usual shape. ENOTFOUND lists the
 * names. */
int m4n_config_preset(m4n_config *config, const char *name);
const char *m4n_config_preset_name(int index); /* NULL behind the last */

/* Refuses what cannot be built, with the key. `from` is the file for the message, or NULL. */
int m4n_config_check(const m4n_config *config, const char *from);

/* From a .safetensors file of ours (its metadata), or a Hugging Face folder or its config.json: Llama, Mistral and
 * Qwen2 with an unscaled rotary embedding, or Mamba; those leave config->abr zero. EFORMAT and EUNSUPPORTED with the
 * key. */
int m4n_config_read(m4n_config *config, const char *path);
int m4n_config_of(m4n_config *config, const m4n_safetensors *file, const char *path);

/* As JSON for a checkpoint's metadata under the key M4N_CONFIG_KEY; the caller frees it. NULL: ENOMEM. */
#define M4N_CONFIG_KEY "mamba4net"
char *m4n_config_text(const m4n_config *config);
int m4n_config_parse(m4n_config *config, const char *from, const char *text);

/* Frequency i of the rotary embedding, as the reference computes it: in float32. */
double m4n_rope_frequency(const m4n_backbone *b, int i);

#ifdef __cplusplus
}
#endif
#endif
