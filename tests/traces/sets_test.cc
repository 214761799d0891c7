// The real sets against the table of the data folder's README: counts, durations, means.
#include <algorithm>

#include "kernels/base/file.h"
#include "tests/support/paths.h"
#include "tests/traces/parsed.h"
#include "traces/throughput/stats.h"

namespace {

struct Set {
  const char *name;
  int format, train, test;
  double shortest, median, longest; // durations of train, s, rounded
  double train_mean, test_mean;     // mean of trace means, Mbit/s
  double low, high;                 // of the trace means, train
};

const Set sets[] = {
    {"fcc-cooked", M4N_TRACE_COOKED, 204, 81, 245, 320, 1855, 1.317, 1.354, 0.423, 3.284},
    {"norway-hsdpa-cooked", M4N_TRACE_COOKED, 165, 66, 294, 319, 4207, 1.311, 1.392, 0.571, 3.466},
    {"fcc-sabre-sd_fs", M4N_TRACE_SABRE, 150, 50, 180, 180, 180, 6.056, 6.076, 4.354, 7.814},
    {"fcc-sabre-hd_fs", M4N_TRACE_SABRE, 150, 50, 180, 180, 180, 17.61, 17.81, 10.96, 31.20},
    {"lte-ghent-4g", M4N_TRACE_SABRE, 20, 10, 166, 437, 763, 31.77, 32.75, 17.56, 59.72},
    {"lumos5g-4g", M4N_TRACE_COOKED, 105, 35, 218, 799, 799, 42.03, 37.29, 7.96, 102.4},
    {"lumos5g-5g", M4N_TRACE_COOKED, 72, 25, 212, 798, 799, 495.4, 473.3, 66.5, 906},
    {"mahimahi-cellular", M4N_TRACE_MAHIMAHI, 6, 2, 120, 857, 1012, 2.574, 15.01, 0.834, 5.173},
    {"nyu-mets-lte", M4N_TRACE_NYU, 3, 1, 1447, 2403, 4910, 6.105, 2.643, 4.293, 7.212},
};

struct Opened {
  m4n_traces set = {};
  m4n_trace_stats about = {};
  Opened(const std::string &path, int format) {
    EXPECT_EQ(m4n_traces_open(&set, path.c_str(), M4N_TRACE_AUTO), M4N_OK) << m4n_error_message();
    for (int i = 0; i < set.count; i++) EXPECT_EQ(set.trace[i].format, format) << set.trace[i].name;
    if (set.count > 0) {
      EXPECT_EQ(m4n_trace_stats_of(&about, set.trace, set.count, 1), M4N_OK);
    }
  }
  Opened(const Opened &) = delete;
  ~Opened() { m4n_traces_close(&set); }
};

// The table's means are over rows, ours over time: cooked rows are of unequal length, so they differ by up to 0.7 %.
void close_to(double value, double wanted, double share) {
  EXPECT_NEAR(value, wanted, share * wanted);
}

TEST(RealSets, AsTheDataFolderSays) {
  std::string data = m4n_data() + "/abr";
  if (!m4n_is_dir(data.c_str())) GTEST_SKIP() << "no data at " << data;
  for (const Set &s : sets) {
    SCOPED_TRACE(s.name);
    double share = s.format == M4N_TRACE_COOKED ? 0.007 : 0.002;
    Opened train(data + "/" + s.name + "/train", s.format), test(data + "/" + s.name + "/test", s.format);
    EXPECT_EQ(train.about.traces, s.train);
    EXPECT_EQ(test.about.traces, s.test);
    EXPECT_NEAR(train.about.shortest_s, s.shortest, 1);
    EXPECT_NEAR(train.about.median_s, s.median, 1);
    EXPECT_NEAR(train.about.longest_s, s.longest, 1);
    close_to(train.about.mean, s.train_mean, share);
    close_to(test.about.mean, s.test_mean, share);
    close_to(train.about.lowest, s.low, share);
    close_to(train.about.highest, s.high, share);
    double rtt = s.format == M4N_TRACE_SABRE ? 20 : -1;
    EXPECT_EQ(train.set.trace[0].rtt_ms, rtt);
  }
}

// 5G begins at 1; some 4G files hold repeated stamps, which are gone after reading.
TEST(RealSets, TimesRiseStrictly) {
  std::string data = m4n_data() + "/abr";
  if (!m4n_is_dir(data.c_str())) GTEST_SKIP() << "no data at " << data;
  for (const char *name : {"lumos5g-4g", "lumos5g-5g"}) {
    Opened train(data + "/" + name + "/train", M4N_TRACE_COOKED);
    double latest = 0;
    for (int i = 0; i < train.set.count; i++) {
      const m4n_trace &t = train.set.trace[i];
      latest = std::max(latest, t.time[0]);
      for (int k = 1; k < t.rows; k++) ASSERT_GT(t.time[k], t.time[k - 1]) << t.name << " row " << k;
    }
    EXPECT_EQ(latest, name == std::string("lumos5g-5g") ? 1 : 45);
  }
}

} // namespace
