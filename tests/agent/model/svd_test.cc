// Decompositions: exact and randomised ones rebuild their matrix, ranks and signs are as promised, the golden products.
#include "agent/model/svd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "agent/model/safetensors.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

using doubles = std::vector<double>;

doubles noise(size_t n, uint64_t seed) {
  m4n_rng rng = m4n_rng_make(seed, 0, M4N_RNG_TEST);
  doubles v(n);
  for (double &x : v) x = m4n_rng_normal(&rng);
  return v;
}

double size_of(const doubles &a) {
  double sum = 0;
  for (double x : a) sum += x * x;
  return std::sqrt(sum);
}

struct Parts {
  doubles u, s, v;
  Parts(const doubles &a, int m, int n, int r) : u((size_t)(r * m)), s((size_t)r), v((size_t)(r * n)) {
    EXPECT_EQ(m4n_svd(u.data(), s.data(), v.data(), a.data(), m, n, r, 1, nullptr), M4N_OK);
  }
  doubles rebuilt(int m, int n) const {
    doubles a((size_t)(m * n));
    for (size_t k = 0; k < s.size(); k++)
      for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
          a[(size_t)(i * n + j)] += s[k] * u[k * (size_t)m + (size_t)i] * v[k * (size_t)n + (size_t)j];
    return a;
  }
};

void expect_orthonormal(const doubles &q, int k, int n) {
  for (int i = 0; i < k; i++)
    for (int j = 0; j <= i; j++) {
      double sum = 0;
      for (int t = 0; t < n; t++) sum += q[(size_t)(i * n + t)] * q[(size_t)(j * n + t)];
      ASSERT_NEAR(sum, i == j, 1e-12) << i << ", " << j;
    }
}

TEST(Svd, RebuildsAnyShape) {
  for (auto [m, n] : {std::pair{64, 48}, {48, 64}, {1, 5}, {5, 1}, {7, 7}, {130, 33}}) {
    const doubles a = noise((size_t)(m * n), 1);
    const int r = std::min(m, n);
    const Parts p(a, m, n, r);
    doubles difference = p.rebuilt(m, n);
    for (size_t i = 0; i < a.size(); i++) difference[i] -= a[i];
    EXPECT_LE(size_of(difference), 1e-13 * size_of(a) * std::sqrt(r)) << m << " × " << n;
    expect_orthonormal(p.u, r, m);
    expect_orthonormal(p.v, r, n);
    for (int k = 0; k < r; k++) {
      EXPECT_GE(p.s[(size_t)(k ? k - 1 : 0)], p.s[(size_t)k]);
      double most = 0;
      for (int i = 0; i < m; i++)
        if (std::fabs(p.u[(size_t)(k * m + i)]) > std::fabs(most)) most = p.u[(size_t)(k * m + i)];
      EXPECT_GT(most, 0) << "sign of vector " << k;
    }
  }
}

TEST(Svd, KeepsTheLargestPart) {
  // What is left out is exactly the smaller singular values (Eckart and Young).
  const int m = 40, n = 60;
  const doubles a = noise((size_t)(m * n), 2);
  const Parts all(a, m, n, m), some(a, m, n, 15);
  double left = 0;
  for (int k = 15; k < m; k++) left += all.s[(size_t)k] * all.s[(size_t)k];
  doubles difference = some.rebuilt(m, n);
  for (size_t i = 0; i < a.size(); i++) difference[i] -= a[i];
  EXPECT_NEAR(size_of(difference), std::sqrt(left), 1e-11);
}

TEST(Svd, AMatrixOfLowRankIsExact) {
  const int m = 20, n = 30, rank = 3;
  const doubles x = noise((size_t)(m * rank), 3), y = noise((size_t)(rank * n), 4);
  doubles a((size_t)(m * n));
  m4n_product(a.data(), x.data(), y.data(), m, rank, n, nullptr);
  const Parts p(a, m, n, m);
  for (int k = rank; k < m; k++) EXPECT_LE(p.s[(size_t)k], 1e-12 * p.s[0]);
  const Parts three(a, m, n, rank);
  doubles difference = three.rebuilt(m, n);
  for (size_t i = 0; i < a.size(); i++) difference[i] -= a[i];
  EXPECT_LE(size_of(difference), 1e-12 * size_of(a));
  EXPECT_EQ(Parts(doubles(12), 3, 4, 3).s, doubles(3)); // nothing at all
}

