#include "sim/spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/base/status.h"

namespace {
m4n_spec *sample() {
  static m4n_spec s;
  s = m4n_spec{};
  strcpy(s.task, "t");
  strcpy(s.reward, "r");
  m4n_spec_add_obs(&s, "a", M4N_F64, "s", 0, 1, 1, 3);
  m4n_spec_add_obs(&s, "flag", M4N_U8, "1", 0, 1, 1, 5);
  m4n_spec_add_obs(&s, "nodes", M4N_F32, "1", -1, 1, 2, -1, 4)->max_rows = 10;
  m4n_spec_add_choice(&s, "pick", 5);
  double weight = 2;
  m4n_spec_add_constant(&s, "weight", 1, &weight);
  return &s;
}
} // namespace

TEST(Spec, LaysOutRows) {
  m4n_spec *s = sample();
  ASSERT_EQ(m4n_spec_layout(s), M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->obs[0].offset, 0u);
  EXPECT_EQ(s->obs[1].offset, 24u);
  EXPECT_EQ(s->obs[2].offset, 32u);             // five bytes are padded to eight
  EXPECT_EQ(s->obs_size, 32u + 8 + 10 * 4 * 4); // the count of rows in front
  EXPECT_EQ(s->act_size, 8u);
  EXPECT_EQ(s->act[0].high, 4);
  EXPECT_EQ(m4n_spec_obs(s, "flag"), &s->obs[1]);
  EXPECT_EQ(m4n_spec_obs(s, "none"), nullptr);
  double x;
  EXPECT_EQ(m4n_spec_number(s, "weight", &x), M4N_OK);
  EXPECT_EQ(x, 2);
  EXPECT_EQ(m4n_spec_number(s, "height", &x), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "height"), nullptr);
}

TEST(Spec, RefusesWhatCannotBeARow) {
  auto refused = [](void (*spoil)(m4n_spec *), const char *word) {
    m4n_spec *s = sample();
    spoil(s);
    EXPECT_EQ(m4n_spec_layout(s), M4N_EARG) << word;
    EXPECT_NE(strstr(m4n_error_message(), word), nullptr) << m4n_error_message();
  };
  refused([](m4n_spec *s) { s->obs[0].dtype = 99; }, "type");
  refused([](m4n_spec *s) { s->obs[0].rank = 9; }, "rank");
  refused([](m4n_spec *s) { s->obs[0].shape[0] = 0; }, "dimension");
  refused([](m4n_spec *s) { s->obs[0].shape[0] = -7; }, "dimension");
  refused([](m4n_spec *s) { s->obs[0].shape[0] = M4N_MAX_ROW; }, "larger");
  refused([](m4n_spec *s) { s->obs[2].max_rows = -1; }, "dimension");
  refused([](m4n_spec *s) { s->obs[0].low = NAN; }, "range");
  refused([](m4n_spec *s) { s->obs[0].low = 2; }, "range");
  refused([](m4n_spec *s) { strcpy(s->obs[1].name, "a"); }, "two observation fields");
  refused([](m4n_spec *s) { s->task[0] = 0; }, "task");
  refused([](m4n_spec *s) { s->n_act = 0; }, "action");
  refused([](m4n_spec *s) { s->act[0].high = -1; }, "range");
  refused([](m4n_spec *s) { s->act[0].dtype = M4N_F64; }, "i32");
  refused([](m4n_spec *s) { strcpy(s->act[0].mask, "a"); }, "mask");
  refused(
      [](m4n_spec *s) {
        for (int i = 0; i < M4N_MAX_FIELDS; i++) m4n_spec_add_obs(s, "more", M4N_F64, "", 0, 1, 0);
      },
      "observation fields");
  refused(
      [](m4n_spec *s) {
        double many[M4N_MAX_VALUES] = {};
        m4n_spec_add_constant(s, "many", M4N_MAX_VALUES, many);
      },
      "constants");
}

TEST(Spec, FiguresInCommonAreTheFirstOnes) {
  m4n_spec a = {}, b = {};
  for (const char *name : {"x", "y", "z"}) m4n_spec_add_metric(&a, name, "", 1);
  for (const char *name : {"x", "y", "other", "z"}) m4n_spec_add_metric(&b, name, "", 1);
  EXPECT_EQ(m4n_figures_common(a.metric, 3, b.metric, 4), 2);
  EXPECT_EQ(m4n_figures_common(a.metric, 1, b.metric, 4), 1);
  EXPECT_EQ(m4n_figures_common(a.metric, 3, a.metric, 3), 3);
  EXPECT_EQ(m4n_figures_common(a.metric, 0, b.metric, 4), 0);
}

TEST(Spec, HashSeesWhatAPolicyDependsOn) {
  m4n_spec *s = sample();
  ASSERT_EQ(m4n_spec_layout(s), M4N_OK);
  uint64_t hash = m4n_spec_hash(s);
  m4n_spec other = *s;
  memset(other.obs[0].name + strlen(other.obs[0].name) + 1, 'x', 3); // stale bytes behind a name mean nothing
  EXPECT_EQ(m4n_spec_hash(&other), hash);
  other = *s, other.value[0] = 3;
  EXPECT_NE(m4n_spec_hash(&other), hash);
  other = *s, other.obs[0].name[0] = 'b';
  EXPECT_NE(m4n_spec_hash(&other), hash);
  other = *s, other.act[0].high = 6;
  EXPECT_NE(m4n_spec_hash(&other), hash);
  other = *s, strcpy(other.reward, "q");
  EXPECT_NE(m4n_spec_hash(&other), hash);
}
