#include <cinttypes>

#include "agent/learn/imitation.h"
#include "agent/learn/labels.h"
#include "agent/learn/labelling.h"
#include "agent/model/half.h"
#include "kernels/base/log.h"
#include "kernels/base/stop.h"
#include "tests/agent/learn/scene.h"
#include "tests/support/alloc.h"

namespace {

using namespace abr_world;
namespace fs = std::filesystem;

struct Quiet {
  Quiet() { m4n_log_set_level(M4N_LOG_WARN); }
} quiet;

struct Labels {
  m4n_labels *labels = nullptr;
  ~Labels() { m4n_labels_close(labels); }
  m4n_labels *operator->() const { return labels; }
};

// Softmax of a checkpoint's answers to one window, in double.
std::vector<double> answers(const std::string &checkpoint, const m4n_trajectories *pool,
                            const m4n_window &w) {
  m4n_checkpoint c;
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_net *net;
  EXPECT_EQ(m4n_checkpoint_read(&c, checkpoint.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
  EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
  m4n_net_options o = {};
  o.config = c.config, o.sequences = 1;
  EXPECT_EQ(m4n_net_open(&net, stream, &o), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_checkpoint_load(&c, net), M4N_OK) << m4n_error_message();
  for (int t = 0; t < w.steps; t++) {
    memcpy(m4n_net_row(net, 0, t, w.steps),
           m4n_trajectories_row(pool, pool->episode[w.episode].first + w.start + t),
           (size_t)pool->features * sizeof(m4n_real));
    m4n_net_set_step(net, 0, t, w.steps, w.start + t);
  }
  m4n_net_forward(net, 1, w.steps, false, nullptr);
  std::vector<m4n_real> z((size_t)(w.steps * LEVELS));
  m4n_copy_out(stream, z.data(), net->logits, z.size() * sizeof(m4n_real));
  EXPECT_EQ(m4n_sync(stream), M4N_OK);
  std::vector<double> p;
  for (int t = 0; t < w.steps; t++) {
    double sum = 0;
    for (int k = 0; k < LEVELS; k++) sum += std::exp((double)z[(size_t)(t * LEVELS + k)]);
    for (int k = 0; k < LEVELS; k++) p.push_back(std::exp((double)z[(size_t)(t * LEVELS + k)]) / sum);
  }
  m4n_net_close(net);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  return p;
}

// ---- labels

TEST(Labels, OfATeacherAreItsAnswersToExactlyTheseWindows) {
  for (int stride : {1, 5}) {
    const std::string path = scene().label(M4N_LABEL_TEACHER, nullptr, stride);
    Labels labels;
    Pool pool;
    M4N_OKAY(m4n_labels_open(&labels.labels, path.c_str()));
    EXPECT_EQ(labels->about.labeller, M4N_LABEL_TEACHER);
    EXPECT_STREQ(labels->about.by, "teacher.safetensors");
    EXPECT_EQ(labels->about.w, 8);
    EXPECT_EQ(labels->about.stride, stride);
    EXPECT_TRUE(labels->about.soft);
    M4N_OKAY(scene().pool_of(pool, &labels->about.condition));
    M4N_OKAY(m4n_labels_fit(labels.labels, pool.pool));
    for (int episode : {0, 3, 5})
      for (int number : {0, 1, m4n_windows_of(STEPS, 8, stride) - 1}) {
        m4n_window w = {};
        w.episode = episode;
        m4n_window_at(&w, number, STEPS, 8, stride);
        std::vector<m4n_real> logp(8 * LEVELS);
        M4N_OKAY(m4n_labels_read(labels.labels, &w, logp.data()));
        const std::vector<double> p = answers(scene().teacher, pool.pool, w);
        for (size_t i = 0; i < p.size(); i++) EXPECT_NEAR(std::exp((double)logp[i]), p[i], 1e-3);
      }
  }
}

TEST(Labels, OfAnExpertAndOfTheOracle) {
  Pool pool;
  M4N_OKAY(scene().pool_of(pool, nullptr));
  Labels expert, oracle;
  // A rule that always answers the same, and one whose answers the rows say.
  M4N_OKAY(m4n_labels_open(&expert.labels, scene().label(M4N_LABEL_EXPERT, "level-2", 1, "expert").c_str()));
  M4N_OKAY(m4n_labels_fit(expert.labels, pool.pool));
  EXPECT_FALSE(expert->about.soft);
  EXPECT_STREQ(expert->about.by, "level-2");
  EXPECT_EQ(expert->about.w, 0);
  M4N_OKAY(m4n_labels_open(&oracle.labels, scene().label(M4N_LABEL_ORACLE, nullptr, 1, "oracle").c_str()));
  M4N_OKAY(m4n_labels_fit(oracle.labels, pool.pool));
  EXPECT_EQ(oracle->about.labeller, M4N_LABEL_ORACLE);
  int different = 0;
  for (int e = 0; e < pool->n; e++)
    for (int start : {0, 3, STEPS - 8}) {
      m4n_window w = {};
      w.episode = e, w.start = w.number = start, w.steps = 8;
      int32_t choice[8];
      M4N_OKAY(m4n_labels_read_choices(expert.labels, &w, choice));
      for (int c : choice) EXPECT_EQ(c, 2);
      M4N_OKAY(m4n_labels_read_choices(oracle.labels, &w, choice));
      for (int t = 0; t < 8; t++) {
        EXPECT_EQ(choice[t], pool->advice[pool->episode[e].first + start + t]);
        different += choice[t] != pool->action[pool->episode[e].first + start + t];
      }
    }
  EXPECT_GT(different, 0);
}

// "cycle" counts its decisions: each step must be asked about in its turn, in every episode anew.
TEST(Labels, AnExpertSeesEpisodesFromTheirBeginning) {
  Pool pool;
  M4N_OKAY(scene().pool_of(pool, nullptr));
  Labels labels;
  M4N_OKAY(m4n_labels_open(&labels.labels, scene().label(M4N_LABEL_EXPERT, "cycle", 1, "cycle").c_str()));
  M4N_OKAY(m4n_labels_fit(labels.labels, pool.pool));
  std::vector<std::vector<int32_t>> all;
  for (int e = 0; e < pool->n; e++) {
    m4n_window w = {};
    w.episode = e, w.steps = STEPS;
    std::vector<int32_t> choice((size_t)STEPS);
    M4N_OKAY(m4n_labels_read_choices(labels.labels, &w, choice.data()));
    for (int t = 1; t < STEPS; t++) EXPECT_NE(choice[(size_t)t], choice[(size_t)t - 1]);
    all.push_back(choice);
  }
  for (const auto &choice : all) EXPECT_EQ(choice, all[0]);
}

TEST(Labels, RefusesWhatIsNotItsPool) {
  const std::string path = scene().label(M4N_LABEL_TEACHER);
  Labels labels;
  M4N_OKAY(m4n_labels_open(&labels.labels, path.c_str()));
  Pool otherwise_scaled, others;
  M4N_OKAY(scene().pool_of(otherwise_scaled, nullptr));
  m4n_condition c = labels->about.condition;
  c.scale *= 2;
  M4N_OKAY(scene().pool_of(others, &c));
  EXPECT_EQ(m4n_labels_fit(labels.labels, others.pool), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "other episodes"), nullptr) << m4n_error_message();
}

// Any byte of a label file changed: an error, or labels that are the same but for what is told of them.
TEST(Labels, NoFlippedBitChangesALabel) {
  const std::string path = scene().label(M4N_LABEL_TEACHER, nullptr, 20, "small"),
                    bad = scene().dir + "/bad.safetensors";
  const std::string bytes = m4n_read_file(path);
  Pool pool;
  Labels whole;
  M4N_OKAY(m4n_labels_open(&whole.labels, path.c_str()));
  M4N_OKAY(scene().pool_of(pool, &whole->about.condition));
  M4N_OKAY(m4n_labels_fit(whole.labels, pool.pool));
  m4n_window w = {};
  w.episode = 5, w.steps = 8;
  std::vector<m4n_real> expected(8 * LEVELS), got(8 * LEVELS);
  M4N_OKAY(m4n_labels_read(whole.labels, &w, expected.data()));
  uint64_t header;
  memcpy(&header, bytes.data(), 8);
  int refused = 0, read = 0;
  for (size_t at = 0; at < bytes.size(); at += m4n_sanitized() ? 37 : 7)
    for (char mask : {1, -128}) {
      std::string lie = bytes;
      lie[at] = (char)(lie[at] ^ mask);
      m4n_write_file(bad, lie);
      Labels labels;
      int status = m4n_labels_open(&labels.labels, bad.c_str());
      if (!status) status = m4n_labels_fit(labels.labels, pool.pool);
      if (!status) status = m4n_labels_read(labels.labels, &w, got.data());
      refused += status != M4N_OK;
      read += status == M4N_OK;
      if (!status) {
        EXPECT_EQ(got, expected) << "byte " << at;
        EXPECT_LT(at, 8 + header) << "a label's own byte";
      }
    }
  EXPECT_GT(refused, read);
  for (size_t size : {(size_t)0, (size_t)7, (size_t)100, bytes.size() - 1}) {
    m4n_write_file(bad, bytes.substr(0, size));
    Labels labels;
    EXPECT_EQ(m4n_labels_open(&labels.labels, bad.c_str()), M4N_EFORMAT) << size;
  }
  Labels none;
  EXPECT_EQ(m4n_labels_open(&none.labels, scene().teacher.c_str()), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "no file of labels"), nullptr) << m4n_error_message();
}

TEST(Labels, AreGoneOnWithAfterAStop) {
  const std::string whole = scene().label(M4N_LABEL_TEACHER, nullptr, 1, "whole"), dir = m4n_temp_dir();
  const std::string out = dir + "/labels.safetensors";
  const char *log = scene().events.c_str();
  m4n_label_options o = {};
  m4n_stop stop = {};
  o.stage.device = "cpu", o.stage.work = dir.c_str(), o.stage.resume = true, o.stage.stop = &stop;
  o.events = &log, o.n_events = 1, o.labeller = M4N_LABEL_TEACHER, o.teacher = scene().teacher.c_str();
  o.batch = 7, o.stride = 1, o.out = out.c_str();
  m4n_stop_request(&stop);
  EXPECT_EQ(m4n_label(&o), M4N_ECANCELLED);
  std::string part;
  for (const auto &entry : fs::directory_iterator(dir)) part = entry.path();
  ASSERT_NE(part.find(".part"), std::string::npos);
  // As a killed process leaves it: three windows and a half, which are taken as they are.
  Labels labels;
  Pool pool;
  M4N_OKAY(m4n_labels_open(&labels.labels, whole.c_str()));
  M4N_OKAY(scene().pool_of(pool, &labels->about.condition));
  M4N_OKAY(m4n_labels_fit(labels.labels, pool.pool));
  std::string values;
  for (int number = 0; number < 4; number++) {
    m4n_window w = {};
    m4n_window_at(&w, number, STEPS, 8, 1);
    std::vector<m4n_real> logp(8 * LEVELS);
    M4N_OKAY(m4n_labels_read(labels.labels, &w, logp.data()));
    for (m4n_real v : logp) {
      const uint16_t half = m4n_half_bits((float)v);
      values.append((const char *)&half, 2);
    }
  }
  values.resize(values.size() - 8 * LEVELS - 1);
  m4n_write_file(part, values);
  stop = {};
  M4N_OKAY(m4n_label(&o));
  EXPECT_TRUE(m4n_read_file(out) == m4n_read_file(whole));
  EXPECT_FALSE(fs::exists(part));
}

// ---- distillation

struct Distil {
  std::string dir = m4n_temp_dir(), work = dir + "/distil", out = dir + "/student.safetensors";
  std::string labels, student;
  m4n_distil_options o = m4n_distil_usual();
  m4n_stop stop = {};
  Player player;
  const char *log = scene().events.c_str();
  Distil() {
    o.stage.device = "cpu", o.stage.seed = 9, o.stage.stop = &stop, o.stage.hooks = &player.hooks;
    o.fit.steps = 30, o.fit.batch = 4, o.fit.lr = 1e-3, o.fit.log_every = 5, o.fit.save_every = 7;
  }
  int run(bool resume = false) {
    o.stage.work = work.c_str(), o.out = out.c_str(), o.stage.resume = resume;
    o.events = &log, o.n_events = 1, o.student = student.c_str();
    o.labels = labels.empty() ? nullptr : labels.c_str();
    return m4n_distil(&o);
  }
};

// The teacher distilled into itself: no divergence, and no gradient beyond what 16 bits leave.
TEST(Distil, EqualModelsDoNotDiverge) {
  const std::string labels = scene().label(M4N_LABEL_TEACHER);
  for (int divergence : {M4N_DISTIL_FORWARD, M4N_DISTIL_REVERSE, M4N_DISTIL_JSD}) {
    Distil same, other;
    for (Distil *d : {&same, &other}) {
      d->labels = labels, d->o.task_weight = 0, d->o.label_weight = 1, d->o.divergence = divergence;
      d->o.fit.steps = 1, d->o.fit.ema = 0, d->o.fit.lr = 0;
    }
    same.student = scene().teacher;
    other.student = scene().reuse("random", "random");
    M4N_OKAY(same.run());
    M4N_OKAY(other.run());
    EXPECT_EQ(cell(same.work + "/train.csv", "task"), 0);
    EXPECT_LT(std::fabs(cell(same.work + "/train.csv", "label")), 1e-5);
    EXPECT_LT(cell(same.work + "/train.csv", "grad_norm"),
              0.01 * cell(other.work + "/train.csv", "grad_norm"));
    EXPECT_GT(cell(other.work + "/train.csv", "label"), 1e-2);
    EXPECT_GT(cell(same.work + "/train.csv", "agreement"), 0.99);
    // A rate of nothing moves nothing: what is written is what was read.
    const std::string a = m4n_read_file(same.out), b = m4n_read_file(scene().teacher);
    EXPECT_TRUE(a.substr(a.size() - 100000) == b.substr(b.size() - 100000));
  }
}

TEST(Distil, AStudentLearnsItsTeachersAnswers) {
  Distil d;
  d.labels = scene().label(M4N_LABEL_TEACHER, nullptr, 3), d.student = scene().reuse("head");
  d.o.fit.steps = m4n_sanitized() ? 60 : 150, d.o.fit.lr = 3e-3, d.o.task_weight = 0, d.o.label_weight = 1;
  M4N_OKAY(d.run());
  const std::string csv = d.work + "/train.csv";
  EXPECT_LT(cell(csv, "label"), 0.5 * cell(csv, "label", false));
  EXPECT_GT(cell(csv, "agreement"), cell(csv, "agreement", false));
  EXPECT_GT(cell(csv, "agreement"), 0.75);
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, d.out.c_str()));
  EXPECT_NE(strstr(c.about, "forward KL"), nullptr) << c.about;
  EXPECT_NE(strstr(c.about, "labels: teacher"), nullptr) << c.about;
  EXPECT_EQ(c.config.backbone.mamba_layers, 1);
}

