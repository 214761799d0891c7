#include "agent/learn/trajectories.h"

#include <map>
#include <set>

#include "agent/learn/windows.h"
#include "tests/agent/learn/abr_world.h"
#include "tests/support/alloc.h"

namespace {

using namespace abr_world;

int open(Pool &p, const std::vector<std::string> &paths, double rtg_scale = 0,
         const m4n_condition *condition = nullptr, bool asked = false) {
  std::vector<const char *> events;
  for (const std::string &path : paths) events.push_back(path.c_str());
  static m4n_abr_shape shape;
  shape = tiny_shape();
  m4n_trajectories_options o = {};
  o.events = events.data(), o.n_events = (int)events.size(), o.shape = &shape;
  o.rtg_scale = rtg_scale, o.condition = condition, o.asked = asked;
  return m4n_trajectories_open(&p.pool, &o);
}

m4n_real column(const Pool &p, int64_t step, int c) {
  return m4n_trajectories_row(p.pool, step)[c];
}

TEST(Trajectories, RowsActionsAndReturnsByHand) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  Script s;
  s.episodes = 3;
  play(path, s, careful(0.3));
  Pool p;
  M4N_OKAY(open(p, {path}));
  ASSERT_EQ(p->n, 3);
  ASSERT_EQ(p->steps, 3 * STEPS);
  // Play the same again, and work out by hand what the pool must hold.
  double low = 1e9, high = -1e9;
  std::vector<std::vector<double>> rewards(3);
  std::vector<std::vector<int>> actions(3);
  std::vector<std::vector<double>> buffers(3);
  play("", s, [&](const std::vector<Client> &client, const std::vector<int> &live) {
    const std::vector<int> levels = careful(0.3)(client, live);
    for (size_t k = 0; k < live.size(); k++) {
      Client next = client[(size_t)live[k]];
      buffers[k].push_back(next.buffer);
      next.act(levels[k]);
      rewards[k].push_back(next.reward);
      actions[k].push_back(levels[k]);
      low = std::min(low, next.reward), high = std::max(high, next.reward);
    }
    return levels;
  });
  double most = 0;
  for (int e = 0; e < 3; e++) {
    double sum = 0;
    for (double r : rewards[(size_t)e]) sum += (r - low) / (high - low);
    most = std::max(most, sum);
  }
  EXPECT_DOUBLE_EQ(p->condition.low, low);
  EXPECT_DOUBLE_EQ(p->condition.high, high);
  EXPECT_NEAR(p->condition.scale, most, 1e-12 * most);
  EXPECT_DOUBLE_EQ(p->condition.target, 1);
  EXPECT_STREQ(p->condition.task, "abr");
  for (int e = 0; e < 3; e++) {
    EXPECT_EQ(p->episode[e].episode, e);
    EXPECT_STREQ(p->episode[e].policy, "scripted");
    EXPECT_FALSE(p->episode[e].truncated);
    double g = 0;
    for (int t = STEPS - 1; t >= 0; t--) {
      const int64_t i = p->episode[e].first + t;
      const double r = rewards[(size_t)e][(size_t)t];
      g += (r - low) / (high - low) / most;
      EXPECT_NEAR(column(p, i, M4N_ABR_RETURN), g, 1e-6);
      EXPECT_EQ(p->reward[i], r);
      EXPECT_EQ(p->action[i], actions[(size_t)e][(size_t)t]);
      EXPECT_NEAR(column(p, i, M4N_ABR_ACTION), (actions[(size_t)e][(size_t)t] + 1) / 6.0, 1e-6);
      EXPECT_NEAR(column(p, i, M4N_ABR_STATE + 1), buffers[(size_t)e][(size_t)t] / 10, 1e-6);
      EXPECT_EQ(p->advice[i], M4N_NO_ADVICE);
    }
  }
  EXPECT_EQ(p->advised, 0);
}

