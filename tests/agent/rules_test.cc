// Every rule against values worked out by hand from its formula.
#include "tests/agent/abr_rows.h"

#include "agent/rules/estimate.h"

namespace {

abr_row with_buffer(double s) {
  abr_row row;
  row.buffer = s;
  return row;
}

abr_row with_mbps(std::vector<double> mbps) {
  abr_row row;
  for (double m : mbps) row.throughput.push_back(m / 8);
  return row;
}

TEST(Level, IsAlwaysTheSame) {
  for (int n = 0; n < 6; n++) {
    one_lane policy(("level-" + std::to_string(n)).c_str());
    EXPECT_EQ(n, policy(with_buffer(0)));
    EXPECT_EQ(n, policy(with_buffer(50)));
  }
}

TEST(Cycle, WalksOverAllLevels) {
  one_lane policy("cycle");
  // (7k + 3) mod 6 for k = 1, 2, …: the golden sequence after its forced first chunk.
  const int expected[] = {4, 5, 0, 1, 2, 3, 4, 5};
  for (int k = 1; k <= 8; k++) {
    abr_row row;
    row.chunks_left = 48 - k;
    EXPECT_EQ(expected[k - 1], policy(row)) << "chunk " << k;
  }
}

TEST(Bba, RisesWithTheBuffer) {
  one_lane policy("bba");
  // int(5 (b - 5) / 10) between 5 and 15 s.
  const struct {
    double buffer;
    int level;
  } cases[] = {{0, 0},  {4.999, 0},  {5, 0},    {6.999, 0}, {7, 1}, {9, 2},
               {11, 3}, {12.999, 3}, {14.9, 4}, {15, 5},    {60, 5}};
  for (const auto &c : cases) EXPECT_EQ(c.level, policy(with_buffer(c.buffer))) << c.buffer;
}

TEST(Bba, UsesAnyLadder) {
  abr_options two;
  two.ladder = {500, 5000};
  one_lane policy("bba", two);
  EXPECT_EQ(0, policy(with_buffer(14.9)));
  EXPECT_EQ(1, policy(with_buffer(15)));
}

TEST(HarmonicMean, IsOfTheLastFive) {
  const double one[8] = {0, 0, 0, 0, 0, 0, 0, 0.25};
  EXPECT_EQ(0.25, m4n_harmonic_mean(one, M4N_ABR_HISTORY));
  const double two[8] = {0, 0, 0, 0, 0, 0, 0.5, 0.25}; // 2 / (2 + 4)
  EXPECT_DOUBLE_EQ(1.0 / 3, m4n_harmonic_mean(two, M4N_ABR_HISTORY));
  const double eight[8] = {9, 9, 9, 1, 1, 0.5, 0.5, 0.25}; // 5 / (1 + 1 + 2 + 2 + 4)
  EXPECT_DOUBLE_EQ(0.5, m4n_harmonic_mean(eight, M4N_ABR_HISTORY));
  const double none[8] = {};
  EXPECT_EQ(0, m4n_harmonic_mean(none, M4N_ABR_HISTORY));
}

TEST(Rate, TakesTheHighestLevelTheMeanCarries) {
  one_lane policy("rate");
  EXPECT_EQ(0, policy(with_mbps({})));
  EXPECT_EQ(0, policy(with_mbps({0.2})));
  EXPECT_EQ(1, policy(with_mbps({1.0})));
  EXPECT_EQ(2, policy(with_mbps({1.25, 1.25})));
  EXPECT_EQ(5, policy(with_mbps({100})));
  EXPECT_EQ(2, policy(with_mbps({1, 2})));                // 4/3: the mean is harmonic
  EXPECT_EQ(5, policy(with_mbps({0.01, 8, 8, 8, 8, 8}))); // the sixth last is forgotten
}

TEST(Bola, WeighsUtilityAgainstBuffer) {
  one_lane policy("bola");
  // u = ln kbit/s; gp = 1 - u0 + (u5 - u0)/2; Vp = 10 / (u0 + gp - 1).
  const double ladder[] = {300, 750, 1200, 1850, 2850, 4300};
  double u0 = log(300.0), u5 = log(4300.0), gp = 1 - u0 + (u5 - u0) / 2, vp = 10 / (u0 + gp - 1);
  EXPECT_NEAR(7.511, vp, 1e-3); // 10 / 1.3313
  int seen = 0;
  for (double b = 0; b < 40; b += 0.25) {
    int best = 0;
    for (int m = 1; m < 6; m++)
      if ((vp * (log(ladder[m]) + gp) - b) / ladder[m] >= (vp * (log(ladder[best]) + gp) - b) / ladder[best])
        best = m;
    EXPECT_EQ(best, policy(with_buffer(b))) << b;
    seen |= 1 << best;
  }
  EXPECT_EQ(63, seen) << "every level is right for some buffer";
  EXPECT_EQ(0, policy(with_buffer(0)));
  EXPECT_EQ(5, policy(with_buffer(39)));
}

TEST(Bola, HasNoChoiceOnOneLevel) {
  abr_options one;
  one.ladder = {1000};
  EXPECT_EQ(0, one_lane("bola", one)(with_buffer(20)));
}

TEST(Festive, ClimbsMoreSlowlyTheHigherItIs) {
  one_lane policy("festive");
  // Ample throughput: a step up after more than `level` chunks of patience.
  abr_row row = with_mbps({100});
  row.last_level = 0;
  EXPECT_EQ(1, policy(row)); // patience 1 > 0
  row.last_level = 1;
  EXPECT_EQ(1, policy(row)); // patience 1
  EXPECT_EQ(2, policy(row)); // patience 2 > 1
  row.last_level = 2;
  EXPECT_EQ(2, policy(row));
  EXPECT_EQ(2, policy(row));
  EXPECT_EQ(3, policy(row));
}

TEST(Festive, StepsDownAtOnceWhereItPays) {
  one_lane policy("festive");
  abr_row row = with_mbps({0.4}); // carries level 0 only, 0.85 · 400 = 340
  row.last_level = 3;
  // stay 2^0 + 12 |1850/400 - 1| = 44.5, go 2^1 + 12 |1200/400 - 1| = 26.
  EXPECT_EQ(2, policy(row));
}

TEST(Festive, KeepsALevelThatIsNearlyRight) {
  one_lane policy("festive");
  abr_row row = with_mbps({1.25}); // target 750 since 0.85 · 1250 < 1200
  row.last_level = 2;
  // fair share min(1250, 750): stay 1 + 12 (1200/750 - 1) = 8.2, go 2 + 0.
  EXPECT_EQ(1, policy(row));
  policy.begin();
  // After four switches the step is worth less than its instability: stay 2^4 + 7.2, go 2^5.
  abr_row jump = with_mbps({1.25});
  const int walk[] = {2, 1, 2, 1};
  for (int l : walk) jump.last_level = l, policy(jump);
  jump.last_level = 2;
  EXPECT_EQ(2, policy(jump));
}

TEST(Mpc, KnowsThatRebufferingCostsMoreThanItGains) {
  one_lane policy("mpc");
  abr_row row = with_mbps({4.4, 4.4, 4.4, 4.4, 4.4});
  row.last_level = 5;
  row.buffer = 30;
  EXPECT_EQ(5, policy(row)); // 4300 kbit/s is carried
  row = with_mbps({0.2});
  row.last_level = 5;
  row.buffer = 1;
  EXPECT_EQ(0, policy(row));
  EXPECT_EQ(0, policy(abr_row())) << "nothing was ever fetched";
}

TEST(RobustMpc, LowersTheRateByItsLargestError) {
  // After a mean of 8 Mbit/s the newest is 1 Mbit/s: error 7, and five decisions long.
  m4n_robust memory = {};
  double x[8] = {0, 0, 0, 0, 0, 0, 0, 1};
  EXPECT_EQ(1, m4n_robust_estimate(&memory, x, 0)) << "no error at the first decision";
  x[6] = 1, x[7] = 0.125;
  double mean = 2.0 / 9;
  EXPECT_DOUBLE_EQ(mean / 8, m4n_robust_estimate(&memory, x, 0));
  double constant[8] = {mean, mean, mean, mean, mean, mean, mean, mean};
  for (int i = 0; i < 4; i++) EXPECT_DOUBLE_EQ(mean / 8, m4n_robust_estimate(&memory, constant, 0)) << i;
  EXPECT_NEAR(mean, m4n_robust_estimate(&memory, constant, 0), 1e-12) << "the error is the sixth last";
}

TEST(RobustMpc, ForgetsBetweenEpisodes) {
  one_lane policy("robust-mpc");
  abr_row good = with_mbps({3, 3, 3, 3, 3}), drop = with_mbps({3, 3, 3, 3, 0.3});
  good.last_level = drop.last_level = 3;
  good.buffer = drop.buffer = 12;
  int fresh = policy(good);
  policy(drop);
  int wary = policy(good);
  EXPECT_GT(fresh, wary) << "the error of the drop lowers the rate";
  policy.begin(1);
  EXPECT_EQ(fresh, policy(good));
}

TEST(RobustMpcNetllm, StepsByOneAndStartsWary) {
  one_lane policy("robust-mpc-netllm");
  abr_row row = with_mbps({50});
  row.buffer = 50;
  row.last_level = 0;
  EXPECT_EQ(1, policy(row)) << "robust-mpc jumps to the top here";
  EXPECT_EQ(5, one_lane("robust-mpc")(row));
  // An error of 1 halves the rate of the first decisions.
  abr_row tight = with_mbps({2});
  tight.last_level = 3;
  tight.buffer = 4;
  policy.begin(1);
  EXPECT_GT(one_lane("robust-mpc")(tight), policy(tight));
}

TEST(RobustMpcNetllm, ReadsTheSizesOfTheChunkAfter) {
  abr_row row = with_mbps({2});
  row.last_level = 1, row.buffer = 2, row.chunks_left = 1;
  for (int k = 0; k < 5; k++)
    for (double kbps : pensieve_ladder()) row.sizes.push_back(kbps * 500);
  // The next chunk is huge at every level above 0; the one after is free.
  for (int l = 1; l < 6; l++) row.sizes[l] = 1e9;
  for (int l = 0; l < 6; l++) row.sizes[6 + l] = 1;
  EXPECT_EQ(2, one_lane("robust-mpc-netllm")(row));
  EXPECT_EQ(0, one_lane("robust-mpc")(row));
  // Behind the video's end the last known sizes hold.
  for (int l = 0; l < 24; l++) row.sizes[6 + l] = 0;
  EXPECT_EQ(0, one_lane("robust-mpc-netllm")(row));
}

} // namespace
