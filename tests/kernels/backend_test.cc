/* Opening backends, memory, copies, and the rules of streams. */
#include <gtest/gtest.h>

#include "kernels/base/status.h"
#include "tests/kernels/cases/engine.h"
#include "tests/support/alloc.h"

namespace {

TEST(Backend, IsFoundByName) {
  m4n_backend *backend = nullptr;
  ASSERT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK) << m4n_error_message();
  EXPECT_STREQ(m4n_backend_name(backend), "cpu");
  EXPECT_NE(strstr(m4n_backend_description(backend), "threads"), nullptr);
  EXPECT_TRUE(m4n_backend_on_host(backend));
  m4n_backend_close(backend);
  ASSERT_EQ(m4n_backend_open(&backend, "auto", nullptr), M4N_OK) << m4n_error_message();
  m4n_backend_close(backend);
  m4n_backend_close(nullptr);
}

TEST(Backend, RefusesOtherNames) {
  m4n_backend *backend = nullptr;
  for (const char *name : {"gpu", "", "cpux", "cpu-v9"}) {
    EXPECT_EQ(m4n_backend_open(&backend, name, nullptr), M4N_EARG) << name;
    EXPECT_EQ(backend, nullptr);
    EXPECT_NE(strstr(m4n_error_message(), "device"), nullptr);
  }
#ifndef M4N_WITH_CUDA
  EXPECT_EQ(m4n_backend_open(&backend, "cuda", nullptr), M4N_EUNSUPPORTED);
  EXPECT_NE(strstr(m4n_error_message(), "M4N_CUDA"), nullptr);
#endif
}

TEST(Backend, HasVariantsOfWhichTheWidestIsTaken) {
  ASSERT_FALSE(cpu_devices().empty());
  Device widest("cpu", 1), named(cpu_devices().front(), 1);
  EXPECT_STREQ(m4n_backend_description(widest.backend()), m4n_backend_description(named.backend()));
}

TEST(Memory, IsZeroedAndAligned) {
  Device device("cpu", 1);
  for (size_t size : {(size_t)0, (size_t)1, (size_t)63, (size_t)100000}) {
    uint8_t *at = (uint8_t *)m4n_alloc(device.backend(), size);
    ASSERT_NE(at, nullptr);
    EXPECT_EQ((uintptr_t)at % 64, 0u);
    for (size_t i = 0; i < size; i++) ASSERT_EQ(at[i], 0);
    m4n_free(device.backend(), at);
  }
  m4n_free(device.backend(), nullptr);
  EXPECT_EQ(m4n_alloc(device.backend(), SIZE_MAX - 5), nullptr);
  EXPECT_EQ(m4n_last_error()->status, M4N_ENOMEM);
  if (!m4n_sanitized()) { // which would end the program
    EXPECT_EQ(m4n_alloc(device.backend(), SIZE_MAX / 4), nullptr);
  }
}

TEST(Copies, GoThereAndBack) {
  Device device("cpu", 1);
  std::vector<uint8_t> in = {1, 2, 3, 4, 5, 6, 7}, out(7);
  void *a = m4n_alloc(device.backend(), 7), *b = m4n_alloc(device.backend(), 7);
  m4n_copy_in(device.stream(), a, in.data(), 7);
  m4n_copy(device.stream(), b, a, 7);
  m4n_zero(device.stream(), a, 3);
  m4n_copy_out(device.stream(), out.data(), b, 7);
  EXPECT_EQ(m4n_sync(device.stream()), M4N_OK);
  EXPECT_EQ(in, out);
  m4n_copy_out(device.stream(), out.data(), a, 7);
  EXPECT_EQ(m4n_sync(device.stream()), M4N_OK);
  EXPECT_EQ(out, (std::vector<uint8_t>{0, 0, 0, 4, 5, 6, 7}));
  m4n_copy_in(device.stream(), a, nullptr, 0);
  m4n_free(device.backend(), a);
  m4n_free(device.backend(), b);
  void *host = m4n_alloc_host(device.backend(), 10);
  EXPECT_NE(host, nullptr);
  m4n_free_host(device.backend(), host);
}

// A worker of one pool may use a backend of its own: inside, it is thread 0.
TEST(Pools, MayNest) {
  m4n_pool *outer = nullptr;
  ASSERT_EQ(m4n_pool_open(&outer, 3), M4N_OK);
  struct Job {
    std::vector<int> inner = std::vector<int>(32, -1), self = std::vector<int>(32, -1);
  } job;
  m4n_pool_run(
      outer, 32,
      [](void *self, int index) {
        Job *j = (Job *)self;
        struct Inner {
          int thread;
        } inner = {-1};
        m4n_pool_run(
            nullptr, 1, [](void *at, int) { ((Inner *)at)->thread = m4n_pool_thread(); }, &inner);
        j->inner[(size_t)index] = inner.thread;
        j->self[(size_t)index] = m4n_pool_thread();
      },
      &job);
  for (int i = 0; i < 32; i++) {
    EXPECT_EQ(job.inner[(size_t)i], 0);
    EXPECT_GE(job.self[(size_t)i], 0);
    EXPECT_LT(job.self[(size_t)i], 3);
  }
  m4n_pool_close(outer);
}

} // namespace
