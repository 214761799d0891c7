#include "agent/learn/predictor.h"

#include "agent/model/config.h"
#include "agent/model/safetensors.h"
#include "kernels/base/status.h"

int m4n_predictor_open(m4n_predictor **predictor, const char *path, const m4n_predictor_options *options) {
  m4n_safetensors *file;
  *predictor = NULL;
  M4N_TRY(m4n_safetensors_open(&file, path));
  bool sequence = m4n_safetensors_metadata(file, M4N_CONFIG_KEY) != NULL;
  m4n_safetensors_close(file);
  return sequence ? m4n_predict_sequence_open(predictor, path, options)
                  : m4n_predict_actor_open(predictor, path, options);
}
