// Models against the reference libraries' outputs and gradients (shared/golden/README.md): NMSE at most 1e-12 for
// outputs and 1e-11 for gradients in float32, 1e-13 in float64: closer is not possible, since the reference computes
// rotary tables, norms, A and the scan in float32 even there.
#include <string>

#include "tests/agent/model/model_test.h"
#include "tests/support/paths.h"

namespace {

using namespace m4n_test;

constexpr bool wide = sizeof(m4n_real) == 8;
constexpr double output_limit = wide ? 1e-13 : 1e-12, gradient_limit = wide ? 1e-13 : 1e-11;

m4n_net_options options_of(const std::string &folder, int B, int T, bool train) {
  m4n_net_options o = {};
  EXPECT_EQ(m4n_config_read(&o.config, folder.c_str()), M4N_OK) << m4n_error_message();
  o.sequences = B, o.tokens = T, o.train = train;
  return o;
}

// Every gradient of the file, "d.NAME", but those of what we do not have; returns how many there were.
int compare_gradients(const Machine &m, const Net &net, const File &io, double limit) {
  int compared = 0;
  for (int i = 0; i < m4n_safetensors_count(io.file); i++) {
    std::string name = m4n_safetensors_at(io.file, i)->name;
    if (name.rfind("d.", 0) != 0 || name == "d.inputs_embeds") continue;
    std::string part = name.substr(2);
    size_t peft = part.find(".default");
    if (peft != std::string::npos) part.erase(peft, 8);
    EXPECT_LE(nmse(net.gradient(m, part), io.doubles(name)), limit) << name;
    compared++;
  }
  return compared;
}

void check_llama(const std::string &name, int layers, int gradients) {
  const std::string folder = m4n_golden() + "/" + name;
  M4N_NEED(folder);
  File io(folder + "/io.safetensors");
  const int B = 2, T = 17;
  const reals x = io.values("inputs_embeds"), R = io.values("R");
  for (int threads : {1, 3})
    for (bool recompute : {false, true}) {
      Machine m(threads);
      m4n_net_options o = options_of(folder, B, T, true);
      o.recompute = recompute;
      Net net(m, o);
      M4N_OKAY(m4n_net_load_backbone(net.net, folder.c_str(), nullptr));
      EXPECT_LE(nmse(net.forward(m, x, B, T, true), io.doubles("hidden")), output_limit);
      const m4n_real *tap = m4n_chain_tap(net->chain, m4n_chain_behind_layer(net->chain, 0));
      EXPECT_LE(nmse(m.out(tap, x.size()), io.doubles("hidden_states.1")), output_limit);
      EXPECT_LE(nmse(net.backward(m, R, B, T), io.doubles("d.inputs_embeds")), gradient_limit);
      EXPECT_EQ(compare_gradients(m, net, io, gradient_limit), gradients);
      EXPECT_EQ(o.config.backbone.attention_layers, layers);
    }
}

TEST(Golden, Llama) {
  check_llama("llama", 3, 3 * 9 + 1);
}
TEST(Golden, Qwen2) {
  check_llama("qwen2", 2, 2 * 12 + 1);
}

TEST(Golden, LlamaInHalfWidthWeights) {
  if (wide) GTEST_SKIP() << "packed weights are float32's";
  const std::string folder = m4n_golden() + "/llama";
  M4N_NEED(folder);
  File io(folder + "/io.safetensors");
  for (int format : {M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
    Machine m;
    m4n_net_options o = options_of(folder, 2, 17, false);
    o.format = format;
    Net net(m, o);
    M4N_OKAY(m4n_net_load_backbone(net.net, folder.c_str(), nullptr));
    const double limit = format == M4N_W_PACKED ? output_limit : format == M4N_W_BF16 ? 1e-4 : 1e-3;
    EXPECT_LE(nmse(net.forward(m, io.values("inputs_embeds"), 2, 17, false), io.doubles("hidden")), limit)
        << format;
  }
}

TEST(Golden, LlamaLora) {
  const std::string base = m4n_golden() + "/llama", folder = m4n_golden() + "/llama_lora";
  M4N_NEED(folder);
  File io(folder + "/io.safetensors");
  const int B = 2, T = 17;
  const reals x = io.values("inputs_embeds"), R = io.values("R");
  Machine m(2);
  m4n_net_options o = options_of(base, B, T, true);
  M4N_OKAY(m4n_lora_read(&o.lora, folder.c_str()));
  EXPECT_EQ(o.lora.rank, 4);
  EXPECT_EQ(o.lora.alpha, 8);
  {
    Net net(m, o);
    M4N_OKAY(m4n_net_load_backbone(net.net, base.c_str(), nullptr));
    M4N_OKAY(m4n_lora_load(net->params, folder.c_str()));
    EXPECT_EQ(m4n_params_count(net->params, M4N_ALL_SETS, true), 3 * (4 * 64 + 64 * 4 + 4 * 64 + 32 * 4));
    EXPECT_LE(nmse(net.forward(m, x, B, T, true), io.doubles("hidden")), output_limit);
    EXPECT_LE(nmse(net.backward(m, R, B, T), io.doubles("d.inputs_embeds")), gradient_limit);
    EXPECT_EQ(compare_gradients(m, net, io, gradient_limit), 12);
  }
  {
    // Folded in, nothing is left of the adapter but the result.
    o.lora = {};
    o.train = false;
    Net net(m, o);
    M4N_OKAY(m4n_net_load_backbone(net.net, base.c_str(), folder.c_str()));
    EXPECT_LE(nmse(net.forward(m, x, B, T, false), io.doubles("hidden")), output_limit);
  }
}

TEST(Golden, MambaModel) {
  const std::string folder = m4n_golden() + "/mamba";
  M4N_NEED(folder);
  File io(m4n_golden() + "/mamba_model/io.safetensors");
  Machine m(2);
  Net net(m, options_of(folder, 2, 21, false));
  M4N_OKAY(m4n_net_load_backbone(net.net, folder.c_str(), nullptr));
  EXPECT_LE(nmse(net.forward(m, io.values("inputs_embeds"), 2, 21, false), io.doubles("hidden")),
            output_limit);
}

// The mixer of layer 0 alone, on an input that no norm has touched. Our block is x + mixer(RMS(x)): with an eps that is
// far above the mean square, 1/rms is 1/√eps for every row, and a gain of √eps undoes it.
TEST(Golden, MambaMixer) {
  const std::string folder = m4n_golden() + "/mamba";
  M4N_NEED(folder);
  File io(folder + "/io.safetensors"), weights(folder + "/model.safetensors");
  const int B = 2, T = 21;
  m4n_config config;
  M4N_OKAY(m4n_config_read(&config, folder.c_str()));
  config.backbone.eps = 1e14;
  Machine m(2);
  Block block(m, m4n_mamba1_block, config.backbone, B, T, true);
  for (int i = 0; i < block.params->n_parts; i++) {
    const m4n_part &part = block.params->part[i];
    const std::string name = part.name + strlen("block.");
    block.put(part, name == "norm.weight" ? reals((size_t)part.count, (m4n_real)1e7)
                                          : weights.values("layers.0." + name));
  }
  const reals x = io.values("x"), R = io.values("R");
  reals y = block.forward(x, B, T, true), dx = block.backward(R, B, T);
  for (size_t i = 0; i < x.size(); i++) y[i] -= x[i], dx[i] -= R[i]; // the residual
  EXPECT_LE(nmse(y, io.doubles("y")), output_limit);
  EXPECT_LE(nmse(dx, io.doubles("d.x")), gradient_limit);
  int compared = 0;
  for (int i = 0; i < block.params->n_parts; i++) {
    const m4n_part &part = block.params->part[i];
    const std::string name = part.name + strlen("block.mixer.");
    if (std::string(part.name) == "block.norm.weight") continue;
    EXPECT_LE(nmse(block.gradient(part), io.doubles("d." + name)), gradient_limit) << name;
    compared++;
  }
  EXPECT_EQ(compared, 9);
}

} // namespace
