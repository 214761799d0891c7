// What the tests of models share: a backend, a bare backbone, arrays of golden files, distances.
#ifndef M4N_TESTS_MODEL_TEST_H
#define M4N_TESTS_MODEL_TEST_H

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "agent/model/net.h"
#include "kernels/base/pool.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

#define M4N_OKAY(expression) ASSERT_EQ(expression, M4N_OK) << m4n_error_message()

namespace m4n_test {

using reals = std::vector<m4n_real>;

struct Machine {
  m4n_pool *pool = nullptr;
  m4n_backend *backend = nullptr;
  m4n_stream *s = nullptr;
  explicit Machine(int threads = 1, const char *device = "cpu") {
    EXPECT_EQ(m4n_pool_open(&pool, threads), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_backend_open(&backend, device, pool), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_stream_open(&s, backend), M4N_OK) << m4n_error_message();
  }
  ~Machine() {
    m4n_stream_close(s);
    m4n_backend_close(backend);
    m4n_pool_close(pool);
  }
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;

  // Whether a row of a product is the same whatever the other rows: CBLAS does not promise it.
  bool rows_stand_alone() const { return strstr(m4n_backend_description(backend), "oneDNN") != nullptr; }

  reals out(const m4n_real *from, size_t n) const {
    reals to(n);
    m4n_copy_out(s, to.data(), from, n * sizeof(m4n_real));
    EXPECT_EQ(m4n_sync(s), M4N_OK);
    return to;
  }
  void in(m4n_real *to, const reals &from) const {
    m4n_copy_in(s, to, from.data(), from.size() * sizeof(m4n_real));
    EXPECT_EQ(m4n_sync(s), M4N_OK);
  }
};

inline reals noise(size_t n, uint64_t seed, double deviation = 1) {
  m4n_rng rng = m4n_rng_make(seed, 0, M4N_RNG_TEST);
  reals values(n);
  for (m4n_real &v : values) v = (m4n_real)(deviation * m4n_rng_normal(&rng));
  return values;
}

// Σ (a − b)² / Σ b²
template <typename A, typename B> double nmse(const A &a, const B &b) {
  double difference = 0, size = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < b.size() && i < a.size(); i++) {
    difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    size += (double)b[i] * (double)b[i];
  }
  return size > 0 ? difference / size : difference;
}

template <typename A, typename B> double furthest(const A &a, const B &b) {
  double most = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < b.size() && i < a.size(); i++)
    most = std::max(most, std::fabs((double)a[i] - (double)b[i]));
  return most;
}

// Equal where rows stand alone, else as near as sums of another order are.
#define M4N_EXPECT_SAME_ROWS(machine, a, b)                                                                  \
  EXPECT_LE(m4n_test::furthest(a, b), (machine).rows_stand_alone() ? 0 : 1e-5)

struct File {
  m4n_safetensors *file = nullptr;
  explicit File(const std::string &path) {
    EXPECT_EQ(m4n_safetensors_open(&file, path.c_str()), M4N_OK) << m4n_error_message();
  }
  ~File() { m4n_safetensors_close(file); }
  const m4n_tensor *at(const std::string &name) const {
    const m4n_tensor *t = m4n_safetensors_find(file, name.c_str());
    EXPECT_NE(t, nullptr) << name;
    return t;
  }
  std::vector<double> doubles(const std::string &name) const {
    const m4n_tensor *t = at(name);
    std::vector<double> values(t ? (size_t)t->count : 0);
    if (!t) return values;
    EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, values.data()), M4N_OK) << m4n_error_message();
    return values;
  }
  reals values(const std::string &name) const {
    std::vector<double> d = doubles(name);
    return reals(d.begin(), d.end());
  }
};

struct Net {
  m4n_net *net = nullptr;
  Net(const Machine &m, const m4n_net_options &options) {
    EXPECT_EQ(m4n_net_open(&net, m.s, &options), M4N_OK) << m4n_error_message();
  }
  ~Net() { m4n_net_close(net); }
  Net(const Net &) = delete;
  Net &operator=(const Net &) = delete;
  m4n_net *operator->() const { return net; }

