/* Runs cases (case.h) on a backend and compares. */
#ifndef M4N_TESTS_KERNELS_ENGINE_H
#define M4N_TESTS_KERNELS_ENGINE_H

#include <gtest/gtest.h>

#include "kernels/base/status.h"
#include "tests/kernels/cases/case.h"

/* A backend with a stream, open for as long as the object lives. */
class Device {
public:
  Device(const std::string &name, int threads) {
    if (threads > 1 && m4n_pool_open(&pool_, threads)) return;
    if (m4n_backend_open(&backend_, name.c_str(), pool_) || m4n_stream_open(&stream_, backend_))
      error_ = m4n_error_message();
  }
  ~Device() {
    m4n_stream_close(stream_);
    m4n_backend_close(backend_);
    m4n_pool_close(pool_);
  }
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;
  bool ok() const { return error_.empty(); }
  const std::string &error() const { return error_; }
  m4n_backend *backend() const { return backend_; }
  m4n_stream *stream() const { return stream_; }

private:
  m4n_pool *pool_ = nullptr;
  m4n_backend *backend_ = nullptr;
  m4n_stream *stream_ = nullptr;
  std::string error_;
};

/* "cpu-v4", … : the variants that this processor runs. */
inline std::vector<std::string> cpu_devices() {
  std::vector<std::string> names;
  for (const char *name : {"cpu-amx", "cpu-v4", "cpu-v3", "cpu-v2", "cpu-generic"})
    if (Device(name, 1).ok()) names.push_back(name);
  return names;
}

/* The arrays of a case in memory of a backend. */
class Loaded {
public:
  Loaded(const Device &device, const Arrays &arrays) : arrays_(arrays) {
    run.backend = device.backend(), run.s = device.stream();
    for (const Vector &v : arrays.start) {
      run.array.push_back((m4n_real *)m4n_alloc(run.backend, v.size() * sizeof(m4n_real)));
      put(run.array.back(), v);
    }
    for (const auto &b : arrays.bytes) {
      run.other.push_back(m4n_alloc(run.backend, b.size()));
      m4n_copy_in(run.s, run.other.back(), b.data(), b.size());
    }
    EXPECT_EQ(m4n_sync(run.s), M4N_OK);
  }
  ~Loaded() {
    for (void *at : run.array) m4n_free(run.backend, at);
    for (void *at : run.other) m4n_free(run.backend, at);
  }
  Loaded(const Loaded &) = delete;
  Loaded &operator=(const Loaded &) = delete;

  void put(m4n_real *to, const Vector &v) {
    std::vector<m4n_real> copy(v.begin(), v.end());
    m4n_copy_in(run.s, to, copy.data(), copy.size() * sizeof(m4n_real));
    EXPECT_EQ(m4n_sync(run.s), M4N_OK);
  }
  std::vector<m4n_real> get(const m4n_real *from, size_t n) {
    std::vector<m4n_real> v(n);
    m4n_copy_out(run.s, v.data(), from, n * sizeof(m4n_real));
    EXPECT_EQ(m4n_sync(run.s), M4N_OK) << m4n_error_message();
    return v;
  }
  /* All written arrays, by number. */
  std::vector<std::vector<m4n_real>> results() {
    std::vector<std::vector<m4n_real>> all(arrays_.start.size());
    for (size_t i = 0; i < all.size(); i++)
      if (arrays_.written[i]) all[i] = get(run.array[i], arrays_.start[i].size());
    return all;
  }
  Call run;

private:
  const Arrays &arrays_;
};

inline std::vector<std::vector<m4n_real>> execute(const Device &device, const Case &c) {
  Loaded memory(device, c);
  c.run(memory.run);
  return memory.results();
}

/* Σ(a − b)²/Σ b², over finite elements; others must be alike. What an op added to counts as the size where it is larger:
 * a sum that happens to come out near 0 has no relative precision. */
inline double nmse(const std::vector<m4n_real> &a, const Vector &b, const Vector &start, std::string *what) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const double x = a[i], y = b[i], s = std::isfinite(start[i]) ? start[i] : 0;
    if (!std::isfinite(x) || !std::isfinite(y)) {
      if (x == y || (std::isnan(x) && std::isnan(y))) continue;
      *what = "element " + std::to_string(i) + " is " + std::to_string(x) + ", expected " + std::to_string(y);
      return INFINITY;
    }
    error += (x - y) * (x - y), size += fmax(y * y, s * s);
  }
  return error == 0 ? 0 : error / (size > 0 ? size : 1e-300);
}

/* Bit for bit, NaN like NaN. */
inline bool same_bits(const std::vector<std::vector<m4n_real>> &a,
                      const std::vector<std::vector<m4n_real>> &b) {
  for (size_t i = 0; i < a.size(); i++)
    if (a[i].size() != b[i].size() ||
        (!a[i].empty() && memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(m4n_real))))
      return false;
  return true;
}

inline std::vector<std::string> op_names() {
  return {
#define OP(name, parameters, arguments) #name,
#include "kernels/ops.def"
#undef OP
  };
}

#endif
