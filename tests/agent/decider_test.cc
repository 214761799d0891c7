// One policy with its deadline: against policies of the test's own, one of which takes as long as the test says.
#include "agent/decider.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "agent/plan.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace {

std::atomic<int> sleep_ms{0};

// Answers the number of decisions it was asked for in the slot's episode, the first being 0; plus 100 if it is "quick".
struct Counter {
  int base;
  bool slow;
  std::vector<int> count, episode;
};

int open_counter(void **self, const m4n_policy_setup *setup) {
  bool slow = !strcmp(setup->name, "slow");
  *self =
      new Counter{slow ? 0 : 100, slow, std::vector<int>(setup->slots), std::vector<int>(setup->slots, -1)};
  return M4N_OK;
}

void begin(void *self, const m4n_start *rows, int n) {
  Counter *c = (Counter *)self;
  for (int i = 0; i < n; i++) c->count[rows[i].slot] = 0, c->episode[rows[i].slot] = (int)rows[i].episode;
}

void decide(void *self, const m4n_batch *batch, m4n_decisions *out) {
  Counter *c = (Counter *)self;
  if (c->slow) std::this_thread::sleep_for(std::chrono::milliseconds(sleep_ms));
  for (int i = 0; i < batch->n; i++) {
    int32_t answer = c->base + c->count[batch->slot[i]]++;
    memcpy(out->action + 8 * i, &answer, sizeof answer);
  }
}

void close_counter(void *self) {
  delete (Counter *)self;
}

m4n_policy_kind kind_of(const char *name) {
  m4n_policy_kind kind = {};
  kind.name = name;
  kind.open = open_counter, kind.begin = begin, kind.decide = decide, kind.close = close_counter;
  return kind;
}
const m4n_policy_kind kinds[] = {kind_of("slow"), kind_of("quick")};

} // namespace

// The registry, in place of the real one: decider.c is linked without the rules.
extern "C" int m4n_policy_open(m4n_policy *policy, const char *name, const m4n_policy_setup *setup) {
  m4n_policy_setup own = *setup;
  own.name = name;
  for (const m4n_policy_kind &kind : kinds) {
    if (strcmp(kind.name, name)) continue;
    policy->kind = &kind;
    return kind.open(&policy->self, &own);
  }
  return m4n_fail(M4N_ENOTFOUND, "there is no policy '%s'", name);
}

extern "C" void m4n_policy_close(m4n_policy *policy) {
  if (policy->kind) policy->kind->close(policy->self);
  *policy = {};
}

namespace {

struct Decider {
  m4n_spec spec = {};
  m4n_decider *d = nullptr;
  double row = 0;

  Decider(const char *fallback, int decide_ms) {
    strcpy(spec.task, "test");
    m4n_spec_add_obs(&spec, "x", M4N_F64, "1", 0, 1, 0);
    m4n_spec_add_choice(&spec, "choice", 1000);
    EXPECT_EQ(m4n_spec_layout(&spec), 0);
    m4n_policy_setup setup = {};
    setup.spec = &spec, setup.slots = 4;
    EXPECT_EQ(m4n_decider_open(&d, "slow", &setup, fallback, decide_ms), 0) << m4n_error_message();
  }
  ~Decider() { m4n_decider_close(d); }

  void begin(int slot, int episode) { m4n_decider_begin(d, slot, episode, 1); }

