// agent/model/convert: what a file holds, in another type of number.
#include "agent/model/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "agent/model/safetensors.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

constexpr int rows = 37, cols = 129;

std::string write_model(const std::string &path) {
  const m4n_tensor_shape shapes[] = {{"a.weight", M4N_TENSOR_F32, 2, {rows, cols}},
                                     {"b.bias", M4N_TENSOR_F32, 1, {cols}}};
  const m4n_metadata metadata[] = {{"mamba4net.config", "{\"d\": 3}"}, {"about", "a test"}};
  std::vector<m4n_real> value((rows + 1) * cols);
  for (size_t i = 0; i < value.size(); i++) value[i] = (m4n_real)std::sin(0.37 * (double)i);
  m4n_safetensors_writer *w;
  EXPECT_EQ(m4n_safetensors_create(&w, path.c_str(), shapes, 2, metadata, 2), M4N_OK) << m4n_error_message();
  m4n_safetensors_put(w, value.data(), (int64_t)value.size());
  EXPECT_EQ(m4n_safetensors_commit(w), M4N_OK) << m4n_error_message();
  return path;
}

struct File {
  m4n_safetensors *f = nullptr;
  explicit File(const std::string &path) {
    EXPECT_EQ(m4n_safetensors_open(&f, path.c_str()), M4N_OK) << m4n_error_message();
  }
  ~File() { m4n_safetensors_close(f); }
  std::vector<double> operator[](const char *name) const {
    const m4n_tensor *t = m4n_safetensors_find(f, name);
    std::vector<double> value((size_t)t->count);
    EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, value.data()), M4N_OK) << m4n_error_message();
    return value;
  }
};

TEST(Convert, RoundsMatricesAndKeepsTheRest) {
  const std::string dir = m4n_temp_dir(), from = write_model(dir + "/from.safetensors");
  const struct {
    int type;
    double error;
  } cases[] = {{M4N_TENSOR_BF16, 0x1p-8}, {M4N_TENSOR_F16, 0x1p-11}, {M4N_TENSOR_F32, 0}};
  for (const auto &c : cases) {
    const std::string to = dir + "/to.safetensors";
    ASSERT_EQ(m4n_model_convert(from.c_str(), to.c_str(), c.type), M4N_OK) << m4n_error_message();
    File a(from), b(to);
    EXPECT_EQ(m4n_safetensors_find(b.f, "a.weight")->type, c.type);
    EXPECT_EQ(m4n_safetensors_find(b.f, "b.bias")->type, M4N_TENSOR_F32);
    EXPECT_EQ(m4n_safetensors_find(b.f, "a.weight")->shape[1], cols);
    EXPECT_STREQ(m4n_safetensors_metadata(b.f, "mamba4net.config"), "{\"d\": 3}");
    EXPECT_STREQ(m4n_safetensors_metadata(b.f, "about"), "a test");
    const std::vector<double> x = a["a.weight"], y = b["a.weight"];
    for (size_t i = 0; i < x.size(); i++)
      ASSERT_LE(std::fabs(x[i] - y[i]), c.error * std::fabs(x[i]) + 1e-8) << i;
    EXPECT_EQ(a["b.bias"], b["b.bias"]);
  }
}

TEST(Convert, WritesNothingWhereItCannotRead) {
  const std::string dir = m4n_temp_dir(), from = write_model(dir + "/from.safetensors"),
                    to = dir + "/to.safetensors";
  EXPECT_EQ(m4n_model_convert((dir + "/none").c_str(), to.c_str(), M4N_TENSOR_BF16), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_model_convert(from.c_str(), to.c_str(), M4N_TENSOR_OTHER), M4N_EARG);
  const std::string header = R"({"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}})";
  const std::string nan =
      m4n_write_file(dir + "/nan.safetensors", std::string(1, (char)header.size()) + std::string(7, '\0') +
                                                   header + "\xff\xff\xff\x7f");
  EXPECT_EQ(m4n_model_convert(nan.c_str(), to.c_str(), M4N_TENSOR_BF16), M4N_EFORMAT);
  EXPECT_FALSE(m4n_exists(to.c_str()));
}

} // namespace
