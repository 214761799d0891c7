#include "agent/learn/outcome.h"
#include "agent/learn/policy_gradient.h"
#include "agent/learn/ppo.h"
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

// ---- what decisions came to

// An episode of three decisions that ended, and one of three that was cut off: two of its decisions are known.
struct ByHand {
  double reward[6] = {1, -100, 2, 3, 4, 5};
  m4n_trajectory episode[2] = {};
  m4n_trajectories pool = {};
  m4n_outcome outcome = {};
  ByHand() {
    episode[0].steps = episode[1].steps = 3;
    episode[1].first = 3, episode[1].truncated = true;
    pool.n = 2, pool.episode = episode, pool.steps = 6, pool.reward = reward, pool.hash = 7;
    EXPECT_EQ(m4n_outcome_open(&outcome, 6), M4N_OK);
    for (int i = 0; i < 6; i++) outcome.value[i] = (float)(10 * i), outcome.logp[i] = (float)-i;
  }
  ~ByHand() { m4n_outcome_close(&outcome); }
};

TEST(Outcome, ByHand) {
  ByHand h;
  const m4n_judgement j = {0.5, 0.5, 0.1, -20}; // γ, λ; rewards 0.1, −2, 0.2 and 0.3, 0.4
  M4N_OKAY(m4n_outcome_judge(&h.outcome, &h.pool, &j));
  const double a2 = 0.2 - 20, a1 = -2 + 0.5 * 20 - 10 + 0.25 * a2, a0 = 0.1 + 0.5 * 10 - 0 + 0.25 * a1;
  const double b1 = 0.4 + 0.5 * 50 - 40, b0 = 0.3 + 0.5 * 40 - 30 + 0.25 * b1;
  const double raw[] = {a0, a1, a2, b0, b1};
  double mean = 0, square = 0;
  for (double a : raw) mean += a / 5, square += a * a / 5;
  for (int i = 0; i < 5; i++) {
    EXPECT_NEAR(h.outcome.target[i], raw[i] + 10 * i, 1e-4) << i;
    EXPECT_NEAR(h.outcome.advantage[i], (raw[i] - mean) / std::sqrt(square - mean * mean), 1e-5) << i;
  }
  EXPECT_TRUE(m4n_outcome_counts(&h.episode[0], 2));
  EXPECT_TRUE(m4n_outcome_counts(&h.episode[1], 1));
  EXPECT_FALSE(m4n_outcome_counts(&h.episode[1], 2));
}

TEST(Outcome, IsKeptForItsEpisodesAlone) {
  ByHand h, read;
  const std::string path = m4n_temp_dir() + "/outcome.safetensors";
  M4N_OKAY(m4n_outcome_judge(&h.outcome, &h.pool, &(const m4n_judgement &)m4n_judgement{0.9, 0.9, 1, -5}));
  M4N_OKAY(m4n_outcome_save(&h.outcome, &h.pool, path.c_str()));
  M4N_OKAY(m4n_outcome_load(&read.outcome, &h.pool, path.c_str()));
  for (int i = 0; i < 6; i++) {
    EXPECT_EQ(read.outcome.logp[i], h.outcome.logp[i]);
    EXPECT_EQ(read.outcome.advantage[i], h.outcome.advantage[i]);
    EXPECT_EQ(read.outcome.target[i], h.outcome.target[i]);
  }
  h.pool.hash++;
  EXPECT_EQ(m4n_outcome_load(&read.outcome, &h.pool, path.c_str()), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "other episodes"), nullptr) << m4n_error_message();
}

// ---- the objective

// A student with a value head, labels of its teacher, and a round of four recorded episodes.
struct Objective {
  m4n_backend *backend = nullptr;
  m4n_stream *stream = nullptr;
  m4n_net *net = nullptr;
  m4n_policy_gradient *pg = nullptr;
  m4n_labels *labels = nullptr;
  Pool pool;
  m4n_objective objective = {};
  m4n_real *parts = nullptr;
  enum { BATCH = 5, STRIDE = 3, POLICY = 0, ENTROPY, VALUE, REFERENCE, PARTS };

