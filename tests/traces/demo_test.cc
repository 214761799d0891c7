// The demo data that the build makes: what the scenarios that come with the program rely on.
#include <set>

#include "tests/support/paths.h"
#include "tests/traces/parsed.h"
#include "traces/throughput/stats.h"
#include "traces/video/sizes.h"

namespace {

TEST(Demo, TracesAreHardAndNoSetSharesAny) {
  std::set<std::vector<double>> seen;
  for (auto [name, count] :
       std::vector<std::pair<std::string, int>>{{"train", 60}, {"valid", 20}, {"test", 40}}) {
    SCOPED_TRACE(name);
    m4n_traces set;
    m4n_trace_stats s;
    ASSERT_EQ(m4n_traces_open(&set, (M4N_BUILD_DIR "/demo/" + name).c_str(), M4N_TRACE_COOKED), M4N_OK)
        << m4n_error_message();
    EXPECT_EQ(set.count, count);
    ASSERT_EQ(m4n_trace_stats_of(&s, set.trace, set.count, 1), M4N_OK);
    EXPECT_EQ(s.shortest_s, 320);
    EXPECT_EQ(s.longest_s, 320);
    // Between the ladder's levels of 1200 and 1850 kbit/s, with 1 to 3 % of the time without a link.
    EXPECT_GT(s.mean, 1.3);
    EXPECT_LT(s.mean, 1.6);
    EXPECT_GT(s.outage_share, 0.01);
    EXPECT_LT(s.outage_share, 0.03);
    for (int i = 0; i < set.count; i++)
      EXPECT_TRUE(seen.insert(numbers(set.trace[i].mbps, set.trace[i].mbps + set.trace[i].rows)).second)
          << set.trace[i].name;
    m4n_traces_close(&set);
  }
}

TEST(Demo, VideoIsTheUsualOne) {
  m4n_video v;
  ASSERT_EQ(m4n_video_open(&v, M4N_BUILD_DIR "/demo/video"), M4N_OK) << m4n_error_message();
  EXPECT_EQ(v.levels, 6);
  EXPECT_EQ(v.chunks, 49);
  const double ladder[] = {300, 750, 1200, 1850, 2850, 4300};
  for (int level = 0; level < 6; level++) {
    double kbps = 0;
    for (int c = 0; c < 49; c++) kbps += v.size[c * 6 + level] * 8 / 1000 / 4 / 49;
    EXPECT_NEAR(kbps, ladder[level], 0.1 * ladder[level]);
  }
  m4n_video_close(&v);
}

} // namespace
