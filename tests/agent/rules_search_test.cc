// The planner against a plain enumeration written from its definition: equal choices on random and on hard states.
#include <gtest/gtest.h>
#include <math.h>

#include <algorithm>
#include <vector>

#include "agent/rules/mpc_search.h"
#include "kernels/base/rng.h"
#include "tests/support/alloc.h"

namespace {

struct qoe {
  std::vector<double> utility;
  double rebuffer, smooth, chunk_s;
};

// All plans in lexicographic order, the first chunk slowest; the last one with the largest value wins.
int plain(const m4n_mpc_problem &p, const qoe &q, int max_step) {
  int levels = (int)q.utility.size();
  bool whole = true;
  for (double u : q.utility) whole = whole && round(u * 1000) / 1000 == u;
  std::vector<int> plan(p.horizon, 0);
  double best = -HUGE_VAL;
  int choice = 0;
  for (;;) {
    long kbits = 0, steps = 0;
    double paid = 0, changed = 0, stalled = 0, b = p.buffer;
    int last = p.last;
    bool allowed = true;
    for (int k = 0; k < p.horizon; k++) {
      int l = plan[k];
      allowed = allowed && abs(l - last) <= max_step;
      double t = p.time[k][l];
      if (b < t) {
        stalled += t - b;
        b = 0;
      } else {
        b -= t;
      }
      b += q.chunk_s;
      kbits += lround(q.utility[l] * 1000);
      steps += labs(lround(q.utility[l] * 1000) - lround(q.utility[last] * 1000));
      paid += q.utility[l];
      changed += fabs(q.utility[l] - q.utility[last]);
      last = l;
    }
    double value = whole ? (double)kbits / 1000. - q.rebuffer * stalled - q.smooth * ((double)steps / 1000.)
                         : paid - q.rebuffer * stalled - q.smooth * changed;
    if (allowed && value >= best) best = value, choice = plan[0];
    int k = p.horizon - 1;
    while (k >= 0 && ++plan[k] == levels) plan[k--] = 0;
    if (k < 0) return choice;
  }
}

struct drawer {
  m4n_rng rng = m4n_rng_make(7, 0, M4N_RNG_TEST);
  double uniform(double low, double high) { return low + (high - low) * m4n_rng_uniform(&rng); }
  int below(int n) { return (int)m4n_rng_below(&rng, (uint32_t)n); }

  // Pensieve's video as it is: chunks that vary by a third, a rate somewhere between outage and plenty.
  m4n_mpc_problem problem(const m4n_mpc_qoe &q, int horizon, const std::vector<double> &ladder) {
    m4n_mpc_problem p = {};
    p.qoe = &q;
    p.horizon = horizon;
    p.last = below(q.levels);
    p.buffer = below(4) ? uniform(0, 60) : uniform(0, 6);
    double rate = exp(uniform(log(0.01), log(2)));
    for (int k = 0; k < horizon; k++) {
      double chunk = uniform(0.67, 1.33);
      for (int l = 0; l < q.levels; l++)
        p.time[k][l] = floor(ladder[l] * 125 * q.chunk_s * chunk * uniform(0.95, 1.05)) / 1000000 / rate;
    }
    return p;
  }
};

m4n_mpc_qoe make(const qoe &q) {
  return m4n_mpc_qoe_make((int)q.utility.size(), q.utility.data(), q.rebuffer, q.smooth, q.chunk_s);
}

std::vector<double> scaled(std::vector<double> v, double by) {
  for (double &x : v) x /= by;
  return v;
}

const std::vector<double> pensieve = {300, 750, 1200, 1850, 2850, 4300};

// `choices` collects what was chosen, so that a test can see that its states are not all alike.
void compare(const qoe &q, const std::vector<double> &ladder, int horizon, int states,
             std::vector<int> *choices) {
  m4n_mpc_qoe own = make(q);
  drawer draw;
  draw.rng = m4n_rng_make(11, (uint64_t)(horizon * 100 + own.levels), M4N_RNG_TEST);
  for (int i = 0; i < states; i++) {
    m4n_mpc_problem p = draw.problem(own, horizon, ladder);
    int expected = plain(p, q, own.levels);
    ASSERT_EQ(expected, m4n_mpc_search(&p)) << "state " << i << " of horizon " << horizon;
    (*choices)[expected]++;
  }
}

// The enumeration of the rules is the plain one, so it may stand in for it where there are many states.
TEST(Enumeration, IsThePlainOne) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  m4n_mpc_qoe own = make(q);
  drawer draw;
  for (int i = 0; i < 300; i++) {
    m4n_mpc_problem p = draw.problem(own, 1 + i % 5, pensieve);
    for (int step : {0, 1, 2, 6})
      ASSERT_EQ(plain(p, q, step), m4n_mpc_enumerate(&p, step)) << i << " step " << step;
  }
}

