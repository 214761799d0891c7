#include "agent/learn/trainer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/learn/imitation.h"
#include "agent/learn/schedule.h"
#include "agent/learn/train_state.h"
#include "agent/model/optimiser.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/stop.h"
#include "tests/agent/learn/abr_world.h"
#include "tests/support/alloc.h"

extern char **environ;

namespace {

using namespace abr_world;
namespace fs = std::filesystem;

struct Quiet {
  Quiet() { m4n_log_set_level(M4N_LOG_WARN); }
} quiet;

// A table without its last `drop` columns, which depend on the clock.
std::vector<std::vector<std::string>> table(const std::string &path, size_t drop) {
  std::vector<std::vector<std::string>> rows;
  std::stringstream in(m4n_read_file(path));
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> cells;
    std::stringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
    EXPECT_GT(cells.size(), drop);
    cells.resize(cells.size() - drop);
    rows.push_back(cells);
  }
  return rows;
}
std::vector<std::vector<std::string>> train_csv(const std::string &work) {
  return table(work + "/train.csv", 2);
}
double last(const std::string &work, const std::string &column) {
  const auto rows = train_csv(work);
  for (size_t i = 0; i < rows[0].size(); i++)
    if (rows[0][i] == column) return std::stod(rows.back()[i]);
  ADD_FAILURE() << "no column " << column;
  return NAN;
}

const std::string &log_of_play() {
  static const std::string path = [] {
    const std::string at = m4n_temp_dir() + "/events.bin";
    Script s;
    s.episodes = 6;
    play(at, s, careful(0.3));
    return at;
  }();
  return path;
}

// A small adapt stage: windows of 8 steps, 40 updates.
struct Adapt {
  std::string dir = m4n_temp_dir(), work = dir + "/adapt", out = dir + "/teacher.safetensors",
              events = log_of_play();
  const char *log = nullptr;
  m4n_adapt_options o = {};
  m4n_pool *threads = nullptr;
  m4n_stop stop = {};
  Player player;
  explicit Adapt(int n_threads = 1) {
    EXPECT_EQ(m4n_pool_open(&threads, n_threads), M4N_OK);
    o.stage.device = "cpu", o.stage.pool = threads, o.stage.seed = 5, o.stage.stop = &stop;
    o.fit = m4n_fit_usual();
    o.fit.steps = 40, o.fit.batch = 4, o.fit.lr = 1e-3, o.fit.log_every = 7, o.fit.save_every = 10;
    o.preset = "tiny", o.window = 8;
  }
  ~Adapt() { m4n_pool_close(threads); }
  void validate() {
    o.fit.valid_every = 12, o.fit.valid_episodes = 3, o.fit.patience = 10;
    o.stage.hooks = &player.hooks;
  }
  int run(bool resume = false) {
    log = events.c_str();
    o.events = &log, o.n_events = 1;
    o.stage.work = work.c_str(), o.out = out.c_str(), o.stage.resume = resume;
    return m4n_adapt(&o);
  }
};

TEST(Schedule, ByHand) {
  m4n_fit f = m4n_fit_usual();
  f.steps = 100, f.lr = 1, f.warmup = 0.03, f.floor = 0.1;
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 0), 1.0 / 3);
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 2), 1);
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 3), 1);
  EXPECT_NEAR(m4n_learning_rate(&f, 51), 0.1 + 0.9 * 0.5, 1e-12); // the middle of 3 … 99
  EXPECT_NEAR(m4n_learning_rate(&f, 99), 0.1, 1e-12);
  f.schedule = M4N_LR_CONSTANT;
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 1), 2.0 / 3);
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 99), 1);
  f.warmup = 0;
  EXPECT_DOUBLE_EQ(m4n_learning_rate(&f, 0), 1);
  f.ema = 0.99;
  EXPECT_DOUBLE_EQ(m4n_ema_decay(&f, 0), 0.1);
  EXPECT_DOUBLE_EQ(m4n_ema_decay(&f, 100000), 0.99);
  EXPECT_EQ(m4n_fit_check(&f), M4N_OK);
  f.lr = NAN;
  EXPECT_EQ(m4n_fit_check(&f), M4N_EARG);
  EXPECT_STREQ(m4n_last_error()->key, "fit.lr");
}