  explicit Objective(double reference = 0.3, int64_t value_first = 0) {
    const std::string student = scene().reuse("random", "objective");
    m4n_checkpoint c;
    EXPECT_EQ(m4n_checkpoint_read(&c, student.c_str()), M4N_OK);
    EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
    EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
    m4n_net_options n = {};
    n.config = c.config, n.sequences = BATCH, n.train = true, n.value = true;
    EXPECT_EQ(m4n_net_open(&net, stream, &n), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_checkpoint_load(&c, net), M4N_OK);
    EXPECT_EQ(m4n_params_start(net->params, M4N_SET_VALUE, 1), M4N_OK);
    const std::string path = scene().label(M4N_LABEL_TEACHER, nullptr, STRIDE, "objective-labels");
    EXPECT_EQ(m4n_labels_open(&labels, path.c_str()), M4N_OK);
    EXPECT_EQ(scene().pool_of(pool, &labels->about.condition), M4N_OK);
    EXPECT_EQ(m4n_labels_fit(labels, pool.pool), M4N_OK);
    m4n_policy_gradient_options o = {};
    o.net = net, o.batch = BATCH, o.stride = STRIDE, o.seed = 4, o.judgement = {0.9, 0.9, 0.2, -20};
    o.clip = 0.2, o.entropy = 0.1, o.reference = reference, o.steps = 1000, o.value_first = value_first;
    EXPECT_EQ(m4n_policy_gradient_open(&pg, &o), M4N_OK) << m4n_error_message();
    const m4n_played played = {pool.pool, labels};
    EXPECT_EQ(m4n_policy_gradient_round(pg, &played, 0), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_policy_gradient_judge(pg), M4N_OK) << m4n_error_message();
    objective = m4n_policy_gradient_objective(pg);
    parts = (m4n_real *)m4n_alloc(backend, PARTS * sizeof *parts);
  }
  ~Objective() {
    m4n_free(backend, parts);
    m4n_policy_gradient_close(pg);
    m4n_labels_close(labels);
    m4n_net_close(net);
    m4n_stream_close(stream);
    m4n_backend_close(backend);
  }
  std::vector<double> loss() const {
    m4n_real host[PARTS];
    objective.loss(objective.self, parts);
    m4n_copy_out(stream, host, parts, sizeof host);
    EXPECT_EQ(m4n_sync(stream), M4N_OK);
    return std::vector<double>(host, host + PARTS);
  }
  std::vector<m4n_real> gradient() const {
    std::vector<m4n_real> g((size_t)net->params->n);
    loss();
    m4n_net_zero(net);
    m4n_net_backward(net);
    m4n_copy_out(stream, g.data(), net->params->g, g.size() * sizeof g[0]);
    EXPECT_EQ(m4n_sync(stream), M4N_OK);
    return g;
  }
  std::vector<m4n_real> weights() const {
    std::vector<m4n_real> w((size_t)net->params->n);
    m4n_copy_out(stream, w.data(), net->params->w, w.size() * sizeof w[0]);
    EXPECT_EQ(m4n_sync(stream), M4N_OK);
    return w;
  }
  void set(const std::vector<m4n_real> &w) const {
    m4n_copy_in(stream, net->params->w, w.data(), w.size() * sizeof w[0]);
    EXPECT_EQ(m4n_sync(stream), M4N_OK);
  }
  // Another model than the one that judged: ratios on both sides of the clip.
  void move() const {
    std::vector<m4n_real> w = weights();
    m4n_rng rng = m4n_rng_make(8, 0, M4N_RNG_TEST);
    for (m4n_real &x : w)
      if (x != 0) x += (m4n_real)(0.05 * m4n_rng_normal(&rng));
    const m4n_part *value = m4n_params_find(net->params, "value.weight");
    for (int64_t k = 0; k < value->count; k++)
      w[(size_t)(value->of->offset + value->first + k)] = (m4n_real)(0.2 * m4n_rng_normal(&rng));
    set(w);
  }
};

