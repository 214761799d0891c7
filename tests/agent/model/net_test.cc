// Whole models: counts of parameters, starts, gradients through encoder and head, training, checkpoints, memory.
#include <cstring>
#include <set>

#include "agent/model/optimiser.h"
#include "tests/agent/model/model_test.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

namespace {

using namespace m4n_test;

constexpr bool wide = sizeof(m4n_real) == 8;

m4n_config preset(const char *name) {
  m4n_config config;
  EXPECT_EQ(m4n_config_preset(&config, name), M4N_OK);
  return config;
}

m4n_net_options training(const m4n_config &config, int sequences) {
  m4n_net_options o = {};
  o.config = config, o.sequences = sequences, o.train = true;
  return o;
}

// The smallest shape with all parts.
m4n_config little() {
  m4n_config c = preset("tiny");
  m4n_backbone &b = c.backbone;
  b.d = 8, b.mamba_layers = 1, b.ffn = 12, b.heads = 2, b.kv_heads = 1, b.head_dim = 4;
  b.inner = 8, b.state = 4, b.rank = 2, b.gate_bias = 1;
  c.abr.levels = 3, c.abr.history = 5, c.abr.lookahead = 2, c.abr.embed = 4, c.abr.window = 3,
  c.abr.max_steps = 6;
  return c;
}

// Random rows; sequence i starts at step i of its episode.
void fill_batch(m4n_net *net, int B, int steps, uint64_t seed) {
  const reals values = noise((size_t)(B * steps * net->features), seed);
  std::copy(values.begin(), values.end(), net->rows);
  for (int i = 0; i < B; i++)
    for (int k = 0; k < steps; k++) m4n_net_set_step(net, i, k, steps, i + k);
}

double dot(const reals &a, const reals &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

TEST(Presets, HaveTheCountsOfTheDesign) {
  // algorithms.md §5.9
  Machine m;
  m4n_net_options o = {};
  o.config = preset("paper"), o.sequences = 1, o.steps = 1;
  {
    Net net(m, o);
    EXPECT_EQ(m4n_params_count(net->params, M4N_SET_BACKBONE, false), 41025024);
    EXPECT_EQ(m4n_params_count(net->params, M4N_SET_TASK, false), 1350406);
    EXPECT_EQ(m4n_params_count(net->params, M4N_ALL_SETS, true), 0);
  }
  o.config.backbone.mamba_ffn = 0;
  EXPECT_EQ(m4n_params_count(Net(m, o)->params, M4N_SET_BACKBONE, false), 19884544);
  o.config.backbone.mixer = M4N_MIXER_MAMBA1, o.config.backbone.inner = 1024;
  EXPECT_EQ(m4n_params_count(Net(m, o)->params, M4N_SET_BACKBONE, false), 23279104);
  o.config.backbone.mamba_ffn = 1;
  EXPECT_EQ(m4n_params_count(Net(m, o)->params, M4N_SET_BACKBONE, false), 44419584);
}

TEST(Presets, AllCanBeBuiltAndUnknownOnesAreRefused) {
  Machine m;
  for (int i = 0; m4n_config_preset_name(i); i++) {
    const std::string name = m4n_config_preset_name(i);
    const m4n_config c = preset(name.c_str());
    EXPECT_EQ(m4n_config_check(&c, nullptr), M4N_OK) << m4n_error_message();
    if (name == "base") continue; // 0.8 GB
    m4n_net_options o = {};
    o.config = c, o.sequences = 1, o.steps = 1;
    EXPECT_NE(Net(m, o).net, nullptr);
  }
  m4n_config c;
  EXPECT_EQ(m4n_config_preset(&c, "huge"), M4N_ENOTFOUND);
  EXPECT_NE(std::string(m4n_error_message()).find("tiny, small, paper"), std::string::npos);
}

TEST(Start, DependsOnSeedAndNameAlone) {
  Machine one(1), three(3);
  const m4n_config config = preset("tiny");
  Net a(one, training(config, 2));
  m4n_net_options packed = {};
  packed.config = config, packed.sequences = 1;
  Net b(three, packed);
  M4N_OKAY(m4n_net_start(a.net, 5));
  M4N_OKAY(m4n_net_start(b.net, 5));
  for (int i = 0; i < a->params->n_parts; i++) {
    const m4n_part &part = a->params->part[i];
    reals x((size_t)part.count), y(x.size());
    M4N_OKAY(m4n_part_read(a->params, &part, nullptr, x.data()));
    M4N_OKAY(m4n_part_read(b->params, m4n_params_find(b->params, part.name), nullptr, y.data()));
    EXPECT_EQ(x, y) << part.name;
  }
  M4N_OKAY(m4n_net_start(b.net, 6));
  reals x(64 * 64), y(x.size());
  const char *name = "model.layers.0.mixer.x_proj.weight";
  M4N_OKAY(m4n_part_read(a->params, m4n_params_find(a->params, name), nullptr, x.data()));
  M4N_OKAY(m4n_part_read(b->params, m4n_params_find(b->params, name), nullptr, y.data()));
  EXPECT_GT(nmse(x, y), 0.5);
}

TEST(Start, HasTheValuesOfTheDesign) {
  Machine m;
  Net net(m, training(preset("small"), 1));
  M4N_OKAY(m4n_net_start(net.net, 1));
  auto part = [&](const std::string &name) {
    const m4n_part *p = m4n_params_find(net->params, name.c_str());
    EXPECT_NE(p, nullptr) << name;
    reals v(p ? (size_t)p->count : 0);
    if (!p) return v;
    EXPECT_EQ(m4n_part_read(net->params, p, nullptr, v.data()), M4N_OK);
    return v;
  };
  const std::string layer = "model.layers.1.";
  double low = 1, high = 0;
  for (m4n_real b : part(layer + "mixer.dt_proj.bias")) {
    const double dt = std::log1p(std::exp((double)b));
    low = std::min(low, dt), high = std::max(high, dt);
  }
  EXPECT_GE(low, 0.00099);
  EXPECT_LE(low, 0.002);
  EXPECT_LE(high, 0.1001);
  EXPECT_GE(high, 0.05);
  const reals a = part(layer + "mixer.A_log");
  for (size_t i = 0; i < a.size(); i++) EXPECT_NEAR(std::exp((double)a[i]), (double)(i % 16 + 1), 1e-5);
  EXPECT_EQ(part(layer + "mixer.D"), reals(128, 1));
  EXPECT_EQ(part("model.norm.weight"), reals(128, 1));
  EXPECT_EQ(part(layer + "post_attention_layernorm.weight"), reals(128, 1));
  auto largest = [](const reals &v) {
    double most = 0;
    for (m4n_real x : v) most = std::max(most, std::fabs((double)x));
    return most;
  };
  EXPECT_NEAR(largest(part(layer + "mixer.z_proj.weight")), 1 / std::sqrt(128.0), 1e-4);
  EXPECT_NEAR(largest(part(layer + "mixer.conv1d.weight")), 0.5, 1e-2);
  // What writes the residual stream: divided by √(2·5 layers).
  EXPECT_NEAR(largest(part(layer + "mixer.out_proj.weight")), 1 / std::sqrt(128.0 * 10), 1e-4);
  EXPECT_NEAR(largest(part(layer + "mlp.down_proj.weight")), 1 / std::sqrt(344.0 * 10), 1e-4);
  const reals table = part("encoder.step.weight");
  EXPECT_NEAR(dot(table, table) / (double)table.size(), 1, 0.05);
}

TEST(Net, GradientsAreDifferences) {
  if (!wide) GTEST_SKIP() << "differences need the f64 build";
  Machine m(2);
  const int B = 2, steps = 3;
  Net net(m, training(little(), B));
  M4N_OKAY(m4n_net_start(net.net, 3));
  fill_batch(net.net, B, steps, 1);
  const reals R = noise((size_t)(B * steps * net->levels), 2);
  auto loss = [&] {
    m4n_net_forward(net.net, B, steps, true, nullptr);
    return dot(m.out(net->logits, R.size()), R);
  };
  loss();
  m.in(net->d_logits, R);
  m4n_net_zero(net.net);
  m4n_net_backward(net.net);
  for (int i = 0; i < net->params->n_parts; i++) {
    const m4n_part &part = net->params->part[i];
    const reals g = net.gradient(m, part.name);
    reals v((size_t)part.count);
    M4N_OKAY(m4n_part_read(net->params, &part, nullptr, v.data()));
    const double scale = std::sqrt(dot(g, g) / (double)g.size()), h = 1e-5;
    EXPECT_GT(scale, 0) << part.name;
    for (size_t k = 0; k < v.size(); k += 1 + v.size() / 40) {
      const m4n_real kept = v[k];
      double at[2];
      for (int side = 0; side < 2; side++) {
        v[k] = kept + (m4n_real)(side ? -h : h);
        M4N_OKAY(m4n_part_write(net->params, &part, v.data()));
        at[side] = loss();
      }
      v[k] = kept;
      M4N_OKAY(m4n_part_write(net->params, &part, v.data()));
      const double numeric = (at[0] - at[1]) / (2 * h);
      ASSERT_LE(std::fabs(numeric - (double)g[k]), 1e-6 * (std::fabs((double)g[k]) + scale))
          << part.name << " [" << k << "]: " << numeric << " by differences, " << g[k];
    }
  }
}

// One step of training: logits, gradients, weights behind an optimiser step.
std::vector<reals> step_of(int threads, bool recompute, const m4n_config &config) {
  Machine m(threads);
  const int B = 3, steps = config.abr.window;
  m4n_net_options o = training(config, B);
  o.recompute = recompute;
  Net net(m, o);
  EXPECT_EQ(m4n_net_start(net.net, 3), M4N_OK);
  fill_batch(net.net, B, steps, 1);
  m4n_net_forward(net.net, B, steps, true, nullptr);
  const size_t n = (size_t)(B * steps * net->levels);
  std::vector<reals> all = {m.out(net->logits, n)};
  m.in(net->d_logits, noise(n, 2));
  m4n_net_zero(net.net);
  m4n_net_backward(net.net);
  all.push_back(m.out(net->params->g, (size_t)net->params->n));
  m4n_optimiser *opt;
  const m4n_optimiser_options oo = {0.9, 0.95, 1e-8, 0.01, 1, 3};
  EXPECT_EQ(m4n_optimiser_open(&opt, net->params, &oo), M4N_OK);
  m4n_optimiser_step(opt, 1e-3);
  double norm;
  EXPECT_EQ(m4n_optimiser_norm(opt, &norm), M4N_OK);
  EXPECT_NEAR(norm, std::sqrt(dot(all[1], all[1])), 1e-4 * norm);
  all.push_back(m.out(net->params->w, (size_t)net->params->n));
  m4n_optimiser_close(opt);
  return all;
}

TEST(Net, ThreadsAndRecomputingChangeNoByte) {
  for (const char *name : {"tiny", "mini"}) {
    m4n_config config = preset(name);
    if (m4n_sanitized() && std::string(name) == "mini") continue;
    config.abr.window = 5;
    const auto one = step_of(1, false, config);
    EXPECT_EQ(step_of(3, false, config), one);
    EXPECT_EQ(step_of(2, true, config), one);
  }
}

TEST(Net, LearnsWhatItIsShown) {
  Machine m(2);
  const int B = 8, steps = 4, n = B * steps;
  m4n_config config = preset("tiny");
  config.abr.window = steps;
  Net net(m, training(config, B));
  M4N_OKAY(m4n_net_start(net.net, 3));
  fill_batch(net.net, B, steps, 1);
  std::vector<int32_t> answers;
  for (int i = 0; i < n; i++) answers.push_back(i * 7 % 6);
  int32_t *target = (int32_t *)m4n_alloc(m.backend, answers.size() * 4);
  m4n_real *loss = (m4n_real *)m4n_alloc(m.backend, (size_t)n * sizeof *loss);
  m4n_copy_in(m.s, target, answers.data(), answers.size() * 4);
  m4n_optimiser *opt;
  const m4n_optimiser_options oo = {0.9, 0.95, 1e-8, 0.01, 1, 1};
  M4N_OKAY(m4n_optimiser_open(&opt, net->params, &oo));
  auto mean_loss = [&] {
    m4n_net_forward(net.net, B, steps, true, nullptr);
    m4n_xent_fwd(m.s, loss, net->logits, target, nullptr, nullptr, n, net->levels);
    double sum = 0;
    for (m4n_real l : m.out(loss, (size_t)n)) sum += (double)l;
    return sum / n;
  };
  const double before = mean_loss();
  EXPECT_GT(before, 1.2);
  int64_t allocated = 0;
  for (int i = 0; i < 200; i++) {
    if (i == 1) allocated = m4n_own_allocations();
    m4n_net_forward(net.net, B, steps, true, nullptr);
    m4n_xent_bwd(m.s, net->d_logits, net->logits, target, nullptr, nullptr, n, net->levels, 0);
    m4n_net_zero(net.net);
    m4n_net_backward(net.net);
    m4n_optimiser_step(opt, 2e-3);
    ASSERT_EQ(m4n_sync(m.s), M4N_OK);
  }
  EXPECT_EQ(m4n_own_allocations(), allocated);
  EXPECT_LT(mean_loss(), 0.05);
  m4n_optimiser_close(opt);
  m4n_free(m.backend, target);
  m4n_free(m.backend, loss);
}

TEST(Net, ACheckpointIsTheModel) {
  const std::string dir = m4n_temp_dir(), path = dir + "/a.safetensors";
  Machine m;
  m4n_config config = little();
  config.backbone.frequencies = 2, config.backbone.rope_freq[0] = 0.1, config.backbone.rope_freq[1] = 1 / 3.0;
  Net a(m, training(config, 2)), b(m, training(config, 2));
  M4N_OKAY(m4n_net_start(a.net, 1));
  M4N_OKAY(m4n_net_start(b.net, 2));
  M4N_OKAY(m4n_net_save(a.net, path.c_str(), wide ? M4N_TENSOR_F64 : M4N_TENSOR_F32, nullptr));
  M4N_OKAY(m4n_net_load(b.net, path.c_str()));
  const size_t n = (size_t)a->params->n;
  EXPECT_EQ(m.out(a->params->w, n), m.out(b->params->w, n));

  m4n_config read;
  M4N_OKAY(m4n_config_read(&read, path.c_str()));
  char *x = m4n_config_text(&config), *y = m4n_config_text(&read);
  EXPECT_STREQ(x, y);
  free(x), free(y);

  // An average of the weights is saved like the weights.
  m.in(a->params->g, reals(n, (m4n_real)0.5));
  M4N_OKAY(m4n_net_save(a.net, path.c_str(), M4N_TENSOR_BF16, a->params->g));
  M4N_OKAY(m4n_net_load(b.net, path.c_str()));
  reals w((size_t)m4n_params_find(b->params, "head.weight")->count);
  M4N_OKAY(m4n_part_read(b->params, m4n_params_find(b->params, "head.weight"), nullptr, w.data()));
  EXPECT_EQ(w, reals(w.size(), (m4n_real)0.5));

  // Another shape, a truncated file and a file of something else are refused.
  config.abr.levels = 4;
  Net c(m, training(config, 2));
  EXPECT_EQ(m4n_net_load(c.net, path.c_str()), M4N_EFORMAT);
  EXPECT_NE(std::string(m4n_error_message()).find("another shape"), std::string::npos);
  const std::string bytes = m4n_read_file(path);
  m4n_write_file(dir + "/cut", bytes.substr(0, bytes.size() - 10));
  EXPECT_EQ(m4n_net_load(b.net, (dir + "/cut").c_str()), M4N_EFORMAT);
  m4n_write_file(dir + "/other", std::string("\2\0\0\0\0\0\0\0{}", 10));
  EXPECT_EQ(m4n_net_load(b.net, (dir + "/other").c_str()), M4N_EFORMAT);
  EXPECT_EQ(m4n_config_read(&read, (dir + "/other").c_str()), M4N_EFORMAT);
}

TEST(Net, TrainingResumesToTheSameBytes) {
  const std::string dir = m4n_temp_dir(), weights = dir + "/w.safetensors", moments = dir + "/m.safetensors";
  Machine m(2);
  const m4n_config config = little();
  const int B = 2, steps = 3;
  const int type = wide ? M4N_TENSOR_F64 : M4N_TENSOR_F32;
  const m4n_optimiser_options oo = {0.9, 0.95, 1e-8, 0.01, 1, 3};
  auto train = [&](Net &net, m4n_optimiser *opt, int from, int to) {
    for (int i = from; i < to; i++) {
      fill_batch(net.net, B, steps, 10 + (uint64_t)i);
      m4n_net_forward(net.net, B, steps, true, nullptr);
      m.in(net->d_logits, noise((size_t)(B * steps * net->levels), 100 + (uint64_t)i));
      m4n_net_zero(net.net);
      m4n_net_backward(net.net);
      m4n_optimiser_step(opt, 1e-2);
    }
    ASSERT_EQ(m4n_sync(m.s), M4N_OK);
  };
  m4n_optimiser *opt;
  Net a(m, training(config, B));
  M4N_OKAY(m4n_net_start(a.net, 1));
  M4N_OKAY(m4n_optimiser_open(&opt, a->params, &oo));
  train(a, opt, 0, 3);
  M4N_OKAY(m4n_net_save(a.net, weights.c_str(), type, nullptr));
  M4N_OKAY(m4n_optimiser_save(opt, moments.c_str()));
  train(a, opt, 3, 6);
  m4n_optimiser_close(opt);

  Net b(m, training(config, B));
  M4N_OKAY(m4n_net_load(b.net, weights.c_str()));
  M4N_OKAY(m4n_optimiser_open(&opt, b->params, &oo));
  M4N_OKAY(m4n_optimiser_load(opt, moments.c_str()));
  EXPECT_EQ(m4n_optimiser_steps(opt), 3);
  train(b, opt, 3, 6);
  EXPECT_EQ(m.out(a->params->w, (size_t)a->params->n), m.out(b->params->w, (size_t)b->params->n));
  EXPECT_EQ(m4n_optimiser_load(opt, weights.c_str()), M4N_EFORMAT);
  m4n_optimiser_close(opt);
}

TEST(Net, ALossThatIsNoNumberLeavesTheWeights) {
  Machine m;
  Net net(m, training(little(), 1));
  M4N_OKAY(m4n_net_start(net.net, 1));
  const reals before = m.out(net->params->w, (size_t)net->params->n);
  m4n_optimiser *opt;
  const m4n_optimiser_options oo = {0.9, 0.95, 1e-8, 0.01, 1, 1};
  M4N_OKAY(m4n_optimiser_open(&opt, net->params, &oo));
  m.in(net->params->g, reals((size_t)net->params->n, (m4n_real)NAN));
  m4n_optimiser_step(opt, 1e-2);
  double norm;
  M4N_OKAY(m4n_optimiser_norm(opt, &norm));
  EXPECT_FALSE(std::isfinite(norm));
  EXPECT_EQ(m.out(net->params->w, (size_t)net->params->n), before);
  m4n_optimiser_close(opt);
}

TEST(Net, GroupsDecayMatricesAlone) {
  Machine m;
  Net net(m, training(preset("tiny"), 1));
  std::vector<uint8_t> group((size_t)(net->params->n / M4N_ADAMW_CHUNK));
  m4n_params_find(net->params, "model.layers.0.mixer.z_proj.weight")->fresh = true;
  m4n_params_groups(net->params, group.data());
  auto of = [&](const char *name) {
    const m4n_part *p = m4n_params_find(net->params, name);
    return (int)group[(size_t)((p->of->offset + p->first) / M4N_ADAMW_CHUNK)];
  };
  EXPECT_EQ(of("model.layers.0.mixer.x_proj.weight"), 1);
  EXPECT_EQ(of("model.layers.0.mixer.z_proj.weight"), 3);
  EXPECT_EQ(of("model.layers.0.mlp.up_proj.weight"), 1);
  for (const char *name :
       {"model.layers.0.mixer.A_log", "model.layers.0.mixer.D", "model.layers.0.mixer.dt_proj.bias",
        "model.layers.0.mixer.conv1d.weight", "model.norm.weight", "encoder.step.weight", "head.bias"})
    EXPECT_EQ(of(name), 0) << name;
}

TEST(Net, FrozenBackbonesAndAdaptersTrainWhatTheySay) {
  Machine m;
  m4n_net_options o = training(preset("mini"), 1);
  o.steps = 2;
  o.config.backbone.attention_layers = 2;
  o.freeze = true;
  {
    Net net(m, o);
    EXPECT_EQ(m4n_params_count(net->params, M4N_ALL_SETS, true),
              m4n_params_count(net->params, M4N_SET_TASK, false));
  }
  o.freeze = false;
  o.lora.rank = 4, o.lora.alpha = 8, o.lora.targets = 1;
  strcpy(o.lora.target[0], "q_proj");
  const std::string dir = m4n_temp_dir(), adapter = dir + "/adapter", base = dir + "/base.safetensors";
  Net net(m, o);
  EXPECT_EQ(m4n_params_count(net->params, M4N_SET_ADAPTER, true), 2 * (4 * 256 + 256 * 4));
  EXPECT_EQ(m4n_params_count(net->params, M4N_SET_BACKBONE, true), 0);
  M4N_OKAY(m4n_net_start(net.net, 1));

  // An adapter starts as nothing, and what was trained survives the files.
  fill_batch(net.net, 1, 2, 1);
  m4n_net_options plain = o;
  plain.lora = {};
  Net without(m, plain);
  M4N_OKAY(m4n_net_start(without.net, 1));
  fill_batch(without.net, 1, 2, 1);
  auto logits = [&](Net &n) {
    m4n_net_forward(n.net, 1, 2, true, nullptr);
    return m.out(n->logits, 12);
  };
  EXPECT_EQ(logits(net), logits(without));
  M4N_OKAY(m4n_net_save(without.net, base.c_str(), wide ? M4N_TENSOR_F64 : M4N_TENSOR_F32, nullptr));
  const m4n_part *up =
      m4n_params_find(net->params, "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight");
  ASSERT_NE(up, nullptr);
  M4N_OKAY(m4n_part_write(net->params, up, noise((size_t)up->count, 4, 0.3).data()));
  EXPECT_GT(nmse(logits(net), logits(without)), 1e-6);
  M4N_OKAY(m4n_lora_save(net->params, &o.lora, adapter.c_str(), "base", nullptr));
  m4n_lora read;
  M4N_OKAY(m4n_lora_read(&read, adapter.c_str()));
  EXPECT_EQ(read.rank, 4);
  EXPECT_EQ(read.alpha, 8);
  EXPECT_STREQ(read.target[0], "q_proj");
  M4N_OKAY(m4n_net_load_backbone(without.net, base.c_str(), adapter.c_str()));
  EXPECT_LE(nmse(logits(without), logits(net)), 1e-11);

  strcpy(o.lora.target[0], "x_proj");
  m4n_net *none;
  EXPECT_EQ(m4n_net_open(&none, m.s, &o), M4N_EARG);
}

TEST(Config, RefusesWhatCannotBeBuilt) {
  auto refused = [](auto change, const char *key) {
    m4n_config c = little();
    change(c);
    EXPECT_EQ(m4n_config_check(&c, "file"), M4N_EFORMAT) << key;
    EXPECT_STREQ(m4n_last_error()->key, key);
  };
  refused([](m4n_config &c) { c.backbone.d = 0; }, "d");
  refused([](m4n_config &c) { c.backbone.eps = NAN; }, "eps");
  refused([](m4n_config &c) { c.backbone.kv_heads = 3; }, "kv_heads");
  refused([](m4n_config &c) { c.backbone.head_dim = 3; }, "head_dim");
  refused([](m4n_config &c) { c.backbone.frequencies = 1; }, "rope_freq");
  refused([](m4n_config &c) { c.backbone.state = 3; }, "state");
  refused([](m4n_config &c) { c.backbone.conv = 9; }, "conv");
  refused([](m4n_config &c) { c.backbone.rank = 0; }, "inner");
  refused([](m4n_config &c) { c.backbone.mamba_layers = 0, c.backbone.attention_layers = 0; },
          "attention_layers");
  refused([](m4n_config &c) { c.abr.history = 3; }, "abr");
  refused([](m4n_config &c) { c.abr.levels = 65; }, "levels");
}

TEST(Config, TextThatLiesIsRefused) {
  const m4n_config config = little();
  char *text = m4n_config_text(&config);
  const std::string good = text;
  free(text);
  m4n_config read;
  M4N_OKAY(m4n_config_parse(&read, "file", good.c_str()));
  auto refused = [&](const std::string &from, const std::string &to) {
    std::string bad = good;
    const size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, from.size(), to);
    EXPECT_EQ(m4n_config_parse(&read, "file", bad.c_str()), M4N_EFORMAT) << bad;
  };
  refused("\"version\":1", "\"version\":2");
  refused("\"d\":8", "\"d\":8.5");
  refused("\"d\":8", "\"d\":-8");
  refused("\"d\":8", "\"e\":8");
  refused("\"d\":8", "\"d\":8,\"new\":1");
  refused("\"rope_freq\":[]", "\"rope_freq\":[-1,0]");
  refused("\"rope_freq\":[]", "\"rope_freq\":7");
  refused("\"levels\":3", "\"levels\":\"3\"");
  refused("{\"version\"", "[\"version\"");
}

TEST(Config, MutatedTextIsRefusedOrCanBeBuilt) {
  const m4n_config config = little();
  char *text = m4n_config_text(&config);
  const std::string good = text;
  free(text);
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  int accepted = 0, refused = 0;
  for (int round = 0; round < 5000; round++) {
    std::string bad = good;
    const uint32_t at = m4n_rng_below(&rng, (uint32_t)bad.size());
    switch (m4n_rng_below(&rng, 3)) {
    case 0:
      bad[at] = "0123456789,.[]{}\":-e"[m4n_rng_below(&rng, 20)];
      break;
    case 1:
      bad.erase(at, 1 + m4n_rng_below(&rng, 3));
      break;
    default:
      bad.insert(at, 1, (char)('0' + m4n_rng_below(&rng, 10)));
    }
    m4n_config read;
    if (m4n_config_parse(&read, "file", bad.c_str())) {
      refused++;
    } else {
      accepted++;
      EXPECT_EQ(m4n_config_check(&read, "file"), M4N_OK);
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

TEST(Config, HuggingFacesFilesAreReadOrRefused) {
  const std::string dir = m4n_temp_dir(), path = dir + "/config.json";
  const std::string llama =
      R"("model_type":"llama","hidden_size":64,"intermediate_size":176,"num_hidden_layers":3,"num_attention_heads":4)";
  auto read = [&](const std::string &more) {
    m4n_write_file(path, "{" + llama + more + "}");
    m4n_config c;
    const int status = m4n_config_read(&c, dir.c_str());
    return std::make_pair(status, c.backbone);
  };
  auto [status, b] = read("");
  EXPECT_EQ(status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(b.kv_heads, 4);
  EXPECT_EQ(b.head_dim, 16);
  EXPECT_EQ(b.rope_theta, 10000);
  EXPECT_EQ(read(R"(,"rope_theta":5e5,"num_key_value_heads":2)").second.rope_theta, 5e5);
  for (const char *bad : {R"(,"rope_scaling":{"type":"linear"})",
                          R"(,"rope_parameters":{"rope_type":"llama3"})", R"(,"hidden_act":"gelu")",
                          R"(,"attention_bias":true)", R"(,"mlp_bias":true)", R"(,"sliding_window":128)"})
    EXPECT_EQ(read(bad).first, M4N_EUNSUPPORTED) << bad;
  for (const char *bad : {R"(,"num_key_value_heads":3)", R"(,"rms_norm_eps":"x")", R"(,"head_dim":-1)", ","})
    EXPECT_EQ(read(bad).first, M4N_EFORMAT) << bad;
  m4n_write_file(path, R"({"model_type":"gpt2"})");
  m4n_config c;
  EXPECT_EQ(m4n_config_read(&c, path.c_str()), M4N_EUNSUPPORTED);
  EXPECT_EQ(m4n_config_read(&c, (dir + "/none").c_str()), M4N_ENOTFOUND);
}

TEST(Abr, FeaturesAreScaledAndCut) {
  m4n_abr_shape shape = {6, 6, 2, 256, 20, 47};
  std::vector<m4n_real> row((size_t)m4n_abr_features(&shape), -1);
  EXPECT_EQ(row.size(), 2u + 1 + 1 + 6 + 6 + 12 + 1);
  const double throughput[8] = {9, 9, 1, 2, 3, 4, 5, 6}, download[8] = {9, 9, 10, 20, 30, 40, 50, 60};
  double sizes[30];
  for (int i = 0; i < 30; i++) sizes[i] = i * 1e6;
  m4n_abr_state s = {};
  s.throughput = throughput, s.download_time = download, s.history_given = 8, s.next_sizes = sizes;
  s.last_bitrate = 2150, s.top_bitrate = 4300, s.buffer = 20, s.chunks_left = 100;
  m4n_abr_fill(&shape, row.data(), &s);
  const std::vector<m4n_real> expected = {-1, -1, 0.5, 2, 1, 2, 3, 4, 5, 6, 1, 2,  3,  4, 5,
                                          6,  0,  1,   2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1};
  EXPECT_EQ(row, expected);
  s.chunks_left = 12;
  m4n_abr_fill(&shape, row.data(), &s);
  EXPECT_EQ(row.back(), (m4n_real)0.25);
  EXPECT_EQ(m4n_abr_action(&shape, 2), (m4n_real)0.5);
  EXPECT_EQ(m4n_abr_step_row(&shape, 46), 46);
  EXPECT_EQ(m4n_abr_step_row(&shape, 99), 47);
}

} // namespace
