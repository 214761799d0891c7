// The published environment (Pensieve, as NetLLM and Genet run it): its logs bit for bit, its offline optimum per trace.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "kernels/base/status.h"
#include "sim/abr/world.h"
#include "sim/env.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

namespace {

struct World {
  m4n_world *world = nullptr;
  explicit World(const std::string &set, const std::string &video = "envivio-pensieve") {
    std::string traces = m4n_data() + "/abr/" + set, sizes = m4n_data() + "/abr/videos/" + video;
    m4n_abr_options o = m4n_abr_defaults();
    const char *paths[] = {traces.c_str()};
    o.set[M4N_SET_TEST].paths = paths, o.set[M4N_SET_TEST].n_paths = 1;
    o.video = sizes.c_str();
    o.rtt_ms = 80;
    EXPECT_EQ(m4n_task_abr_open(&o), M4N_OK) << m4n_error_message();
  }
  int m4n_task_abr_open(const m4n_abr_options *o) { return m4n_task_find("abr")->world_open(&world, o); }
  ~World() { m4n_task_find("abr")->world_close(world); }
  int episode(const std::string &name) const {
    const abr_set &set = world->set[M4N_SET_TEST];
    for (int i = 0; i < set.count; i++)
      if (name == set.trace[i].name) return i;
    return -1;
  }
};

std::string folder_of(const std::string &set) {
  return set.substr(set.find('/') + 1);
}

// Plays one episode; `choose` gives the level of chunk k, `seen` looks at the state behind every chunk (k = 0 included).
double play(const World &w, int episode, const std::function<int(const abr_state &)> &choose,
            const std::function<void(const abr_state &, const m4n_io &)> &seen = nullptr) {
  const m4n_task *task = m4n_task_find("abr");
  const m4n_spec *spec = task->spec(w.world);
  std::vector<double> obs(spec->obs_size / 8), info((size_t)spec->n_info), metrics((size_t)spec->n_metrics);
  abr_state s;
  m4n_io io = {};
  io.obs = obs.data(), io.info = info.data();
  m4n_reset order = {};
  order.episode = episode, order.copy_of = -1;
  task->reset(&s, w.world, &order, &io);
  if (seen) seen(s, io);
  int32_t level;
  io.action = &level;
  while (!(io.flags & M4N_ENDED)) {
    level = choose(s);
    task->step(&s, w.world, &io);
    if (seen) seen(s, io);
  }
  task->report(&s, w.world, metrics.data());
  return metrics[0];
}

} // namespace

TEST(AbrGolden, ChunkLogsBitForBit) {
  M4N_NEED(m4n_data() + "/abr");
  M4N_NEED(m4n_golden() + "/abr/chunk_logs.tsv");
  m4n_table log(m4n_golden() + "/abr/chunk_logs.tsv");
  std::map<std::string, std::vector<const std::vector<std::string> *>> runs; // set, trace, sequence -> rows
  for (const auto &row : log.rows) runs[row[0] + "\t" + row[1] + "\t" + row[2]].push_back(&row);
  ASSERT_GE(runs.size(), 6u);
  std::map<std::string, std::unique_ptr<World>> worlds;
  int compared = 0;
  for (const auto &run : runs) {
    const auto &name = run.first;
    const auto &rows = run.second;
    const std::string &set = (*rows[0])[0], &trace = (*rows[0])[1], &sequence = (*rows[0])[2];
    auto &w = worlds[set];
    if (!w) w = std::make_unique<World>(folder_of(set));
    int episode = w->episode(trace);
    ASSERT_GE(episode, 0) << trace;
    size_t k = 0;
    play(
        *w, episode, [&](const abr_state &s) { return sequence == "level0" ? 0 : (7 * s.chunk + 3) % 6; },
        [&](const abr_state &s, const m4n_io &io) {
          const auto &row = *rows.at(k);
          auto cell = [&](const char *column) {
            return strtod(row[(size_t)log.column(column)].c_str(), nullptr);
          };
          EXPECT_EQ(s.level, cell("level")) << name << " chunk " << k;
          EXPECT_EQ(w->world->size[k * 6 + (size_t)s.level], cell("size_bytes"));
          if (k) { // reset reports no info; the first chunk shows in the state
            EXPECT_EQ(io.info[ABR_INFO_REBUFFER], cell("rebuf_s")) << name << " chunk " << k;
          }
          EXPECT_EQ(s.download[M4N_ABR_HISTORY - 1], cell("delay_ms") / 1000);
          EXPECT_EQ(s.throughput[M4N_ABR_HISTORY - 1], cell("size_bytes") / cell("delay_ms") / 1000);
          EXPECT_EQ(s.sleep_left, cell("sleep_ms")) << name << " chunk " << k;
          EXPECT_EQ(s.buffer_ms / 1000, cell("buffer_s"));
          EXPECT_EQ(s.at.p, cell("next_ptr"));
          EXPECT_EQ(s.at.cursor, cell("cursor_s")) << name << " chunk " << k;
          k++;
          compared++;
        });
    EXPECT_EQ(k, rows.size()) << name;
  }
  EXPECT_EQ(compared, (int)log.rows.size());
}

TEST(AbrGolden, FixedPoliciesAndOracleTraceByTrace) {
  M4N_NEED(m4n_data() + "/abr");
  M4N_NEED(m4n_golden() + "/abr/per_trace.tsv");
  m4n_table table(m4n_golden() + "/abr/per_trace.tsv");
  const m4n_task *task = m4n_task_find("abr");
  std::map<std::string, std::unique_ptr<World>> worlds;
  std::map<std::string, int> rows;
  m4n_arena scratch = {};
  bool slow = m4n_sanitized();
  int oracle_seen = 0;
  for (const auto &row : table.rows) {
    const std::string &set = row[0], &trace = row[1], &policy = row[2], &levels = row[7];
    std::function<int(const abr_state &)> choose;
    auto &w = worlds[set];
    if (!w) w = std::make_unique<World>(folder_of(set));
    void *plan = nullptr;
    if (policy == "level0")
      choose = [](const abr_state &) { return 0; };
    else if (policy == "level3")
      choose = [](const abr_state &) { return 3; };
    else if (policy == "cycle7k3")
      choose = [](const abr_state &s) { return (7 * s.chunk + 3) % 6; };
    else if (policy == "offline_dp") {
      if (slow && oracle_seen++ % 20) continue; // under sanitizers every twentieth trace
      m4n_arena_reset(&scratch);
      choose = [&](const abr_state &s) {
        int32_t level = -1;
        EXPECT_EQ(task->oracle(&s, w->world, &scratch, &plan, &level), M4N_OK) << m4n_error_message();
        return (int)level;
      };
    } else {
      continue; // rules live on the agent's side and are tested there
    }
    std::string played = "0";
    double qoe = play(*w, w->episode(trace), [&](const abr_state &s) {
      int level = choose(s);
      played += (char)('0' + level);
      return level;
    });
    EXPECT_EQ(played, levels) << set << " " << trace << " " << policy;
    EXPECT_NEAR(qoe, strtod(row[3].c_str(), nullptr), 1e-8) << set << " " << trace << " " << policy;
    rows[policy]++;
  }
  m4n_arena_close(&scratch);
  EXPECT_EQ(rows["level0"], 147);
  EXPECT_EQ(rows["level3"], 147);
  EXPECT_EQ(rows["cycle7k3"], 147);
  if (!slow) {
    EXPECT_EQ(rows["offline_dp"], 147);
  } else {
    EXPECT_GE(rows["offline_dp"], 7);
  }
}