TEST(Trajectories, PublishedScale) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  play(path, {}, careful(0.3));
  Pool ours, published;
  M4N_OKAY(open(ours, {path}));
  M4N_OKAY(open(published, {path}, 1000));
  EXPECT_EQ(published->condition.scale, 1000);
  EXPECT_NEAR(published->condition.target, ours->condition.scale / 1000, 1e-12);
  for (int64_t i = 0; i < ours->steps; i++)
    EXPECT_NEAR(column(published, i, M4N_ABR_RETURN) * 1000,
                column(ours, i, M4N_ABR_RETURN) * ours->condition.scale, 1e-4);
}

// What a policy that acts is asked for: the target, less what came.
TEST(Trajectories, AskedReturns) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  play(path, {}, careful(0.3));
  m4n_condition c = {};
  c.low = -1, c.high = 3, c.scale = 10, c.target = 0.9;
  strcpy(c.task, "abr"), strcpy(c.reward, "qoe-linear 4.3 1.0");
  const m4n_spec spec = make_spec();
  m4n_condition_world(c.world, &spec);
  Pool p;
  M4N_OKAY(open(p, {path}, 0, &c, true));
  for (int e = 0; e < p->n; e++) {
    double g = 0.9;
    for (int t = 0; t < p->episode[e].steps; t++) {
      const int64_t i = p->episode[e].first + t;
      EXPECT_NEAR(column(p, i, M4N_ABR_RETURN), g, 1e-6);
      g -= std::min(1.0, std::max(0.0, (p->reward[i] + 1) / 4)) / 10; // clamped to what the pool had
    }
  }
  strcpy(c.reward, "another");
  Pool q;
  EXPECT_EQ(open(q, {path}, 0, &c), M4N_EUNSUPPORTED);
}

TEST(Trajectories, LostEpisodesAreDropped) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  Script s;
  s.episodes = 5, s.lost = 2;
  play(path, s, careful());
  Pool p;
  M4N_OKAY(open(p, {path}));
  ASSERT_EQ(p->n, 4);
  for (int e = 0; e < 4; e++) EXPECT_NE(p->episode[e].episode, 2);
  EXPECT_EQ(p->steps, 4 * STEPS);
  s.episodes = 1, s.lost = 0;
  play(path, s, careful());
  Pool none;
  EXPECT_EQ(open(none, {path}), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "not one whole episode"), nullptr) << m4n_error_message();
}

// The order of files, and of episodes in them, changes nothing; what is played by others does.
TEST(Trajectories, TheOrderOfLogsDoesNotMatter) {
  const std::string dir = m4n_temp_dir();
  Script a, b;
  b.policy = "another", b.first = 3;
  play(dir + "/a", a, careful());
  play(dir + "/b", b, careful(0.5));
  Pool ab, ba, only;
  M4N_OKAY(open(ab, {dir + "/a", dir + "/b"}));
  M4N_OKAY(open(ba, {dir + "/b", dir + "/a"}));
  M4N_OKAY(open(only, {dir + "/a"}));
  EXPECT_EQ(ab->hash, ba->hash);
  EXPECT_NE(ab->hash, only->hash);
  ASSERT_EQ(ab->n, ba->n);
  for (int e = 0; e < ab->n; e++) {
    EXPECT_STREQ(ab->episode[e].policy, ba->episode[e].policy);
    EXPECT_EQ(ab->episode[e].episode, ba->episode[e].episode);
    EXPECT_EQ(memcmp(m4n_trajectories_row(ab.pool, ab->episode[e].first),
                     m4n_trajectories_row(ba.pool, ba->episode[e].first),
                     STEPS * (size_t)ab->features * sizeof(m4n_real)),
              0);
  }
}

TEST(Trajectories, RefusesLogsThatDiffer) {
  const std::string dir = m4n_temp_dir();
  Script a, b;
  b.spec = make_spec("qoe-log 2.66 1.0");
  play(dir + "/a", a, careful());
  play(dir + "/b", b, careful());
  Pool p;
  EXPECT_EQ(open(p, {dir + "/a", dir + "/b"}), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "qoe-log"), nullptr) << m4n_error_message();
  EXPECT_EQ(p.pool, nullptr);
  b.spec = make_spec();
  b.spec.value[0] = 301; // the ladder
  play(dir + "/b", b, careful());
  EXPECT_EQ(open(p, {dir + "/a", dir + "/b"}), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), M4N_ABR_LADDER), nullptr) << m4n_error_message();
  b.spec = make_spec();
  b.spec.value[LEVELS + 1] = 99; // episodes of a set: its own affair
  play(dir + "/b", b, careful());
  EXPECT_EQ(open(p, {dir + "/a", dir + "/b"}), M4N_OK) << m4n_error_message();
  Pool missing;
  EXPECT_EQ(open(missing, {dir + "/none"}), M4N_ENOTFOUND);
}

