// A row's product does not depend on how many other rows there are, nor on how many the plan allows: so a policy's answer
// does not depend on the batch. At widths where libraries change the order of their sums with the shape.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "kernels/linear.h"

namespace {

std::vector<m4n_real> noise(size_t n, uint64_t seed) {
  m4n_rng rng = m4n_rng_make(seed, 0, M4N_RNG_TEST);
  std::vector<m4n_real> v(n);
  for (m4n_real &x : v) x = (m4n_real)m4n_rng_normal(&rng);
  return v;
}

struct Shape {
  int out, in, x_ld, y_ld;
};

TEST(LinearRows, ARowStandsForItself) {
  m4n_backend *backend;
  m4n_stream *s;
  ASSERT_EQ(m4n_backend_open(&backend, "cpu", nullptr), M4N_OK) << m4n_error_message();
  ASSERT_EQ(m4n_stream_open(&s, backend), M4N_OK);
  const int most = 300;
  for (const Shape &n : {Shape{512, 512, 512, 512},
                         {2080, 512, 512, 2080},
                         {512, 1376, 1376, 512},
                         {6, 512, 4096, 6},
                         {512, 32, 2080, 512},
                         {256, 688, 700, 300}}) {
    m4n_real *x = (m4n_real *)m4n_alloc(backend, (size_t)(most * n.x_ld) * sizeof *x);
    m4n_real *y = (m4n_real *)m4n_alloc(backend, (size_t)(most * n.y_ld) * sizeof *y);
    m4n_real *w = (m4n_real *)m4n_alloc(backend, (size_t)(n.out * n.in) * sizeof *w);
    const auto all_x = noise((size_t)(most * n.x_ld), 1), all_y = noise((size_t)(most * n.y_ld), 2);
    m4n_copy_in(s, w, noise((size_t)(n.out * n.in), 3).data(), (size_t)(n.out * n.in) * sizeof *w);
    for (int back = 0; back < 2; back++)
      for (int add = 0; add < 2; add++) {
        std::vector<m4n_real> expected;
        for (int max_rows : {most, 64, 16, 1})
          for (int rows : {most, 200, 100, 72, 33, 17, 16, 8, 7, 1}) {
            if (rows > max_rows) continue;
            const m4n_linear *plan;
            m4n_linear_shape shape = {};
            shape.out = n.out, shape.in = n.in, shape.max_rows = max_rows, shape.x_ld = n.x_ld,
            shape.y_ld = n.y_ld;
            shape.grads = M4N_GRAD_X;
            ASSERT_EQ(m4n_linear_plan(&plan, s, &shape), M4N_OK) << m4n_error_message();
            m4n_copy_in(s, x, all_x.data(), all_x.size() * sizeof *x);
            m4n_copy_in(s, y, all_y.data(), all_y.size() * sizeof *y);
            if (back)
              m4n_linear_bwd_x(s, x, y, w, plan, rows, add);
            else
              m4n_linear_fwd(s, y, x, w, nullptr, plan, rows, add);
            std::vector<m4n_real> got((size_t)(rows * (back ? n.x_ld : n.y_ld)));
            m4n_copy_out(s, got.data(), back ? x : y, got.size() * sizeof(m4n_real));
            ASSERT_EQ(m4n_sync(s), M4N_OK);
            if (expected.empty()) expected = got;
            expected.resize(std::max(expected.size(), got.size()));
            EXPECT_EQ(memcmp(got.data(), expected.data(), got.size() * sizeof(m4n_real)), 0)
                << n.in << " → " << n.out << (back ? ", backward" : ", forward") << (add ? ", added" : "")
                << ", " << rows << " of " << max_rows << " rows";
          }
      }
    m4n_free(backend, x), m4n_free(backend, y), m4n_free(backend, w);
  }
  m4n_stream_close(s);
  m4n_backend_close(backend);
}

} // namespace