// Every decision is learned from once a pass.
TEST(PolicyGradient, APassHoldsEveryDecisionOnce) {
  Objective o(0);
  double surrogate = 0, decisions = 0;
  const int windows = m4n_policy_gradient_windows(o.pg);
  EXPECT_EQ(windows, 6 * 6); // (23 − 8 + 2)/3 + 1 of each episode
  // 36 windows in batches of 5: five passes are 36 batches. Agreement counts the decisions of a batch.
  for (int step = 0; step < windows; step++) {
    m4n_agreement a = {};
    M4N_OKAY(o.objective.batch(o.objective.self, step));
    const auto p = o.loss();
    o.objective.look(o.objective.self, &a);
    decisions += (double)a.answers;
    surrogate += p[Objective::POLICY] * (double)a.answers;
  }
  EXPECT_EQ(decisions, 5.0 * (double)o.pool->steps);
  EXPECT_NEAR(surrogate / decisions, 0,
              1e-4); // of weights that have not moved every ratio is 1: the mean advantage is left
}

// The gradient of each parameter against differences of the loss along it. The value's part moves its own head alone.
TEST(PolicyGradient, GradientIsThatOfTheObjective) {
  Objective o;
  o.move();
  M4N_OKAY(o.objective.batch(o.objective.self, 7));
  const std::vector<m4n_real> g = o.gradient(), w = o.weights();
  int compared = 0;
  for (int i = 0; i < o.net->params->n_parts; i++) {
    const m4n_part &part = o.net->params->part[i];
    if (!part.of->trainable) continue;
    const size_t from = (size_t)(part.of->offset + part.first), n = (size_t)part.count;
    double size = 0;
    for (size_t k = 0; k < n; k++) size += (double)g[from + k] * (double)g[from + k];
    size = std::sqrt(size);
    if (size < 2e-3) continue; // float32 shows no difference there
    const bool value = part.of->set == M4N_SET_VALUE;
    auto along = [&](double h) {
      std::vector<m4n_real> moved = w;
      for (size_t k = 0; k < n; k++) moved[from + k] += (m4n_real)(h * (double)g[from + k] / size);
      o.set(moved);
      const auto p = o.loss();
      return value ? p[Objective::VALUE]
                   : p[Objective::POLICY] + p[Objective::ENTROPY] + p[Objective::REFERENCE];
    };
    const double h = std::min(1e-2, 2e-3 / size), numeric = (along(h) - along(-h)) / (2 * h);
    EXPECT_NEAR(numeric / size, 1, 0.05) << part.name << ": " << numeric << ", " << size;
    compared++;
  }
  EXPECT_GT(compared, 20);
}

TEST(PolicyGradient, TheValueHeadMayLearnAlone) {
  Objective o(0.3, 10);
  o.move();
  for (int step : {9, 10}) {
    M4N_OKAY(o.objective.batch(o.objective.self, step));
    const std::vector<m4n_real> g = o.gradient();
    double of[2] = {0, 0};
    for (int i = 0; i < o.net->params->n_parts; i++) {
      const m4n_part &part = o.net->params->part[i];
      for (int64_t k = 0; k < part.count && part.of->trainable; k++)
        of[part.of->set == M4N_SET_VALUE] += std::fabs((double)g[(size_t)(part.of->offset + part.first + k)]);
    }
    EXPECT_GT(of[1], 0);
    EXPECT_EQ(of[0] > 0, step == 10);
  }
}

TEST(PolicyGradient, LabelsMustBeOfItsWindows) {
  Objective o;
  m4n_labels *labels;
  const std::string path = scene().label(M4N_LABEL_TEACHER, nullptr, 2, "other-stride");
  M4N_OKAY(m4n_labels_open(&labels, path.c_str()));
  const m4n_played played = {o.pool.pool, labels};
  EXPECT_EQ(m4n_policy_gradient_round(o.pg, &played, 0), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "2 apart"), nullptr) << m4n_error_message();
  m4n_labels_close(labels);
  m4n_policy_gradient *pg;
  m4n_policy_gradient_options options = {};
  options.net = o.net, options.batch = 2, options.stride = 9, options.steps = 1;
  EXPECT_EQ(m4n_policy_gradient_open(&pg, &options), M4N_EARG); // windows of 8 with gaps between them
}