TEST(Distil, EveryLabellerAndNone) {
  for (const char *who : {"expert", "oracle", "none"}) {
    Distil d;
    const std::string name = who;
    if (name == "expert") d.labels = scene().label(M4N_LABEL_EXPERT, "level-2", 1, "expert");
    if (name == "oracle") d.labels = scene().label(M4N_LABEL_ORACLE, nullptr, 1, "oracle");
    d.student = scene().reuse("random", "random");
    M4N_OKAY(d.run());
    m4n_checkpoint c;
    M4N_OKAY(m4n_checkpoint_read(&c, d.out.c_str()));
    EXPECT_NE(strstr(c.about, name == "none" ? "no labels" : ("labels: " + name).c_str()), nullptr)
        << c.about;
    EXPECT_EQ(cell(d.work + "/train.csv", "label") > 0, name != "none");
    EXPECT_LT(cell(d.work + "/train.csv", "loss"), cell(d.work + "/train.csv", "loss", false));
  }
}

TEST(Distil, OnPolicyRounds) {
  Distil d;
  d.labels = scene().label(M4N_LABEL_TEACHER, nullptr, 3), d.student = scene().reuse("head");
  d.o.on_policy.share = 0.5, d.o.on_policy.every = 10, d.o.on_policy.start = 5, d.o.on_policy.episodes = 3;
  d.o.on_policy.keep = 2, d.o.on_policy.labeller = M4N_LABEL_TEACHER,
  d.o.on_policy.teacher = scene().teacher.c_str();
  std::vector<int64_t> first;
  std::vector<std::string> there;
  d.player.before = [&](const m4n_play &order) {
    EXPECT_EQ(order.set, M4N_SET_TRAIN);
    EXPECT_TRUE(order.sample);
    EXPECT_NE(order.events, nullptr);
    first.push_back(order.first_episode);
    there.clear();
    for (const auto &entry : fs::directory_iterator(d.work))
      if (entry.is_directory() && entry.path().filename().string().substr(0, 6) == "round-")
        there.push_back(entry.path().filename());
    return (int)M4N_OK;
  };
  M4N_OKAY(d.run());
  EXPECT_EQ(first, (std::vector<int64_t>{0, 3, 6})); // before steps 5, 15 and 25
  EXPECT_EQ(there.size(), 3u);                       // two that were drawn from, and the new one
  for (const auto &entry : fs::directory_iterator(d.work)) EXPECT_FALSE(entry.is_directory()) << entry.path();
  EXPECT_EQ(cell(d.work + "/train.csv", "on_policy", false), 0); // the first five steps had no round
  EXPECT_GT(cell(d.work + "/train.csv", "on_policy"), 0);
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, d.out.c_str()));
  EXPECT_NE(strstr(c.about, "on-policy 0.5, labels: teacher"), nullptr) << c.about;
}

