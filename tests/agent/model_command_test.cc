// The model command as a user types it.
#include <gtest/gtest.h>

#include "tests/support/program.h"

namespace {

TEST(ModelCommand, TellsOfAPreset) {
  const Ended e = Process({"model", "info", "small"}).finish();
  EXPECT_EQ(e.status, 0) << e.err;
  EXPECT_TRUE(e.says("5 layers: 4 Mamba, 1 attention")) << e.out;
  EXPECT_EQ(Process({"model", "info", "paper", "--json"}).finish().status, 0);
  EXPECT_TRUE(Process({"model", "--help"}).finish().says("info MODEL"));
}

TEST(ModelCommand, RefusesWithStatusTwo) {
  for (const std::vector<std::string> &bad :
       std::vector<std::vector<std::string>>{{"model"},
                                             {"model", "info"},
                                             {"model", "show", "paper"},
                                             {"model", "info", "/nowhere"},
                                             {"model", "info", "paper", "--x"},
                                             {"model", "info", "paper", "small"},
                                             {"model", "convert", "paper"},
                                             {"model", "convert", "a", "b", "--to", "int3"}}) {
    const Ended e = Process(bad).finish();
    EXPECT_EQ(e.status, 2) << bad.back();
    EXPECT_EQ(e.out, "");
    EXPECT_NE(e.err, "");
  }
}

} // namespace