// Actions that follow from nothing can only be learned by heart.
TEST(Trainer, OverfitsFixedSamples) {
  Adapt a;
  Script s;
  s.episodes = 3; // 69 decisions
  a.events = a.dir + "/random.bin";
  play(a.events, s, careful(1));
  a.o.fit.steps = m4n_sanitized() ? 120 : 400, a.o.fit.lr = 3e-3, a.o.fit.batch = 8, a.o.fit.log_every = 20;
  M4N_OKAY(a.run());
  const auto rows = train_csv(a.work);
  EXPECT_GT(std::stod(rows[1][1]), 1.0); // it could not know in the beginning
  EXPECT_GT(last(a.work, "agreement"), m4n_sanitized() ? 0.8 : 0.98);
  EXPECT_LT(last(a.work, "loss"), m4n_sanitized() ? 0.8 : 0.1);
  m4n_checkpoint c;
  M4N_OKAY(m4n_checkpoint_read(&c, a.out.c_str()));
  EXPECT_EQ(c.config.abr.window, 8);
  EXPECT_STREQ(c.condition.reward, "qoe-linear 4.3 1.0");
  EXPECT_NE(strstr(c.about, "cross-entropy"), nullptr);
  EXPECT_FALSE(fs::exists(a.work + "/step-000000000400"));
}

TEST(Trainer, TwoRunsAndAnyThreadsGiveTheSameBytes) {
  Adapt a, b, c(3);
  M4N_OKAY(a.run());
  M4N_OKAY(b.run());
  M4N_OKAY(c.run());
  const std::string bytes = m4n_read_file(a.out);
  EXPECT_GT(bytes.size(), 100000u);
  EXPECT_TRUE(bytes == m4n_read_file(b.out));
  EXPECT_TRUE(bytes == m4n_read_file(c.out));
  EXPECT_EQ(train_csv(a.work), train_csv(b.work));
  EXPECT_EQ(train_csv(a.work), train_csv(c.work));
  Adapt d;
  d.o.stage.seed = 6;
  M4N_OKAY(d.run());
  EXPECT_FALSE(bytes == m4n_read_file(d.out));
}

// The best of the validated weights is what is written.
TEST(Trainer, StopsEarlyAndKeepsTheBest) {
  Adapt a;
  a.validate();
  a.o.fit.valid_every = 5, a.o.fit.patience = 2;
  std::string second;
  a.player.before = [&](const m4n_play &order) {
    EXPECT_EQ(order.set, M4N_SET_VALID);
    EXPECT_EQ(order.first_episode, 0);
    EXPECT_EQ(order.episodes, 3);
    EXPECT_FALSE(order.sample);
    if (a.player.plays == 2) second = m4n_read_file(order.policy);
    return (int)M4N_OK;
  };
  // Measures that a stage cannot know: the second one is the best.
  static const double measures[] = {1, 2, 1.5, 2, 9};
  a.player.hooks.play = [](void *self, const m4n_play *order) {
    Player *p = (Player *)self;
    p->plays++;
    *order->mean_metric = measures[p->plays - 1];
    return p->before(*order);
  };
  M4N_OKAY(a.run());
  EXPECT_EQ(a.player.plays, 4);
  EXPECT_EQ(train_csv(a.work).back()[0], "14"); // rows every 7 steps; it ended after 20
  const auto valid = table(a.work + "/valid.csv", 0);
  ASSERT_EQ(valid.size(), 5u);
  EXPECT_EQ(valid[2], (std::vector<std::string>{"10", "2", "1"}));
  EXPECT_EQ(valid[4], (std::vector<std::string>{"20", "2", "0"}));
  EXPECT_TRUE(m4n_read_file(a.out) == second);
}

TEST(Trainer, ResumedEqualsUninterrupted) {
  Adapt whole;
  whole.validate();
  M4N_OKAY(whole.run());
  EXPECT_EQ(whole.player.plays, 4); // after 12, 24, 36 and 40
  Adapt a;
  a.validate();
  for (int interrupted = 0; interrupted < 3; interrupted++) {
    a.player.before = [&](const m4n_play &) {
      if (a.player.plays == interrupted + 1) m4n_stop_request(&a.stop);
      return (int)M4N_OK;
    };
    EXPECT_EQ(a.run(true), M4N_ECANCELLED);
    EXPECT_FALSE(fs::exists(a.out));
    EXPECT_TRUE(fs::exists(a.work + "/step-0000000000" + std::to_string(12 * (interrupted + 1))));
    a.stop = {};
  }
  a.player.before = nullptr;
  M4N_OKAY(a.run(true));
  EXPECT_TRUE(m4n_read_file(a.out) == m4n_read_file(whole.out));
  EXPECT_EQ(train_csv(a.work), train_csv(whole.work));
  EXPECT_EQ(table(a.work + "/valid.csv", 0), table(whole.work + "/valid.csv", 0));
  // What is done is not done again …
  a.player.before = [](const m4n_play &) { return m4n_fail(M4N_EARG, "nobody should play"); };
  const auto when = fs::last_write_time(a.out);
  M4N_OKAY(a.run(true));
  EXPECT_EQ(fs::last_write_time(a.out), when);
  // … and a removed output is made again, the same.
  a.player.before = nullptr;
  const std::string bytes = m4n_read_file(a.out);
  fs::remove(a.out);
  M4N_OKAY(a.run(true));
  EXPECT_TRUE(bytes == m4n_read_file(a.out));
}

