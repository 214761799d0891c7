// What `model info` tells of presets, checkpoints, Hugging Face folders and strangers' files.
#include "agent/model/info.h"

#include <cstring>

#include "tests/agent/model/model_test.h"
#include "tests/support/paths.h"

namespace {

using namespace m4n_test;

struct Told {
  int status;
  std::string text;
  Told(const std::string &what, bool json = false, bool tensors = false) {
    char *memory = nullptr;
    size_t size = 0;
    FILE *out = open_memstream(&memory, &size);
    status = m4n_model_info(out, what.c_str(), json, tensors);
    fclose(out);
    text.assign(memory, size);
    free(memory);
  }
  bool says(const std::string &part) const { return text.find(part) != std::string::npos; }
};

TEST(Info, PresetsHaveTheCountsOfTheDesign) {
  const Told paper("paper");
  ASSERT_EQ(paper.status, M4N_OK) << m4n_error_message();
  EXPECT_TRUE(paper.says("backbone 41,025,024, encoder and head 1,350,406")) << paper.text;
  EXPECT_TRUE(paper.says("12 layers: 10 Mamba, 2 attention")) << paper.text;
  const Told base("base", true); // 0.8 GB of weights are not needed to tell of it
  EXPECT_EQ(base.status, M4N_OK);
  EXPECT_TRUE(base.says("\"name\": \"model.layers.15.mlp.down_proj.weight\""));
  EXPECT_FALSE(Told("tiny").says("model.layers.0"));
  EXPECT_TRUE(Told("tiny", false, true).says("model.layers.0.mixer.A_log"));
}

TEST(Info, CheckpointsAreCheckedAgainstTheirShape) {
  const std::string dir = m4n_temp_dir(), path = dir + "/a.safetensors";
  Machine m;
  m4n_net_options o = {};
  M4N_OKAY(m4n_config_preset(&o.config, "tiny"));
  o.sequences = 1;
  Net net(m, o);
  M4N_OKAY(m4n_net_start(net.net, 1));
  M4N_OKAY(m4n_net_save(net.net, path.c_str(), M4N_TENSOR_BF16, nullptr));
  const Told good(path);
  EXPECT_EQ(good.status, M4N_OK) << m4n_error_message();
  EXPECT_TRUE(good.says("stored")) << good.text;

  // The same metadata, but not the tensors.
  char *text = m4n_config_text(&o.config);
  const m4n_metadata about = {M4N_CONFIG_KEY, text};
  const m4n_tensor_shape shape = {"head.weight", M4N_TENSOR_F32, 1, {1}};
  m4n_safetensors_writer *w;
  M4N_OKAY(m4n_safetensors_create(&w, path.c_str(), &shape, 1, &about, 1));
  const m4n_real zero = 0;
  m4n_safetensors_put(w, &zero, 1);
  M4N_OKAY(m4n_safetensors_commit(w));
  free(text);
  EXPECT_EQ(Told(path).status, M4N_ENOTFOUND);
  EXPECT_STREQ(m4n_last_error()->key, "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(Told(path).text, "");
}

TEST(Info, StrangersFilesAreListedWithoutSteeringTheTerminal) {
  const std::string path = m4n_temp_dir() + "/a.safetensors";
  const m4n_tensor_shape shape = {"a\x1b[2Jb", M4N_TENSOR_F32, 2, {1, 2}};
  m4n_safetensors_writer *w;
  M4N_OKAY(m4n_safetensors_create(&w, path.c_str(), &shape, 1, nullptr, 0));
  const m4n_real values[2] = {1, 2};
  m4n_safetensors_put(w, values, 2);
  M4N_OKAY(m4n_safetensors_commit(w));
  const Told told(path);
  EXPECT_EQ(told.status, M4N_OK);
  EXPECT_TRUE(told.says("[1, 2]")) << told.text;
  EXPECT_TRUE(told.says("a?[2Jb")) << told.text;
}

TEST(Info, HuggingFaceFolders) {
  M4N_NEED(m4n_golden() + "/llama");
  for (const char *name : {"llama", "qwen2", "mamba"}) {
    const Told told(m4n_golden() + "/" + name);
    EXPECT_EQ(told.status, M4N_OK) << m4n_error_message();
    EXPECT_TRUE(told.says("parameters")) << told.text;
  }
  EXPECT_TRUE(Told(m4n_golden() + "/qwen2").says("7 heads of 8, 1 key heads, q k v with biases"));
}

TEST(Info, WhatIsNotThereIsNamed) {
  EXPECT_EQ(Told("papers").status, M4N_ENOTFOUND);
  EXPECT_TRUE(strstr(m4n_error_message(), "mini, base, tiny, small, paper")) << m4n_error_message();
  const std::string dir = m4n_temp_dir();
  EXPECT_EQ(Told(dir).status, M4N_ENOTFOUND);
  m4n_write_file(dir + "/x", "nothing of the kind");
  EXPECT_EQ(Told(dir + "/x").status, M4N_EFORMAT);
}

} // namespace