TEST(Trajectories, AdviceIsKept) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  Script s;
  s.advice = true;
  std::vector<std::vector<int>> wanted(8);
  play(path, s, [&](const std::vector<Client> &client, const std::vector<int> &live) {
    for (int e : live) wanted[(size_t)e].push_back(client[(size_t)e].advice());
    return careful()(client, live);
  });
  Pool p;
  M4N_OKAY(open(p, {path}));
  EXPECT_EQ(p->advised, p->steps);
  for (int e = 0; e < p->n; e++)
    for (int t = 0; t < STEPS; t++)
      EXPECT_EQ(p->advice[p->episode[e].first + t], wanted[(size_t)e][(size_t)t]);
}

TEST(Trajectories, WeightsByAdvantage) {
  const std::string dir = m4n_temp_dir();
  Script a, b;
  a.episodes = b.episodes = 4, b.policy = "wild";
  play(dir + "/a", a, careful());
  play(dir + "/b", b, careful(0.7));
  Pool p;
  M4N_OKAY(open(p, {dir + "/a", dir + "/b"}));
  M4N_OKAY(m4n_trajectories_weigh(p.pool, 1));
  // By hand: two episodes a label ("trace k"), one of each policy.
  std::map<std::string, std::vector<int>> group;
  for (int e = 0; e < p->n; e++) group[p->episode[e].label].push_back(e);
  ASSERT_EQ(group.size(), 4u);
  std::vector<double> advantage((size_t)p->steps), weight((size_t)p->steps);
  double square = 0, mean = 0;
  for (const auto &[label, members] : group) {
    ASSERT_EQ(members.size(), 2u);
    for (int t = 0; t < STEPS; t++) {
      const int64_t i = p->episode[members[0]].first + t, j = p->episode[members[1]].first + t;
      const double half = ((double)column(p, i, M4N_ABR_RETURN) - (double)column(p, j, M4N_ABR_RETURN)) / 2;
      advantage[(size_t)i] = half, advantage[(size_t)j] = -half;
      square += 2 * half * half;
    }
  }
  for (size_t i = 0; i < weight.size(); i++) {
    weight[i] = std::exp(std::min(2.0, std::max(-2.0, advantage[i] / std::sqrt(square / (double)p->steps))));
    mean += weight[i] / (double)p->steps;
  }
  double sum = 0;
  for (size_t i = 0; i < weight.size(); i++) {
    EXPECT_NEAR(p->weight[i], weight[i] / mean, 1e-4);
    sum += (double)p->weight[i];
  }
  EXPECT_NEAR(sum, (double)p->steps, 1e-3);
}

// ---- windows

TEST(Windows, NumbersCoverAnEpisodeToItsEnd) {
  for (int steps : {1, 5, 19, 20, 21, 23, 47, 60})
    for (int stride : {1, 3, 20, 100}) {
      const int n = m4n_windows_of(steps, 20, stride);
      m4n_window w = {};
      for (int i = 0; i < n; i++) {
        m4n_window_at(&w, i, steps, 20, stride);
        EXPECT_EQ(w.steps, std::min(steps, 20));
        EXPECT_LE(w.start + w.steps, steps);
        if (i < n - 1) {
          EXPECT_EQ(w.start, i * stride);
        }
      }
      EXPECT_EQ(w.start + w.steps, steps) << steps << " steps, stride " << stride;
    }
}