// ---- the stage

struct Tune {
  std::string dir = m4n_temp_dir(), work = dir + "/tune", out = dir + "/tuned.safetensors", student;
  m4n_tune_options o = m4n_tune_usual();
  m4n_stop stop = {};
  Player player;
  Tune() {
    o.stage.device = "cpu", o.stage.seed = 9, o.stage.stop = &stop, o.stage.hooks = &player.hooks;
    o.fit.steps = 24, o.fit.batch = 6, o.fit.lr = 1e-3, o.fit.log_every = 5, o.fit.save_every = 7;
    o.every = 8, o.episodes = 4, o.stride = 4, o.value_first = 4;
    o.reference.labeller = M4N_LABEL_TEACHER, o.reference.teacher = scene().teacher.c_str();
  }
  int run(bool resume = false) {
    o.stage.work = work.c_str(), o.out = out.c_str(), o.stage.resume = resume, o.student = student.c_str();
    return m4n_tune(&o);
  }
  double plays(const std::string &checkpoint) const {
    Script s;
    s.seed = 321, s.episodes = 16;
    double mean = NAN;
    EXPECT_EQ(play_model("", s, checkpoint.c_str(), false, &mean), M4N_OK) << m4n_error_message();
    return mean;
  }
};

// A student that knows nothing learns from its rewards alone.
TEST(Tune, ImprovesAPoorStudent) {
  Tune t;
  t.student = scene().reuse("random", "poor");
  t.o.reference.weight = 0, t.o.fit.steps = m4n_sanitized() ? 48 : 160, t.o.fit.lr = 2e-3, t.o.fit.batch = 16;
  t.o.episodes = 16, t.o.fit.schedule = M4N_LR_CONSTANT, t.o.value_first = 8;
  const double before = t.plays(t.student);
  M4N_OKAY(t.run());
  const double after = t.plays(t.out);
  EXPECT_GT(after, before + 3); // all at the top level, it stalls for most of the time
  EXPECT_LT(cell(t.work + "/train.csv", "value"), cell(t.work + "/train.csv", "value", false));
  EXPECT_EQ(cell(t.work + "/train.csv", "reference"), 0);
  for (const auto &entry : fs::directory_iterator(t.work)) EXPECT_FALSE(entry.is_directory()) << entry.path();
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, t.out.c_str()));
  EXPECT_NE(strstr(c.about, "tune: PPO"), nullptr) << c.about;
  EXPECT_EQ(strstr(c.about, "KL"), nullptr) << c.about;
}

// The stronger it is held, the nearer it stays.
TEST(Tune, IsHeldToItsReference) {
  double kept[2];
  for (double weight : {0.01, 20.0}) {
    Tune t;
    t.student = scene().reuse("head", "held");
    t.o.reference.who = M4N_REFERENCE_STUDENT, t.o.reference.weight = weight;
    t.o.fit.steps = 48;
    M4N_OKAY(t.run());
    kept[weight > 1] = cell(t.work + "/train.csv", "reference") / weight;
    m4n_checkpoint c;
    M4N_OKAY(m4n_checkpoint_read(&c, t.out.c_str()));
    EXPECT_NE(strstr(c.about, "to the student before"), nullptr) << c.about;
  }
  EXPECT_GT(kept[0], 2 * kept[1]);
}

TEST(Tune, EveryLabellerMayHoldIt) {
  for (int labeller : {M4N_LABEL_TEACHER, M4N_LABEL_EXPERT, M4N_LABEL_ORACLE}) {
    Tune t;
    t.student = scene().reuse("head", "labelled");
    t.o.fit.steps = 10;
    t.o.reference.labeller = labeller, t.o.reference.expert = "level-2";
    t.player.before = [&](const m4n_play &order) {
      EXPECT_EQ(order.advice, labeller == M4N_LABEL_ORACLE);
      EXPECT_TRUE(order.sample);
      EXPECT_EQ(order.set, M4N_SET_TRAIN);
      return (int)M4N_OK;
    };
    M4N_OKAY(t.run());
    EXPECT_EQ(t.player.plays, 2);
    EXPECT_GT(cell(t.work + "/train.csv", "reference"), 0);
    m4n_checkpoint c;
    M4N_OKAY(m4n_checkpoint_read(&c, t.out.c_str()));
    EXPECT_NE(strstr(c.about, (std::string("KL 0.1 to ") + m4n_labeller_name(labeller)).c_str()), nullptr)
        << c.about;
  }
}

