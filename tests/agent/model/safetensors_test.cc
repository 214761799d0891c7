// agent/model/safetensors: round trips, every way a file can lie, shards, the reference library's files.
#include "agent/model/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "agent/model/half.h"
#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

std::string with_header(const std::string &json, size_t data) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; i++) bytes[(size_t)i] = (char)(json.size() >> 8 * i & 255);
  return bytes + json + std::string(data, '\1');
}

int parse(const std::string &bytes, m4n_safetensors **file) {
  return m4n_safetensors_parse(file, "crafted", bytes.data(), bytes.size());
}

void refused(const std::string &bytes, const char *message) {
  m4n_safetensors *file;
  EXPECT_EQ(parse(bytes, &file), M4N_EFORMAT) << message;
  EXPECT_EQ(file, nullptr);
  EXPECT_NE(std::string(m4n_error_message()).find(message), std::string::npos) << m4n_error_message();
}

std::vector<double> read(const m4n_tensor *t) {
  std::vector<double> values((size_t)t->count);
  EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, values.data()), M4N_OK) << m4n_error_message();
  return values;
}

TEST(Half, EveryBfloatAndHalfSurvivesTheWayToFloatAndBack) {
  for (uint32_t h = 0; h < 65536; h++) {
    float b = m4n_bf16_value((uint16_t)h), f = m4n_half_value((uint16_t)h);
    if (std::isnan(b))
      EXPECT_TRUE(std::isnan(m4n_bf16_value(m4n_bf16_bits(b))));
    else
      EXPECT_EQ(m4n_bf16_bits(b), h);
    if (std::isnan(f))
      EXPECT_TRUE(std::isnan(m4n_half_value(m4n_half_bits(f))));
    else
      EXPECT_EQ(m4n_half_bits(f), h);
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(m4n_half_value(m4n_half_bits(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(m4n_half_value(m4n_half_bits(1.0f + 3 * 0x1p-11f)), 1.0f + 0x1p-9f);
  EXPECT_EQ(m4n_half_value(m4n_half_bits(1.5f * 0x1p-24f)), 0x1p-23f);
  EXPECT_EQ(m4n_half_value(m4n_half_bits(0.49f * 0x1p-24f)), 0.0f);
  EXPECT_EQ(m4n_half_bits(65519.0f), 0x7bff);
  EXPECT_TRUE(std::isinf(m4n_half_value(m4n_half_bits(65520.0f))));
  EXPECT_EQ(m4n_bf16_value(m4n_bf16_bits(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(m4n_bf16_value(m4n_bf16_bits(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  std::string path = m4n_temp_dir() + "/a.safetensors";
  const m4n_tensor_shape shapes[] = {{"w", M4N_TENSOR_F32, 2, {2, 3}},
                                     {"empty", M4N_TENSOR_F32, 1, {0}},
                                     {"scalar", M4N_TENSOR_F64, 0, {}},
                                     {"h", M4N_TENSOR_F16, 1, {2}},
                                     {"b", M4N_TENSOR_BF16, 1, {2}}};
  const m4n_metadata about[] = {{"format", "test"}, {"quote", "a \"b\"\n"}};
  const m4n_real values[] = {1, -2, 0.5, 1e30f, 0, 3, 7, 0.25, -8, 1.5, -256};
  m4n_safetensors_writer *w;
  ASSERT_EQ(m4n_safetensors_create(&w, path.c_str(), shapes, 5, about, 2), M4N_OK);
  m4n_safetensors_put(w, values, 4); // pieces need not be tensors
  m4n_safetensors_put(w, values + 4, 7);
  EXPECT_FALSE(m4n_exists(path.c_str()));
  ASSERT_EQ(m4n_safetensors_commit(w), M4N_OK) << m4n_error_message();

  m4n_safetensors *file;
  ASSERT_EQ(m4n_safetensors_open(&file, path.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_safetensors_count(file), 5);
  EXPECT_STREQ(m4n_safetensors_metadata(file, "quote"), "a \"b\"\n");
  EXPECT_EQ(m4n_safetensors_metadata(file, "other"), nullptr);
  std::vector<double> w_read = read(m4n_safetensors_find(file, "w"));
  for (int i = 0; i < 6; i++) EXPECT_EQ(w_read[(size_t)i], (double)(float)values[i]);
  EXPECT_EQ(read(m4n_safetensors_find(file, "scalar")), std::vector<double>{7});
  EXPECT_EQ(read(m4n_safetensors_find(file, "h")), (std::vector<double>{0.25, -8}));
  EXPECT_EQ(read(m4n_safetensors_find(file, "b")), (std::vector<double>{1.5, -256}));
  EXPECT_EQ(m4n_safetensors_find(file, "empty")->count, 0);

  const m4n_tensor *t;
  const int64_t right[] = {2, 3}, wrong[] = {3, 2}, any[] = {-1, 3};
  EXPECT_EQ(m4n_safetensors_need(&t, file, "w", 2, right), M4N_OK);
  EXPECT_EQ(m4n_safetensors_need(&t, file, "w", 2, any), M4N_OK);
  EXPECT_EQ(m4n_safetensors_need(&t, file, "w", 1, right), M4N_EFORMAT);
  EXPECT_EQ(m4n_safetensors_need(&t, file, "w", 2, wrong), M4N_EFORMAT);
  EXPECT_NE(std::string(m4n_error_message()).find("w: the shape is [2, 3], expected [3, 2]"),
            std::string::npos)
      << m4n_error_message();
  EXPECT_EQ(m4n_safetensors_need(&t, file, "v", 2, right), M4N_ENOTFOUND);
  m4n_safetensors_close(file);
}

TEST(Safetensors, NothingIsWrittenThatCouldNotBeRead) {
  std::string dir = m4n_temp_dir(), path = dir + "/a.safetensors";
  const m4n_tensor_shape shape = {"weight", M4N_TENSOR_F16, 1, {1}};
  for (m4n_real value : {(m4n_real)NAN, (m4n_real)1e6}) {
    m4n_safetensors_writer *w;
    ASSERT_EQ(m4n_safetensors_create(&w, path.c_str(), &shape, 1, nullptr, 0), M4N_OK);
    m4n_safetensors_put(w, &value, 1);
    EXPECT_EQ(m4n_safetensors_commit(w), M4N_EFORMAT);
    EXPECT_NE(std::string(m4n_error_message()).find("weight"), std::string::npos);
  }
  m4n_safetensors_writer *w;
  ASSERT_EQ(m4n_safetensors_create(&w, path.c_str(), &shape, 1, nullptr, 0), M4N_OK);
  m4n_safetensors_abort(w);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  EXPECT_NE(m4n_safetensors_create(&w, (dir + "/no/a").c_str(), &shape, 1, nullptr, 0), M4N_OK);
  EXPECT_EQ(w, nullptr);
}

TEST(Safetensors, AFileThatLiesIsRefused) {
  refused("", "no safetensors file");
  refused("1234567", "no safetensors file");
  refused(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "header would be");
  refused(std::string("\3\0\0\0\0\0\0\0{}", 10), "header would be");
  refused(with_header("[]", 0), "expected a JSON object");
  refused(with_header("{\"a\":", 0), "expected JSON");
  refused(with_header("{\"a\":1}", 0), "expected {dtype, shape, data_offsets");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4), "data_offsets");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,5]}})", 4),
          "must rise and lie inside");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
          "must rise and lie inside");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4),
          "must rise and lie inside");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", 4),
          "must rise and lie inside");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
          "do not fit 2 elements of F32");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
          "dimension 0 is no size");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4),
          "dimension 0 is no size");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4),
          "too large");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}})", 4),
          "do not fit");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
          "dimensions");
  refused(with_header(R"({"__metadata__":[]})", 0), "expected an object");
  refused(with_header(R"({"__metadata__":{"a":1}})", 0), "expected a string");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}})", 4), "expected JSON");
}