// Above 640 a randomised range is used; with a spectrum that falls it is as good as exact.
TEST(Svd, LargeOnesAreRandomised) {
  const int m = 700, n = 660, rank = 40;
  doubles x = noise((size_t)(m * rank), 5), y = noise((size_t)(rank * n), 6), a((size_t)(m * n));
  m4n_orthonormalise(y.data(), rank, n);
  doubles xt((size_t)(m * rank));
  for (int i = 0; i < m; i++)
    for (int k = 0; k < rank; k++) xt[(size_t)(k * m + i)] = x[(size_t)(i * rank + k)];
  m4n_orthonormalise(xt.data(), rank, m);
  for (int k = 0; k < rank; k++)
    for (int j = 0; j < n; j++) y[(size_t)(k * n + j)] *= std::pow(0.8, k);
  m4n_product_tn(a.data(), xt.data(), y.data(), m, rank, n, nullptr);
  const Parts p(a, m, n, 12);
  for (int k = 0; k < 12; k++) EXPECT_NEAR(p.s[(size_t)k], std::pow(0.8, k), 1e-6);
  expect_orthonormal(p.u, 12, m);
  expect_orthonormal(p.v, 12, n);
}

TEST(Svd, ProductsAreSums) {
  const int m = 11, k = 13, n = 9;
  const doubles a = noise((size_t)(m * k), 1), b = noise((size_t)(k * n), 2);
  doubles at((size_t)(m * k)), bt((size_t)(k * n)), c((size_t)(m * n)), d(c), e(c), f(c);
  for (int i = 0; i < m; i++)
    for (int j = 0; j < k; j++) at[(size_t)(j * m + i)] = a[(size_t)(i * k + j)];
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) bt[(size_t)(j * k + i)] = b[(size_t)(i * n + j)];
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++)
      for (int l = 0; l < k; l++) f[(size_t)(i * n + j)] += a[(size_t)(i * k + l)] * b[(size_t)(l * n + j)];
  m4n_pool *pool;
  ASSERT_EQ(m4n_pool_open(&pool, 3), M4N_OK);
  m4n_product(c.data(), a.data(), b.data(), m, k, n, pool);
  m4n_product_nt(d.data(), a.data(), bt.data(), m, k, n, pool);
  m4n_product_tn(e.data(), at.data(), b.data(), m, k, n, nullptr);
  m4n_pool_close(pool);
  for (size_t i = 0; i < c.size(); i++) {
    EXPECT_NEAR(c[i], f[i], 1e-13);
    EXPECT_NEAR(d[i], f[i], 1e-13);
    EXPECT_NEAR(e[i], f[i], 1e-13);
  }
}

TEST(Svd, DependentRowsBecomeNothing) {
  doubles q = {1, 2, 3, 2, 4, 6, 0, 1, 0};
  m4n_orthonormalise(q.data(), 3, 3);
  EXPECT_EQ(doubles(q.begin() + 3, q.begin() + 6), doubles(3));
  EXPECT_NEAR(q[0] * q[6] + q[1] * q[7] + q[2] * q[8], 0, 1e-15);
  EXPECT_NEAR(size_of(doubles(q.begin() + 6, q.end())), 1, 1e-15);
}

TEST(Golden, CwrSvd) {
  M4N_NEED(m4n_golden() + "/cwr_svd");
  m4n_safetensors *file;
  ASSERT_EQ(m4n_safetensors_open(&file, (m4n_golden() + "/cwr_svd/io.safetensors").c_str()), M4N_OK);
  auto read = [&](const std::string &name) {
    const m4n_tensor *t = m4n_safetensors_find(file, name.c_str());
    doubles v((size_t)t->count);
    EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, v.data()), M4N_OK);
    return v;
  };
  const doubles W = read("W"), S = read("S");
  const Parts p(W, 96, 40, 40);
  for (size_t k = 0; k < 40; k++) EXPECT_NEAR(p.s[k], S[k], 1e-12 * S[0]);
  for (int r : {4, 16, 40})
    for (int rows : {12, 24, 96}) {
      const doubles expected = read("phi_s.r" + std::to_string(r) + ".d" + std::to_string(rows));
      doubles block(expected.size());
      ASSERT_EQ(m4n_svd_block(block.data(), rows, 40, W.data(), 96, 40, r, 1, nullptr), M4N_OK);
      double difference = 0;
      for (size_t i = 0; i < block.size(); i++)
        difference += (block[i] - expected[i]) * (block[i] - expected[i]);
      EXPECT_LE(difference / (size_of(expected) * size_of(expected)), 1e-24) << r << ", " << rows;
    }
  m4n_safetensors_close(file);
}

} // namespace
