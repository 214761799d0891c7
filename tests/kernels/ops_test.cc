/* Every op of the list, at odd sizes and at those of the models: against a plain loop in double, in every variant that
 * this processor runs, and with one thread against three, bit for bit. */
#include <gtest/gtest.h>

#include "tests/kernels/cases/engine.h"

namespace {

const Lists &lists() {
  static const Lists l = all_lists();
  return l;
}

class Op : public testing::TestWithParam<std::string> {};

TEST_P(Op, EqualsAPlainLoopOnEveryVariantAndAnyThreads) {
  int found = 0;
  for (const std::string &name : cpu_devices()) {
    Device one(name, 1), three(name, 3);
    ASSERT_TRUE(one.ok() && three.ok()) << one.error() << three.error();
    for (const Case &c : lists().cases) {
      if (c.op != GetParam()) continue;
      SCOPED_TRACE(name + " " + c.op + " " + c.size);
      found++;
      const auto got = execute(one, c);
      Host expected = c.start;
      c.naive(expected);
      for (size_t i = 0; i < got.size(); i++) {
        if (!c.written[i]) continue;
        std::string what;
        const double error = nmse(got[i], expected[i], c.start[i], &what);
        EXPECT_LE(error, c.nmse) << "array " << i << " " << what;
      }
      EXPECT_TRUE(same_bits(got, execute(three, c))) << "three threads give other bytes than one";
    }
  }
  EXPECT_GT(found, 0) << "no case for " << GetParam() << ": write one in tests/kernels/cases";
}

INSTANTIATE_TEST_SUITE_P(List, Op, testing::ValuesIn(op_names()),
                         [](const testing::TestParamInfo<std::string> &info) { return info.param; });

// Every backward of the list has its gradients checked (by grad_test in the f64 build).
TEST(Gradients, CoverTheList) {
  for (const std::string &op : op_names()) {
    if (op.find("_bwd") == std::string::npos) continue;
    bool found = false;
    for (const Gradient &g : lists().gradients) found |= g.op == op;
    EXPECT_TRUE(found) << "no gradient check for " << op << ": write one in tests/kernels/cases";
  }
}

} // namespace
