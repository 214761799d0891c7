/* No op allocates. What oneDNN does inside a call is counted apart: its argument map takes a few small blocks each time,
 * which no setting of its C API avoids; the test holds it to that. */
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "tests/kernels/cases/engine.h"
#include "tests/support/alloc.h"

static int64_t inside_library, library_calls;

/* The library's entry points, with a counter around them. This program's definitions come first at link time. */
template <class F, class... A> static int counted(const char *name, A... arguments) {
  static F *const real = (F *)dlsym(RTLD_NEXT, name);
  const int64_t before = m4n_allocations();
  const int status = real(arguments...);
  inside_library += m4n_allocations() - before;
  return status;
}
extern "C" int dnnl_primitive_execute(const void *primitive, void *stream, int n, const void *arguments) {
  library_calls++;
  return counted<int(const void *, void *, int, const void *)>("dnnl_primitive_execute", primitive, stream, n,
                                                               arguments);
}
extern "C" int dnnl_memory_set_data_handle(void *memory, void *at) {
  return counted<int(void *, void *)>("dnnl_memory_set_data_handle", memory, at);
}

namespace {

bool is_linear(const std::string &op) {
  return op.rfind("linear_", 0) == 0;
}

TEST(Allocations, AreNoneInAnyOp) {
  if (m4n_sanitized()) GTEST_SKIP() << "a sanitizer owns the allocator here";
  const Lists lists = all_lists();
  Device device("cpu", 3);
  ASSERT_TRUE(device.ok()) << device.error();
  for (const Case &c : lists.cases) {
    if (is_linear(c.op)) continue; // its cases plan and pack; below
    Loaded memory(device, c);
    const int64_t before = m4n_allocations();
    c.run(memory.run);
    ASSERT_EQ(m4n_allocations() - before, 0) << c.op << " " << c.size;
  }
}

TEST(Allocations, AreNoneInAPlannedLinearLayer) {
  if (m4n_sanitized()) GTEST_SKIP() << "a sanitizer owns the allocator here";
  Device device("cpu",
                1); // the library's allocations are told apart by what lies between two counts of one thread
  ASSERT_TRUE(device.ok()) << device.error();
  const int in = 70, out = 200, most = 300;
  for (int format : {M4N_W_REAL, M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8}) {
    m4n_linear_shape shape = {};
    shape.in = in, shape.out = out, shape.max_rows = most, shape.format = format;
    shape.grads = format == M4N_W_REAL ? M4N_GRAD_X | M4N_GRAD_W : format == M4N_W_BF16 ? M4N_GRAD_X : 0;
    const m4n_linear *plan = nullptr;
    ASSERT_EQ(m4n_linear_plan(&plan, device.stream(), &shape), M4N_OK) << m4n_error_message();
    Arrays a;
    const int x = a.in(normal((size_t)most * in)), y = a.in(normal((size_t)most * out)),
              w = a.in(normal((size_t)in * out));
    Loaded memory(device, a);
    const Call &r = memory.run;
    void *packed = m4n_alloc(device.backend(), m4n_linear_bytes(plan));
    m4n_linear_pack(r.s, packed, r.real(w), plan);
    inside_library = library_calls = 0;
    const int64_t before = m4n_allocations();
    for (int rows : {1, 8, 33, 300}) {
      m4n_linear_fwd(r.s, r.real(y), r.real(x), packed, nullptr, plan, rows, 0);
      if (shape.grads & M4N_GRAD_X) m4n_linear_bwd_x(r.s, r.real(x), r.real(y), packed, plan, rows, 1);
      if (shape.grads & M4N_GRAD_W) m4n_linear_bwd_w(r.s, r.real(w), r.real(y), r.real(x), plan, rows);
    }
    const int64_t all = m4n_allocations() - before;
    EXPECT_EQ(all - inside_library, 0) << "format " << format;
    EXPECT_LE(inside_library, 16 * library_calls) << "oneDNN was seen with 6 to 10 small blocks a call";
    m4n_free(device.backend(), packed);
  }
}

} // namespace
