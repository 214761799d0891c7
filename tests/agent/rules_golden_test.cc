// Rules in the simulator: the published programs' levels, chunk by chunk, and their QoE on every test trace.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "agent/policy.h"
#include "agent/rules/estimate.h"
#include "agent/rules/mpc_rule.h"
#include "kernels/base/status.h"
#include "sim/abr/options.h"
#include "sim/env.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

namespace {

const m4n_task *abr() {
  return m4n_task_find("abr");
}

struct world {
  m4n_world *handle = nullptr;
  world(const std::string &traces, const std::string &video) {
    std::string set = m4n_data() + "/abr/" + traces, sizes = m4n_data() + "/abr/videos/" + video;
    m4n_abr_options o = m4n_abr_defaults();
    const char *paths[] = {set.c_str()};
    o.set[M4N_SET_TEST].paths = paths, o.set[M4N_SET_TEST].n_paths = 1;
    o.video = sizes.c_str();
    o.rtt_ms = 80;
    EXPECT_EQ(M4N_OK, abr()->world_open(&handle, &o)) << m4n_error_message();
  }
  ~world() { abr()->world_close(handle); }
  const m4n_spec *spec() const { return abr()->spec(handle); }
  int episodes() const { return (int)*m4n_spec_constant(spec(), M4N_EPISODES, nullptr); }
};

struct episode {
  std::string trace, levels; /* the forced first chunk's included */
  double qoe;
};

/* Every episode of the test set at once, one lane each. `seen` is called with every batch of rows. */
template <class Seen> std::vector<episode> play(const world &w, const std::string &name, Seen seen) {
  const m4n_spec *spec = w.spec();
  int n = w.episodes();
  m4n_policy policy;
  m4n_policy_setup setup = {};
  setup.spec = spec, setup.slots = n;
  EXPECT_EQ(M4N_OK, m4n_policy_open(&policy, name.c_str(), &setup)) << m4n_error_message();

  size_t state_size = (abr()->state_size(w.handle) + 15) / 16 * 16;
  std::vector<std::max_align_t> states(n * state_size / sizeof(std::max_align_t) + 1);
  std::vector<uint64_t> obs(n * spec->obs_size / 8), action(n * spec->act_size / 8);
  std::vector<double> reward(n);
  std::vector<int32_t> slot(n);
  std::vector<m4n_io> io(n);
  std::vector<episode> played(n);
  auto state = [&](int i) { return (char *)states.data() + i * state_size; };
  for (int i = 0; i < n; i++) {
    m4n_reset order = {};
    order.episode = i, order.seed = 1, order.copy_of = -1;
    io[i].obs = (char *)obs.data() + (size_t)i * spec->obs_size;
    io[i].action = (char *)action.data() + (size_t)i * spec->act_size;
    abr()->reset(state(i), w.handle, &order, &io[i]);
    m4n_start start = {i, i, 1};
    policy.kind->begin(policy.self, &start, 1);
    slot[i] = i;
    played[i].trace = abr()->label(w.handle, &order);
    played[i].levels = "0";
  }
  m4n_batch batch = {n, slot.data(), reward.data(), (const uint8_t *)obs.data(), nullptr};
  m4n_decisions out = {(uint8_t *)action.data(), nullptr, nullptr, nullptr};
  // All episodes have the same number of chunks.
  while (!(io[0].flags & M4N_ENDED)) {
    policy.kind->decide(policy.self, &batch, &out);
    seen(batch, out);
    for (int i = 0; i < n; i++) {
      played[i].levels += (char)('0' + *(const int32_t *)io[i].action);
      abr()->step(state(i), w.handle, &io[i]);
      reward[i] = io[i].reward;
    }
  }
  std::vector<double> metrics(spec->n_metrics);
  for (int i = 0; i < n; i++) {
    abr()->report(state(i), w.handle, metrics.data());
    played[i].qoe = metrics[0];
  }
  m4n_policy_close(&policy);
  return played;
}

const std::map<std::string, std::string> ours = {
    {"level0", "level-0"}, {"level3", "level-3"},       {"cycle7k3", "cycle"}, {"bba", "bba"},
    {"rb", "rate"},        {"robustmpc", "robust-mpc"}, {"bola", "bola"}};

void equals_the_published(const std::string &set) {
  M4N_NEED(m4n_data() + "/abr/" + set);
  M4N_NEED(m4n_golden() + "/abr/per_trace.tsv");
  m4n_table table(m4n_golden() + "/abr/per_trace.tsv");
  std::map<std::string, std::map<std::string, const std::vector<std::string> *>> golden; // policy, trace
  for (const auto &row : table.rows)
    if (row[0] == "shared/" + set) golden[row[2]][row[1]] = &row;
  int qoe = table.column("qoe"), levels = table.column("levels");
  world w(set, "envivio-pensieve");
  int compared = 0;
  for (const auto &[theirs, name] : ours) {
    ASSERT_EQ((size_t)w.episodes(), golden[theirs].size()) << theirs;
    for (const episode &e : play(w, name, [](const m4n_batch &, const m4n_decisions &) {})) {
      ASSERT_TRUE(golden[theirs].count(e.trace)) << e.trace;
      const std::vector<std::string> &row = *golden[theirs][e.trace];
      EXPECT_EQ(row[levels], e.levels) << name << " on " << e.trace;
      // Ten significant digits are printed.
      double expected = std::stod(row[qoe]);
      EXPECT_NEAR(expected, e.qoe, 1e-8 * std::max(1.0, std::fabs(expected))) << name << " on " << e.trace;
      compared++;
    }
  }
  EXPECT_EQ((int)ours.size() * w.episodes(), compared);
}

TEST(RulesGolden, FccEqualsThePublishedPrograms) {
  equals_the_published("fcc-cooked/test");
}

TEST(RulesGolden, NorwayEqualsThePublishedPrograms) {
  equals_the_published("norway-hsdpa-cooked/test");
}

// Real rows of another video, ten levels of three seconds: the bounded search chooses as all 100,000 plans do.
TEST(RulesGolden, SearchEqualsEnumerationOnTenLevels) {
  M4N_NEED(m4n_data() + "/abr/norway-hsdpa-cooked/test");
  world w("norway-hsdpa-cooked/test", "sabre/bbb.json");
  const m4n_spec *spec = w.spec();
  int levels, lanes = m4n_sanitized() ? 1 : 5, compared = 0;
  const double *utility = m4n_spec_constant(spec, M4N_ABR_UTILITY, &levels);
  ASSERT_EQ(10, levels);
  auto constant = [&](const char *name) { return *m4n_spec_constant(spec, name, nullptr); };
  m4n_mpc_qoe qoe = m4n_mpc_qoe_make(levels, utility, constant(M4N_ABR_REBUFFER), constant(M4N_ABR_SMOOTH),
                                     constant(M4N_ABR_CHUNK_SECONDS));
  std::vector<m4n_robust> memory(lanes);
  std::vector<int> chosen(levels);
  play(w, "robust-mpc", [&](const m4n_batch &batch, const m4n_decisions &out) {
    for (int i = 0; i < lanes; i++) {
      const uint8_t *row = batch.obs + (size_t)i * spec->obs_size;
      auto field = [&](const char *name) { return (const double *)(row + m4n_spec_obs(spec, name)->offset); };
      m4n_abr_view view = {};
      view.throughput = field(M4N_ABR_THROUGHPUT);
      view.next_sizes = field(M4N_ABR_NEXT_SIZES);
      view.buffer = *field(M4N_ABR_BUFFER);
      view.last_level = (int)*field(M4N_ABR_LAST_LEVEL);
      view.chunks_left = *field(M4N_ABR_CHUNKS_LEFT);
      double rate = m4n_robust_estimate(&memory[i], view.throughput, 0);
      m4n_mpc_problem problem = m4n_mpc_problem_make(&qoe, &view, rate);
      int level = *(const int32_t *)(out.action + (size_t)i * spec->act_size);
      EXPECT_EQ(m4n_mpc_enumerate(&problem, levels), level);
      chosen[level]++, compared++;
    }
  });
  EXPECT_GT(compared, 190 * lanes);
  int used = 0;
  for (int n : chosen) used += n > 0;
  EXPECT_GE(used, 5) << "the rows are not all alike";
}

// Rules without a published program play whole episodes too, and sensibly. Prints every rule's mean.
void beats_guessing(const std::string &set) {
  M4N_NEED(m4n_data() + "/abr/" + set);
  world w(set, "envivio-pensieve");
  std::map<std::string, double> mean;
  for (int i = 0; m4n_policy_at(i); i++) {
    const m4n_policy_kind *kind = m4n_policy_at(i);
    if (kind->wants_advice) continue;
    std::string name = std::string(kind->name) + (kind->match == M4N_MATCH_NUMBERED ? "0" : "");
    for (const episode &e : play(w, name, [](const m4n_batch &, const m4n_decisions &) {}))
      mean[name] += e.qoe / w.episodes();
    printf("%-24s %-18s %8.4f\n", set.c_str(), name.c_str(), mean[name]);
  }
  for (const char *name : {"mpc", "robust-mpc-netllm", "festive"}) {
    EXPECT_GT(mean[name], mean["random"] + 1) << name;
    EXPECT_GT(mean[name], mean["level-0"]) << name;
    EXPECT_LT(mean[name], mean["robust-mpc"]) << name;
  }
}

TEST(RulesGolden, TheOthersBeatGuessing) {
  beats_guessing("fcc-cooked/test");
  beats_guessing("norway-hsdpa-cooked/test");
}

} // namespace