TEST(Tune, ResumedEqualsUninterrupted) {
  auto prepare = [](Tune &t, double weight) {
    t.student = scene().reuse("head", "resumed");
    t.o.reference.weight = weight;
    t.o.fit.valid_episodes = 2, t.o.fit.valid_every = 6;
  };
  for (double weight : {0.1, 0.0}) {
    Tune whole, parts;
    prepare(whole, weight);
    prepare(parts, weight);
    M4N_OKAY(whole.run());
    EXPECT_EQ(whole.player.rounds, 3);
    // It fails while it plays its second round, then is stopped in the middle of that round.
    parts.player.before = [&](const m4n_play &order) {
      return order.set == M4N_SET_TRAIN && order.first_episode == 4 ? m4n_fail(M4N_EIO, "the disk is full")
                                                                    : (int)M4N_OK;
    };
    EXPECT_EQ(parts.run(true), M4N_EIO);
    parts.player.before = [&](const m4n_play &order) {
      if (order.set == M4N_SET_VALID && fs::exists(parts.work + "/round-000001"))
        m4n_stop_request(&parts.stop);
      return (int)M4N_OK;
    };
    EXPECT_EQ(parts.run(true), M4N_ECANCELLED);
    EXPECT_TRUE(fs::exists(parts.work + "/round-000001/outcome.safetensors"));
    parts.stop = {};
    parts.player.before = nullptr;
    M4N_OKAY(parts.run(true));
    EXPECT_TRUE(m4n_read_file(whole.out) == m4n_read_file(parts.out));
    EXPECT_EQ(without_clock(whole.work + "/train.csv"), without_clock(parts.work + "/train.csv"));
    EXPECT_EQ(m4n_read_file(whole.work + "/valid.csv"), m4n_read_file(parts.work + "/valid.csv"));
  }
}

TEST(Tune, RefusesWhatCannotBe) {
  Tune t;
  t.student = scene().reuse("head", "refused");
  t.o.clip = 0;
  EXPECT_EQ(t.run(), M4N_EARG);
  EXPECT_STREQ(m4n_last_error()->key, "tune.clip_ratio");
  t.o.clip = 0.2, t.o.stage.hooks = nullptr;
  EXPECT_EQ(t.run(), M4N_EARG); // nobody to play
  EXPECT_STREQ(m4n_last_error()->key, "tune.steps");
  t.o.stage.hooks = &t.player.hooks, t.o.stride = 9;
  EXPECT_EQ(t.run(), M4N_EARG); // windows of 8 steps
  t.o.stride = 4, t.o.reference.labeller = M4N_LABEL_EXPERT, t.o.reference.expert = "nobody";
  EXPECT_EQ(t.run(), M4N_ENOTFOUND);
  t.work = t.dir + "/other";
  // A round that is gone cannot be played again: its weights are not those of now.
  t.o.reference.who = M4N_REFERENCE_STUDENT;
  t.o.fit.valid_episodes = 2, t.o.fit.valid_every = 6;
  t.player.before = [&](const m4n_play &order) {
    if (order.set == M4N_SET_VALID) m4n_stop_request(&t.stop);
    return (int)M4N_OK;
  };
  EXPECT_EQ(t.run(true), M4N_ECANCELLED);
  t.stop = {};
  fs::remove(t.work + "/round-000000/outcome.safetensors");
  EXPECT_EQ(t.run(true), M4N_ENOTFOUND);
  EXPECT_NE(strstr(m4n_error_message(), "outcome.safetensors"), nullptr) << m4n_error_message();
  t.o.episodes = 5;
  EXPECT_EQ(t.run(true), M4N_EARG); // begun with other options
  EXPECT_NE(strstr(m4n_error_message(), "episodes=4"), nullptr) << m4n_error_message();
}

} // namespace
