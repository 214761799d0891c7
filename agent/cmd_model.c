// mamba4net model: what models are, and their files in other types of numbers.
#include <stdio.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/model/convert.h"
#include "agent/model/info.h"
#include "agent/model/safetensors.h"
#include "agent/options.h"
#include "kernels/base/status.h"

static const m4n_usage usage = {
    "model", "info MODEL | convert FROM TO",
    "info: shape, numbers of parameters, bytes and memory of a model: a preset (mini, base, tiny, small,\n"
    "paper), a checkpoint (.safetensors), or a Hugging Face folder (Llama, Mistral, Qwen2, Mamba).\n"
    "convert: the checkpoint FROM, its matrices in another type of number, as the file TO.\n",
    2, 3};

static int convert(const m4n_arguments *arguments, const char *type) {
  static const struct {
    const char *name;
    int type;
  } types[] = {{"bf16", M4N_TENSOR_BF16}, {"f16", M4N_TENSOR_F16}, {"f32", M4N_TENSOR_F32}};
  if (arguments->n != 3) return m4n_fail(M4N_EARG, "model convert: expected FROM and TO");
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (!strcmp(type, types[i].name))
      return m4n_model_convert(arguments->item[1], arguments->item[2], types[i].type);
  return m4n_fail(M4N_EARG, "--to %s: expected bf16, f16 or f32", type);
}

int m4n_cmd_model(int argc, char **argv) {
  bool json = false, tensors = false;
  const char *to = "bf16";
  const m4n_option options[] = {
      {"tensors", NULL, "info: list every tensor", M4N_OPTION_FLAG, &tensors, 0, 0},
      {"json", NULL, "info: one object: name, config, parameters, bytes, tensors", M4N_OPTION_FLAG, &json, 0,
       0},
      {"to", "TYPE", "convert: bf16 (default), f16 or f32", M4N_OPTION_TEXT, &to, 0, 0}};
  m4n_arguments arguments;
  M4N_TRY(m4n_options_read(&usage, options, sizeof options / sizeof *options, argc, argv, &arguments));
  if (arguments.helped) return M4N_OK;
  if (!strcmp(arguments.item[0], "convert")) return convert(&arguments, to);
  if (strcmp(arguments.item[0], "info") != 0)
    return m4n_fail(M4N_EARG, "%s: expected info or convert (see mamba4net model --help)", arguments.item[0]);
  if (arguments.n != 2) return m4n_fail(M4N_EARG, "model info: expected one MODEL");
  return m4n_model_info(stdout, arguments.item[1], json, tensors);
}
