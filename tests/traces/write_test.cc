// What is written reads back: cooked bit for bit, the others to what the format can hold.
#include <cmath>
#include <fstream>
#include <sstream>

#include "kernels/base/rng.h"
#include "tests/support/paths.h"
#include "tests/traces/parsed.h"
#include "traces/throughput/stats.h"

namespace {

std::string slurp(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Written {
  std::string path = m4n_temp_dir() + "/trace";
  std::string text;
  Written(const m4n_trace &trace, int format) {
    EXPECT_EQ(m4n_trace_write(&trace, path.c_str(), format), M4N_OK) << m4n_error_message();
    text = slurp(path);
  }
};

// 200 rows of random length and rate, an outage and a late start among them.
struct Random {
  numbers time, mbps;
  m4n_trace trace;
  Random() {
    m4n_rng rng = m4n_rng_make(7, 0, M4N_RNG_TEST);
    double t = 1.0 / 3;
    for (int i = 0; i < 200; i++) {
      time.push_back(t);
      mbps.push_back(i % 50 < 5 ? 0 : 8 * m4n_rng_uniform(&rng));
      t += 0.5 + m4n_rng_uniform(&rng);
    }
    trace = {"random", (int)time.size(), M4N_TRACE_COOKED, time.data(), mbps.data(), 35.5};
  }
};

TEST(Write, CookedIsExact) {
  Random r;
  Parsed back(Written(r.trace, M4N_TRACE_COOKED).text);
  ASSERT_EQ(back.status, M4N_OK) << back.message;
  EXPECT_EQ(back.trace.format, M4N_TRACE_COOKED);
  EXPECT_EQ(back.time(), r.time);
  EXPECT_EQ(back.mbps(), r.mbps);
}

TEST(Write, CookedPrefersShortNumbers) {
  Parsed p("0 0.66\n0.1 2.29085714286\n0.30000000000000004 1\n");
  EXPECT_EQ(Written(p.trace, M4N_TRACE_COOKED).text, "0\t0.66\n0.1\t2.29085714286\n0.30000000000000004\t1\n");
}

TEST(Write, SabreKeepsPeriodsAndRoundTrip) {
  Random r;
  Parsed back(Written(r.trace, M4N_TRACE_SABRE).text);
  ASSERT_EQ(back.status, M4N_OK) << back.message;
  EXPECT_EQ(back.trace.format, M4N_TRACE_SABRE);
  EXPECT_NEAR(back.trace.rtt_ms, 35.5, 1e-9);
  ASSERT_EQ(back.trace.rows, r.trace.rows);
  for (int i = 1; i < r.trace.rows; i++) {
    EXPECT_NEAR(back.trace.time[i], r.time[i] - r.time[0], 1e-9);
    EXPECT_NEAR(back.trace.mbps[i], r.mbps[i], 1e-12 * r.mbps[i]);
  }
}

TEST(Write, SabreStates80msWhereTheTraceStatesNone) {
  Parsed p("0 1\n1 1\n");
  EXPECT_EQ(Written(p.trace, M4N_TRACE_SABRE).text,
            "[\n  {\"duration_ms\": 1000, \"bandwidth_kbps\": 1000, \"latency_ms\": 80}\n]\n");
}

// One second at two packets, one of silence, one at three: packets in the middle of their stretch, and a last line
// at the end for the length.
TEST(Write, MahimahiByHand) {
  Parsed p("0 9\n1 0.024\n2 0\n3 0.036\n");
  Written w(p.trace, M4N_TRACE_MAHIMAHI);
  EXPECT_EQ(w.text, "250\n750\n2166\n2500\n2833\n3000\n");
  Parsed back(w.text);
  EXPECT_EQ(back.time(), p.time());
  EXPECT_EQ(back.mbps(), (numbers{2 * 0.012, 2 * 0.012, 0, 3 * 0.012}));
}

TEST(Write, MahimahiHoldsEverySecondToAPacket) {
  Random r;
  Parsed back(Written(r.trace, M4N_TRACE_MAHIMAHI).text);
  ASSERT_EQ(back.status, M4N_OK) << back.message;
  numbers second(1000);
  int n = m4n_trace_resample(&r.trace, 1, second.data(), 1000);
  ASSERT_EQ(back.trace.rows, n + 1);
  // Half a packet at either end, and one that a whole millisecond moves across.
  for (int i = 0; i < n; i++) EXPECT_NEAR(back.trace.mbps[i + 1], second[i], 2 * 0.012);
  EXPECT_NEAR(m4n_trace_mean(&back.trace), m4n_trace_mean(&r.trace), 0.02);
}

TEST(Write, RefusesFormatsAndFilesThatAreTooLarge) {
  Random r;
  std::string folder = m4n_temp_dir();
  EXPECT_EQ(m4n_trace_write(&r.trace, (folder + "/x").c_str(), M4N_TRACE_NYU), M4N_EUNSUPPORTED);
  EXPECT_EQ(m4n_trace_write(&r.trace, (folder + "/none/x").c_str(), M4N_TRACE_COOKED), M4N_ENOTFOUND);
  Parsed fast("0 1\n100000 1e5\n");
  EXPECT_EQ(m4n_trace_write(&fast.trace, (folder + "/x").c_str(), M4N_TRACE_MAHIMAHI), M4N_EUNSUPPORTED);
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "something half-written was left";
}

} // namespace
