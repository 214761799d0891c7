// Models as policies: answers that depend on rows alone, the same sum as a whole pass, draws named by seed and episode,
// and what is refused.
#include <cstdlib>
#include <memory>

#include "agent/learn/features.h"
#include "agent/learn/model_policy.h"
#include "agent/model/actor.h"
#include "tests/agent/learn/abr_world.h"
#include "tests/support/alloc.h"

namespace {

using namespace abr_world;

struct Registered {
  Registered() { m4n_model_policies_register(); }
} registered;

m4n_condition condition_of(const m4n_spec &spec) {
  m4n_condition c = {};
  c.low = -2, c.high = 4, c.scale = 20, c.target = 0.8;
  snprintf(c.task, sizeof c.task, "%s", spec.task);
  snprintf(c.reward, sizeof c.reward, "%s", spec.reward);
  m4n_condition_world(c.world, &spec);
  return c;
}

// A checkpoint with weights from a seed, of a window that is shorter than an episode.
std::string checkpoint(const m4n_spec &spec, bool trained = true, const char *preset = "tiny") {
  const std::string path = m4n_temp_dir() + "/model.safetensors";
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_net *net;
  auto c = std::make_unique<m4n_checkpoint>();
  EXPECT_EQ(m4n_config_preset(&c->config, preset), M4N_OK);
  EXPECT_EQ(m4n_abr_rows_shape(&c->config.abr, &spec), M4N_OK) << m4n_error_message();
  c->config.abr.window = 6;
  if (trained) c->condition = condition_of(spec);
  snprintf(c->path, sizeof c->path, "%s", path.c_str());
  snprintf(c->about, sizeof c->about, "made by a test");
  EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
  EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
  m4n_net_options o = {};
  o.config = c->config, o.sequences = 1;
  EXPECT_EQ(m4n_net_open(&net, stream, &o), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_net_start(net, 5), M4N_OK);
  EXPECT_EQ(m4n_checkpoint_save(c.get(), net, nullptr), M4N_OK) << m4n_error_message();
  m4n_net_close(net);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  return path;
}

struct Model {
  m4n_policy policy = {};
  int status;
  Model(const std::string &name, const m4n_spec &spec, int slots = 8, m4n_pool *pool = nullptr,
        const m4n_policy_models *models = nullptr) {
    m4n_policy_setup setup = {};
    setup.spec = &spec, setup.slots = slots, setup.pool = pool, setup.models = models;
    status = m4n_policy_open(&policy, name.c_str(), &setup);
  }
  ~Model() { m4n_policy_close(&policy); }
};

// What lane `lane` sees at `step`: numbers of a client's order, from a stream of their own.
std::vector<uint8_t> row_of(const m4n_spec &spec, int lane, int step, int last) {
  m4n_rng rng = m4n_rng_make(3, (uint64_t)(lane * 1000 + step), M4N_RNG_TEST);
  std::vector<uint8_t> row(spec.obs_size);
  auto put = [&](const char *name, double low, double high) {
    const m4n_field *f = m4n_spec_obs(&spec, name);
    for (uint32_t i = 0; i < f->count; i++) {
      double x = low + (high - low) * m4n_rng_uniform(&rng);
      memcpy(row.data() + f->offset + i * sizeof x, &x, sizeof x);
    }
  };
  put(M4N_ABR_THROUGHPUT, 0, 1), put(M4N_ABR_DOWNLOAD, 0, 9), put(M4N_ABR_BUFFER, 0, 40);
  put(M4N_ABR_NEXT_SIZES, 1e5, 2e6), put(M4N_ABR_LAST_LEVEL, last, last);
  put(M4N_ABR_CHUNKS_LEFT, STEPS - step, STEPS - step);
  return row;
}

double reward_of(int lane, int step) {
  return -3 + ((lane * 7 + step * 5) % 11) * 0.8; // below and above what the pool had, too
}

using Answers = std::vector<std::vector<float>>; // [lane · STEPS + step][levels], the action behind them

// All lanes' episodes, `batch` lanes at a time, in slots that begin at `first`.
Answers play(Model &m, const m4n_spec &spec, int lanes, int batch, int first = 0, uint64_t seed = 9) {
  Answers all((size_t)(lanes * STEPS));
  std::vector<int> last((size_t)lanes);
  for (int lane = 0; lane < lanes; lane++) {
    m4n_start start = {};
    start.slot = first + lane, start.episode = 100 + lane, start.seed = seed;
    m.policy.kind->begin(m.policy.self, &start, 1);
  }
  for (int step = 0; step < STEPS; step++)
    for (int at = 0; at < lanes; at += batch) {
      const int n = std::min(batch, lanes - at);
      std::vector<int32_t> slot;
      std::vector<double> reward;
      std::vector<uint8_t> obs, action((size_t)n * spec.act_size);
      std::vector<float> distribution((size_t)(n * LEVELS)), logp((size_t)n);
      for (int i = at; i < at + n; i++) {
        const auto row = row_of(spec, i, step, last[(size_t)i]);
        obs.insert(obs.end(), row.begin(), row.end());
        slot.push_back(first + i), reward.push_back(reward_of(i, step));
      }
      m4n_batch in = {};
      in.n = n, in.slot = slot.data(), in.reward = reward.data(), in.obs = obs.data();
      m4n_decisions out = {};
      out.action = action.data(), out.distribution = distribution.data(), out.logp = logp.data();
      m.policy.kind->decide(m.policy.self, &in, &out);
      EXPECT_EQ(m.policy.kind->status(m.policy.self), M4N_OK);
      for (int i = 0; i < n; i++) {
        int32_t level;
        memcpy(&level, action.data() + (size_t)i * spec.act_size, sizeof level);
        std::vector<float> answer(distribution.begin() + i * LEVELS, distribution.begin() + (i + 1) * LEVELS);
        EXPECT_NEAR(logp[(size_t)i], std::log(answer[(size_t)level]), 1e-4);
        answer.push_back((float)level);
        all[(size_t)((at + i) * STEPS + step)] = answer;
        last[(size_t)(at + i)] = level;
      }
    }
  return all;
}

class Contexts : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(ModelPolicy, Contexts, testing::Values("window", "stream", "reset"));

TEST_P(Contexts, AnswersDoNotDependOnBatchSlotOrThreads) {
  const m4n_spec spec = make_spec();
  const std::string name = checkpoint(spec) + ":" + GetParam();
  m4n_pool *pool;
  ASSERT_EQ(m4n_pool_open(&pool, 2), M4N_OK);
  {
    Model one(name, spec), two(name, spec, 12, pool);
    ASSERT_EQ(one.status, M4N_OK) << m4n_error_message();
    ASSERT_EQ(two.status, M4N_OK);
    const Answers alone = play(one, spec, 5, 1);
    EXPECT_EQ(alone, play(one, spec, 5, 5)) << "and the episodes before have left nothing behind";
    EXPECT_EQ(alone, play(two, spec, 5, 3, 6));
  }
  m4n_pool_close(pool);
}

// The window that a decision sees, as one pass of the net over rows made by hand.
TEST(ModelPolicy, WindowEqualsAWholePass) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec);
  Model m(path, spec, 1);
  ASSERT_EQ(m.status, M4N_OK) << m4n_error_message();
  const Answers answers = play(m, spec, 1, 1);
  auto c = std::make_unique<m4n_checkpoint>();
  M4N_OKAY(m4n_checkpoint_read(c.get(), path.c_str()));
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_net *net;
  m4n_abr_rows rows;
  M4N_OKAY(m4n_abr_rows_open(&rows, &spec, &c->config.abr));
  M4N_OKAY(m4n_backend_open(&backend, "cpu", nullptr));
  M4N_OKAY(m4n_stream_open(&stream, backend));
  m4n_net_options o = {};
  o.config = c->config, o.sequences = 1;
  M4N_OKAY(m4n_net_open(&net, stream, &o));
  M4N_OKAY(m4n_checkpoint_load(c.get(), net));
  std::vector<double> left = {0.8}; // 0.8 − Σ clip((r + 2) / 6) / 20
  for (int t = 1; t < STEPS; t++)
    left.push_back(left.back() - std::min(1.0, std::max(0.0, (reward_of(0, t) + 2) / 6)) / 20);
  for (int t = 0; t < STEPS; t++) {
    const int first = std::max(0, t - 5), steps = t - first + 1;
    for (int k = 0; k < steps; k++) {
      const int at = first + k, last = at ? (int)answers[(size_t)at - 1][LEVELS] : 0;
      m4n_real *x = m4n_net_row(net, 0, k, steps);
      m4n_abr_rows_fill(&rows, x, row_of(spec, 0, at, last).data());
      x[M4N_ABR_RETURN] = (m4n_real)left[(size_t)at];
      x[M4N_ABR_ACTION] = at < t ? m4n_abr_action(&c->config.abr, (int)answers[(size_t)at][LEVELS]) : 0;
      m4n_net_set_step(net, 0, k, steps, at);
    }
    m4n_net_forward(net, 1, steps, false, nullptr);
    std::vector<m4n_real> logits((size_t)(steps * LEVELS));
    m4n_copy_out(stream, logits.data(), net->logits, logits.size() * sizeof logits[0]);
    M4N_OKAY(m4n_sync(stream));
    double sum = 0;
    const m4n_real *z = logits.data() + (steps - 1) * LEVELS;
    for (int l = 0; l < LEVELS; l++) sum += std::exp((double)z[l]);
    for (int l = 0; l < LEVELS; l++)
      EXPECT_NEAR(answers[(size_t)t][(size_t)l], std::exp((double)z[l]) / sum, 1e-5) << t;
  }
  m4n_net_close(net);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
}