  // A round of these slots; their answers.
  std::vector<int> round(const std::vector<int> &slots) {
    for (size_t i = 0; i < slots.size(); i++)
      m4n_decider_add(d, (int32_t)(10 + i), slots[i], 0, (const uint8_t *)&row, nullptr);
    m4n_decider_start(d);
    m4n_decider_finish(d);
    std::vector<int> answers;
    EXPECT_EQ(d->n, (int)slots.size());
    for (int k = 0; k < d->n; k++) {
      int32_t answer;
      memcpy(&answer, d->action + 8 * k, sizeof answer);
      answers.push_back(answer);
      EXPECT_EQ(d->row[k], 10 + k);
    }
    return answers;
  }
};

using Answers = std::vector<int>;

TEST(Decider, WithoutAFallbackItWaits) {
  sleep_ms = 5;
  Decider d(nullptr, 1);
  d.begin(0, 1), d.begin(2, 1);
  EXPECT_EQ(d.round({0, 2}), (Answers{0, 0}));
  EXPECT_EQ(d.round({2}), (Answers{1}));
  EXPECT_EQ(d.round({0, 2}), (Answers{1, 2}));
  EXPECT_EQ(d.d->served_by, 0);
  EXPECT_GE(d.d->took_ns, 5000000);
}

TEST(Decider, AnEmptyRoundIsHarmless) {
  sleep_ms = 0;
  Decider plain(nullptr, 1), guarded("quick", 1000);
  EXPECT_EQ(plain.round({}), Answers{});
  EXPECT_EQ(guarded.round({}), Answers{});
}

TEST(Decider, InTimeThePolicyAnswers) {
  sleep_ms = 0;
  Decider d("quick", 10000);
  d.begin(0, 1);
  for (int t = 0; t < 100; t++) {
    EXPECT_EQ(d.round({0}), (Answers{t}));
    EXPECT_EQ(d.d->served_by, 0);
  }
  EXPECT_EQ(d.d->late, 0);
}

TEST(Decider, LateTheFallbackAnswersAsIfItAlwaysHad) {
  sleep_ms = 0;
  Decider d("quick", 50);
  d.begin(1, 1);
  EXPECT_EQ(d.round({1}), (Answers{0}));
  EXPECT_EQ(d.round({1}), (Answers{1}));
  sleep_ms = 300;
  EXPECT_EQ(d.round({1}), (Answers{102})) << "the third row of the episode for the fallback too";
  EXPECT_EQ(d.d->served_by, 1);
  EXPECT_LT(d.d->took_ns, 290000000) << "nobody waited for the policy";
  EXPECT_EQ(d.d->late, 1);
}

// While the policy is still at an old round it misses rows, but not that an episode began.
TEST(Decider, ABusyPolicyHearsOfEpisodesLater) {
  sleep_ms = 120;
  Decider d("quick", 10);
  d.begin(0, 1);
  EXPECT_EQ(d.round({0}), (Answers{100}));
  d.begin(3, 7); // while it is busy
  EXPECT_EQ(d.round({3}), (Answers{100}));
  d.begin(3, 8); // and another in the same slot
  sleep_ms = 0;
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_EQ(d.round({3}), (Answers{0})) << "its first row of episode 8";
  EXPECT_EQ(d.d->served_by, 0);
}

TEST(Decider, AfterThreeMissesItIsLeftAloneForAWhile) {
  m4n_log_set_level(M4N_LOG_QUIET);
  sleep_ms = 60;
  Decider d("quick", 5);
  d.begin(0, 1);
  int misses = 0;
  while (misses < M4N_DECIDER_MISSES) {
    d.round({0});
    ASSERT_EQ(d.d->served_by, 1);
    misses++;
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // it is asked each time
  }
  sleep_ms = 0;
  d.round({0});
  EXPECT_EQ(d.d->served_by, 1) << "it would be in time, but is not asked";
  EXPECT_LT(d.d->took_ns, 5000000) << "so nobody waits either";
  std::this_thread::sleep_for(std::chrono::milliseconds(M4N_DECIDER_PAUSE_MS));
  d.round({0});
  EXPECT_EQ(d.d->served_by, 0) << "asked again";
}

TEST(Decider, UnknownNames) {
  Decider d(nullptr, 1);
  m4n_policy_setup setup = {};
  setup.spec = &d.spec, setup.slots = 1;
  m4n_decider *none;
  EXPECT_EQ(m4n_decider_open(&none, "nobody", &setup, nullptr, 1), M4N_ENOTFOUND);
  EXPECT_EQ(none, nullptr);
  EXPECT_EQ(m4n_decider_open(&none, "slow", &setup, "nobody", 1), M4N_ENOTFOUND);
}

// ---- the plan

struct Plan : m4n_plan {
  std::vector<m4n_job> room = std::vector<m4n_job>(4);
  std::vector<m4n_plan_part> all;
  Plan(std::vector<m4n_plan_part> parts_) : m4n_plan{}, all(parts_) {
    part = all.data(), parts = (int)all.size(), back = room.data();
  }
};

TEST(Plan, EveryEpisodeOfEveryPartOnce) {
  Plan plan({{1, 0, 3}, {7, 5, 0}, {0, 10, 3}});
  EXPECT_EQ(m4n_plan_jobs(&plan), 6);
  m4n_job job;
  for (int i = 0; i < 6; i++) {
    ASSERT_TRUE(m4n_plan_take(&plan, &job));
    EXPECT_EQ(job.number, i);
    EXPECT_EQ(job.policy, i < 3 ? 1 : 0);
    EXPECT_EQ(job.episode, i < 3 ? i : 7 + i);
    EXPECT_FALSE(m4n_plan_finished(&plan));
    m4n_plan_done(&plan);
  }
  EXPECT_FALSE(m4n_plan_take(&plan, &job));
  EXPECT_TRUE(m4n_plan_finished(&plan));
}

TEST(Plan, WhatComesBackGoesOutFirstAndThreeTimesAtMost) {
  Plan plan({{0, 0, 2}});
  m4n_job job;
  ASSERT_TRUE(m4n_plan_take(&plan, &job));
  for (int i = 1; i < M4N_PLAN_TRIES; i++) {
    EXPECT_TRUE(m4n_plan_return(&plan, job));
    ASSERT_TRUE(m4n_plan_take(&plan, &job));
    EXPECT_EQ(job.episode, 0);
  }
  EXPECT_FALSE(m4n_plan_return(&plan, job));
  ASSERT_TRUE(m4n_plan_take(&plan, &job));
  EXPECT_EQ(job.episode, 1);
  m4n_plan_done(&plan);
  EXPECT_TRUE(m4n_plan_finished(&plan));
  EXPECT_EQ(plan.given_up, 1);
}

TEST(Plan, WithoutEnd) {
  Plan plan({{0, 0, INT64_MAX}});
  m4n_job job;
  for (int64_t i = 0; i < 1000; i++) {
    ASSERT_TRUE(m4n_plan_take(&plan, &job));
    EXPECT_EQ(job.episode, i);
    m4n_plan_done(&plan);
  }
  EXPECT_FALSE(m4n_plan_finished(&plan));
}

} // namespace