  // Of a part, after a backward.
  reals gradient(const Machine &m, const std::string &name) const {
    const m4n_part *part = m4n_params_find(net->params, name.c_str());
    EXPECT_NE(part, nullptr) << name;
    return part && part->of->g ? m.out(part->of->g + part->first, (size_t)part->count) : reals();
  }
  reals forward(const Machine &m, const reals &x, int B, int T, bool train) const {
    m.in(m4n_chain_input(net->chain), x);
    m4n_pass pass = {};
    pass.s = m.s, pass.B = B, pass.T = T, pass.train = train;
    const m4n_real *y = m4n_chain_forward(net->chain, &pass);
    return m.out(y, x.size());
  }
  reals backward(const Machine &m, const reals &dy, int B, int T) const {
    m4n_net_zero(net);
    m.in(m4n_chain_gradient(net->chain), dy);
    m4n_pass pass = {};
    pass.s = m.s, pass.B = B, pass.T = T, pass.train = true;
    m4n_chain_backward(net->chain, &pass);
    return m.out(m4n_chain_gradient(net->chain), dy.size());
  }
};

// One block, without a chain around it.
struct Block {
  const Machine &m;
  m4n_params *params = nullptr;
  m4n_arena arena = {};
  m4n_block *block = nullptr;
  m4n_real *x, *d;
  void *work, *scratch, *state = nullptr;

  Block(const Machine &machine, const m4n_block_kind &kind, const m4n_backbone &config, int B, int T,
        bool train, m4n_lanes lanes = {}, const m4n_lora &lora = {})
      : m(machine) {
    EXPECT_EQ(m4n_params_open(&params, m.s), M4N_OK);
    m4n_builder at = {};
    at.params = params, at.arena = &arena, at.prefix = "block.", at.set = M4N_SET_BACKBONE;
    at.max_B = B, at.max_T = T, at.train = train, at.trainable = train && !lora.rank, at.write = 1,
    at.lora = lora;
    EXPECT_EQ(kind.declare(&block, &at, &config), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_params_place(params), M4N_OK) << m4n_error_message();
    EXPECT_EQ(m4n_params_start(params, M4N_ALL_SETS, 1), M4N_OK) << m4n_error_message();
    block->lanes = lanes;
    const size_t n = (size_t)B * (size_t)T * (size_t)config.d * sizeof *x;
    x = (m4n_real *)m4n_alloc(m.backend, n);
    d = (m4n_real *)m4n_alloc(m.backend, n);
    work = m4n_alloc(m.backend, kind.work(block, B, T));
    scratch = m4n_alloc(m.backend, kind.scratch(block, B, T));
    if (lanes.slots && kind.state) state = m4n_alloc(m.backend, kind.state(block));
  }
  ~Block() {
    for (void *at : {(void *)x, (void *)d, work, scratch, state}) m4n_free(m.backend, at);
    m4n_params_close(params);
    m4n_arena_close(&arena);
  }
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;

  m4n_pass pass(int B, int T, bool train) const {
    m4n_pass p = {};
    p.s = m.s, p.B = B, p.T = T, p.train = train;
    return p;
  }
  reals forward(const reals &input, int B, int T, bool train, const uint32_t *dropout = nullptr) const {
    m.in(x, input);
    m4n_pass p = pass(B, T, train);
    p.dropout = dropout;
    m4n_real *y = d;
    block->kind->forward(block, &p, y, x, work);
    return m.out(y, input.size());
  }
  // Of the last forward; parameters' gradients begin at 0.
  reals backward(const reals &dy, int B, int T, const uint32_t *dropout = nullptr) const {
    m4n_zero(m.s, params->g, (size_t)params->n * sizeof(m4n_real));
    m.in(d, dy);
    m4n_pass p = pass(B, T, true);
    p.dropout = dropout;
    block->kind->backward(block, &p, d, x, work, scratch);
    return m.out(d, dy.size());
  }
  reals values(const m4n_part &part) const {
    reals v((size_t)part.count);
    EXPECT_EQ(m4n_part_read(params, &part, nullptr, v.data()), M4N_OK);
    return v;
  }
  void put(const m4n_part &part, const reals &v) const {
    EXPECT_EQ(m4n_part_write(params, &part, v.data()), M4N_OK) << m4n_error_message();
  }
  reals gradient(const m4n_part &part) const { return m.out(part.of->g + part.first, (size_t)part.count); }
};

} // namespace m4n_test

#endif
