/* A small streaming world for tests of learning: rows as the ABR task has them, a network that is drawn by (seed,
 * episode), and somebody who plays it: a function, or a checkpoint.
 */
#ifndef M4N_TESTS_LEARN_ABR_WORLD_H
#define M4N_TESTS_LEARN_ABR_WORLD_H

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "agent/learn/abr_rows.h"
#include "agent/learn/checkpoint.h"
#include "agent/learn/stages.h"
#include "agent/learn/store.h"
#include "agent/learn/trajectories.h"
#include "agent/model/engine.h"
#include "kernels/base/pool.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

#define M4N_OKAY(expression) ASSERT_EQ(expression, M4N_OK) << m4n_error_message()

namespace abr_world {

const std::vector<double> ladder = {300, 750, 1200, 1850, 2850, 4300}; // kbit/s
enum { LEVELS = 6, CHUNKS = 24, STEPS = CHUNKS - 1 };

inline m4n_spec make_spec(const char *reward = "qoe-linear 4.3 1.0") {
  m4n_spec spec = {};
  strcpy(spec.task, "abr");
  snprintf(spec.reward, sizeof spec.reward, "%s", reward);
  spec.capabilities = M4N_CAN_ORACLE;
  const double chunks = CHUNKS, episodes[] = {8, 1000, 8};
  m4n_spec_add_obs(&spec, M4N_ABR_THROUGHPUT, M4N_F64, "MB/s", 0, HUGE_VAL, 1, 8);
  m4n_spec_add_obs(&spec, M4N_ABR_DOWNLOAD, M4N_F64, "s", 0, HUGE_VAL, 1, 8);
  m4n_spec_add_obs(&spec, M4N_ABR_BUFFER, M4N_F64, "s", 0, HUGE_VAL, 0);
  m4n_spec_add_obs(&spec, M4N_ABR_LAST_LEVEL, M4N_F64, "", 0, LEVELS - 1, 0);
  m4n_spec_add_obs(&spec, M4N_ABR_NEXT_SIZES, M4N_F64, "bytes", 0, HUGE_VAL, 2, 5, (int)LEVELS);
  m4n_spec_add_obs(&spec, M4N_ABR_CHUNKS_LEFT, M4N_F64, "", 0, CHUNKS, 0);
  m4n_spec_add_choice(&spec, "level", LEVELS);
  m4n_spec_add_metric(&spec, "qoe", "", 1);
  m4n_spec_add_constant(&spec, M4N_ABR_LADDER, LEVELS, ladder.data());
  m4n_spec_add_constant(&spec, M4N_ABR_CHUNKS, 1, &chunks);
  m4n_spec_add_constant(&spec, M4N_EPISODES, 3, episodes);
  EXPECT_EQ(m4n_spec_layout(&spec), M4N_OK) << m4n_error_message();
  return spec;
}

/* One client. The rate of a chunk depends on (seed, set, episode, chunk) alone, so whoever plays meets the same network. */
struct Client {
  const m4n_spec &spec;
  std::vector<double> rate; // MB/s
  std::vector<double> throughput = std::vector<double>(8), download = std::vector<double>(8);
  double buffer = 4, reward = 0, sum = 0;
  int level = 0, step = 0;

