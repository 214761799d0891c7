// The abr task by hand: chunks worked out on paper, starts, QoE kinds, decision delay, and what it refuses to open.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "sim/abr/world.h"
#include "sim/env.h"
#include "tests/support/paths.h"

namespace {

struct Abr {
  std::string dir = m4n_temp_dir(), traces = dir + "/traces", video = dir + "/video";
  m4n_abr_options o = m4n_abr_defaults();
  const m4n_task *task = m4n_task_find("abr");
  m4n_world *world = nullptr;
  std::vector<double> obs, info, metrics;
  abr_state s;
  m4n_io io = {};
  int32_t level = 0;
  const char *paths[2] = {};

  // Two levels of 1 and 4 Mbit/s; chunks of 4 s are 500,000 and 2,000,000 bytes.
  explicit Abr(const std::vector<std::string> &trace, int chunks = 6) {
    EXPECT_EQ(m4n_mkdirs(traces.c_str()), M4N_OK);
    EXPECT_EQ(m4n_mkdirs(video.c_str()), M4N_OK);
    for (size_t i = 0; i < trace.size(); i++) m4n_write_file(traces + "/t" + std::to_string(i), trace[i]);
    std::string low, high;
    for (int k = 0; k < chunks; k++) low += "500000\n", high += "2000000\n";
    m4n_write_file(video + "/video_size_0", low);
    m4n_write_file(video + "/video_size_1", high);
    static const double ladder[] = {1000, 4000};
    paths[0] = traces.c_str();
    o.set[M4N_SET_TEST].paths = paths, o.set[M4N_SET_TEST].n_paths = 1;
    o.video = video.c_str();
    o.ladder = ladder, o.levels = 2;
    o.payload = 1, o.rtt_ms = 0;
  }
  ~Abr() {
    if (world) task->world_close(world);
  }
  int open() { return task->world_open(&world, &o); }
  void begin(int64_t episode = 0, uint64_t seed = 0) {
    const m4n_spec *spec = task->spec(world);
    obs.resize(spec->obs_size / 8), info.resize((size_t)spec->n_info),
        metrics.resize((size_t)spec->n_metrics);
    io.obs = obs.data(), io.info = info.data(), io.action = &level;
    m4n_reset order = {};
    order.episode = episode, order.seed = seed, order.copy_of = -1;
    task->reset(&s, world, &order, &io);
  }
  void step(int choice, double delay_s = 0) {
    level = choice;
    io.delay_ns = (int64_t)(delay_s * 1e9);
    task->step(&s, world, &io);
  }
  double metric(const char *name) {
    const m4n_spec *spec = task->spec(world);
    task->report(&s, world, metrics.data());
    for (int i = 0; i < spec->n_metrics; i++)
      if (!strcmp(spec->metric[i].name, name)) return metrics[(size_t)i];
    ADD_FAILURE() << name;
    return NAN;
  }
  const double *field(const char *name) {
    return obs.data() + m4n_spec_obs(task->spec(world), name)->offset / 8;
  }
};

// 8 Mbit/s (1 MB/s) for 10 s, then 4 Mbit/s (0.5 MB/s) for 2 s.
const char *const steps = "0 1\n10 8\n12 4\n";

} // namespace

