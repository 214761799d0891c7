// The expert learns a small world over the bridge, to the same bytes whatever the threads, and says what it cannot learn.
#include "agent/learn/expert.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "agent/learn/features.h"
#include "agent/model/actor.h"
#include "bridge/client.h"
#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "sim/abr/options.h"
#include "sim/vec.h"
#include "tests/support/paths.h"

namespace {

// Slow links: the middle levels are right, the top stalls.
struct World {
  std::string dir = m4n_temp_dir();
  m4n_world *world = nullptr;
  const m4n_task *task = m4n_task_find("abr");
  World() {
    m4n_mkdirs((dir + "/t").c_str());
    m4n_mkdirs((dir + "/v").c_str());
    m4n_rng rng = m4n_rng_make(8, 0, M4N_RNG_TEST);
    for (int i = 0; i < 4; i++) {
      std::string text;
      for (int k = 0; k < 300; k++)
        text += std::to_string(k) + " " + std::to_string(1 + m4n_rng_uniform(&rng)) + "\n";
      m4n_write_file(dir + "/t/" + std::to_string(i), text);
    }
    const int kbps[] = {300, 750, 1200, 1850, 2850, 4300};
    for (int level = 0; level < 6; level++) {
      std::string sizes;
      for (int k = 0; k < 49; k++) sizes += std::to_string(kbps[level] * 500) + "\n";
      m4n_write_file(dir + "/v/video_size_" + std::to_string(level), sizes);
    }
    std::string traces = dir + "/t", video = dir + "/v";
    m4n_abr_options o = m4n_abr_defaults();
    const char *path = traces.c_str();
    for (int set : {M4N_SET_TEST, M4N_SET_TRAIN}) o.set[set].paths = &path, o.set[set].n_paths = 1;
    o.set[M4N_SET_TRAIN].start = M4N_START_SEEDED;
    o.video = video.c_str();
    EXPECT_EQ(task->world_open(&world, &o), M4N_OK) << m4n_error_message();
  }
  ~World() { task->world_close(world); }
};

// With `stop` the run may be told to leave before it is done.
int train(const World &w, const m4n_expert_options &options, int threads, m4n_stop *stop = nullptr) {
  m4n_pool *pool;
  m4n_vec *vec;
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_expert *expert;
  m4n_server *server;
  EXPECT_EQ(m4n_pool_open(&pool, threads), M4N_OK);
  EXPECT_EQ(m4n_vec_open(&vec, w.task, w.world, options.lanes, nullptr), M4N_OK);
  EXPECT_EQ(m4n_backend_open(&backend, "cpu", pool), M4N_OK);
  EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
  EXPECT_EQ(m4n_expert_open(&expert, &options, stream), M4N_OK) << m4n_error_message();
  m4n_server_options at = {};
  at.endpoint = "inproc://expert-test", at.slots = options.lanes, at.lockstep = true, at.idle_ms = -1,
  at.policy = "expert";
  EXPECT_EQ(m4n_server_open(&server, &at), M4N_OK) << m4n_error_message();
  int played = M4N_OK;
  std::thread simulator([&] {
    m4n_client_options o = {};
    m4n_client_stats stats;
    o.endpoint = m4n_server_endpoint(server), o.context = m4n_server_context(server), o.act_ms = -1,
    o.first_ms = -1;
    played = m4n_client_run(&o, vec, &stats, nullptr);
  });
  m4n_server_owner owner = m4n_expert_owner(expert);
  int status = m4n_server_run(server, &owner, stop);
  simulator.join();
  EXPECT_TRUE(played == M4N_OK || status || played == M4N_EPROTO) << m4n_error_message();
  m4n_server_close(server);
  status = m4n_expert_close(expert, status);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  m4n_vec_close(vec);
  m4n_pool_close(pool);
  return status;
}

// Mean reward of the checkpoint's likeliest actions on the test set.
double greedy(const World &w, const std::string &path) {
  m4n_backend *backend;
  m4n_stream *stream;
  m4n_actor *actor;
  m4n_actor_shape shape;
  m4n_features features;
  char *about;
  EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
  EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
  EXPECT_EQ(m4n_features_open(&features, w.task->spec(w.world)), M4N_OK);
  EXPECT_EQ(m4n_actor_read(&shape, &about, path.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_features_match(&features, about, path.c_str()), M4N_OK) << m4n_error_message();
  free(about);
  EXPECT_EQ(m4n_actor_open(&actor, stream, &shape, 1, false), M4N_OK);
  EXPECT_EQ(m4n_actor_load(actor, path.c_str()), M4N_OK) << m4n_error_message();
  std::vector<uint64_t> state((w.task->state_size(w.world) + 7) / 8),
      obs(w.task->spec(w.world)->obs_size / 8);
  double sum = 0;
  int n = 0;
  for (int e = 0; e < 4; e++) {
    m4n_io io = {};
    m4n_reset order = {};
    int32_t level[2] = {};
    order.episode = e, order.copy_of = -1, io.obs = obs.data(), io.action = level;
    for (w.task->reset(state.data(), w.world, &order, &io); !(io.flags & M4N_ENDED); n++) {
      m4n_features_fill(&features, actor->x, (const uint8_t *)obs.data());
      m4n_actor_forward(actor, 1, false);
      EXPECT_EQ(m4n_sync(stream), M4N_OK);
      level[0] = 0;
      for (int a = 1; a < shape.choices; a++)
        if (actor->out[a] > actor->out[level[0]]) level[0] = a;
      w.task->step(state.data(), w.world, &io);
      sum += io.reward;
    }
  }
  m4n_actor_close(actor);
  m4n_stream_close(stream);
  m4n_backend_close(backend);
  return sum / n;
}

m4n_expert_options quick(const std::string &checkpoint) {
  m4n_expert_options o = m4n_expert_defaults();
  o.checkpoint = checkpoint.c_str();
  o.guide_steps = 20000;
  o.lanes = 64, o.width = 32, o.layers = 2, o.batch = 512, o.average = 0.9, o.lr = 2e-3, o.entropy = 0.05;
  return o;
}

} // namespace

TEST(Expert, LearnsMoreThanTheLowestLevelIsWorth) {
  World w;
  std::string path = m4n_temp_dir() + "/e.safetensors", work = m4n_temp_dir() + "/work";
  m4n_expert_options o = quick(path);
  o.steps = 200000, o.work = work.c_str();
  ASSERT_EQ(train(w, o, 2), M4N_OK) << m4n_error_message();
  double qoe = greedy(w, path);
  EXPECT_GT(qoe, 0.9) << "always the lowest level gives 0.3, a rate of 1.2 Mbit/s without stalls 1.2";
  EXPECT_GT(m4n_read_file(work + "/train.csv").size(), 500u);
}

TEST(Expert, SameBytesWhateverTheThreads) {
  World w;
  std::string one = m4n_temp_dir() + "/1.safetensors", two = m4n_temp_dir() + "/2.safetensors";
  m4n_expert_options o = quick(one);
  o.steps = 15000;
  ASSERT_EQ(train(w, o, 1), M4N_OK);
  o.checkpoint = two.c_str();
  ASSERT_EQ(train(w, o, 2), M4N_OK);
  EXPECT_EQ(m4n_read_file(one), m4n_read_file(two));
  o.seed = 2;
  ASSERT_EQ(train(w, o, 2), M4N_OK);
  EXPECT_NE(m4n_read_file(one), m4n_read_file(two));
}

// Stopped anywhere, again and again, and resumed: the checkpoint and the log of an undisturbed run.
TEST(Expert, ResumesToTheSameBytes) {
  World w;
  std::string whole = m4n_temp_dir(), parts = m4n_temp_dir();
  std::string a = whole + "/e.safetensors", b = parts + "/e.safetensors", work_a = whole + "/work",
              work_b = parts + "/work";
  m4n_expert_options o = quick(a);
  o.steps = 60000, o.save_every = 3, o.work = work_a.c_str();
  ASSERT_EQ(train(w, o, 1), M4N_OK);
  o.checkpoint = b.c_str(), o.work = work_b.c_str(), o.resume = true;
  int stopped = 0;
  for (int pause = 10; !std::filesystem::exists(b) && pause < 100000; pause += pause / 2) {
    m4n_stop stop = {};
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      m4n_stop_request(&stop);
    });
    stopped += train(w, o, 1, &stop) == M4N_ECANCELLED;
    killer.join();
  }
  EXPECT_GT(stopped, 0);
  EXPECT_EQ(m4n_read_file(a), m4n_read_file(b));
  EXPECT_EQ(m4n_read_file(work_a + "/train.csv"), m4n_read_file(work_b + "/train.csv"));
  // What was made with other options is refused.
  o.lr *= 2;
  EXPECT_EQ(train(w, o, 1), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "options"), nullptr) << m4n_error_message();
  m4n_write_file(work_b + "/state", "x\n");
  EXPECT_EQ(train(w, o, 1), M4N_EFORMAT) << m4n_error_message();
}

