// A language model that was trained elsewhere tells the story it is known for: interleaved rotary pairs, grouped heads and
// one token at a time, end to end.
#include <cstring>

#include "tests/agent/model/model_test.h"
#include "tests/support/paths.h"

namespace {

using namespace m4n_test;

// llama2.c's version 0: seven numbers, then float32 arrays.
struct Reader {
  std::string bytes;
  size_t at = 0;
  explicit Reader(const std::string &path) : bytes(m4n_read_file(path)) {}
  int32_t whole() {
    int32_t v = 0;
    memcpy(&v, &bytes.at(at), sizeof v);
    at += sizeof v;
    return v;
  }
  reals floats(size_t n) {
    std::vector<float> v(n);
    EXPECT_LE(at + n * 4, bytes.size());
    memcpy(v.data(), &bytes.at(at), n * 4);
    at += n * 4;
    return reals(v.begin(), v.end());
  }
  std::string text(size_t n) {
    at += n;
    return bytes.substr(at - n, n);
  }
};

TEST(Stories, AreTold) {
  const std::string folder = m4n_data() + "/models/stories260K";
  M4N_NEED(folder);
  Reader file(folder + "/stories260K.bin");
  m4n_net_options o = {};
  m4n_backbone &b = o.config.backbone;
  b.d = file.whole(), b.ffn = file.whole(), b.attention_layers = file.whole(), b.heads = file.whole();
  b.kv_heads = file.whole();
  const int vocabulary = file.whole(), longest = file.whole(), layers = b.attention_layers, d = b.d;
  b.head_dim = d / b.heads, b.eps = 1e-5, b.rope_theta = 10000, b.interleaved = 1;
  o.sequences = 1, o.tokens = 1, o.lanes = {1, 128, 1};
  ASSERT_EQ(vocabulary, 512);
  ASSERT_GE(longest, 128);
  Machine m;
  Net net(m, o);
  const int kv = b.kv_heads * b.head_dim;
  const reals embedding = file.floats((size_t)(vocabulary * d));
  struct {
    const char *name;
    int size;
  } parts[] = {{"input_layernorm.weight", d},       {"self_attn.q_proj.weight", d * d},
               {"self_attn.k_proj.weight", kv * d}, {"self_attn.v_proj.weight", kv * d},
               {"self_attn.o_proj.weight", d * d},  {"post_attention_layernorm.weight", d},
               {"mlp.gate_proj.weight", b.ffn * d}, {"mlp.down_proj.weight", d * b.ffn},
               {"mlp.up_proj.weight", b.ffn * d}};
  auto put = [&](const std::string &name, const reals &values) {
    const m4n_part *part = m4n_params_find(net->params, name.c_str());
    ASSERT_NE(part, nullptr) << name;
    ASSERT_EQ(part->count, (int64_t)values.size()) << name;
    M4N_OKAY(m4n_part_write(net->params, part, values.data()));
  };
  for (const auto &part : parts)
    for (int layer = 0; layer < layers; layer++)
      put("model.layers." + std::to_string(layer) + "." + part.name, file.floats((size_t)part.size));
  put("model.norm.weight", file.floats((size_t)d));

  Reader tokens(folder + "/tok512.bin");
  tokens.whole();
  std::vector<std::string> piece;
  for (int i = 0; i < vocabulary; i++) {
    tokens.floats(1);
    piece.push_back(tokens.text((size_t)tokens.whole()));
  }

  // Greedy, from the token that begins a text; the output layer shares the embedding.
  int32_t *ints = (int32_t *)m4n_alloc(m.backend, 2 * sizeof *ints);
  std::string story;
  int token = 1;
  for (int32_t pos = 0; pos < 100; pos++) {
    const int32_t host[2] = {0, pos};
    m4n_copy_in(m.s, ints, host, sizeof host);
    m.in(m4n_chain_input(net->chain),
         reals(embedding.begin() + token * d, embedding.begin() + (token + 1) * d));
    m4n_pass pass = {};
    pass.s = m.s, pass.B = 1, pass.T = 1, pass.slot = ints, pass.pos = pass.row_pos = ints + 1;
    const reals hidden = m.out(m4n_chain_decode(net->chain, &pass), (size_t)d);
    double best = -1e30;
    int next = 0;
    for (int v = 0; v < vocabulary; v++) {
      double score = 0;
      for (int i = 0; i < d; i++) score += (double)hidden[(size_t)i] * (double)embedding[(size_t)(v * d + i)];
      if (score > best) best = score, next = v;
    }
    if (next == 1) break;
    story +=
        token == 1 && piece[(size_t)next][0] == ' ' ? piece[(size_t)next].substr(1) : piece[(size_t)next];
    token = next;
  }
  m4n_free(m.backend, ints);
  const std::string known =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
      "One day, she saw a big, red ball.";
  EXPECT_EQ(story.substr(0, known.size()), known);
}

} // namespace
