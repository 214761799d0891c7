// Registry, refusals, batches, slots and threads.
#include <algorithm>

#include "tests/agent/abr_rows.h"

#include "kernels/base/pool.h"
#include "kernels/base/rng.h"
#include "tests/support/alloc.h"

namespace {

int open_status(m4n_policy *policy, const char *name, const m4n_spec &spec, int slots = 4,
                m4n_pool *pool = NULL) {
  m4n_policy_setup setup = {};
  setup.spec = &spec;
  setup.slots = slots;
  setup.pool = pool;
  return m4n_policy_open(policy, name, &setup);
}

std::string refusal(const char *name, const m4n_spec &spec, int status) {
  m4n_policy policy = {};
  EXPECT_EQ(status, open_status(&policy, name, spec)) << name;
  EXPECT_EQ(NULL, policy.kind);
  m4n_policy_close(&policy);
  return m4n_error_message();
}

bool has(const std::string &text, const char *part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (int i = 0; m4n_policy_at(i); i++)
    names.push_back(std::string(m4n_policy_at(i)->name) +
                    (m4n_policy_at(i)->match == M4N_MATCH_NUMBERED ? "2" : ""));
  return names;
}

TEST(Registry, FindsWhatItLists) {
  std::vector<std::string> names = all_names();
  EXPECT_EQ(11u, names.size());
  for (const std::string &name : names) {
    const m4n_policy_kind *kind;
    ASSERT_EQ(M4N_OK, m4n_policy_find(&kind, name.c_str()));
    EXPECT_EQ(0, name.compare(0, strlen(kind->name), kind->name));
    EXPECT_TRUE(kind->summary && *kind->summary);
  }
  EXPECT_EQ(NULL, m4n_policy_at(-1));
  EXPECT_EQ(NULL, m4n_policy_at(1000));
}

TEST(Registry, NamesWhatThereIs) {
  for (const char *name :
       {"bbaa", "", "level-", "level-x", "level--1", "level-1x", "level-99999999", "mpc "}) {
    const m4n_policy_kind *kind;
    ASSERT_EQ(M4N_ENOTFOUND, m4n_policy_find(&kind, name)) << name;
    EXPECT_EQ(NULL, kind);
    std::string text = m4n_error_message();
    for (const char *known : {"bba", "robust-mpc", "robust-mpc-netllm", "level-N", "random", "oracle"})
      EXPECT_TRUE(has(text, known)) << text;
  }
}

TEST(Open, RefusesALevelThatThereIsNot) {
  std::string text = refusal("level-9", abr_spec(), M4N_EUNSUPPORTED);
  EXPECT_TRUE(has(text, "level-9") && has(text, "level-0 to level-5")) << text;
  refusal("level-6", abr_spec(), M4N_EUNSUPPORTED);
}

TEST(Open, NamesTheFieldThatIsMissing) {
  const struct {
    const char *policy, *needs;
  } cases[] = {{"bba", M4N_ABR_BUFFER},
               {"bola", M4N_ABR_LADDER},
               {"rate", M4N_ABR_THROUGHPUT},
               {"mpc", M4N_ABR_NEXT_SIZES},
               {"robust-mpc", M4N_ABR_UTILITY},
               {"robust-mpc", M4N_ABR_SMOOTH},
               {"festive", M4N_ABR_LAST_LEVEL},
               {"cycle", M4N_ABR_CHUNKS},
               {"cycle", M4N_ABR_CHUNKS_LEFT},
               {"mpc", M4N_ABR_CHUNK_SECONDS},
               {"robust-mpc-netllm", M4N_ABR_REBUFFER}};
  for (const auto &c : cases) {
    abr_options o;
    o.without = c.needs;
    std::string text = refusal(c.policy, abr_spec(o), M4N_EUNSUPPORTED);
    EXPECT_TRUE(has(text, c.policy) && has(text, c.needs)) << text;
  }
}

TEST(Open, RefusesFieldsOfAnotherShape) {
  m4n_spec spec = abr_spec();
  for (int i = 0; i < spec.n_obs; i++)
    if (!strcmp(spec.obs[i].name, M4N_ABR_NEXT_SIZES)) spec.obs[i].shape[0] = 3;
  ASSERT_EQ(M4N_OK, m4n_spec_layout(&spec));
  std::string text = refusal("mpc", spec, M4N_EUNSUPPORTED);
  EXPECT_TRUE(has(text, "f64[5][6]") && has(text, "f64[3][6]")) << text;
  spec = abr_spec();
  for (int i = 0; i < spec.n_obs; i++)
    if (!strcmp(spec.obs[i].name, M4N_ABR_BUFFER)) spec.obs[i].dtype = M4N_F32;
  text = refusal("bba", spec, M4N_EUNSUPPORTED);
  EXPECT_TRUE(has(text, "f32")) << text;
}

TEST(Open, RefusesConstantsThatMakeNoSense) {
  abr_options o;
  o.ladder = {300, 200, 100};
  EXPECT_TRUE(has(refusal("rate", abr_spec(o), M4N_EUNSUPPORTED), "rising"));
  o = abr_options();
  o.chunk_s = 0;
  EXPECT_TRUE(has(refusal("mpc", abr_spec(o), M4N_EUNSUPPORTED), M4N_ABR_CHUNK_SECONDS));
  o = abr_options();
  o.rebuffer = -1;
  EXPECT_TRUE(has(refusal("robust-mpc", abr_spec(o), M4N_EUNSUPPORTED), M4N_ABR_REBUFFER));
  o = abr_options();
  o.utility = {1, 2, 3, 4, 5, NAN};
  EXPECT_TRUE(has(refusal("robust-mpc", abr_spec(o), M4N_EUNSUPPORTED), M4N_ABR_UTILITY));
}

TEST(Open, RefusesAnotherTasksActions) {
  m4n_spec spec = {};
  strcpy(spec.task, "jobs");
  m4n_spec_add_obs(&spec, "allowed", M4N_U8, "", 0, 1, 1, 4);
  strcpy(m4n_spec_add_choice(&spec, "stage", 4)->mask, "allowed");
  ASSERT_EQ(M4N_OK, m4n_spec_layout(&spec));
  EXPECT_TRUE(has(refusal("level-0", spec, M4N_EUNSUPPORTED), "jobs"));
  EXPECT_TRUE(has(refusal("oracle", spec, M4N_EUNSUPPORTED), "advice"));
}

/* Plays `lanes` episodes of made-up rows and returns all actions, log-probabilities and distributions. */
struct played {
  std::vector<int32_t> action; /* [step][lane] */
  std::vector<float> logp, distribution;
  bool operator==(const played &o) const {
    return action == o.action && logp == o.logp && distribution == o.distribution;
  }
};

abr_row made_up(int lane, int step) {
  m4n_rng rng = m4n_rng_make(5, (uint64_t)(lane * 1000 + step), M4N_RNG_TEST);
  abr_row row;
  for (int i = 0; i < 8; i++) row.throughput.push_back(0.05 + 0.4 * m4n_rng_uniform(&rng));
  row.buffer = 30 * m4n_rng_uniform(&rng);
  row.last_level = m4n_rng_below(&rng, 6);
  row.chunks_left = 47 - step;
  return row;
}

/* `split` rows at a time, in an order that `stride` (odd) shuffles; slots are not the lanes. */
played play(const char *name, int lanes, int steps, int split, int stride, m4n_pool *pool) {
  m4n_spec spec = abr_spec();
  spec.capabilities = M4N_CAN_ORACLE;
  m4n_policy policy;
  EXPECT_EQ(M4N_OK, open_status(&policy, name, spec, 2 * lanes, pool)) << m4n_error_message();
  auto slot_of = [&](int lane) { return (lane * stride + 1) % (2 * lanes); };
  for (int lane = 0; lane < lanes; lane++) {
    m4n_start start = {slot_of(lane), lane, 9};
    policy.kind->begin(policy.self, &start, 1);
  }
  played all;
  all.action.resize(steps * lanes), all.logp.resize(steps * lanes),
      all.distribution.resize(steps * lanes * 6);
  for (int step = 0; step < steps; step++) {
    for (int first = 0; first < lanes; first += split) {
      int n = std::min(split, lanes - first);
      std::vector<int32_t> slot(n), advice(2 * n, 1), action(2 * n, -1);
      std::vector<uint64_t> obs;
      std::vector<float> logp(n), value(n, -1), distribution(6 * n);
      for (int i = 0; i < n; i++) {
        slot[i] = slot_of(first + i);
        std::vector<uint64_t> row = made_up(first + i, step).bytes(spec);
        obs.insert(obs.end(), row.begin(), row.end());
        advice[2 * i] = (first + i + step) % 6, advice[2 * i + 1] = 0;
      }
      m4n_batch batch = {n, slot.data(), NULL, (const uint8_t *)obs.data(), NULL};
      if (policy.kind->wants_advice) batch.advice = (const uint8_t *)advice.data();
      m4n_decisions out = {(uint8_t *)action.data(), logp.data(), value.data(), distribution.data()};
      policy.kind->decide(policy.self, &batch, &out);
      for (int i = 0; i < n; i++) {
        size_t at = (size_t)(step * lanes + first + i);
        all.action[at] = action[2 * i];
        EXPECT_EQ(0, action[2 * i + 1]) << "padding";
        EXPECT_EQ(0, value[i]);
        all.logp[at] = logp[i];
        std::copy_n(distribution.begin() + 6 * i, 6, all.distribution.begin() + 6 * at);
      }
    }
  }
  m4n_policy_close(&policy);
  return all;
}

TEST(Decide, AnswersDoNotDependOnBatchesSlotsOrThreads) {
  m4n_pool *two;
  ASSERT_EQ(M4N_OK, m4n_pool_open(&two, 2));
  enum { LANES = 65, STEPS = 12 };
  for (const std::string &name : all_names()) {
    played whole = play(name.c_str(), LANES, STEPS, LANES, 1, NULL);
    EXPECT_EQ(whole, play(name.c_str(), LANES, STEPS, 1, 1, NULL)) << name;
    EXPECT_EQ(whole, play(name.c_str(), LANES, STEPS, 7, 3, NULL)) << name;
    EXPECT_EQ(whole, play(name.c_str(), LANES, STEPS, LANES, 11, two)) << name;
  }
  m4n_pool_close(two);
}

TEST(Decide, RulesAreCertain) {
  for (const char *name : {"bba", "robust-mpc", "level-2", "oracle"}) {
    played p = play(name, 9, 5, 4, 1, NULL);
    for (size_t i = 0; i < p.action.size(); i++) {
      EXPECT_EQ(0, p.logp[i]);
      for (int l = 0; l < 6; l++) EXPECT_EQ(l == p.action[i], p.distribution[6 * i + l]);
    }
  }
  played advised = play("oracle", 9, 5, 4, 1, NULL);
  for (int step = 0; step < 5; step++)
    for (int lane = 0; lane < 9; lane++) EXPECT_EQ((lane + step) % 6, advised.action[step * 9 + lane]);
}

TEST(Decide, AllocatesNothing) {
  m4n_spec spec = abr_spec();
  spec.capabilities = M4N_CAN_ORACLE;
  for (const std::string &name : all_names()) {
    m4n_policy policy;
    ASSERT_EQ(M4N_OK, open_status(&policy, name.c_str(), spec, 1));
    std::vector<uint64_t> obs = made_up(0, 0).bytes(spec);
    int32_t slot = 0, action[2], advice[2] = {0, 0};
    m4n_batch batch = {1, &slot, NULL, (const uint8_t *)obs.data(), (const uint8_t *)advice};
    m4n_decisions out = {(uint8_t *)action, NULL, NULL, NULL};
    m4n_start start = {0, 0, 1};
    long before = m4n_allocations();
    policy.kind->begin(policy.self, &start, 1);
    policy.kind->decide(policy.self, &batch, &out);
    EXPECT_EQ(before, m4n_allocations()) << name;
    m4n_policy_close(&policy);
  }
}

TEST(Decide, ALevelOutsideTheLadderIsNoIndex) {
  for (const char *name : {"robust-mpc", "mpc", "festive", "robust-mpc-netllm"}) {
    one_lane policy(name);
    for (double level : {-1e300, -1.0, 6.0, 1e300}) {
      abr_row row = made_up(0, 0);
      row.last_level = level;
      row.chunks_left = level;
      int chosen = policy(row);
      EXPECT_GE(chosen, 0);
      EXPECT_LT(chosen, 6);
    }
  }
}

TEST(Random, IsUniformAndNamedByTheEpisode) {
  played p = play("random", 60, 100, 60, 1, NULL);
  int count[6] = {};
  for (size_t i = 0; i < p.action.size(); i++) {
    count[p.action[i]]++;
    EXPECT_FLOAT_EQ(-logf(6), p.logp[i]);
    for (int l = 0; l < 6; l++) EXPECT_FLOAT_EQ(1.0f / 6, p.distribution[6 * i + l]);
  }
  for (int n : count) EXPECT_NEAR(1000, n, 150); // five deviations
  // The documented stream: Philox keyed by seed, episode and purpose.
  m4n_rng rng = m4n_rng_make(9, 17, M4N_RNG_ACTION);
  for (int step = 0; step < 100; step++) EXPECT_EQ((int)m4n_rng_below(&rng, 6), p.action[step * 60 + 17]);
}

TEST(Random, RespectsMasksOfEveryComponent) {
  m4n_spec spec = {};
  strcpy(spec.task, "jobs");
  m4n_field *stages = m4n_spec_add_obs(&spec, "ready", M4N_U8, "", 0, 1, 1, -1);
  stages->max_rows = 8;
  m4n_spec_add_obs(&spec, "free", M4N_U8, "", 0, 1, 1, 3);
  strcpy(m4n_spec_add_choice(&spec, "stage", 8)->mask, "ready");
  strcpy(m4n_spec_add_choice(&spec, "executor", 3)->mask, "free");
  m4n_spec_add_choice(&spec, "colour", 2);
  ASSERT_EQ(M4N_OK, m4n_spec_layout(&spec));
  m4n_policy policy;
  ASSERT_EQ(M4N_OK, open_status(&policy, "random", spec, 1));
  m4n_start start = {0, 0, 1};
  policy.kind->begin(policy.self, &start, 1);

  std::vector<uint64_t> obs(spec.obs_size / 8), action(spec.act_size / 8);
  uint8_t *row = (uint8_t *)obs.data();
  uint32_t five = 5;
  const uint8_t ready[8] = {0, 1, 0, 1, 1, 1, 1, 1}; // rows 5 and up are behind the count
  const uint8_t unheld[3] = {0, 0, 1};
  memcpy(row + spec.obs[0].offset, &five, 4);
  memcpy(row + spec.obs[0].offset + 8, ready, 8);
  memcpy(row + spec.obs[1].offset, unheld, 3);
  int32_t slot = 0;
  float logp, distribution[8];
  int seen[8] = {}, colours[2] = {};
  m4n_batch batch = {1, &slot, NULL, row, NULL};
  m4n_decisions out = {(uint8_t *)action.data(), &logp, NULL, distribution};
  for (int i = 0; i < 600; i++) {
    policy.kind->decide(policy.self, &batch, &out);
    int32_t chosen[3];
    for (int k = 0; k < 3; k++) memcpy(&chosen[k], (char *)action.data() + spec.act[k].offset, 4);
    ASSERT_TRUE(chosen[0] == 1 || chosen[0] == 3 || chosen[0] == 4) << chosen[0];
    ASSERT_EQ(2, chosen[1]);
    seen[chosen[0]]++, colours[chosen[2]]++;
    EXPECT_FLOAT_EQ(logf(1.0f / 3) + logf(1.0f / 2), logp);
    for (int c = 0; c < 8; c++) EXPECT_FLOAT_EQ(c == 1 || c == 3 || c == 4 ? 1.0f / 3 : 0, distribution[c]);
  }
  EXPECT_GT(seen[1], 120);
  EXPECT_GT(seen[3], 120);
  EXPECT_GT(seen[4], 120);
  EXPECT_GT(colours[0], 200);
  // Nothing allowed: choice 0, for certain.
  memset(row, 0, spec.obs_size);
  policy.kind->decide(policy.self, &batch, &out);
  EXPECT_EQ(0, *(int32_t *)action.data());
  EXPECT_EQ(1, distribution[0]);
  m4n_policy_close(&policy);
}

} // namespace