TEST(ModelPolicy, DrawsAreNamedBySeedAndEpisode) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec);
  Model sample(path + ":sample", spec), greedy(path, spec);
  ASSERT_EQ(sample.status, M4N_OK) << m4n_error_message();
  const Answers a = play(sample, spec, 4, 4), b = play(sample, spec, 4, 1, 3),
                other = play(sample, spec, 4, 4, 0, 10);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, other);
  int likeliest = 0;
  for (const auto &answer : play(greedy, spec, 4, 4))
    likeliest += answer[(size_t)answer[LEVELS]] == *std::max_element(answer.begin(), answer.begin() + LEVELS);
  EXPECT_EQ(likeliest, 4 * STEPS);
}

TEST(ModelPolicy, TargetAndWeightsAreHeard) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec);
  Model usual(path, spec), more(path + ":target=2", spec), coarse(path + ":int8", spec);
  ASSERT_EQ(more.status, M4N_OK);
  ASSERT_EQ(coarse.status, M4N_OK) << m4n_error_message();
  const Answers a = play(usual, spec, 1, 1);
  EXPECT_NE(a[0], play(more, spec, 1, 1)[0]);
  const Answers c = play(coarse, spec, 1, 1);
  EXPECT_NE(a[0], c[0]);
  for (size_t l = 0; l < LEVELS; l++) EXPECT_NEAR(a[0][l], c[0][l], 0.05);
}