TEST(Abr, ThreeChunksByHand) {
  Abr a({steps});
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  a.begin();
  // Chunk 0: 0.5 MB at 1 MB/s. Nothing is in the buffer yet, but what the forced chunk costs is not counted.
  EXPECT_DOUBLE_EQ(a.s.clock_ms, 500);
  EXPECT_DOUBLE_EQ(*a.field(M4N_ABR_BUFFER), 4);
  EXPECT_DOUBLE_EQ(a.field(M4N_ABR_THROUGHPUT)[7], 1);
  EXPECT_DOUBLE_EQ(a.field(M4N_ABR_THROUGHPUT)[6], 0);
  EXPECT_DOUBLE_EQ(*a.field(M4N_ABR_CHUNKS_LEFT), 4); // six sizes: five chunks to play, one done
  EXPECT_DOUBLE_EQ(a.field(M4N_ABR_NEXT_SIZES)[1], 2000000);
  // Chunk 1: 2 MB at 1 MB/s = 2 s; buffer 4 − 2 + 4.
  a.step(1);
  EXPECT_DOUBLE_EQ(*a.field(M4N_ABR_BUFFER), 6);
  EXPECT_DOUBLE_EQ(a.io.reward, 4 - 0 - 3);
  EXPECT_DOUBLE_EQ(*a.field(M4N_ABR_LAST_LEVEL), 1);
  // Chunks 2, 3: at 4.5 s and 6.5 s.
  a.step(1);
  a.step(1);
  EXPECT_DOUBLE_EQ(a.io.reward, 4);
  EXPECT_DOUBLE_EQ(*a.field(M4N_ABR_BUFFER), 10);
  EXPECT_DOUBLE_EQ(a.s.at.cursor, 8.5 - 2 + 0); // 0.5 + 3 · 2 s of trace
  // Chunk 4: at 6.5 s, ends at 8.5 s; the last of five.
  a.step(1);
  EXPECT_TRUE(a.io.flags & M4N_TERMINATED);
  EXPECT_EQ(a.io.sim_time_ns, 8500000000);
  EXPECT_DOUBLE_EQ(a.metric("qoe"), (1 + 4 + 4 + 4) / 4.0);
  EXPECT_DOUBLE_EQ(a.metric("bitrate_mbps"), 4);
  EXPECT_DOUBLE_EQ(a.metric("switches_per_min"), 1 / (16 / 60.0));
  EXPECT_DOUBLE_EQ(a.metric("startup_s"), 0.5);
  // What the episode met: 88 Mbit in 12 s, deviation √((10·(2/3)² + 2·(10/3)²)/12).
  EXPECT_DOUBLE_EQ(a.metric("trace_mbps"), 88 / 12.0);
  EXPECT_NEAR(a.metric("trace_variation"), sqrt((10 * 4 / 9.0 + 2 * 100 / 9.0) / 12) / (88 / 12.0), 1e-12);
}

TEST(Abr, WrapsToRowOneAndCountsStalls) {
  Abr a({"5 1\n6 8\n8 0.8\n"}); // begins at 5 s: 1 MB in the first second, then 0.1 MB/s for 2 s
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  a.begin();
  EXPECT_DOUBLE_EQ(a.s.at.cursor, 5.5);
  // 2 MB: 0.5 s at 1 MB/s, 2 s at 0.1 MB/s = 0.7 MB; wrap: row 1 now lasts from 0 to 6 s; 1.3 MB more take 1.3 s.
  a.step(1);
  EXPECT_EQ(a.s.at.p, 1);
  EXPECT_NEAR(a.s.at.cursor, 1.3, 1e-12);
  EXPECT_NEAR(a.s.clock_ms, 500 + 3800, 1e-9);
  EXPECT_NEAR(a.io.reward, 4 - 3 - 4.3 * 0, 1e-12); // 4 s in the buffer, 3.8 s of download
  EXPECT_NEAR(*a.field(M4N_ABR_BUFFER), 0.2 + 4, 1e-9);
}

TEST(Abr, SleepsInHalfSecondsAboveTheCap) {
  Abr a({"0 1\n1000 80\n"}, 20);
  a.o.buffer_cap_s = 10;
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  a.begin();
  a.step(0), a.step(0);
  // 0.05 s a chunk: 4, 7.95, 11.9 s; 1.9 s too much are slept away as 2 s.
  EXPECT_NEAR(*a.field(M4N_ABR_BUFFER), 9.9, 1e-9);
  EXPECT_NEAR(a.info[ABR_INFO_SLEEP], 2, 1e-12);
  EXPECT_NEAR(a.s.at.cursor, 0.15 + 2, 1e-9);
  EXPECT_NEAR(a.s.clock_ms, 2150, 1e-6);
}

