/* Every backward against central differences of its forward, in double (the f64 build). */
#include <gtest/gtest.h>

#include "tests/kernels/cases/engine.h"

namespace {

#ifndef M4N_REAL_F64
#error "differences of float32 would check nothing: this test belongs to the f64 build"
#endif

const Lists &lists() {
  static const Lists l = all_lists();
  return l;
}

/* Σ output·weight after a forward with element i of array k moved by `step`. */
double loss_at(Loaded &memory, const Gradient &g, const Host &weight, int k, size_t i, double step) {
  Vector moved = g.start[(size_t)k];
  moved[i] += step;
  memory.put(memory.run.real(k), moved);
  g.forward(memory.run);
  double loss = 0;
  for (size_t o = 0; o < g.outputs.size(); o++) {
    const int output = g.outputs[o];
    const auto y = memory.get(memory.run.real(output), g.start[(size_t)output].size());
    for (size_t j = 0; j < y.size(); j++) loss += y[j] * weight[o][j];
  }
  return loss;
}

/* The fourth-order central difference. */
double difference(Loaded &memory, const Gradient &g, const Host &weight, int k, size_t i) {
  const double h = 1e-4;
  const double near = loss_at(memory, g, weight, k, i, h) - loss_at(memory, g, weight, k, i, -h);
  const double far = loss_at(memory, g, weight, k, i, 2 * h) - loss_at(memory, g, weight, k, i, -2 * h);
  return (8 * near - far) / (12 * h);
}

void check(const Device &device, const Gradient &g) {
  Loaded memory(device, g);
  Host weight;
  for (int o : g.outputs) weight.push_back(normal(g.start[(size_t)o].size()));
  // The gradients by the op: written ones begin as what is no number, added ones as noise.
  std::vector<m4n_real *> grad(g.start.size(), nullptr);
  std::vector<Vector> noise(g.start.size());
  auto give = [&](int k, const Vector &start) {
    grad[(size_t)k] = (m4n_real *)m4n_alloc(device.backend(), start.size() * sizeof(m4n_real));
    memory.put(grad[(size_t)k], start);
  };
  for (size_t o = 0; o < g.outputs.size(); o++) give(g.outputs[o], weight[o]);
  for (int k : g.inputs) give(k, Vector(g.start[(size_t)k].size(), NAN));
  for (int k : g.parameters) give(k, noise[(size_t)k] = normal(g.start[(size_t)k].size()));
  g.forward(memory.run);
  g.backward(memory.run, grad);

  std::vector<int> wanted = g.inputs;
  wanted.insert(wanted.end(), g.parameters.begin(), g.parameters.end());
  for (int k : wanted) {
    const size_t n = g.start[(size_t)k].size(), stride = n / 60 + 1;
    auto got = memory.get(grad[(size_t)k], n);
    if (!noise[(size_t)k].empty())
      for (size_t i = 0; i < n; i++) got[i] -= noise[(size_t)k][i];
    double size = 0;
    for (double v : got) size += fabs(v) / (double)n;
    ASSERT_TRUE(std::isfinite(size)) << "array " << k;
    for (size_t i = 0; i < n; i += stride) {
      const double expected = difference(memory, g, weight, k, i);
      // Relative to the element, or to what is usual in the array where an element is small.
      const double scale = fmax(fmax(fabs(expected), fabs((double)got[i])), fmax(size, 1e-3));
      ASSERT_NEAR(got[i], expected, 1e-6 * scale) << "array " << k << " element " << i;
    }
    memory.put(memory.run.real(k), g.start[(size_t)k]);
  }
  for (m4n_real *at : grad) m4n_free(device.backend(), at);
}

class Backward : public testing::TestWithParam<std::string> {};

TEST_P(Backward, EqualsDifferencesOfTheForward) {
  Device device("cpu", 3);
  ASSERT_TRUE(device.ok()) << device.error();
  int found = 0;
  for (const Gradient &g : lists().gradients) {
    if (g.op != GetParam()) continue;
    SCOPED_TRACE(g.op + " " + g.size);
    check(device, g);
    found++;
  }
  EXPECT_GT(found, 0) << "no gradient check for " << GetParam() << ": write one in tests/kernels/cases";
}

std::vector<std::string> backward_names() {
  std::vector<std::string> names;
  for (const std::string &op : op_names())
    if (op.find("_bwd") != std::string::npos) names.push_back(op);
  return names;
}
INSTANTIATE_TEST_SUITE_P(List, Backward, testing::ValuesIn(backward_names()),
                         [](const testing::TestParamInfo<std::string> &info) { return info.param; });

} // namespace