TEST(ModelPolicy, RolesAreWhatTheSetupSays) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec);
  m4n_policy_models models = {};
  models.role[M4N_ROLE_STUDENT].checkpoint = path.c_str();
  models.role[M4N_ROLE_STUDENT].context = "stream";
  Model student("student", spec, 8, nullptr, &models), named("student:window", spec, 8, nullptr, &models);
  ASSERT_EQ(student.status, M4N_OK) << m4n_error_message();
  EXPECT_STREQ(student.policy.kind->about(student.policy.self), "made by a test, context: stream");
  EXPECT_STREQ(named.policy.kind->about(named.policy.self), "made by a test, context: window");
  Model teacher("teacher", spec, 8, nullptr, &models);
  EXPECT_EQ(teacher.status, M4N_ENOTFOUND);
  EXPECT_NE(strstr(m4n_error_message(), "teacher.checkpoint"), nullptr) << m4n_error_message();
}

void refused(const std::string &name, const m4n_spec &spec, int status, const char *words) {
  Model m(name, spec);
  EXPECT_EQ(m.status, status) << name;
  EXPECT_NE(strstr(m4n_error_message(), words), nullptr) << m4n_error_message();
}

TEST(ModelPolicy, RefusesWhatDoesNotFit) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec);
  refused(path, make_spec("qoe-log 2.66 1.0"), M4N_EUNSUPPORTED, "qoe-log 2.66 1.0");
  m4n_spec ladder = spec;
  const_cast<double &>(*m4n_spec_constant(&ladder, M4N_ABR_LADDER, nullptr)) = 350;
  refused(path, ladder, M4N_EUNSUPPORTED, "ladder 350 750");
  m4n_spec seconds = spec;
  const double two = 2;
  m4n_spec_add_constant(&seconds, M4N_ABR_CHUNK_SECONDS, 1, &two);
  refused(path, seconds, M4N_EUNSUPPORTED, "chunks of 2 s");
  refused(checkpoint(spec, false), spec, M4N_EUNSUPPORTED, "not been trained");
  refused("/nowhere/x.safetensors", spec, M4N_ENOTFOUND, "/nowhere/x.safetensors");
  const std::string junk = m4n_write_file(m4n_temp_dir() + "/junk.safetensors", "no model at all, only text");
  refused(junk, spec, M4N_EFORMAT, "junk.safetensors");
  refused(path + ":strm", spec, M4N_EARG, "'strm' is no setting");
  refused(path + ":target=0", spec, M4N_EARG, "target=0.01");
  refused(path + ":", spec, M4N_EARG, "no setting");
}