TEST(Trainer, RefusesToGoOnWithSomethingElse) {
  Adapt a;
  a.validate();
  a.player.before = [&](const m4n_play &) { return m4n_stop_request(&a.stop), (int)M4N_OK; };
  EXPECT_EQ(a.run(true), M4N_ECANCELLED);
  a.stop = {};
  a.o.fit.lr = 2e-3;
  EXPECT_EQ(a.run(true), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "lr=0.001"), nullptr) << m4n_error_message();
  EXPECT_NE(strstr(m4n_error_message(), a.work.c_str()), nullptr) << m4n_error_message();
  a.player.before = nullptr;
  M4N_OKAY(a.run(false)); // anew
  // A checkpoint that is damaged is an error, not a beginning.
  Adapt b;
  b.validate();
  b.player.before = [&](const m4n_play &) { return m4n_stop_request(&b.stop), (int)M4N_OK; };
  EXPECT_EQ(b.run(true), M4N_ECANCELLED);
  b.stop = {};
  fs::resize_file(b.work + "/step-000000000012/weights.safetensors", 5000);
  EXPECT_EQ(b.run(true), M4N_EFORMAT) << m4n_error_message();
}

// ---- a process that is killed

const char *const folder_variable = "M4N_TRAINER_TEST_FOLDER";

// Not a test of its own: what the next one starts and kills.
TEST(Trainer, ProcessThatIsKilled) {
  const char *folder = getenv(folder_variable);
  if (!folder) GTEST_SKIP() << "runs only as a child of SurvivesKill";
  Adapt a;
  a.work = std::string(folder) + "/adapt", a.out = std::string(folder) + "/teacher.safetensors";
  a.o.fit.save_every = 1; // so that it is mostly killed while a checkpoint is written
  M4N_OKAY(a.run(true));
}

TEST(Trainer, SurvivesKill) {
  Adapt whole;
  M4N_OKAY(whole.run());
  const std::string folder = m4n_temp_dir(), variable = std::string(folder_variable) + "=" + folder;
  int killed = 0;
  for (int64_t want : {1, 9, 20, 31, 1000}) { // steps before the next kill
    std::string filter = "--gtest_filter=Trainer.ProcessThatIsKilled", text = variable;
    std::vector<char *> env;
    for (char **e = environ; *e; e++) env.push_back(*e);
    env.push_back(text.data());
    env.push_back(nullptr);
    char self[] = "/proc/self/exe";
    char *arguments[] = {self, filter.data(), nullptr};
    posix_spawn_file_actions_t silent;
    posix_spawn_file_actions_init(&silent);
    posix_spawn_file_actions_addopen(&silent, 1, "/dev/null", O_WRONLY, 0);
    pid_t child;
    ASSERT_EQ(posix_spawn(&child, self, &silent, nullptr, arguments, env.data()), 0);
    posix_spawn_file_actions_destroy(&silent);
    int how = 0;
    while (waitpid(child, &how, WNOHANG) == 0) {
      int64_t newest = -1, step;
      std::error_code gone;
      for (const auto &entry : fs::directory_iterator(folder + "/adapt", gone))
        if (sscanf(entry.path().filename().c_str(), "step-%" PRId64, &step) == 1)
          newest = std::max(newest, step);
      if (newest >= want) kill(child, SIGKILL);
      usleep(200);
    }
    killed += WIFSIGNALED(how);
  }
  EXPECT_GE(killed, 3);
  ASSERT_TRUE(fs::exists(folder + "/teacher.safetensors"));
  EXPECT_TRUE(m4n_read_file(folder + "/teacher.safetensors") == m4n_read_file(whole.out));
  EXPECT_EQ(train_csv(folder + "/adapt"), train_csv(whole.work));
}

// ---- the trainer alone

// A net, a pool and an objective that can be spoiled.
struct Alone {
  std::string work = m4n_temp_dir() + "/work";
  m4n_backend *backend = nullptr;
  m4n_stream *stream = nullptr;
  m4n_net *net = nullptr;
  Pool pool;
  m4n_imitation *imitation = nullptr;
  m4n_objective inner = {}, objective = {};
  m4n_fit fit = m4n_fit_usual();
  int64_t poison = -1, step = 0;
  bool loud = false; // a loss that explodes, else a gradient that is no number
  std::vector<int64_t> allocations;

