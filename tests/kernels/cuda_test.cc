/* Every op of the list on the card: the same calls, sizes and plain loops as on the processor (cases/), twice with the same
 * bytes, and rows of a product that stand for themselves. Without a card the tests skip and say so. */
#include <gtest/gtest.h>

#include "tests/kernels/cases/engine.h"

namespace {

const Lists &lists() {
  static const Lists l = all_lists();
  return l;
}

class Cuda : public testing::Test {
protected:
  void SetUp() override {
    if (!card().ok()) GTEST_SKIP() << card().error();
  }
  static const Device &card() {
    static const Device device("cuda", 1);
    return device;
  }
};

class CudaOp : public Cuda, public testing::WithParamInterface<std::string> {};

TEST_P(CudaOp, EqualsAPlainLoopTwice) {
  int found = 0;
  for (const Case &c : lists().cases) {
    if (c.op != GetParam()) continue;
    SCOPED_TRACE(c.op + " " + c.size);
    found++;
    const auto got = execute(card(), c);
    Host expected = c.start;
    c.naive(expected);
    for (size_t i = 0; i < got.size(); i++) {
      if (!c.written[i]) continue;
      std::string what;
      const double error = nmse(got[i], expected[i], c.start[i], &what);
      EXPECT_LE(error, c.nmse) << "array " << i << " " << what;
    }
    EXPECT_TRUE(same_bits(got, execute(card(), c))) << "the second time gives other bytes";
  }
  EXPECT_GT(found, 0) << "no case for " << GetParam() << ": write one in tests/kernels/cases";
}

INSTANTIATE_TEST_SUITE_P(List, CudaOp, testing::ValuesIn(op_names()),
                         [](const testing::TestParamInfo<std::string> &info) { return info.param; });

TEST_F(Cuda, MemoryIsZeroedAlignedAndBounded) {
  m4n_backend *backend = card().backend();
  EXPECT_STREQ(m4n_backend_name(backend), "cuda");
  EXPECT_FALSE(m4n_backend_on_host(backend));
  for (size_t size : {(size_t)0, (size_t)1, (size_t)100000}) {
    void *at = m4n_alloc(backend, size);
    ASSERT_NE(at, nullptr) << m4n_error_message();
    EXPECT_EQ((uintptr_t)at % 64, 0u);
    std::vector<uint8_t> bytes(size, 1);
    m4n_copy_out(card().stream(), bytes.data(), at, size);
    ASSERT_EQ(m4n_sync(card().stream()), M4N_OK);
    for (uint8_t b : bytes) ASSERT_EQ(b, 0);
    m4n_free(backend, at);
  }
  EXPECT_EQ(m4n_alloc(backend, (size_t)1 << 46), nullptr);
  EXPECT_EQ(m4n_last_error()->status, M4N_ENOMEM);
  EXPECT_NE(strstr(m4n_error_message(), "free"), nullptr) << m4n_error_message();
  EXPECT_NE(strstr(m4n_error_message(), "distil.batch"), nullptr) << m4n_error_message();
  EXPECT_EQ(m4n_sync(card().stream()), M4N_OK) << "a refused request must not fail what follows";
}

TEST_F(Cuda, ARowOfAProductStandsForItself) {
  const int most = 300, in = 512, out = 200;
  for (int format : {M4N_W_REAL, M4N_W_BF16, M4N_W_INT8})
    for (int max_rows : {most, 8}) {
      m4n_linear_shape shape = {};
      shape.out = out, shape.in = in, shape.max_rows = max_rows, shape.format = format;
      const m4n_linear *plan = nullptr;
      ASSERT_EQ(m4n_linear_plan(&plan, card().stream(), &shape), M4N_OK) << m4n_error_message();
      Arrays a;
      const int x = a.in(normal((size_t)most * in)), y = a.inout(normal((size_t)most * out)),
                w = a.in(normal((size_t)in * out)), b = a.in(normal(out));
      Loaded memory(card(), a);
      const Call &r = memory.run;
      void *packed = m4n_alloc(card().backend(), m4n_linear_bytes(plan));
      m4n_linear_pack(r.s, packed, r.real(w), plan);
      std::vector<m4n_real> expected;
      for (int rows : {most, 200, 65, 64, 33, 8, 7, 1}) {
        if (rows > max_rows) continue;
        m4n_linear_fwd(r.s, r.real(y), r.real(x), packed, r.real(b), plan, rows, 0);
        const auto got = memory.get(r.real(y), (size_t)rows * out);
        if (expected.empty()) expected = got;
        EXPECT_EQ(memcmp(got.data(), expected.data(), got.size() * sizeof(m4n_real)), 0)
            << "format " << format << ", " << rows << " of " << max_rows << " rows";
      }
      m4n_free(card().backend(), packed);
    }
}

// Where there is no card, the error says so; "auto" goes on with the processor.
TEST(CudaDevice, IsAnErrorWhereNoCardAnswers) {
  m4n_backend *backend = nullptr;
  const int status = m4n_backend_open(&backend, "cuda", nullptr);
  if (status) {
    EXPECT_EQ(status, M4N_EDEVICE);
    EXPECT_NE(strstr(m4n_error_message(), "card"), nullptr) << m4n_error_message();
    ASSERT_EQ(m4n_backend_open(&backend, "auto", nullptr), M4N_OK) << m4n_error_message();
    EXPECT_STREQ(m4n_backend_name(backend), "cpu");
  }
  m4n_backend_close(backend);
  EXPECT_EQ(m4n_backend_open(&backend, "cuda-f16", nullptr), M4N_EARG);
}

} // namespace