TEST(Search, ChoosesAsTheEnumerationOnPensievesLadder) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  std::vector<int> choices(6);
  compare(q, pensieve, 5, 400, &choices);
  for (int n : choices) EXPECT_GT(n, 0);
}

// The same on very many states; the enumeration that the test above holds against the plain one is quicker.
TEST(Search, ChoosesAsTheEnumerationOnVeryManyStates) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  m4n_mpc_qoe own = make(q);
  drawer draw;
  const struct { int horizon, states; } parts[] = {{5, 50000}, {4, 200000}};
  for (const auto &part : parts)
    for (int i = 0; i < (m4n_sanitized() ? part.states / 100 : part.states); i++) {
      m4n_mpc_problem p = draw.problem(own, part.horizon, pensieve);
      ASSERT_EQ(m4n_mpc_enumerate(&p, 6), m4n_mpc_search(&p))
          << "state " << i << " of horizon " << part.horizon;
    }
}

TEST(Search, ChoosesAsTheEnumerationNearTheEnd) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  std::vector<int> choices(6);
  compare(q, pensieve, 4, 2000, &choices);
  compare(q, pensieve, 3, 20000, &choices);
  compare(q, pensieve, 2, 20000, &choices);
  compare(q, pensieve, 1, 20000, &choices);
  for (int n : choices) EXPECT_GT(n, 0);
}

TEST(Search, ChoosesAsTheEnumerationForOtherWeights) {
  std::vector<int> choices(6);
  std::vector<double> logs;
  for (double kbps : pensieve) logs.push_back(log(kbps / 300));
  const qoe kinds[] = {{logs, 2.66, 1, 4},
                       {{1, 2, 3, 12, 15, 20}, 8, 1, 4},
                       {scaled(pensieve, 1000), 0, 1, 4},   // rebuffering is free
                       {scaled(pensieve, 1000), 100, 0, 4}, // and changes are
                       {scaled(pensieve, 1000), 4.3, 2.5, 1},
                       {{5, 4, 3, 2, 1, 0}, 4.3, 1, 4}}; // the lowest level pays most
  for (const qoe &q : kinds) {
    compare(q, pensieve, 5, 60, &choices);
    compare(q, pensieve, 3, 5000, &choices);
  }
}

TEST(Search, ChoosesAsTheEnumerationOnAnyLadder) {
  for (int levels = 1; levels <= M4N_ABR_MAX_LEVELS; levels++) {
    std::vector<double> ladder;
    for (int l = 0; l < levels; l++) ladder.push_back(floor(230 * pow(6000. / 230, l / 9.)));
    std::vector<int> choices(levels);
    qoe q = {scaled(ladder, 1000), 4.3, 1, 3};
    compare(q, ladder, 2, 1000, &choices);
    compare(q, ladder, 3, 100, &choices);
    if (levels <= 8) compare(q, ladder, 5, levels <= 4 ? 200 : 20, &choices);
  }
}

// States made so that many plans tie or differ in the last bit only: round times, ample buffers, equal chunks.
TEST(Search, KeepsTies) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  m4n_mpc_qoe own = make(q);
  drawer draw;
  int tied = 0;
  for (int i = 0; i < 20000; i++) {
    m4n_mpc_problem p = {};
    p.qoe = &own;
    p.horizon = 1 + draw.below(i < 200 ? 5 : 3);
    p.last = draw.below(6);
    p.buffer = draw.below(16);
    double rate = (1 + draw.below(40)) / 80.;
    for (int k = 0; k < p.horizon; k++)
      for (int l = 0; l < 6; l++) p.time[k][l] = pensieve[l] * 500 / 1000000 / rate;
    int expected = plain(p, q, 6);
    ASSERT_EQ(expected, m4n_mpc_search(&p)) << i;
    // With only one chunk to go, a step up costs what it gains: every level that does not stall ties.
    tied += p.horizon == 1 && expected > p.last;
  }
  EXPECT_GT(tied, 100) << "the states do have ties, and the highest level was taken";
}

TEST(Search, StaysFiniteWhereTimesAreAbsurd) {
  qoe q = {scaled(pensieve, 1000), 4.3, 1, 4};
  m4n_mpc_qoe own = make(q);
  m4n_mpc_problem p = {};
  p.qoe = &own;
  p.horizon = 3;
  for (int k = 0; k < 3; k++)
    for (int l = 0; l < 6; l++) p.time[k][l] = l < 2 ? 1e12 : 1;
  EXPECT_EQ(plain(p, q, 6), m4n_mpc_search(&p));
  for (int k = 0; k < 3; k++)
    for (int l = 0; l < 6; l++) p.time[k][l] = 0;
  EXPECT_EQ(plain(p, q, 6), m4n_mpc_search(&p));
}

} // namespace