TEST(Windows, NeverStraddleAndForgetNoStep) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  Script s;
  s.episodes = 4;
  play(path, s, careful());
  Pool p;
  M4N_OKAY(open(p, {path}));
  const int w = 7;
  const m4n_window_source source = {p.pool, 1};
  m4n_windows *windows;
  M4N_OKAY(m4n_windows_open(&windows, &source, 1, w));
  std::map<std::pair<int, int>, int> seen;
  const int N = 20000;
  std::vector<m4n_window> drawn((size_t)N);
  m4n_rng rng = m4n_rng_make(3, 0, M4N_RNG_DATA);
  m4n_windows_draw(windows, &rng, N, drawn.data());
  for (const m4n_window &d : drawn) {
    ASSERT_GE(d.start, 0);
    ASSERT_EQ(d.steps, w);
    ASSERT_LE(d.start + w, p->episode[d.episode].steps);
    EXPECT_EQ(d.number, d.start);
    for (int t = 0; t < w; t++) seen[{d.episode, d.start + t}]++;
  }
  // By hand: of the 29 places of an episode, step 0 is in the 7 that are moved to the start, step t < 7 in the t behind it
  // too, and so from the end; the steps between are in 7.
  for (int e = 0; e < 4; e++)
    for (int t = 0; t < STEPS; t++) {
      const int near = std::min(t, STEPS - 1 - t), places = near < w ? w + near : w;
      const double mean = N * (double)places / (4 * (STEPS + w - 1));
      EXPECT_NEAR((seen[{e, t}]), mean, 5 * std::sqrt(mean)) << e << " " << t;
    }
  m4n_windows_close(windows);
}

TEST(Windows, BatchKIsTheSameWhateverCameBefore) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  play(path, {}, careful());
  Pool p;
  M4N_OKAY(open(p, {path}));
  const m4n_window_source source = {p.pool, 5};
  m4n_windows *one, *two;
  M4N_OKAY(m4n_windows_open(&one, &source, 1, 20));
  M4N_OKAY(m4n_windows_open(&two, &source, 1, 20));
  auto batch = [](const m4n_windows *windows, uint64_t step) {
    std::vector<m4n_window> w(16);
    m4n_rng rng = m4n_rng_make(1, step, M4N_RNG_DATA);
    m4n_windows_draw(windows, &rng, 16, w.data());
    std::vector<std::vector<int>> all;
    for (const m4n_window &x : w) all.push_back({x.source, x.episode, x.number, x.start, x.steps});
    return all;
  };
  for (uint64_t k = 0; k < 7; k++) batch(one, k);
  EXPECT_EQ(batch(one, 7), batch(two, 7));
  EXPECT_NE(batch(one, 7), batch(one, 8));
  for (const auto &x : batch(one, 7)) EXPECT_TRUE(x[3] % 5 == 0 || x[3] == STEPS - 20) << x[3];
  const int64_t before = m4n_allocations();
  std::vector<m4n_window> w(16);
  m4n_rng rng = m4n_rng_make(1, 2, M4N_RNG_DATA);
  const int64_t after_setup = m4n_allocations();
  m4n_windows_draw(one, &rng, 16, w.data());
  EXPECT_EQ(m4n_allocations(), after_setup);
  EXPECT_GE(after_setup, before);
  m4n_windows_close(one);
  m4n_windows_close(two);
}

TEST(Windows, ShortEpisodesAreOneWindow) {
  const std::string path = m4n_temp_dir() + "/events.bin";
  play(path, {}, careful());
  Pool p;
  M4N_OKAY(open(p, {path}));
  const m4n_window_source source = {p.pool, 1};
  m4n_windows *windows;
  M4N_OKAY(m4n_windows_open(&windows, &source, 1, 64)); // longer than any episode
  std::vector<m4n_window> w(200);
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_DATA);
  m4n_windows_draw(windows, &rng, 200, w.data());
  std::set<int> episodes;
  for (const m4n_window &x : w) {
    EXPECT_EQ(x.start, 0);
    EXPECT_EQ(x.steps, (int)STEPS);
    episodes.insert(x.episode);
  }
  EXPECT_EQ(episodes.size(), 8u);
  m4n_windows_close(windows);
}

} // namespace