// Files whose sizes are not those of the features: of an older build, or made by somebody.
TEST(ModelPolicy, AnExpertOfOtherSizesIsRefused) {
  m4n_spec spec = make_spec();
  const double four = 4;
  m4n_spec_add_constant(&spec, M4N_ABR_CHUNK_SECONDS, 1, &four);
  m4n_features f;
  m4n_backend *backend;
  m4n_stream *stream;
  ASSERT_EQ(m4n_features_open(&f, &spec), M4N_OK) << m4n_error_message();
  ASSERT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
  ASSERT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
  const std::string path = m4n_temp_dir() + "/expert.safetensors";
  char *about = m4n_features_text(&f);
  for (const m4n_actor_shape &shape :
       {m4n_actor_shape{f.n, 8, 1, f.levels}, m4n_actor_shape{f.n - 12, 8, 1, f.levels},
        m4n_actor_shape{1, 8, 1, f.levels}, m4n_actor_shape{f.n, 8, 1, f.levels + 1}}) {
    m4n_actor *actor;
    ASSERT_EQ(m4n_actor_open(&actor, stream, &shape, 1, false), M4N_OK);
    EXPECT_EQ(m4n_params_start(actor->params, M4N_ALL_SETS, 1), M4N_OK);
    EXPECT_EQ(m4n_actor_save(actor, path.c_str(), nullptr, about), M4N_OK) << m4n_error_message();
    m4n_actor_close(actor);
    if (shape.inputs == f.n && shape.choices == f.levels)
      EXPECT_EQ(Model(path, spec).status, M4N_OK) << m4n_error_message();
    else
      refused(path, spec, M4N_EUNSUPPORTED, "features");
  }
  free(about);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
}

TEST(ModelPolicy, AFileMayHaveColonsInItsName) {
  const m4n_spec spec = make_spec();
  const std::string path = checkpoint(spec), odd = m4n_temp_dir() + "/a:b.safetensors";
  std::filesystem::copy(path, odd);
  Model m(odd + ":greedy", spec);
  EXPECT_EQ(m.status, M4N_OK) << m4n_error_message();
}

TEST(ModelPolicy, DecidesWithoutAllocating) {
  const m4n_spec spec = make_spec();
  Model m(checkpoint(spec) + ":sample", spec, 4);
  ASSERT_EQ(m.status, M4N_OK);
  std::vector<uint8_t> obs, action(4 * spec.act_size);
  for (int i = 0; i < 4; i++) {
    const auto row = row_of(spec, i, 0, 0);
    obs.insert(obs.end(), row.begin(), row.end());
  }
  const int32_t slot[] = {0, 1, 2, 3};
  const double reward[] = {0, 1, 2, 3};
  m4n_batch in = {};
  in.n = 4, in.slot = slot, in.reward = reward, in.obs = obs.data();
  m4n_decisions out = {};
  out.action = action.data();
  const int64_t before = m4n_own_allocations(); // the library behind matrix products has its own
  for (int round = 0; round < 30; round++) {
    m4n_start start = {};
    for (int i = 0; i < 4 && round % 10 == 0; i++)
      start.slot = i, m.policy.kind->begin(m.policy.self, &start, 1);
    m.policy.kind->decide(m.policy.self, &in, &out);
  }
  EXPECT_EQ(m4n_own_allocations(), before);
}

} // namespace