TEST(Distil, OnPolicyResumedEqualsUninterrupted) {
  auto prepare = [](Distil &d, int labeller) {
    d.student = scene().reuse("head");
    d.o.on_policy.share = 0.5, d.o.on_policy.every = 10, d.o.on_policy.episodes = 3, d.o.on_policy.keep = 2;
    d.o.on_policy.labeller = labeller, d.o.on_policy.teacher = scene().teacher.c_str();
    d.o.on_policy.expert = "level-1";
    d.o.fit.valid_episodes = 2, d.o.fit.valid_every = 8;
  };
  for (int labeller : {M4N_LABEL_TEACHER, M4N_LABEL_EXPERT, M4N_LABEL_ORACLE}) {
    if (m4n_sanitized() && labeller == M4N_LABEL_EXPERT) continue;
    Distil whole, parts;
    prepare(whole, labeller);
    prepare(parts, labeller);
    M4N_OKAY(whole.run());
    // It fails while it plays its second round, then is stopped between rounds.
    parts.player.before = [&](const m4n_play &order) {
      EXPECT_EQ(order.advice, order.set == M4N_SET_TRAIN && labeller == M4N_LABEL_ORACLE);
      return order.first_episode == 3 ? m4n_fail(M4N_EIO, "the disk is full") : (int)M4N_OK;
    };
    EXPECT_EQ(parts.run(true), M4N_EIO);
    parts.player.before = [&](const m4n_play &order) {
      if (order.set == M4N_SET_VALID && fs::exists(parts.work + "/round-000001"))
        m4n_stop_request(&parts.stop);
      return (int)M4N_OK;
    };
    EXPECT_EQ(parts.run(true), M4N_ECANCELLED);
    parts.stop = {};
    parts.player.before = nullptr;
    M4N_OKAY(parts.run(true));
    EXPECT_TRUE(m4n_read_file(whole.out) == m4n_read_file(parts.out));
    EXPECT_EQ(without_clock(whole.work + "/train.csv"), without_clock(parts.work + "/train.csv"));
    EXPECT_EQ(m4n_read_file(whole.work + "/valid.csv"), m4n_read_file(parts.work + "/valid.csv"));
  }
}