  Alone() {
    m4n_config config;
    EXPECT_EQ(m4n_config_preset(&config, "tiny"), M4N_OK);
    config.abr = tiny_shape();
    config.abr.window = 8;
    const char *events = log_of_play().c_str();
    m4n_trajectories_options o = {};
    o.events = &events, o.n_events = 1, o.shape = &config.abr;
    EXPECT_EQ(m4n_trajectories_open(&pool.pool, &o), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
    EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
    m4n_net_options n = {};
    n.config = config, n.sequences = 4, n.train = true;
    EXPECT_EQ(m4n_net_open(&net, stream, &n), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_net_start(net, 1), M4N_OK);
    m4n_imitation_options i = {};
    i.net = net, i.batch = 4, i.seed = 1, i.pool = pool.pool, i.task_weight = 1, i.temperature = 1;
    EXPECT_EQ(m4n_imitation_open(&imitation, &i), M4N_OK) << m4n_error_message();
    inner = m4n_imitation_objective(imitation);
    objective = inner;
    objective.self = this;
    objective.batch = [](void *self, int64_t k) {
      Alone *a = (Alone *)self;
      a->step = k;
      a->allocations.push_back(m4n_own_allocations());
      return a->inner.batch(a->inner.self, k);
    };
    objective.loss = [](void *self, m4n_real *parts) {
      Alone *a = (Alone *)self;
      a->inner.loss(a->inner.self, parts);
      if (a->step != a->poison) return;
      if (a->loud)
        m4n_fill(a->stream, parts, 1, 1e6f);
      else
        m4n_fill(a->stream, a->net->d_logits, 1, NAN);
    };
    objective.look = [](void *self, m4n_agreement *agreement) {
      Alone *a = (Alone *)self;
      a->inner.look(a->inner.self, agreement);
    };
    fit.steps = 30, fit.batch = 4, fit.log_every = 1000, fit.save_every = 10;
  }
  ~Alone() {
    m4n_imitation_close(imitation);
    m4n_net_close(net);
    m4n_stream_close(stream);
    m4n_backend_close(backend);
  }
  int run(bool resume, std::vector<m4n_real> *weights = nullptr) {
    m4n_trainer_options o = {};
    o.name = "test", o.net = net, o.fit = &fit, o.objective = &objective, o.work = work.c_str();
    o.identity = "test=1\n", o.resume = resume, o.seed = 1;
    m4n_trainer *trainer;
    M4N_TRY(m4n_trainer_open(&trainer, &o));
    int status = m4n_trainer_run(trainer);
    if (weights && !status) {
      weights->resize((size_t)net->params->n);
      m4n_copy_out(stream, weights->data(), m4n_trainer_weights(trainer), weights->size() * sizeof(m4n_real));
      status = m4n_sync(stream);
    }
    m4n_trainer_close(trainer);
    return status;
  }
};

TEST(Trainer, StopsAtWhatIsNoNumberAndKeepsTheLastGoodCheckpoint) {
  std::vector<m4n_real> expected, got;
  Alone whole;
  M4N_OKAY(whole.run(false, &expected));
  for (bool loud : {false, true}) {
    Alone a;
    a.poison = 25, a.loud = loud;
    EXPECT_EQ(a.run(true), M4N_EDIVERGED);
    EXPECT_NE(strstr(m4n_error_message(), "step 26"), nullptr) << m4n_error_message();
    EXPECT_NE(strstr(m4n_error_message(), "up to step 20"), nullptr) << m4n_error_message();
    EXPECT_TRUE(fs::exists(a.work + "/step-000000000020/weights.safetensors"));
    a.poison = -1; // what was kept is as good as ever
    M4N_OKAY(a.run(true, &got));
    EXPECT_TRUE(got == expected);
  }
}

TEST(Trainer, DoesNotAllocateInAnIteration) {
  Alone a;
  a.fit.save_every = 1000;
  M4N_OKAY(a.run(false));
  ASSERT_EQ(a.allocations.size(), 30u);
  // The first steps may bring something into being once (a table's buffer); those after them may not.
  for (size_t i = 6; i < 30; i++) EXPECT_EQ(a.allocations[i] - a.allocations[i - 1], 0) << "step " << i;
}

TEST(TrainState, NamesWhatDiffers) {
  EXPECT_EQ(m4n_identity_check("a=1\nb=2\n", "a=1\nb=2\n", "x"), M4N_OK);
  EXPECT_EQ(m4n_identity_check("a=1\nb=2\n", "a=1\nb=3\n", "x"), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "'b=2'"), nullptr);
  EXPECT_NE(strstr(m4n_error_message(), "'b=3'"), nullptr);
  EXPECT_EQ(m4n_identity_check("a=1\n", "a=1\nb=3\n", "x"), M4N_EARG);
  EXPECT_EQ(m4n_identity_check("", "", "x"), M4N_OK);
}

} // namespace
