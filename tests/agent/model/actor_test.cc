#include "agent/model/actor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {
struct Actor {
  m4n_backend *backend = nullptr;
  m4n_stream *stream = nullptr;
  m4n_actor *actor = nullptr;
  explicit Actor(m4n_actor_shape shape, int rows = 9) {
    EXPECT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK);
    EXPECT_EQ(m4n_stream_open(&stream, backend), M4N_OK);
    EXPECT_EQ(m4n_actor_open(&actor, stream, &shape, rows, true), M4N_OK) << m4n_error_message();
  }
  ~Actor() {
    m4n_actor_close(actor);
    m4n_stream_close(stream);
    m4n_backend_close(backend);
  }
};
} // namespace

// d(Σ out·R)/dw by the backward against central differences, for some weights of every layer.
TEST(Actor, GradientAgainstDifferences) {
  const int rows = 9;
  Actor a({5, 7, 3, 4}, rows);
  ASSERT_EQ(m4n_params_start(a.actor->params, M4N_ALL_SETS, 3), M4N_OK);
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  std::vector<m4n_real> R(rows * 5);
  for (m4n_real &r : R) r = (m4n_real)m4n_rng_normal(&rng);
  for (int i = 0; i < rows * 5; i++) a.actor->x[i] = (m4n_real)m4n_rng_normal(&rng);
  auto loss = [&] {
    m4n_actor_forward(a.actor, rows, true);
    EXPECT_EQ(m4n_sync(a.stream), M4N_OK);
    double sum = 0;
    for (size_t i = 0; i < R.size(); i++) sum += (double)a.actor->out[i] * R[i];
    return sum;
  };
  m4n_params *p = a.actor->params;
  for (int64_t i = 0; i < p->n; i++) p->w[i] *= 3; // away from the tiny first head
  loss();
  for (size_t i = 0; i < R.size(); i++) a.actor->d_out[i] = R[i];
  m4n_zero(a.stream, p->g, (size_t)p->n * sizeof *p->g);
  m4n_actor_backward(a.actor, rows);
  ASSERT_EQ(m4n_sync(a.stream), M4N_OK);
  int checked = 0;
  for (int part = 0; part < p->n_parts; part++) {
    const m4n_part &t = p->part[part];
    for (int64_t k = 0; k < t.count; k += 1 + t.count / 5, checked++) {
      int64_t at = t.of->offset + t.first + k;
      const double h = sizeof(m4n_real) == 8 ? 1e-5 : 1e-3;
      m4n_real kept = p->w[at];
      p->w[at] = (m4n_real)(kept + h);
      double up = loss();
      p->w[at] = (m4n_real)(kept - h);
      double down = loss();
      p->w[at] = kept;
      double difference = (up - down) / (2 * h), tolerance = sizeof(m4n_real) == 8 ? 1e-6 : 2e-2;
      EXPECT_NEAR(p->g[at], difference, tolerance * (1 + fabs(difference))) << t.name << " " << k;
    }
  }
  EXPECT_GT(checked, 20);
}

TEST(Actor, CheckpointRoundTripAndRefusals) {
  std::string path = m4n_temp_dir() + "/a.safetensors";
  Actor a({5, 7, 2, 4}), b({5, 7, 2, 4});
  ASSERT_EQ(m4n_params_start(a.actor->params, M4N_ALL_SETS, 3), M4N_OK);
  ASSERT_EQ(m4n_params_start(b.actor->params, M4N_ALL_SETS, 4), M4N_OK);
  ASSERT_EQ(m4n_actor_save(a.actor, path.c_str(), nullptr, "{\"levels\": 4}"), M4N_OK) << m4n_error_message();
  m4n_actor_shape shape;
  char *about;
  ASSERT_EQ(m4n_actor_read(&shape, &about, path.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(shape.width, 7);
  EXPECT_EQ(shape.choices, 4);
  EXPECT_STREQ(about, "{\"levels\": 4}");
  free(about);
  ASSERT_EQ(m4n_actor_load(b.actor, path.c_str()), M4N_OK) << m4n_error_message();
  for (int i = 0; i < 45; i++) a.actor->x[i] = b.actor->x[i] = (m4n_real)(i % 7) - 3;
  m4n_actor_forward(a.actor, 9, false);
  m4n_actor_forward(b.actor, 9, false);
  ASSERT_EQ(m4n_sync(a.stream), M4N_OK);
  for (int i = 0; i < 45; i++) EXPECT_NEAR(a.actor->out[i], b.actor->out[i], 1e-5);
  Actor other({5, 8, 2, 4});
  EXPECT_EQ(m4n_actor_load(other.actor, path.c_str()), M4N_EFORMAT) << m4n_error_message();
  m4n_actor *none;
  m4n_actor_shape bad = {5, 7, 9, 4};
  EXPECT_EQ(m4n_actor_open(&none, a.stream, &bad, 4, true), M4N_EARG);
  EXPECT_EQ(m4n_actor_read(&shape, &about, m4n_write_file(m4n_temp_dir() + "/x.safetensors", "x").c_str()),
            M4N_EFORMAT);
}