TEST(Distil, ARoundThatIsMissingIsAnError) {
  Distil d;
  d.student = scene().reuse("head");
  d.o.on_policy.share = 0.5, d.o.on_policy.every = 10, d.o.on_policy.episodes = 2;
  d.o.on_policy.labeller = M4N_LABEL_EXPERT, d.o.on_policy.expert = "level-1";
  d.o.fit.valid_episodes = 2, d.o.fit.valid_every = 14;
  d.player.before = [&](const m4n_play &order) {
    if (order.set == M4N_SET_VALID) m4n_stop_request(&d.stop);
    return (int)M4N_OK;
  };
  EXPECT_EQ(d.run(true), M4N_ECANCELLED);
  d.stop = {};
  fs::remove_all(d.work + "/round-000000");
  EXPECT_EQ(d.run(true), M4N_ENOTFOUND);
  EXPECT_NE(strstr(m4n_error_message(), "round-000000"), nullptr) << m4n_error_message();
  d.player.before = nullptr;
  M4N_OKAY(d.run(false));
}

TEST(Distil, RefusesWhatCannotBe) {
  Distil d;
  d.student = scene().reuse("head");
  d.o.task_weight = 0;
  EXPECT_EQ(d.run(), M4N_EARG); // nothing to learn
  d.o.task_weight = 1, d.o.temperature = NAN;
  EXPECT_EQ(d.run(), M4N_EARG);
  EXPECT_STREQ(m4n_last_error()->key, "distil.temperature");
  d.o.temperature = 2, d.o.on_policy.share = 0.5, d.o.on_policy.labeller = M4N_LABEL_EXPERT,
  d.o.on_policy.expert = "level-1";
  d.o.stage.hooks = nullptr;
  EXPECT_EQ(d.run(), M4N_EARG); // nobody to play
  EXPECT_STREQ(m4n_last_error()->key, "on_policy.share");
  d.o.stage.hooks = &d.player.hooks, d.o.on_policy.expert = "nobody";
  EXPECT_EQ(d.run(), M4N_ENOTFOUND);
  d.o.on_policy.share = 0, d.o.fit.valid_episodes = 3, d.o.fit.valid_every = 5, d.o.stage.hooks = nullptr;
  EXPECT_EQ(d.run(), M4N_EARG);
  EXPECT_STREQ(m4n_last_error()->key, "fit.valid_episodes");
}

