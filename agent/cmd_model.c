// mamba4net model: what models are.
#include <stdio.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/model/info.h"
#include "agent/options.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "model", "info MODEL",
    "info: shape, numbers of parameters, bytes and memory of a model: a preset (mini, base, tiny, small,\n"
    "paper), a checkpoint (.safetensors), or a Hugging Face folder (Llama, Mistral, Qwen2, Mamba).\n",
    2, 2};

int m4n_cmd_model(int argc, char **argv) {
  bool json = false, tensors = false;
  const m4n_option options[] = {
      {"tensors", NULL, "list every tensor", M4N_OPTION_FLAG, &tensors, 0, 0},
      {"json", NULL, "one object: name, config, parameters, bytes, tensors", M4N_OPTION_FLAG, &json, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (strcmp(arguments.item[0], "info") != 0)
    return m4n_fail(M4N_EARG, "%s: expected info (see mamba4net model --help)", arguments.item[0]);
  return m4n_model_info(stdout, arguments.item[1], json, tensors);
}
