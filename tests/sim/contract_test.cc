// What every task promises (sim/env.h): random play stays finite and in range, snapshots are bytes, nothing is allocated, and the
// numbers depend neither on lanes nor on threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "sim/abr/options.h"
#include "sim/vec.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

namespace {

// A small world for every task of the registry; a task that is missing here fails the test below.
struct Case {
  std::string dir = m4n_temp_dir();
  const m4n_task *task = nullptr;
  m4n_world *world = nullptr;
  bool open(const std::string &name) {
    task = m4n_task_find(name.c_str());
    if (name == "null") return task->world_open(&world, nullptr) == M4N_OK;
    if (name != "abr") return false;
    std::string a, b;
    m4n_rng rng = m4n_rng_make(5, 0, M4N_RNG_TEST);
    for (int i = 0; i <= 200; i++) {
      a += std::to_string(i * 0.7) + " " + std::to_string(3 * m4n_rng_uniform(&rng)) + "\n";
      b += std::to_string(i * 1.0) + " " + std::to_string(i % 20 < 3 ? 0 : 20 * m4n_rng_uniform(&rng)) + "\n";
    }
    EXPECT_EQ(m4n_mkdirs((dir + "/t").c_str()), M4N_OK);
    EXPECT_EQ(m4n_mkdirs((dir + "/v").c_str()), M4N_OK);
    m4n_write_file(dir + "/t/a", a), m4n_write_file(dir + "/t/b", b);
    for (int level = 0; level < 6; level++) {
      std::string sizes;
      for (int k = 0; k < 49; k++)
        sizes += std::to_string(100000 + 300000 * level + (k * 7919 + level * 104729) % 50000) + "\n";
      m4n_write_file(dir + "/v/video_size_" + std::to_string(level), sizes);
    }
    std::string traces = dir + "/t", video = dir + "/v";
    m4n_abr_options o = m4n_abr_defaults();
    const char *paths[] = {traces.c_str()};
    o.set[M4N_SET_TEST] = {paths, 1, 0, M4N_START_SEEDED, nullptr, {0.5, 2}, 0.1};
    o.set[M4N_SET_TRAIN] = {paths, 1, 0, M4N_START_FIXED, nullptr, {0, 0}, 0.1};
    o.video = video.c_str();
    EXPECT_EQ(task->world_open(&world, &o), M4N_OK) << m4n_error_message();
    return world != nullptr;
  }
  ~Case() {
    if (world) task->world_close(world);
  }
};

std::vector<std::string> all_tasks() {
  std::vector<std::string> names;
  for (int i = 0; m4n_task_at(i); i++) names.push_back(m4n_task_at(i)->name);
  return names;
}

void random_action(const m4n_spec *spec, m4n_rng *rng, uint8_t *row) {
  for (int a = 0; a < spec->n_act; a++) {
    int32_t choice = (int32_t)m4n_rng_below(rng, (uint32_t)spec->act[a].high + 1);
    memcpy(row + spec->act[a].offset, &choice, sizeof choice);
  }
}

void expect_in_range(const m4n_spec *spec, const uint8_t *row) {
  for (int i = 0; i < spec->n_obs; i++) {
    const m4n_field *f = &spec->obs[i];
    if (f->dtype != M4N_F64 || (f->rank && f->shape[0] < 0)) continue;
    for (uint32_t k = 0; k < f->count; k++) {
      double x;
      memcpy(&x, row + f->offset + 8 * k, 8);
      ASSERT_TRUE(std::isfinite(x)) << f->name;
      ASSERT_GE(x, f->low) << f->name;
      ASSERT_LE(x, f->high) << f->name;
    }
  }
}

// Plays `episodes` on `lanes` lanes with random actions keyed by the episode; returns all that was seen, a string an episode.
std::vector<std::string> play(const Case &c, int lanes, int threads, int episodes, uint64_t seed) {
  m4n_pool *pool = nullptr;
  m4n_vec *vec = nullptr;
  EXPECT_EQ(m4n_pool_open(&pool, threads), M4N_OK);
  EXPECT_EQ(m4n_vec_open(&vec, c.task, c.world, lanes, pool), M4N_OK) << m4n_error_message();
  const m4n_spec *spec = m4n_vec_spec(vec);
  std::vector<std::string> seen((size_t)episodes);
  std::vector<m4n_rng> rng((size_t)episodes);
  std::vector<m4n_reset> orders;
  int next = 0;
  auto order = [&](int lane) {
    m4n_reset o = {};
    o.lane = lane, o.episode = next, o.seed = seed, o.copy_of = -1;
    rng[(size_t)next] = m4n_rng_make(seed, (uint64_t)next, M4N_RNG_ACTION);
    orders.push_back(o);
    next++;
  };
  for (int i = 0; i < lanes && next < episodes; i++) order(i);
  std::vector<int32_t> live;
  std::vector<uint8_t> actions;
  while (!orders.empty() || !live.empty()) {
    m4n_vec_clear(vec);
    EXPECT_EQ(m4n_vec_reset(vec, orders.data(), (int)orders.size()), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_vec_step(vec, (int)live.size(), live.data(), actions.data(), nullptr), M4N_OK)
        << m4n_error_message();
    orders.clear(), live.clear(), actions.clear();
    const m4n_vec_rows *rows = m4n_vec_rows_of(vec);
    for (int r = 0; r < rows->n; r++) {
      const uint8_t *obs = rows->obs + (size_t)r * spec->obs_size;
      size_t e = (size_t)rows->episode[r];
      expect_in_range(spec, obs);
      EXPECT_TRUE(std::isfinite(rows->reward[r]));
      seen[e].append((const char *)obs, spec->obs_size);
      seen[e].append((const char *)&rows->reward[r], 8);
      seen[e].append((const char *)&rows->sim_time_ns[r], 8);
      if (rows->flags[r] & M4N_ENDED) {
        seen[e].append((const char *)(rows->metrics + r * spec->n_metrics), (size_t)spec->n_metrics * 8);
        if (next < episodes) order(rows->lane[r]);
        continue;
      }
      live.push_back(rows->lane[r]);
      actions.resize(actions.size() + spec->act_size);
      random_action(spec, &rng[e], actions.data() + actions.size() - spec->act_size);
    }
  }
  m4n_vec_close(vec);
  m4n_pool_close(pool);
  return seen;
}

class Contract : public testing::TestWithParam<std::string> {};

} // namespace

