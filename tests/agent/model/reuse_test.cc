// Weight reuse: where nothing has to be cut, the student computes what its teacher computes; what is cut keeps what
// algorithms.md §6 promises.
#include "agent/model/reuse.h"

#include <set>

#include "agent/model/svd.h"
#include "tests/agent/model/model_test.h"
#include "tests/support/paths.h"

namespace {

using namespace m4n_test;

constexpr double near = sizeof(m4n_real) == 8 ? 1e-20 : 1e-9; // NMSE

// A teacher of 4 heads × 16 and width 64 that has been to training: no weight is at its start.
m4n_config little_teacher(int layers, int kv_heads = 4, bool interleaved = false) {
  m4n_config c;
  EXPECT_EQ(m4n_config_preset(&c, "mini"), M4N_OK);
  c.backbone.d = 64, c.backbone.heads = 4, c.backbone.kv_heads = kv_heads, c.backbone.head_dim = 16;
  c.backbone.attention_layers = layers, c.backbone.ffn = 96, c.backbone.interleaved = interleaved;
  c.abr.window = 3, c.abr.embed = 8;
  return c;
}

struct Teacher {
  std::string path = m4n_temp_dir() + "/teacher.safetensors";
  m4n_net_options options = {};
  m4n_net *net = nullptr;
  m4n_teacher files = {};
  Teacher(const Machine &m, const m4n_config &config) {
    options.config = config, options.sequences = 3, options.train = true;
    EXPECT_EQ(m4n_net_open(&net, m.s, &options), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_net_start(net, 21), M4N_OK);
    for (int i = 0; i < net->params->n_parts; i++) {
      const m4n_part *part = &net->params->part[i];
      reals v((size_t)part->count), n = noise(v.size(), 300 + (uint64_t)i, 0.05);
      EXPECT_EQ(m4n_part_read(net->params, part, nullptr, v.data()), M4N_OK);
      for (size_t k = 0; k < v.size(); k++) v[k] += n[k];
      EXPECT_EQ(m4n_part_write(net->params, part, v.data()), M4N_OK);
    }
    const int type = sizeof(m4n_real) == 8 ? M4N_TENSOR_F64 : M4N_TENSOR_F32;
    EXPECT_EQ(m4n_net_save(net, path.c_str(), type, nullptr), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_teacher_open(&files, path.c_str(), nullptr, nullptr), M4N_OK) << m4n_error_message();
  }
  ~Teacher() {
    m4n_teacher_close(&files);
    m4n_net_close(net);
  }
};

struct Student {
  m4n_net *net = nullptr;
  m4n_reuse_report report = {};
  int status;
  Student(const Machine &m, m4n_config config, const Teacher &teacher, const m4n_reuse_options &o) {
    m4n_reuse_shape(&config, &teacher.files.config, &o);
    m4n_net_options options = {};
    options.config = config, options.sequences = 3, options.train = true;
    EXPECT_EQ(m4n_net_open(&net, m.s, &options), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_net_start(net, 5), M4N_OK);
    status = m4n_reuse(net, &teacher.files, &o, &report);
  }
  ~Student() { m4n_net_close(net); }
};

reals part_of(const m4n_net *net, const std::string &name) {
  const m4n_part *p = m4n_params_find(net->params, name.c_str());
  EXPECT_NE(p, nullptr) << name;
  reals v(p ? (size_t)p->count : 0);
  if (p && m4n_part_read(net->params, p, nullptr, v.data())) ADD_FAILURE() << m4n_error_message();
  return v;
}

reals logits(const Machine &m, m4n_net *net) {
  const int B = 2, steps = 3;
  const reals rows = noise((size_t)(B * steps * net->features), 1);
  std::copy(rows.begin(), rows.end(), net->rows);
  for (int i = 0; i < B; i++)
    for (int k = 0; k < steps; k++) m4n_net_set_step(net, i, k, steps, 2 * i + k);
  m4n_net_forward(net, B, steps, false, nullptr);
  return m.out(net->logits, (size_t)(B * steps * net->levels));
}

m4n_config attention_student(const m4n_config &teacher) {
  m4n_config s = teacher;
  s.backbone.kv_heads = s.backbone.heads, s.backbone.interleaved = 0;
  return s;
}

TEST(Reuse, LayersAreMappedAsDescribed) {
  // algorithms.md §6.6, 32 → 12
  const int even[] = {0, 3, 6, 8, 11, 14, 17, 20, 23, 25, 28, 31},
            middle[] = {1, 4, 6, 9, 12, 14, 17, 20, 22, 25, 28, 30};
  for (int i = 0; i < 12; i++) {
    EXPECT_EQ(m4n_reuse_layer(M4N_MAP_EVEN, i, 12, 32), even[i]);
    EXPECT_EQ(m4n_reuse_layer(M4N_MAP_MIDDLE, i, 12, 32), middle[i]);
    EXPECT_EQ(m4n_reuse_layer(M4N_MAP_FIRST, i, 12, 32), i);
    EXPECT_EQ(m4n_reuse_layer(M4N_MAP_LAST, i, 12, 32), 20 + i);
  }
  EXPECT_EQ(m4n_reuse_layer(M4N_MAP_EVEN, 0, 1, 6), 0);
  EXPECT_EQ(m4n_reuse_layer(M4N_MAP_FIRST, 11, 12, 6), 5);
}

TEST(Reuse, AStudentOfTheTeachersShapeIsTheTeacher) {
  Machine m;
  struct {
    int kv_heads;
    bool interleaved;
  } shapes[] = {{4, false}, {2, false}, {1, true}};
  for (const auto &shape : shapes) {
    const Teacher teacher(m, little_teacher(3, shape.kv_heads, shape.interleaved));
    for (int mode : {M4N_REUSE_HEAD, M4N_REUSE_SLICE}) {
      if (mode == M4N_REUSE_SLICE && shape.interleaved) continue; // slicing knows nothing of pairs
      m4n_reuse_options o = m4n_reuse_usual(mode);
      const Student s(m, attention_student(teacher.files.config), teacher, o);
      ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
      EXPECT_EQ(s.report.fresh, 0);
      EXPECT_LE(nmse(logits(m, s.net), logits(m, teacher.net)), near) << "mode " << mode;
    }
  }
}

// With all directions kept, a projection is a rotation of the stream: the student's stream is the teacher's, turned.
TEST(Reuse, ProjectingOnAllDirectionsIsARotation) {
  Machine m;
  const Teacher teacher(m, little_teacher(2));
  m4n_moments *moments;
  M4N_OKAY(m4n_moments_open(&moments, teacher.net));
  logits(m, teacher.net);
  m4n_moments_add(moments);
  m4n_reuse_options o = m4n_reuse_usual(M4N_REUSE_PCA);
  o.moments = moments;
  const Student s(m, attention_student(teacher.files.config), teacher, o);
  m4n_moments_close(moments);
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_NEAR(s.report.energy, 1, 1e-6);

  // The table of steps was projected: P is found from it, table_S = table_T·Pᵀ. It has 48 rows, so P is known on the
  // span of those; a stream inside that span is compared.
  const int d = 64, B = 1, T = 5;
  auto run = [&](m4n_net *net, const reals &x) {
    m.in(m4n_chain_input(net->chain), x);
    m4n_pass pass = {};
    pass.s = m.s, pass.B = B, pass.T = T;
    return m.out(m4n_chain_forward(net->chain, &pass), x.size());
  };
  const reals table_T = part_of(teacher.net, "encoder.step.weight"),
              table_S = part_of(s.net, "encoder.step.weight");
  const reals x_T(table_T.begin(), table_T.begin() + T * d), x_S(table_S.begin(), table_S.begin() + T * d);
  const reals y_T = run(teacher.net, x_T), y_S = run(s.net, x_S);
  // The head reads both alike: W·γ·x̂ = (W·γ·Pᵀ)·(P·x̂).
  const reals head_T = part_of(teacher.net, "head.weight"), head_S = part_of(s.net, "head.weight");
  auto read = [&](const reals &head, const reals &y) {
    reals out;
    for (int t = 0; t < T; t++)
      for (int v = 0; v < 6; v++) {
        double sum = 0;
        for (int c = 0; c < d; c++) sum += (double)head[(size_t)(v * d + c)] * (double)y[(size_t)(t * d + c)];
        out.push_back((m4n_real)sum);
      }
    return out;
  };
  // Not closer, since the norms' eps makes x̂ a little shorter than 1, and the student's norms do it once more.
  EXPECT_LE(nmse(read(head_S, y_S), read(head_T, y_T)), 1e-8);
}

// Heads no wider than N: a Mamba layer's scores and values are the teacher's exactly.
TEST(Reuse, MapsOfRankNAreKept) {
  Machine m;
  const Teacher teacher(m, little_teacher(2));
  m4n_config c = attention_student(teacher.files.config);
  c.backbone.mamba_layers = 1, c.backbone.attention_layers = 1, c.backbone.mamba_ffn = 1;
  c.backbone.inner = 64, c.backbone.state = 16, c.backbone.rank = 4, c.backbone.conv = 4;
  const Student s(m, c, teacher, m4n_reuse_usual(M4N_REUSE_HEAD));
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  const std::string layer = "model.layers.0.";
  const reals q = part_of(teacher.net, layer + "self_attn.q_proj.weight"),
              k = part_of(teacher.net, layer + "self_attn.k_proj.weight"),
              v = part_of(teacher.net, layer + "self_attn.v_proj.weight"),
              o = part_of(teacher.net, layer + "self_attn.o_proj.weight");
  const reals C = part_of(s.net, layer + "mixer.c_proj.weight"),
              B = part_of(s.net, layer + "mixer.b_proj.weight"),
              x = part_of(s.net, layer + "mixer.x_proj.weight"),
              out = part_of(s.net, layer + "mixer.out_proj.weight");
  const int d = 64, P = 16;
  for (int h = 0; h < 4; h++)
    for (int i = 0; i < d; i += 5)
      for (int j = 0; j < d; j += 7) {
        double scores = 0, kept_scores = 0, values = 0, kept_values = 0;
        for (int p = h * P; p < (h + 1) * P; p++) {
          const size_t at_i = (size_t)(p * d + i), at_j = (size_t)(p * d + j), col = (size_t)(i * d + p);
          scores += (double)q[at_i] * (double)k[at_j] / 4; // 1/√16
          kept_scores += (double)C[at_i] * (double)B[at_j];
          values += (double)o[col] * (double)v[at_j];
          kept_values += (double)out[col] * (double)x[at_j];
        }
        EXPECT_NEAR(kept_scores, scores, 2e-6);
        EXPECT_NEAR(kept_values, values, 2e-6);
      }
  // And what a mixer has beside is as described.
  EXPECT_EQ(part_of(s.net, layer + "mixer.z_proj.bias"), reals(64, (m4n_real)1.278));
  EXPECT_EQ(part_of(s.net, layer + "mixer.D"), reals(64, 1));
  const reals taps = part_of(s.net, layer + "mixer.conv1d.weight");
  for (size_t i = 0; i < taps.size(); i++) EXPECT_EQ(taps[i], i % 4 == 3 ? 1 : 0);
  EXPECT_EQ(part_of(s.net, layer + "mixer.conv1d.bias"), reals(64));
  EXPECT_TRUE(m4n_params_find(s.net->params, (layer + "mixer.A_log").c_str())->fresh);
  EXPECT_TRUE(m4n_params_find(s.net->params, "encoder.buffer.weight")->fresh);
  EXPECT_FALSE(m4n_params_find(s.net->params, (layer + "mixer.c_proj.weight").c_str())->fresh);
}

// Half as wide, in every mode: numbers stay numbers, gains hold, and the shape is what the mode needs.
TEST(Reuse, NarrowerStudentsInEveryMode) {
  Machine m(2);
  const Teacher teacher(m, little_teacher(4));
  m4n_config c;
  M4N_OKAY(m4n_config_preset(&c, "tiny"));
  c.abr = teacher.files.config.abr;
  c.backbone.d = 32, c.backbone.ffn = 48, c.backbone.inner = 32, c.backbone.state = 8;
  c.backbone.heads = c.backbone.kv_heads = 2;
  m4n_moments *moments;
  M4N_OKAY(m4n_moments_open(&moments, teacher.net));
  logits(m, teacher.net);
  m4n_moments_add(moments);
  std::set<double> sums;
  for (const char *name : {"slice", "head", "pca", "spectrum", "random"}) {
    SCOPED_TRACE(name);
    m4n_reuse_options o = m4n_reuse_usual(m4n_reuse_mode_of(name));
    o.moments = moments, o.pool = m.pool, o.rank = 40;
    const Student s(m, c, teacher, o);
    ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
    const reals y = logits(m, s.net);
    double sum = 0;
    for (m4n_real v : y) {
      EXPECT_TRUE(std::isfinite((double)v));
      sum += (double)v * (double)v;
    }
    EXPECT_TRUE(sums.insert(sum).second) << "the same as another mode";
    EXPECT_EQ(s.report.reused + s.report.fresh, m4n_params_count(s.net->params, M4N_ALL_SETS, false));
    const m4n_backbone &b = s.net->options.config.backbone;
    if (o.mode == M4N_REUSE_RANDOM) {
      EXPECT_EQ(s.report.reused, 0);
      EXPECT_EQ(b.gate_bias, 0);
      continue;
    }
    EXPECT_GT(s.report.reused, s.report.fresh);
    EXPECT_EQ(b.heads, o.mode == M4N_REUSE_SLICE ? 2 : 4);
    EXPECT_EQ(b.frequencies, b.head_dim / 2);
    // The slowest pairs of the teacher's 8.
    EXPECT_EQ(b.rope_freq[b.frequencies - 1], m4n_rope_frequency(&teacher.files.config.backbone, 7));
    EXPECT_EQ(s.report.energy < 1, o.mode == M4N_REUSE_PCA);
    if (o.mode == M4N_REUSE_PCA) continue;
    // §6.3: the mean square of outputs is the teacher's, here of the last layer's gate.
    const reals gate = part_of(s.net, "model.layers.2.mlp.gate_proj.weight"),
                whole = part_of(teacher.net, "model.layers.3.mlp.gate_proj.weight");
    auto energy = [](const reals &w) {
      double e = 0;
      for (m4n_real v : w) e += (double)v * (double)v;
      return e;
    };
    EXPECT_NEAR(energy(gate) / 48, energy(whole) / 96, 1e-5 * energy(whole) / 96);
  }
  m4n_moments_close(moments);
}

TEST(Reuse, SpectrumKeepsSingularValuesAndNothingElse) {
  Machine m;
  const Teacher teacher(m, little_teacher(2));
  m4n_config c = attention_student(teacher.files.config);
  c.backbone.d = 32, c.backbone.ffn = 48;
  const Student head(m, c, teacher, m4n_reuse_usual(M4N_REUSE_HEAD)),
      spectrum(m, c, teacher, m4n_reuse_usual(M4N_REUSE_SPECTRUM));
  ASSERT_EQ(head.status, M4N_OK) << m4n_error_message();
  ASSERT_EQ(spectrum.status, M4N_OK) << m4n_error_message();
  for (const char *name : {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"}) {
    const reals a = part_of(head.net, name), b = part_of(spectrum.net, name);
    EXPECT_GT(nmse(b, a), 0.5);
    const int rows = (int)m4n_params_find(head.net->params, name)->shape[0], cols = (int)a.size() / rows;
    const int r = std::min(rows, cols);
    std::vector<double> s[2];
    for (int i = 0; i < 2; i++) {
      const std::vector<double> w(i ? b.begin() : a.begin(), i ? b.end() : a.end());
      std::vector<double> u((size_t)(r * rows)), v((size_t)(r * cols));
      s[i].resize((size_t)r);
      M4N_OKAY(m4n_svd(u.data(), s[i].data(), v.data(), w.data(), rows, cols, r, 1, nullptr));
    }
    for (int i = 0; i < r; i++) EXPECT_NEAR(s[0][(size_t)i], s[1][(size_t)i], 1e-5 * s[0][0]) << name;
  }
}

// A toy teacher whose matrices have rank 3: slicing at rank 3 is exact, at rank 2 it is not.
TEST(Reuse, SlicingAtTheTrueRankIsExact) {
  Machine m;
  Teacher teacher(m, little_teacher(1));
  const char *name = "model.layers.0.mlp.up_proj.weight";
  const m4n_part *part = m4n_params_find(teacher.net->params, name);
  const reals x = noise(96 * 3, 1), y = noise(3 * 64, 2);
  reals w(96 * 64);
  for (size_t i = 0; i < 96; i++)
    for (size_t j = 0; j < 64; j++)
      for (size_t k = 0; k < 3; k++) w[i * 64 + j] += x[i * 3 + k] * y[k * 64 + j];
  M4N_OKAY(m4n_part_write(teacher.net->params, part, w.data()));
  m4n_teacher_close(&teacher.files);
  const int type = sizeof(m4n_real) == 8 ? M4N_TENSOR_F64 : M4N_TENSOR_F32;
  M4N_OKAY(m4n_net_save(teacher.net, teacher.path.c_str(), type, nullptr));
  M4N_OKAY(m4n_teacher_open(&teacher.files, teacher.path.c_str(), nullptr, nullptr));
  m4n_config c = attention_student(teacher.files.config);
  c.backbone.d = 32, c.backbone.ffn = 40;
  for (int rank : {2, 3}) {
    m4n_reuse_options o = m4n_reuse_usual(M4N_REUSE_SLICE);
    o.rank = rank, o.gain = false;
    const Student s(m, c, teacher, o);
    ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
    const reals cut = part_of(s.net, name);
    reals block;
    for (size_t i = 0; i < 40; i++)
      block.insert(block.end(), w.begin() + (long)(i * 64), w.begin() + (long)(i * 64 + 32));
    if (rank == 3)
      EXPECT_LE(nmse(cut, block), 1e-10);
    else
      EXPECT_GT(nmse(cut, block), 1e-3);
  }
}

TEST(Reuse, ThreadsChangeNoByte) {
  std::vector<reals> all;
  for (int threads : {1, 3}) {
    Machine m(threads);
    const Teacher teacher(m, little_teacher(3));
    m4n_config c;
    M4N_OKAY(m4n_config_preset(&c, "tiny"));
    c.backbone.d = 32, c.backbone.ffn = 48, c.backbone.inner = 32, c.backbone.state = 8,
    c.abr = teacher.files.config.abr;
    m4n_reuse_options o = m4n_reuse_usual(M4N_REUSE_HEAD);
    o.pool = m.pool;
    const Student s(m, c, teacher, o);
    ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
    all.push_back(m.out(s.net->params->w, (size_t)s.net->params->n));
  }
  EXPECT_EQ(all[0], all[1]);
}

TEST(Reuse, WhatCannotBeJoinedIsRefused) {
  Machine m;
  const Teacher teacher(m, little_teacher(2));
  const m4n_config good = attention_student(teacher.files.config);
  auto refused = [&](auto change, int mode = M4N_REUSE_HEAD) {
    m4n_config c = good;
    change(c);
    const Student s(m, c, teacher, m4n_reuse_usual(mode));
    EXPECT_EQ(s.status, M4N_EARG);
  };
  refused([](m4n_config &c) { c.backbone.d = 128; });
  refused([](m4n_config &c) { c.backbone.ffn = 128; });
  refused([](m4n_config &) {}, M4N_REUSE_PCA); // no moments
  auto mamba = [](m4n_config &c) {
    c.backbone.mamba_layers = 1, c.backbone.mamba_ffn = 1, c.backbone.rank = 4, c.backbone.conv = 4;
    c.backbone.inner = 64, c.backbone.state = 8;
  };
  refused([&](m4n_config &c) { mamba(c), c.backbone.inner = 128; });
  refused([&](m4n_config &c) { mamba(c), c.backbone.inner = 128, c.backbone.state = 16; }, M4N_REUSE_SLICE);
  m4n_teacher none;
  EXPECT_EQ(m4n_teacher_open(&none, "/nowhere", nullptr, nullptr), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_reuse_mode_of("heads"), -1);
}

// A Hugging Face teacher with its adapter, without encoder and head: the backbone is reused.
TEST(Reuse, AHuggingFaceTeacherWithAdapter) {
  const std::string base = m4n_golden() + "/llama", adapter = m4n_golden() + "/llama_lora";
  M4N_NEED(adapter);
  Machine m;
  m4n_teacher plain, folded;
  M4N_OKAY(m4n_teacher_open(&plain, base.c_str(), nullptr, nullptr));
  M4N_OKAY(m4n_teacher_open(&folded, base.c_str(), nullptr, adapter.c_str()));
  m4n_config c = plain.config;
  c.backbone.kv_heads = 4;
  const m4n_reuse_options o = m4n_reuse_usual(M4N_REUSE_HEAD);
  m4n_reuse_shape(&c, &plain.config, &o);
  m4n_net_options options = {};
  options.config = c, options.sequences = 2, options.tokens = 17, options.train = true;
  File io(adapter + "/io.safetensors");
  const std::vector<double> hidden = io.doubles("hidden");
  for (const m4n_teacher *t : {&plain, &folded}) {
    Net net(m, options);
    M4N_OKAY(m4n_net_start(net.net, 1));
    m4n_reuse_report report;
    M4N_OKAY(m4n_reuse(net.net, t, &o, &report));
    const double distance = nmse(net.forward(m, io.values("inputs_embeds"), 2, 17, false), hidden);
    if (t == &folded)
      EXPECT_LE(distance, 1e-9);
    else
      EXPECT_GT(distance, 1e-6);
  }
  m4n_teacher_close(&plain);
  m4n_teacher_close(&folded);
}

} // namespace
