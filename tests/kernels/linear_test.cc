/* Linear layers: what plans refuse, and that a row's result is the row's own. Values are in ops_test. */
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/cases/engine.h"

namespace {

m4n_linear_shape shape(int in, int out, int rows, int format, int grads) {
  m4n_linear_shape n = {};
  n.in = in, n.out = out, n.max_rows = rows, n.format = format, n.grads = grads;
  return n;
}

class Plans : public testing::Test {
protected:
  void refuse(m4n_linear_shape n, const char *why) {
    const m4n_linear *plan = nullptr;
    EXPECT_EQ(m4n_linear_plan(&plan, device.stream(), &n), M4N_EARG);
    EXPECT_EQ(plan, nullptr);
    EXPECT_NE(strstr(m4n_error_message(), why), nullptr) << m4n_error_message();
  }
  Device device{"cpu", 2};
};

TEST_F(Plans, RefuseWhatCannotBe) {
  refuse(shape(0, 5, 5, 0, 0), "at least 1");
  refuse(shape(5, 5, 0, 0, 0), "at least 1");
  refuse(shape(5, 5, 5, 9, 0), "format");
  refuse(shape(5, 5, 5, M4N_W_INT8, M4N_GRAD_X), "gradients");
  refuse(shape(5, 5, 5, M4N_W_BF16, M4N_GRAD_W), "gradients");
  m4n_linear_shape n = shape(5, 5, 5, 0, 0);
  n.y_ld = 4;
  refuse(n, "too short");
  n = shape(5, 5, 5, 0, M4N_GRAD_X);
  n.x_ld = 1;
  refuse(n, "overlap");
  n = shape(5, 5, 5, M4N_W_PACKED, 0);
  n.gated = 1;
  refuse(n, "two equal halves");
  n = shape(5, 6, 5, M4N_W_BF16, M4N_GRAD_X);
  n.gated = 1;
  refuse(n, "no gradients");
}

TEST_F(Plans, OfPlainWeightsHaveNoGate) {
  m4n_linear_shape n = shape(5, 6, 5, M4N_W_REAL, 0);
  n.gated = 1;
  const m4n_linear *plan = nullptr;
  EXPECT_EQ(m4n_linear_plan(&plan, device.stream(), &n), M4N_EUNSUPPORTED);
}

TEST_F(Plans, OfEqualShapeAreOne) {
  const m4n_linear *a = nullptr, *b = nullptr, *c = nullptr;
  m4n_linear_shape n = shape(33, 65, 20, M4N_W_REAL, M4N_GRAD_X);
  ASSERT_EQ(m4n_linear_plan(&a, device.stream(), &n), M4N_OK);
  ASSERT_EQ(m4n_linear_plan(&b, device.stream(), &n), M4N_OK);
  n.max_rows = 21;
  ASSERT_EQ(m4n_linear_plan(&c, device.stream(), &n), M4N_OK);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  EXPECT_EQ(m4n_linear_bytes(a), 33 * 65 * sizeof(m4n_real));
  EXPECT_EQ(m4n_linear_shape_of(a)->x_ld, 33);
}

/* Answers must not depend on how lanes are batched: row i of a call of n rows, for every n, whatever lies beside it. */
void rows_are_their_own(const Device &device, int in, int out, int most, int format) {
  SCOPED_TRACE(std::to_string(in) + " to " + std::to_string(out) + " format " + std::to_string(format));
  const int grads = format == M4N_W_REAL || format == M4N_W_BF16 ? M4N_GRAD_X : 0;
  const m4n_linear_shape n = shape(in, out, most, format, grads);
  const m4n_linear *plan = nullptr;
  ASSERT_EQ(m4n_linear_plan(&plan, device.stream(), &n), M4N_OK) << m4n_error_message();
  Arrays a;
  const int x = a.in(normal((size_t)most * in)), y = a.in(Vector((size_t)most * out)),
            w = a.in(normal((size_t)in * out));
  const int dx = a.in(Vector((size_t)most * in)),
            part = a.in(Vector((size_t)most * (size_t)(in > out ? in : out)));
  Loaded memory(device, a);
  const Call &r = memory.run;
  void *packed = m4n_alloc(device.backend(), m4n_linear_bytes(plan));
  m4n_linear_pack(r.s, packed, r.real(w), plan);
  m4n_linear_fwd(r.s, r.real(y), r.real(x), packed, nullptr, plan, most, 0);
  const auto whole = memory.get(r.real(y), (size_t)most * out);
  std::vector<m4n_real> whole_dx;
  if (grads) {
    m4n_linear_bwd_x(r.s, r.real(dx), r.real(y), packed, plan, most, 0);
    whole_dx = memory.get(r.real(dx), (size_t)most * in);
  }
  for (int count : {1, 2, 8, 15, 16, 17, 31, 63, 64, 65, 100, 200, most - 1})
    for (int first : {0, 1, 7, most - count}) {
      if (first + count > most) continue;
      m4n_linear_fwd(r.s, r.real(part), r.real(x) + first * in, packed, nullptr, plan, count, 0);
      const auto y_part = memory.get(r.real(part), (size_t)count * out);
      EXPECT_EQ(memcmp(y_part.data(), &whole[(size_t)first * out], y_part.size() * sizeof(m4n_real)), 0)
          << count << " rows from " << first;
      if (!grads) continue;
      m4n_linear_bwd_x(r.s, r.real(part), r.real(y) + first * out, packed, plan, count, 0);
      const auto dx_part = memory.get(r.real(part), (size_t)count * in);
      EXPECT_EQ(memcmp(dx_part.data(), &whole_dx[(size_t)first * in], dx_part.size() * sizeof(m4n_real)), 0)
          << "dx of " << count << " rows from " << first;
    }
  m4n_free(device.backend(), packed);
}

TEST(Rows, AreTheirOwn) {
  for (const std::string &name : cpu_devices()) {
    SCOPED_TRACE(name);
    Device device(name, 2);
    ASSERT_TRUE(device.ok()) << device.error();
    for (int format : {M4N_W_REAL, M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
      rows_are_their_own(device, 129, 33, 333, format);
      rows_are_their_own(device, 512, 512, 300, format);
      rows_are_their_own(device, 1376, 70, 257, format);
      rows_are_their_own(device, 32, 7, 300, format);
    }
  }
}

/* The gated product is the plain one and then swiglu, for every row, however many come together. */
void gate_is_swiglu(const Device &device, int in, int half, int most, int format) {
  SCOPED_TRACE(std::to_string(in) + " to " + std::to_string(half) + " format " + std::to_string(format));
  m4n_linear_shape n = shape(in, 2 * half, most, format, 0);
  const m4n_linear *plain = nullptr, *gated = nullptr;
  ASSERT_EQ(m4n_linear_plan(&plain, device.stream(), &n), M4N_OK) << m4n_error_message();
  n.gated = 1;
  ASSERT_EQ(m4n_linear_plan(&gated, device.stream(), &n), M4N_OK) << m4n_error_message();
  ASSERT_NE(plain, gated);
  EXPECT_EQ(m4n_linear_shape_of(gated)->y_ld, half);
  Arrays a;
  const int x = a.in(normal((size_t)most * in)), w = a.in(normal((size_t)in * 2 * half)),
            wide = a.in(Vector((size_t)most * 2 * half)), y = a.in(Vector((size_t)most * half));
  Loaded memory(device, a);
  const Call &r = memory.run;
  void *packed = m4n_alloc(device.backend(), m4n_linear_bytes(plain));
  m4n_linear_pack(r.s, packed, r.real(w), plain);
  m4n_linear_fwd(r.s, r.real(wide), r.real(x), packed, nullptr, plain, most, 0);
  m4n_swiglu_fwd(r.s, r.real(y), r.real(wide), r.real(wide) + half, most, half, 2 * half);
  const auto expected = memory.get(r.real(y), (size_t)most * half);
  m4n_free(device.backend(), packed);
  packed = m4n_alloc(device.backend(), m4n_linear_bytes(gated));
  m4n_linear_pack(r.s, packed, r.real(w), gated);
  std::vector<m4n_real> whole;
  for (int count : {most, 1, 2, 8, 16, 17, 33, most - 1}) {
    m4n_linear_fwd(r.s, r.real(y), r.real(x), packed, nullptr, gated, count, 0);
    const auto got = memory.get(r.real(y), (size_t)count * half);
    if (count == most) {
      whole = got;
      for (size_t i = 0; i < got.size(); i++)
        ASSERT_NEAR(got[i], expected[i], 1e-5 * (1 + fabs((double)expected[i]))) << i;
    }
    EXPECT_EQ(memcmp(got.data(), whole.data(), got.size() * sizeof(m4n_real)), 0) << count << " rows";
  }
  m4n_free(device.backend(), packed);
}

TEST(Gates, AreSwiglu) {
  for (const std::string &name : cpu_devices()) {
    SCOPED_TRACE(name);
    Device device(name, 2);
    ASSERT_TRUE(device.ok()) << device.error();
    for (int format : {M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
      gate_is_swiglu(device, 129, 33, 333, format);
      gate_is_swiglu(device, 512, 1376, 40, format);
      gate_is_swiglu(device, 64, 7, 50, format);
    }
  }
}

/* What cannot be a number in int8 or bf16 stays visible, in its own row alone. */
TEST(Rows, ThatAreNotFiniteShow) {
  const int in = 70, out = 40, rows = 20;
  for (const std::string &name : cpu_devices())
    for (int format : {M4N_W_REAL, M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8})
      for (double bad : {(double)NAN, (double)INFINITY}) {
        SCOPED_TRACE(name + " format " + std::to_string(format));
        Device device(name, 1);
        const m4n_linear_shape n = shape(in, out, rows, format, 0);
        const m4n_linear *plan = nullptr;
        ASSERT_EQ(m4n_linear_plan(&plan, device.stream(), &n), M4N_OK) << m4n_error_message();
        Arrays a;
        Vector x = normal((size_t)rows * in);
        x[(size_t)3 * in + 69] = bad;
        const int at_x = a.in(x), y = a.in(Vector((size_t)rows * out)), w = a.in(normal((size_t)in * out));
        Loaded memory(device, a);
        const Call &r = memory.run;
        void *packed = m4n_alloc(device.backend(), m4n_linear_bytes(plan));
        m4n_linear_pack(r.s, packed, r.real(w), plan);
        m4n_linear_fwd(r.s, r.real(y), r.real(at_x), packed, nullptr, plan, rows, 0);
        const auto got = memory.get(r.real(y), (size_t)rows * out);
        for (int i = 0; i < rows * out; i++) EXPECT_EQ(std::isfinite(got[(size_t)i]), i / out != 3) << i;
        m4n_free(device.backend(), packed);
      }
}

} // namespace