TEST(Safetensors, IntegersAndUnknownTypesAreListedButNotRead) {
  std::string bytes = with_header(
      R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})",
      8);
  m4n_safetensors *file;
  ASSERT_EQ(parse(bytes, &file), M4N_OK) << m4n_error_message();
  double value[2];
  for (const char *name : {"i", "x"}) {
    const m4n_tensor *t = m4n_safetensors_find(file, name);
    EXPECT_EQ(t->type, M4N_TENSOR_OTHER);
    EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, value), M4N_EUNSUPPORTED);
  }
  m4n_safetensors_close(file);
}

TEST(Safetensors, ValuesThatAreNotFiniteAreNamed) {
  std::string bytes = with_header(R"({"a":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}})", 24);
  const double values[] = {1, 1e300, NAN};
  memcpy(&bytes[bytes.size() - 24], values, 24);
  m4n_safetensors *file;
  ASSERT_EQ(parse(bytes, &file), M4N_OK);
  const m4n_tensor *t = m4n_safetensors_at(file, 0);
  double d[3];
  EXPECT_EQ(m4n_tensor_read_double(t, 0, 2, d), M4N_OK);
  EXPECT_EQ(m4n_tensor_read_double(t, 0, 3, d), M4N_EFORMAT);
  EXPECT_NE(std::string(m4n_error_message()).find("a: element 2"), std::string::npos) << m4n_error_message();
  m4n_real r[3];
  EXPECT_EQ(m4n_tensor_read(t, 0, 1, r), M4N_OK);
  // What only a double holds is refused where it would become an infinite float.
  EXPECT_EQ(m4n_tensor_read(t, 0, 2, r), sizeof(m4n_real) == 4 ? M4N_EFORMAT : M4N_OK);
  m4n_safetensors_close(file);
}

