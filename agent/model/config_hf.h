/* Hugging Face's config.json of a Llama-shaped or Mamba model. */
#ifndef M4N_MODEL_CONFIG_HF_H
#define M4N_MODEL_CONFIG_HF_H

#include "agent/model/config.h"

/* EUNSUPPORTED with the key where the model is of a kind that would compute something else here. */
int m4n_config_read_hf(m4n_config *config, const char *path);

#endif
