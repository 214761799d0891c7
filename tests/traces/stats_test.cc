// Statistics of traces, worked by hand.
#include <math.h>

#include "tests/traces/parsed.h"
#include "traces/throughput/stats.h"

namespace {

// 2 s at 1, 6 s at 3, 2 s at 0: mean 2, quartiles over time 1, 3, 3.
TEST(Stats, WeighsByTime) {
  Parsed p("0 9\n2 1\n8 3\n10 0\n");
  m4n_trace_stats s;
  ASSERT_EQ(m4n_trace_stats_of(&s, &p.trace, 1, 1), M4N_OK);
  EXPECT_EQ(s.traces, 1);
  EXPECT_EQ(s.total_s, 10);
  EXPECT_EQ(s.median_s, 10);
  EXPECT_DOUBLE_EQ(s.mean, 2);
  EXPECT_EQ(s.min, 0);
  EXPECT_EQ(s.quartile[0], 1);
  EXPECT_EQ(s.quartile[1], 3);
  EXPECT_EQ(s.quartile[2], 3);
  EXPECT_EQ(s.max, 3);
  EXPECT_DOUBLE_EQ(s.outage_share, 0.2);
  // 1 1 3 3 3 3 3 3 0 0 less their mean 2: products of neighbours 1−1+1+1+1+1+1−2+4 = 7, squares 2+6+8 = 16.
  EXPECT_DOUBLE_EQ(s.lag1, 7.0 / 16);
}

// 1 for 1 s and 5 for 3 s: the mean is 4, the deviation √((9 + 3·1)/4) = √3.
TEST(Stats, VariationIsTheDeviationsShareOfTheMean) {
  Parsed p("2 9\n3 1\n6 5\n"), still("0 3\n1 3\n4 3\n");
  EXPECT_DOUBLE_EQ(m4n_trace_mean(&p.trace), 4);
  EXPECT_DOUBLE_EQ(m4n_trace_variation(&p.trace), sqrt(3.0) / 4);
  EXPECT_EQ(m4n_trace_variation(&still.trace), 0);
}

// Two traces of 2 and 4 s: the mean is that of the traces' means (2 and 5), the quartiles are over 6 s.
TEST(Stats, PoolsTraces) {
  Parsed a("0 0\n1 1\n2 3\n"), b("1 0\n5 5\n");
  m4n_trace both[] = {a.trace, b.trace};
  m4n_trace_stats s;
  ASSERT_EQ(m4n_trace_stats_of(&s, both, 2, 1), M4N_OK);
  EXPECT_EQ(s.mean, 3.5);
  EXPECT_EQ(s.lowest, 2);
  EXPECT_EQ(s.highest, 5);
  EXPECT_EQ(s.shortest_s, 2);
  EXPECT_EQ(s.median_s, 3);
  EXPECT_EQ(s.longest_s, 4);
  EXPECT_EQ(s.quartile[0], 3);
  EXPECT_EQ(s.quartile[1], 5);
  EXPECT_EQ(s.lag1, 0) << "neither trace has three samples that vary";
}

// Rows of 1.5, 1 and 1.75 s in periods of 2 s, from the trace's own begin: (1.5·2 + 0.5·4)/2, (0.5·4 + 1.5·8)/2; the
// last 0.25 s are no whole period.
TEST(Resample, MeansOfPeriods) {
  Parsed p("1 0\n2.5 2\n3.5 4\n5.25 8\n");
  double sample[8];
  ASSERT_EQ(m4n_trace_resample(&p.trace, 2, sample, 8), 2);
  EXPECT_DOUBLE_EQ(sample[0], 2.5);
  EXPECT_DOUBLE_EQ(sample[1], 7);
  EXPECT_EQ(m4n_trace_resample(&p.trace, 2, sample, 1), 1);
  EXPECT_EQ(m4n_trace_resample(&p.trace, 5, sample, 8), 0);
}

TEST(Resample, RoundingLosesNoPeriod) {
  std::string text = "0 1\n";
  for (int i = 1; i <= 1000; i++) text += std::to_string(i / 10.0) + " " + std::to_string(i % 7) + "\n";
  Parsed p(text);
  std::vector<double> sample(2000);
  EXPECT_EQ(m4n_trace_resample(&p.trace, 0.1, sample.data(), 2000), 1000);
  for (int i = 0; i < 1000; i++) ASSERT_NEAR(sample[i], (i + 1) % 7, 1e-9);
}

} // namespace