TEST(Abr, ADecisionThatTakesTimeDrainsTheBufferAndMovesTheTrace) {
  Abr a({steps}), b({steps});
  ASSERT_EQ(a.open(), M4N_OK);
  ASSERT_EQ(b.open(), M4N_OK);
  a.begin(), b.begin();
  a.step(0, 0), b.step(0, 1);
  EXPECT_NEAR(b.s.at.cursor, a.s.at.cursor + 1, 1e-12);
  EXPECT_NEAR(*b.field(M4N_ABR_BUFFER), *a.field(M4N_ABR_BUFFER) - 1, 1e-9);
  EXPECT_DOUBLE_EQ(a.io.reward, b.io.reward);
  EXPECT_DOUBLE_EQ(a.field(M4N_ABR_THROUGHPUT)[7], b.field(M4N_ABR_THROUGHPUT)[7])
      << "the link was not slower";
  // 6.5 s are in b's buffer: a decision of 8 s stalls for 1.5 s, whatever the download does then.
  double before = *b.field(M4N_ABR_BUFFER);
  b.step(0, 8);
  double fetch = b.info[ABR_INFO_DOWNLOAD];
  EXPECT_NEAR(b.info[ABR_INFO_REBUFFER], 8 - before + fetch, 1e-9);
  EXPECT_NEAR(b.io.reward, 1 - 4.3 * (8 - before + fetch), 1e-9);
}

TEST(Abr, QoeKinds) {
  Abr a({steps});
  a.o.qoe = M4N_QOE_LOG;
  ASSERT_EQ(a.open(), M4N_OK);
  a.begin(), a.step(1);
  EXPECT_NEAR(a.io.reward, log(4) - log(4), 1e-12);
  a.step(1);
  EXPECT_NEAR(a.io.reward, log(4), 1e-12);
  Abr b({steps});
  b.o.qoe = M4N_QOE_HD;
  EXPECT_EQ(b.open(), M4N_EARG) << "six published utilities for two levels";
  EXPECT_NE(strstr(m4n_error_message(), "qoe.utility"), nullptr);
  b.o.utility[0] = 1, b.o.utility[1] = 20, b.o.levels_hd = 2;
  ASSERT_EQ(b.open(), M4N_OK) << m4n_error_message();
  b.begin(), b.step(1);
  EXPECT_NEAR(b.io.reward, 20 - 19, 1e-12);
  EXPECT_NEAR(b.metric("qoe_hd"), 1, 1e-12);
  Abr c({steps});
  c.o.rebuffer = 10, c.o.smooth = 2;
  ASSERT_EQ(c.open(), M4N_OK);
  c.begin(), c.step(1);
  EXPECT_NEAR(c.io.reward, 4 - 2 * 3, 1e-12);
}

TEST(Abr, StartsFixedSeededAndListed) {
  std::string longer = "0 1\n";
  for (int i = 1; i < 100; i++) longer += std::to_string(i) + " 8\n";
  Abr fixed({longer, longer});
  ASSERT_EQ(fixed.open(), M4N_OK);
  fixed.begin(3);
  EXPECT_EQ(fixed.s.trace, 1) << "episode e plays trace e mod n";
  Abr seeded({longer, longer});
  seeded.o.set[M4N_SET_TEST].start = M4N_START_SEEDED;
  ASSERT_EQ(seeded.open(), M4N_OK);
  std::vector<int> rows(100), traces(2);
  for (int e = 0; e < 2000; e++) {
    seeded.begin(e, 5);
    traces[(size_t)seeded.s.trace]++;
    rows[(size_t)floor(seeded.s.at.cursor)]++; // half a second in: the row where it began
    abr_state first = seeded.s;
    seeded.begin(e, 5);
    EXPECT_EQ(memcmp(&first, &seeded.s, sizeof first), 0);
  }
  EXPECT_NEAR(traces[0], 1000, 150);
  for (int r = 0; r < 99; r++) EXPECT_GT(rows[(size_t)r], 2) << r;
  Abr listed({longer, longer});
  listed.o.set[M4N_SET_TEST].start = M4N_START_LISTED;
  std::string list = m4n_write_file(listed.dir + "/list", "50\n7\n");
  listed.o.set[M4N_SET_TEST].pointers = list.c_str();
  ASSERT_EQ(listed.open(), M4N_OK) << m4n_error_message();
  listed.begin(0);
  EXPECT_DOUBLE_EQ(listed.s.at.cursor, 49.5);
  listed.begin(1);
  EXPECT_DOUBLE_EQ(listed.s.at.cursor, 6.5);
}