TEST(Safetensors, MutatedFilesAreRefusedOrReadable) {
  std::string good = with_header(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})",
      22);
  m4n_rng rng = m4n_rng_make(1, 0, M4N_RNG_TEST);
  int accepted = 0, refused = 0;
  for (int round = 0; round < 20000; round++) {
    std::string bytes = good;
    for (uint32_t k = 0, n = 1 + m4n_rng_below(&rng, 3); k < n; k++) {
      uint32_t at = m4n_rng_below(&rng, (uint32_t)bytes.size());
      switch (m4n_rng_below(&rng, 4)) {
      case 0:
        bytes[at] = (char)m4n_rng_u32(&rng);
        break;
      case 1:
        bytes[at] = "0123456789,[]{}\":-"[m4n_rng_below(&rng, 18)];
        break;
      case 2:
        bytes.erase(at, 1 + m4n_rng_below(&rng, 4));
        break;
      default:
        bytes.resize(at + 1);
      }
    }
    m4n_safetensors *file;
    if (parse(bytes, &file)) {
      refused++;
      continue;
    }
    accepted++;
    for (int i = 0; i < m4n_safetensors_count(file); i++) {
      const m4n_tensor *t = m4n_safetensors_at(file, i);
      std::vector<double> values((size_t)std::min<int64_t>(t->count, 4096));
      if (t->type != M4N_TENSOR_OTHER)
        (void)m4n_tensor_read_double(t, 0, (int64_t)values.size(), values.data());
      EXPECT_LE(t->data + t->bytes, (const uint8_t *)bytes.data() + bytes.size());
    }
    m4n_safetensors_close(file);
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

// Two shards and the index that joins them.
struct Shards {
  std::string dir = m4n_temp_dir();
  Shards() {
    const m4n_real value[] = {1, 2};
    for (int i = 0; i < 2; i++) {
      const m4n_tensor_shape shape = {i ? "two" : "one", M4N_TENSOR_F32, 1, {1}};
      m4n_safetensors_writer *w;
      EXPECT_EQ(m4n_safetensors_create(&w, (dir + "/" + std::to_string(i) + ".safetensors").c_str(), &shape,
                                       1, nullptr, 0),
                M4N_OK);
      m4n_safetensors_put(w, value + i, 1);
      EXPECT_EQ(m4n_safetensors_commit(w), M4N_OK);
    }
  }
  int open(const std::string &index, m4n_safetensors **file) {
    m4n_write_file(dir + "/model.safetensors.index.json", index);
    return m4n_safetensors_open(file, dir.c_str());
  }
};

TEST(Safetensors, ShardsAreOneFile) {
  Shards s;
  m4n_safetensors *file;
  ASSERT_EQ(s.open(R"({"metadata":{},"weight_map":{"one":"0.safetensors","two":"1.safetensors"}})", &file),
            M4N_OK)
      << m4n_error_message();
  EXPECT_EQ(m4n_safetensors_count(file), 2);
  EXPECT_EQ(read(m4n_safetensors_find(file, "one")), std::vector<double>{1});
  EXPECT_EQ(read(m4n_safetensors_find(file, "two")), std::vector<double>{2});
  m4n_safetensors_close(file);
}

TEST(Safetensors, AnIndexThatLiesIsRefused) {
  Shards s;
  m4n_safetensors *file;
  EXPECT_EQ(s.open(R"({"weight_map":{"one":"1.safetensors"}})", &file), M4N_EFORMAT);
  EXPECT_EQ(s.open(R"({"weight_map":{"one":"../0.safetensors"}})", &file), M4N_EFORMAT);
  EXPECT_EQ(s.open(R"({"weight_map":{"one":".."}})", &file), M4N_EFORMAT);
  EXPECT_EQ(s.open(R"({"weight_map":{"one":1}})", &file), M4N_EFORMAT);
  EXPECT_EQ(s.open(R"({"weight_map":[]})", &file), M4N_EFORMAT);
  EXPECT_EQ(s.open(R"({"weight_map":{"one":"9.safetensors"}})", &file), M4N_ENOTFOUND);
  EXPECT_EQ(s.open("{", &file), M4N_EFORMAT);
  std::filesystem::copy_file(s.dir + "/0.safetensors", s.dir + "/2.safetensors");
  EXPECT_EQ(s.open(R"({"weight_map":{"one":"0.safetensors","x":"2.safetensors"}})", &file), M4N_EFORMAT);
  EXPECT_EQ(file, nullptr);
}

TEST(Safetensors, MissingFilesAreNamed) {
  std::string dir = m4n_temp_dir();
  m4n_safetensors *file;
  EXPECT_EQ(m4n_safetensors_open(&file, dir.c_str()), M4N_ENOTFOUND);
  EXPECT_NE(std::string(m4n_error_message()).find("model.safetensors"), std::string::npos);
  EXPECT_EQ(m4n_safetensors_open(&file, (dir + "/none").c_str()), M4N_ENOTFOUND);
  m4n_write_file(dir + "/empty", "");
  EXPECT_EQ(m4n_safetensors_open(&file, (dir + "/empty").c_str()), M4N_EFORMAT);
}

TEST(Safetensors, TheReferenceLibrarysFilesAreRead) {
  M4N_NEED(m4n_golden() + "/cwr_svd");
  m4n_safetensors *file;
  ASSERT_EQ(m4n_safetensors_open(&file, (m4n_golden() + "/cwr_svd/io.safetensors").c_str()), M4N_OK);
  // Full rank and all rows: the product is the matrix itself.
  std::vector<double> w = read(m4n_safetensors_find(file, "W")),
                      phi = read(m4n_safetensors_find(file, "phi_s.r40.d96"));
  ASSERT_EQ(w.size(), phi.size());
  for (size_t i = 0; i < w.size(); i++) EXPECT_NEAR(w[i], phi[i], 1e-12);
  m4n_safetensors_close(file);
  ASSERT_EQ(m4n_safetensors_open(&file, (m4n_golden() + "/llama").c_str()), M4N_OK);
  EXPECT_STREQ(m4n_safetensors_metadata(file, "format"), "pt");
  const m4n_tensor *t;
  const int64_t shape[] = {176, 64};
  EXPECT_EQ(m4n_safetensors_need(&t, file, "model.layers.0.mlp.up_proj.weight", 2, shape), M4N_OK);
  m4n_safetensors_close(file);
}

} // namespace