// ---- reuse, and LoRA on a base

TEST(Reuse, EveryModeMakesAStudentThatPlays) {
  for (const char *mode : {"slice", "head", "pca", "spectrum", "random"}) {
    const std::string path = scene().reuse(mode, "any");
    m4n_checkpoint c;
    M4N_OKAY(m4n_checkpoint_read(&c, path.c_str()));
    EXPECT_NE(strstr(c.about, mode), nullptr);
    EXPECT_STREQ(c.condition.task, "abr");
    EXPECT_EQ(c.config.abr.window, 8);
    double mean = NAN;
    M4N_OKAY(play_model("", {}, path.c_str(), false, &mean));
    EXPECT_TRUE(std::isfinite(mean));
  }
}

// LoRA on a trained model, moved to another network: base and adapter together are what was trained.
TEST(Adapt, LoraOnATrainedBase) {
  const std::string dir = m4n_temp_dir(), work = dir + "/adapt", out = dir + "/moved.safetensors",
                    events = dir + "/events.bin";
  Script s;
  s.seed = 77, s.episodes = 4;
  play(events, s, careful(0.1));
  const char *log = events.c_str(), *targets[] = {"q_proj", "v_proj"};
  m4n_adapt_options o = {};
  o.stage.device = "cpu", o.stage.seed = 2, o.stage.work = work.c_str();
  o.fit = m4n_fit_usual();
  o.fit.steps = 20, o.fit.batch = 4, o.fit.lr = 1e-3, o.fit.log_every = 5;
  o.events = &log, o.n_events = 1, o.base = scene().teacher.c_str(), o.out = out.c_str();
  o.lora.rank = 4, o.lora.alpha = 8, o.lora.dropout = 0.05, o.lora.targets = targets, o.lora.n_targets = 2;
  M4N_OKAY(m4n_adapt(&o));
  EXPECT_LT(cell(work + "/train.csv", "loss"), cell(work + "/train.csv", "loss", false));
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, out.c_str()));
  EXPECT_EQ(std::string(c.adapter), dir + "/moved-adapter");
  EXPECT_EQ(fs::canonical(c.base), fs::canonical(scene().teacher));
  EXPECT_LT(fs::file_size(out), fs::file_size(scene().teacher));
  double mean = NAN;
  M4N_OKAY(play_model("", {}, out.c_str(), false, &mean));
  EXPECT_TRUE(std::isfinite(mean));
  // The whole folder may move, base and adapter are found.
  fs::rename(out, dir + "/elsewhere.safetensors");
  M4N_OKAY(m4n_checkpoint_read(&c, (dir + "/elsewhere.safetensors").c_str()));
  M4N_OKAY(play_model("", {}, (dir + "/elsewhere.safetensors").c_str(), false, &mean));
  o.base = nullptr, o.preset = "tiny", o.stage.work = work.c_str();
  EXPECT_EQ(m4n_adapt(&o), M4N_EARG); // LoRA on random weights
  const std::string student = scene().reuse("head");
  o.base = student.c_str(), o.preset = nullptr;
  EXPECT_EQ(m4n_adapt(&o), M4N_EUNSUPPORTED); // LoRA behind a frozen scan
}

TEST(Checkpoint, RefusesOtherTasksAndUntrainedModels) {
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, scene().teacher.c_str()));
  const m4n_spec same = make_spec(), other = make_spec("qoe-log 2.66 1.0");
  EXPECT_EQ(m4n_condition_check(&c.condition, &same, "x"), M4N_OK);
  EXPECT_EQ(m4n_condition_check(&c.condition, &other, "x"), M4N_EUNSUPPORTED);
  EXPECT_NE(strstr(m4n_error_message(), "qoe-log"), nullptr) << m4n_error_message();
  const m4n_condition none = {};
  EXPECT_EQ(m4n_condition_check(&none, &same, "x"), M4N_EUNSUPPORTED);
  m4n_condition r = c.condition;
  r.low = -1, r.high = 3, r.scale = 2;
  EXPECT_DOUBLE_EQ(m4n_return_after(&r, 1, 0), 1 - 0.25 / 2);
  EXPECT_DOUBLE_EQ(m4n_return_after(&r, 1, 99), 0.5); // clamped
}

} // namespace