TEST(Expert, SaysWhatItCannotLearn) {
  m4n_expert *e;
  m4n_expert_options o = m4n_expert_defaults();
  o.guide = "oracle";
  EXPECT_EQ(train(World(), o, 1), M4N_EUNSUPPORTED);
  EXPECT_NE(strstr(m4n_error_message(), "expert.guide"), nullptr) << m4n_error_message();
  o.guide = nullptr;
  o.lr = NAN;
  EXPECT_EQ(m4n_expert_open(&e, &o, nullptr), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "expert.lr"), nullptr);
  m4n_features f;
  m4n_world *null_world;
  ASSERT_EQ(m4n_task_find("null")->world_open(&null_world, nullptr), M4N_OK);
  EXPECT_EQ(m4n_features_open(&f, m4n_task_find("null")->spec(null_world)), M4N_EUNSUPPORTED);
  EXPECT_NE(strstr(m4n_error_message(), "throughput"), nullptr) << m4n_error_message();
  m4n_task_find("null")->world_close(null_world);
  World w;
  ASSERT_EQ(m4n_features_open(&f, w.task->spec(w.world)), M4N_OK);
  char *text = m4n_features_text(&f);
  EXPECT_EQ(m4n_features_match(&f, text, "x"), M4N_OK);
  free(text);
  EXPECT_EQ(m4n_features_match(&f, "{\"levels\": 3, \"history\": 8, \"lookahead\": 5}", "x"),
            M4N_EUNSUPPORTED);
  for (const char *bad : {"", "[]", "{", "{\"levels\": \"6\"}"})
    EXPECT_EQ(m4n_features_match(&f, bad, "x"), M4N_EFORMAT) << bad;
}