TEST(Abr, NoiseMovesDelaysNotTheTrace) {
  Abr a({steps}), b({steps});
  b.o.set[M4N_SET_TEST].noise = 0.1;
  ASSERT_EQ(a.open(), M4N_OK);
  ASSERT_EQ(b.open(), M4N_OK);
  a.begin(0, 1), b.begin(0, 1);
  a.step(1), b.step(1);
  EXPECT_DOUBLE_EQ(a.s.at.cursor, b.s.at.cursor);
  double ratio = b.info[ABR_INFO_DOWNLOAD] / a.info[ABR_INFO_DOWNLOAD];
  EXPECT_NE(ratio, 1);
  EXPECT_NEAR(ratio, 1, 0.1);
}

TEST(Abr, ScaledRatesAreAFasterOrSlowerLink) {
  std::string slow = "0 1\n", fast = "0 1\n";
  for (int i = 1; i < 60; i++) {
    slow += std::to_string(i) + " " + std::to_string(1 + i % 7) + "\n";
    fast += std::to_string(i) + " " + std::to_string(2 * (1 + i % 7)) + "\n";
  }
  Abr a({slow}), b({fast});
  for (Abr *x : {&a, &b}) x->o.set[M4N_SET_TEST].start = M4N_START_SEEDED;
  a.o.set[M4N_SET_TEST].scale[0] = a.o.set[M4N_SET_TEST].scale[1] = 2;
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  ASSERT_EQ(b.open(), M4N_OK);
  a.begin(3), b.begin(3);
  for (int k = 0; k < 4; k++) {
    a.step(k % 2), b.step(k % 2);
    EXPECT_NEAR(*a.field(M4N_ABR_BUFFER), *b.field(M4N_ABR_BUFFER), 1e-9);
    EXPECT_NEAR(a.io.reward, b.io.reward, 1e-9);
    EXPECT_NEAR(a.info[ABR_INFO_LINK], b.info[ABR_INFO_LINK], 1e-9);
  }
  EXPECT_NEAR(a.metric("trace_mbps"), b.metric("trace_mbps"), 1e-12);
  EXPECT_NEAR(a.metric("trace_variation"), b.metric("trace_variation"), 1e-12);
  Abr c({slow});
  c.o.set[M4N_SET_TEST].start = M4N_START_SEEDED;
  c.o.set[M4N_SET_TEST].scale[0] = 0.5, c.o.set[M4N_SET_TEST].scale[1] = 2;
  ASSERT_EQ(c.open(), M4N_OK);
  double least = 9, most = 0;
  for (int e = 0; e < 500; e++) {
    c.begin(e);
    least = std::min(least, c.s.scale), most = std::max(most, c.s.scale);
  }
  EXPECT_GE(least, 0.5);
  EXPECT_LT(least, 0.52);
  EXPECT_LE(most, 2);
  EXPECT_GT(most, 1.95);
}

TEST(Abr, ASetOfSeveralFolders) {
  Abr a({"0 1\n1 1\n9 1\n", "0 2\n1 2\n9 2\n"});
  std::string more = a.dir + "/more", pointers = a.dir + "/pointers";
  ASSERT_EQ(m4n_mkdirs(more.c_str()), M4N_OK);
  m4n_write_file(more + "/a", "0 3\n1 3\n2 3\n9 3\n"); // before t0 by name, behind it by folder
  m4n_write_file(pointers, "1\n2\n3\n");
  a.paths[1] = more.c_str();
  a.o.set[M4N_SET_TEST].n_paths = 2;
  a.o.set[M4N_SET_TEST].start = M4N_START_LISTED;
  a.o.set[M4N_SET_TEST].pointers = pointers.c_str();
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  int n = 0;
  EXPECT_EQ(m4n_spec_constant(a.task->spec(a.world), M4N_EPISODES, &n)[M4N_SET_TEST], 3);
  const char *names[] = {"t0", "t1", "a"};
  m4n_reset order = {};
  for (int e = 0; e < 6; e++) {
    order.episode = e;
    a.begin(e);
    EXPECT_STREQ(a.task->label(a.world, &order), names[e % 3]);
    a.step(0);
    EXPECT_NEAR(a.info[ABR_INFO_LINK], 1 + e % 3, 1e-9);
  }
}