TEST_P(Contract, HundredThousandRandomStepsStayInRangeAndAllocateNothing) {
  Case c;
  ASSERT_TRUE(c.open(GetParam()));
  const m4n_spec *spec = c.task->spec(c.world);
  std::vector<uint64_t> state((c.task->state_size(c.world) + 7) / 8), obs(spec->obs_size / 8),
      action(spec->act_size / 8);
  std::vector<double> info((size_t)spec->n_info + 1), metrics((size_t)spec->n_metrics + 1);
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  m4n_io io = {};
  io.obs = obs.data(), io.info = info.data(), io.action = action.data();
  m4n_reset order = {};
  order.copy_of = -1, order.seed = 3;
  int64_t before = m4n_allocations(), time = 0;
  for (int steps = 0; steps < 100000; order.episode++) {
    c.task->reset(state.data(), c.world, &order, &io);
    ASSERT_EQ(io.flags, (uint32_t)M4N_FIRST);
    expect_in_range(spec, (const uint8_t *)obs.data());
    time = io.sim_time_ns;
    for (io.flags = 0; !(io.flags & M4N_ENDED); steps++) {
      random_action(spec, &rng, (uint8_t *)action.data());
      io.delay_ns = m4n_rng_below(&rng, 2) ? m4n_rng_below(&rng, 300000000) : 0;
      c.task->step(state.data(), c.world, &io);
      ASSERT_TRUE(std::isfinite(io.reward));
      ASSERT_GE(io.sim_time_ns, time) << "simulated time runs backwards";
      time = io.sim_time_ns;
      expect_in_range(spec, (const uint8_t *)obs.data());
      for (int i = 0; i < spec->n_info; i++)
        ASSERT_TRUE(std::isfinite(info[(size_t)i])) << spec->info[i].name;
    }
    c.task->report(state.data(), c.world, metrics.data());
    for (int i = 0; i < spec->n_metrics; i++)
      ASSERT_TRUE(std::isfinite(metrics[(size_t)i])) << spec->metric[i].name;
  }
  EXPECT_EQ(m4n_allocations() - before, 0);
}

TEST_P(Contract, ASnapshotIsACopyOfBytes) {
  Case c;
  ASSERT_TRUE(c.open(GetParam()));
  const m4n_spec *spec = c.task->spec(c.world);
  size_t size = (c.task->state_size(c.world) + 7) / 8;
  std::vector<uint64_t> state(size), other(size), obs(spec->obs_size / 8), obs2(spec->obs_size / 8),
      action(spec->act_size / 8);
  m4n_rng rng = m4n_rng_make(2, 0, M4N_RNG_TEST);
  m4n_io io = {}, io2 = {};
  io.obs = obs.data(), io2.obs = obs2.data(), io.action = io2.action = action.data();
  m4n_reset order = {};
  order.copy_of = -1;
  for (order.episode = 0; order.episode < 20; order.episode++) {
    c.task->reset(state.data(), c.world, &order, &io);
    while (!(io.flags & M4N_ENDED)) {
      other = state;
      c.task->observe(other.data(), c.world, &io2);
      ASSERT_EQ(obs, obs2) << "observe is not what reset or step wrote";
      random_action(spec, &rng, (uint8_t *)action.data());
      c.task->step(state.data(), c.world, &io);
      c.task->step(other.data(), c.world, &io2);
      ASSERT_EQ(state, other);
      ASSERT_EQ(obs, obs2);
      ASSERT_EQ(io.reward, io2.reward);
    }
  }
}