  Client(const m4n_spec &s, uint64_t seed, int set, int64_t episode) : spec(s) {
    m4n_rng rng = m4n_rng_make(seed, (uint64_t)(episode * 4 + set), M4N_RNG_TEST);
    double x = -1 + m4n_rng_uniform(&rng);
    for (int t = 0; t < STEPS; t++) rate.push_back(0.25 * std::exp(x = 0.8 * x + 0.5 * m4n_rng_normal(&rng)));
  }
  bool over() const { return step == STEPS; }
  std::vector<uint64_t> row() const {
    std::vector<uint64_t> bytes(spec.obs_size / 8);
    auto put = [&](const char *name, const std::vector<double> &values) {
      memcpy((char *)bytes.data() + m4n_spec_obs(&spec, name)->offset, values.data(), 8 * values.size());
    };
    std::vector<double> sizes;
    for (int k = 0; k < 5; k++)
      for (double kbps : ladder) sizes.push_back(kbps * 500);
    put(M4N_ABR_THROUGHPUT, throughput);
    put(M4N_ABR_DOWNLOAD, download);
    put(M4N_ABR_BUFFER, {buffer});
    put(M4N_ABR_LAST_LEVEL, {(double)level});
    put(M4N_ABR_NEXT_SIZES, sizes);
    put(M4N_ABR_CHUNKS_LEFT, {(double)(STEPS - step)});
    return bytes;
  }
  /* The level that the coming chunk's rate carries: advice from somebody who knows the future. */
  int advice() const {
    int best = 0;
    for (int k = 0; k < LEVELS && step < STEPS; k++)
      if (ladder[(size_t)k] * 500 / 1e6 / rate[(size_t)step] <= buffer) best = k;
    return best;
  }
  void act(int next) {
    const double size = ladder[(size_t)next] * 500 / 1e6, time = size / rate[(size_t)step];
    const double stall = std::max(0.0, time - buffer);
    reward = ladder[(size_t)next] / 1000 - 4.3 * stall -
             std::fabs(ladder[(size_t)next] - ladder[(size_t)level]) / 1000;
    buffer = std::min(60.0, std::max(0.0, buffer - time) + 4);
    throughput.erase(throughput.begin());
    throughput.push_back(size / time);
    download.erase(download.begin());
    download.push_back(time);
    level = next, step++, sum += reward;
  }
};

/* Who decides: the rows of all lanes that are live, by number. */
using Decide = std::function<std::vector<int>(const std::vector<Client> &, const std::vector<int> &live)>;

struct Script {
  int set = M4N_SET_TRAIN;
  int64_t first = 0, episodes = 8;
  uint64_t seed = 1;
  bool advice = false;
  int lost = -1;                          // this one of the episodes is lost on its way
  std::string policy = "scripted", label; // label "": one a trace
  m4n_spec spec = make_spec();
};

/* Plays all episodes side by side, and returns the mean reward of a chunk. `path` empty: no log. */
inline double play(const std::string &path, const Script &s, const Decide &decide) {
  m4n_events_header header = {};
  const char *policy = s.policy.c_str();
  header.spec = s.spec, header.seed = s.seed, header.n_policies = 1, header.policy = &policy,
  header.scenario = "";
  m4n_events *log = nullptr;
  if (!path.empty()) {
    EXPECT_EQ(m4n_events_create(&log, path.c_str(), &header, (int)s.episodes), M4N_OK) << m4n_error_message();
  }
  std::vector<Client> client;
  double sum = 0;
  for (int64_t e = 0; e < s.episodes; e++) {
    client.emplace_back(s.spec, s.seed, s.set, s.first + e);
    m4n_reset order = {};
    order.set = s.set, order.episode = s.first + e, order.seed = s.seed, order.copy_of = -1;
    order.options = s.advice ? M4N_RESET_ADVICE : 0;
    const std::string label = s.label.empty() ? "trace " + std::to_string((s.first + e) % 4) : s.label;
    if (log)
      m4n_events_begin(log, (int)e, 0, &order, label.c_str(), (const uint8_t *)client.back().row().data(), 0);
  }
  for (int t = 0; t < STEPS; t++) {
    std::vector<int> live;
    for (int e = 0; e < (int)s.episodes; e++)
      if (!(e == s.lost && t > 2)) live.push_back(e);
    const std::vector<int> levels = decide(client, live);
    for (size_t k = 0; k < live.size(); k++) {
      Client &c = client[(size_t)live[k]];
      const int64_t action = levels[k], advice = c.advice();
      if (log && s.advice) m4n_events_advice(log, live[k], (const uint8_t *)&advice);
      if (log) m4n_events_action(log, live[k], (const uint8_t *)&action, 0, 0);
      c.act((int)action);
      const double qoe = c.sum / STEPS;
      if (log)
        m4n_events_result(log, live[k], (const uint8_t *)c.row().data(), c.reward, nullptr, t + 1,
                          c.over() ? M4N_TERMINATED : 0, &qoe);
      if (c.over()) sum += qoe;
    }
  }
  EXPECT_EQ(m4n_events_close(log), M4N_OK) << m4n_error_message(); // NULL is harmless
  return sum / (double)s.episodes;
}

/* The highest level that the last throughput carries, with `noise` of the choices drawn. */
inline Decide careful(double noise = 0) {
  return [=](const std::vector<Client> &client, const std::vector<int> &live) {
    std::vector<int> levels;
    for (int e : live) {
      const Client &c = client[(size_t)e];
      m4n_rng rng = m4n_rng_make(99, (uint64_t)(e * 1000 + c.step), M4N_RNG_ACTION);
      int level = 0;
      for (int k = 0; k < LEVELS; k++)
        if (ladder[(size_t)k] / 8000 <= c.throughput.back()) level = k;
      if (m4n_rng_uniform(&rng) < noise) level = (int)m4n_rng_below(&rng, LEVELS);
      levels.push_back(level);
    }
    return levels;
  };
}

/* A checkpoint plays, as a policy of the program would have it play. */
inline int play_model(const std::string &path, const Script &s, const char *checkpoint, bool sample,
                      double *mean) {
  m4n_checkpoint c;
  M4N_TRY(m4n_checkpoint_read(&c, checkpoint));
  M4N_TRY(m4n_condition_check(&c.condition, &s.spec, checkpoint));
  m4n_abr_rows rows;
  M4N_TRY(m4n_abr_rows_open(&rows, &s.spec, &c.config.abr));
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_engine *engine;
  M4N_TRY(m4n_backend_open(&backend, "cpu", nullptr));
  M4N_TRY(m4n_stream_open(&stream, backend));
  m4n_engine_options o = {};
  o.config = c.config, o.slots = o.batch = (int)s.episodes, o.format = m4n_checkpoint_format(&c);
  M4N_TRY(m4n_engine_open(&engine, stream, &o));
  M4N_TRY(m4n_checkpoint_load(&c, m4n_engine_net(engine)));
  const int features = m4n_abr_features(&c.config.abr);
  std::vector<double> asked((size_t)s.episodes, c.condition.target);
  for (int e = 0; e < (int)s.episodes; e++) m4n_engine_begin(engine, e);
  *mean = play(path, s, [&](const std::vector<Client> &client, const std::vector<int> &live) {
    std::vector<m4n_real> in(live.size() * (size_t)features), logits(live.size() * LEVELS);
    std::vector<int> levels;
    for (size_t k = 0; k < live.size(); k++) {
      const Client &now = client[(size_t)live[k]];
      double &g = asked[(size_t)live[k]];
      if (now.step) g = m4n_return_after(&c.condition, g, now.reward);
      m4n_abr_rows_fill(&rows, &in[k * (size_t)features], (const uint8_t *)now.row().data());
      in[k * (size_t)features + M4N_ABR_RETURN] = (m4n_real)g;
    }
    EXPECT_EQ(m4n_engine_decide(engine, (int)live.size(), live.data(), in.data(), logits.data()), M4N_OK);
    for (size_t k = 0; k < live.size(); k++) {
      const m4n_real *z = &logits[k * LEVELS];
      int level = (int)(std::max_element(z, z + LEVELS) - z);
      if (sample) {
        m4n_rng rng = m4n_rng_make(
            s.seed, (uint64_t)((s.first + live[k]) * 1000 + client[(size_t)live[k]].step), M4N_RNG_ACTION);
        double sum = 0, at;
        for (int i = 0; i < LEVELS; i++) sum += std::exp((double)(z[i] - z[level]));
        at = sum * m4n_rng_uniform(&rng);
        const int best = level;
        for (level = 0; level < LEVELS - 1 && at >= std::exp((double)(z[level] - z[best])); level++)
          at -= std::exp((double)(z[level] - z[best]));
      }
      m4n_engine_acted(engine, live[k], level);
      levels.push_back(level);
    }
    return levels;
  });
  m4n_engine_close(engine);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  return M4N_OK;
}

/* The hook of stages. Counts what was asked of it. */
struct Player {
  int plays = 0, rounds = 0;
  std::function<int(const m4n_play &)> before; // may refuse
  m4n_stage_hooks hooks = {this,
                           [](void *self, const m4n_play *order) { return ((Player *)self)->play(*order); }};

  int play(const m4n_play &order) {
    plays++, rounds += order.set == M4N_SET_TRAIN;
    if (before) M4N_TRY(before(order));
    Script s;
    s.set = order.set, s.first = order.first_episode, s.episodes = order.episodes, s.seed = order.seed;
    s.advice = order.advice, s.policy = "student";
    double mean = 0;
    M4N_TRY(play_model(order.events ? order.events : "", s, order.policy, order.sample, &mean));
    if (order.mean_metric) *order.mean_metric = mean;
    return M4N_OK;
  }
};

inline m4n_abr_shape tiny_shape() {
  m4n_config config;
  EXPECT_EQ(m4n_config_preset(&config, "tiny"), M4N_OK);
  const m4n_spec spec = make_spec();
  EXPECT_EQ(m4n_abr_rows_shape(&config.abr, &spec), M4N_OK) << m4n_error_message();
  return config.abr;
}

/* A folder's pool. */
struct Pool {
  m4n_trajectories *pool = nullptr;
  m4n_trajectories *operator->() const { return pool; }
  ~Pool() { m4n_trajectories_close(pool); }
};

} // namespace abr_world

#endif