TEST(Abr, RoundTripOfTheTraceOrOfTheScenario) {
  Abr a({"[{\"duration_ms\": 1000, \"bandwidth_kbps\": 8000, \"latency_ms\": 20}]"});
  a.o.rtt_ms = -1;
  ASSERT_EQ(a.open(), M4N_OK) << m4n_error_message();
  a.begin();
  EXPECT_NEAR(a.s.startup_s, 0.5 + 0.02, 1e-12);
  Abr b({steps});
  b.o.rtt_ms = -1;
  ASSERT_EQ(b.open(), M4N_OK);
  b.begin();
  EXPECT_NEAR(b.s.startup_s, 0.5 + 0.08, 1e-12) << "a cooked trace states none: 80 ms";
}

TEST(Abr, SaysWhatItCannotOpen) {
  auto refused = [](void (*spoil)(Abr *), const char *word, std::vector<std::string> traces = {steps}) {
    Abr a(traces);
    spoil(&a);
    EXPECT_NE(a.open(), M4N_OK) << word;
    EXPECT_NE(strstr(m4n_error_message(), word), nullptr) << m4n_error_message();
    EXPECT_EQ(a.world, nullptr);
  };
  refused([](Abr *a) { a->o.levels = 3; }, "ladder");
  refused([](Abr *a) { a->o.ladder = nullptr; }, "ladder");
  refused(
      [](Abr *a) {
        static const double falling[] = {4000, 1000};
        a->o.ladder = falling;
      },
      "ladder");
  refused([](Abr *a) { a->o.chunks = 7; }, "chunks");
  refused([](Abr *a) { a->o.chunks = 1; }, "chunks");
  refused([](Abr *a) { a->o.video = nullptr; }, "video");
  refused([](Abr *a) { a->o.video = "/nonexistent"; }, "/nonexistent");
  refused([](Abr *a) { a->o.set[M4N_SET_TEST].n_paths = 0; }, "traces");
  refused([](Abr *a) { a->paths[0] = "/nonexistent"; }, "/nonexistent");
  refused(
      [](Abr *a) {
        a->paths[1] = "/nonexistent";
        a->o.set[M4N_SET_TEST].n_paths = 2;
      },
      "/nonexistent");
  refused([](Abr *a) { a->o.set[M4N_SET_TEST].noise = NAN; }, "noise");
  refused([](Abr *a) { a->o.set[M4N_SET_TEST].noise = 1; }, "noise");
  refused([](Abr *a) { a->o.buffer_cap_s = 3; }, "buffer_cap_s");
  refused([](Abr *a) { a->o.first_level = 2; }, "first_level");
  refused([](Abr *a) { a->o.payload = 0; }, "payload");
  refused([](Abr *a) { a->o.set[M4N_SET_TEST].start = M4N_START_LISTED; }, "pointers");
  refused([](Abr *a) { a->o.set[M4N_SET_TEST].scale[0] = a->o.set[M4N_SET_TEST].scale[1] = 2; }, "seeded");
  refused(
      [](Abr *a) {
        a->o.set[M4N_SET_TEST].start = M4N_START_SEEDED;
        a->o.set[M4N_SET_TEST].scale[1] = 2;
      },
      "scale");
  for (const char *list : {"", "9\n", "0\n", "x\n", "1\n1\n"}) {
    Abr a({steps});
    std::string file = m4n_write_file(a.dir + "/list", list);
    a.o.set[M4N_SET_TEST].start = M4N_START_LISTED;
    a.o.set[M4N_SET_TEST].pointers = file.c_str();
    EXPECT_EQ(a.open(), M4N_EFORMAT) << list;
    EXPECT_NE(strstr(m4n_error_message(), file.c_str()), nullptr) << m4n_error_message();
  }
  // A chunk that would take weeks must not hang us.
  refused(
      [](Abr *a) {
        std::string huge;
        for (int k = 0; k < 6; k++) huge += "200000000000\n";
        m4n_write_file(a->video + "/video_size_1", huge);
      },
      "would take more than", {"0 1\n10 0.01\n"});
}