TEST_P(Contract, LanesAndThreadsChangeNothing) {
  Case c;
  ASSERT_TRUE(c.open(GetParam()));
  std::vector<std::string> one = play(c, 1, 1, 80, 9);
  EXPECT_EQ(one, play(c, 64, 1, 80, 9));
  EXPECT_EQ(one, play(c, 64, 8, 80, 9));
  EXPECT_EQ(one, play(c, 7, 2, 80, 9));
  if (c.task->name != std::string("null")) {
    EXPECT_NE(one, play(c, 7, 2, 80, 10)) << "the seed has no effect";
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, Contract, testing::ValuesIn(all_tasks()),
                         [](const auto &i) { return i.param; });

TEST(Vec, RefusesWhatAPeerGetsWrong) {
  Case c;
  ASSERT_TRUE(c.open("abr"));
  m4n_vec *vec;
  ASSERT_EQ(m4n_vec_open(&vec, c.task, c.world, 4, nullptr), M4N_OK);
  auto order = [](int lane, int set, int64_t episode, int copy) {
    m4n_reset o = {};
    o.lane = lane, o.set = set, o.episode = episode, o.copy_of = copy;
    return o;
  };
  auto reset = [&](std::vector<m4n_reset> o) { return m4n_vec_reset(vec, o.data(), (int)o.size()); };
  for (const m4n_reset &bad :
       {order(4, 0, 0, -1), order(-1, 0, 0, -1), order(0, 3, 0, -1), order(0, M4N_SET_VALID, 0, -1),
        order(0, 0, -1, -1), order(0, 0, 0, 1), order(0, 0, 0, 9)})
    EXPECT_EQ(reset({bad}), M4N_EPROTO) << m4n_error_message();
  EXPECT_EQ(reset({order(1, 0, 0, -1), order(1, 0, 1, -1)}), M4N_EPROTO);
  EXPECT_EQ(m4n_vec_rows_of(vec)->n, 0) << "a refused call left rows behind";
  ASSERT_EQ(reset({order(0, 0, 0, -1), order(1, 0, 1, -1)}), M4N_OK);
  m4n_vec_clear(vec);
  EXPECT_EQ(reset({order(0, 0, 5, -1)}), M4N_EPROTO) << "its episode is not over";
  auto step = [&](std::vector<int32_t> lanes, int32_t level, int64_t delay = 0) {
    std::vector<uint8_t> actions(lanes.size() * 8);
    std::vector<int64_t> delays(lanes.size(), delay);
    for (size_t i = 0; i < lanes.size(); i++) memcpy(&actions[8 * i], &level, 4);
    return m4n_vec_step(vec, (int)lanes.size(), lanes.data(), actions.data(), delays.data());
  };
  EXPECT_EQ(step({0}, 6), M4N_EPROTO);
  EXPECT_EQ(step({0}, -1), M4N_EPROTO);
  EXPECT_EQ(step({2}, 0), M4N_EPROTO);
  EXPECT_EQ(step({7}, 0), M4N_EPROTO);
  EXPECT_EQ(step({0, 0}, 0), M4N_EPROTO);
  EXPECT_EQ(step({0}, 0, -1), M4N_EPROTO);
  EXPECT_EQ(step({0, 1}, 5), M4N_OK);
  // A fork plays on as its source would.
  m4n_vec_clear(vec);
  ASSERT_EQ(reset({order(3, 0, 0, 0)}), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_vec_rows_of(vec)->flags[0], M4N_FIRST);
  m4n_vec_clear(vec);
  ASSERT_EQ(step({0, 3}, 2), M4N_OK);
  const m4n_vec_rows *rows = m4n_vec_rows_of(vec);
  EXPECT_EQ(memcmp(rows->obs, rows->obs + m4n_vec_spec(vec)->obs_size, m4n_vec_spec(vec)->obs_size), 0);
  EXPECT_EQ(rows->reward[0], rows->reward[1]);
  m4n_vec_close(vec);
}

TEST(Vec, AdviceIsTheOracles) {
  Case c;
  ASSERT_TRUE(c.open("abr"));
  m4n_vec *vec;
  ASSERT_EQ(m4n_vec_open(&vec, c.task, c.world, 2, nullptr), M4N_OK);
  m4n_reset o[2] = {};
  o[0].lane = 0, o[0].copy_of = -1, o[0].options = M4N_RESET_ADVICE;
  o[1].lane = 1, o[1].copy_of = -1; // the same episode without advice, which always plays level 0
  ASSERT_EQ(m4n_vec_reset(vec, o, 2), M4N_OK);
  const m4n_vec_rows *rows = m4n_vec_rows_of(vec);
  double total[2] = {};
  for (int k = 0; k < 47; k++) {
    ASSERT_TRUE(rows->advised[0]);
    ASSERT_FALSE(rows->advised[1]);
    uint8_t actions[16] = {};
    memcpy(actions, rows->advice, 8);
    m4n_vec_clear(vec);
    int32_t lanes[] = {0, 1};
    ASSERT_EQ(m4n_vec_step(vec, 2, lanes, actions, nullptr), M4N_OK);
    for (int i = 0; i < 2; i++) total[i] += rows->reward[i];
  }
  EXPECT_TRUE(rows->flags[0] & M4N_TERMINATED);
  EXPECT_GE(total[0], total[1]);
  m4n_vec_close(vec);
}
