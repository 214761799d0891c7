// The bounded reader against bytes written by hand and by msgpack-c.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "bridge/packer.h"
#include "bridge/reader.h"

namespace {

using bytes = std::vector<uint8_t>;

m4n_reader over(const bytes &b) {
  return m4n_reader_of("F", b.data(), b.size());
}
std::string message() {
  return m4n_error_message();
}

bytes operator+(bytes a, const bytes &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

} // namespace

TEST(Reader, ReadsEveryFormOfInteger) {
  struct form {
    bytes data;
    int64_t value;
  };
  const std::vector<form> forms = {{{0x00}, 0},
                                   {{0x7f}, 127},
                                   {{0xff}, -1},
                                   {{0xe0}, -32},
                                   {{0xcc, 0xff}, 255},
                                   {{0xcd, 0x12, 0x34}, 0x1234},
                                   {{0xce, 0xff, 0xff, 0xff, 0xff}, 0xffffffffLL},
                                   {{0xcf, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, INT64_MAX},
                                   {{0xd0, 0x80}, -128},
                                   {{0xd1, 0x80, 0x00}, -32768},
                                   {{0xd1, 0x7f, 0xff}, 32767},
                                   {{0xd2, 0x80, 0x00, 0x00, 0x00}, INT32_MIN},
                                   {{0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0}, INT64_MIN}};
  for (const form &f : forms) {
    m4n_reader in = over(f.data);
    int64_t value = 42;
    ASSERT_EQ(m4n_read_int(&in, "x", INT64_MIN, INT64_MAX, &value), 0) << message();
    EXPECT_EQ(value, f.value);
    EXPECT_EQ(m4n_read_end(&in), 0);
    for (size_t cut = 0; cut < f.data.size(); cut++) {
      bytes part(f.data.begin(), f.data.begin() + (long)cut);
      in = over(part);
      EXPECT_EQ(m4n_read_int(&in, "x", INT64_MIN, INT64_MAX, &value), M4N_EPROTO);
    }
  }
  bytes huge = {0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0};
  m4n_reader in = over(huge);
  int64_t value;
  EXPECT_EQ(m4n_read_int(&in, "x", INT64_MIN, INT64_MAX, &value), M4N_EPROTO);
  uint64_t positive = 0;
  in = over(huge);
  EXPECT_EQ(m4n_read_uint(&in, "x", UINT64_MAX, &positive), 0);
  EXPECT_EQ(positive, UINT64_C(1) << 63);
  const bytes negative = {0xff};
  in = over(negative);
  EXPECT_EQ(m4n_read_uint(&in, "x", 10, &positive), M4N_EPROTO);
  bytes eleven = {11};
  in = over(eleven);
  EXPECT_EQ(m4n_read_uint(&in, "x", 10, &positive), M4N_EPROTO);
  EXPECT_EQ(message(), "F.x: 11, expected at most 10");
}

TEST(Reader, RefusesWhatIsNotFinite) {
  double value = 0;
  const bytes half = {0xca, 0x3f, 0x00, 0x00, 0x00}, infinite = {0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0},
              nan = {0xca, 0x7f, 0xc0, 0, 0};
  m4n_reader in = over(half);
  ASSERT_EQ(m4n_read_number(&in, "x", &value), 0);
  EXPECT_EQ(value, 0.5);
  in = over(infinite);
  EXPECT_EQ(m4n_read_number(&in, "x", &value), M4N_EPROTO);
  in = over(nan);
  EXPECT_EQ(m4n_read_number(&in, "x", &value), M4N_EPROTO);
}

TEST(Reader, BelievesNoCount) {
  uint64_t count;
  const bytes many = {0xdd, 0xff, 0xff, 0xff, 0xff}, map = {0xdf, 0x7f, 0xff, 0xff, 0xff},
              text = {0xdb, 0xff, 0xff, 0xff, 0xf0, 'a'}, bin = {0xc6, 0, 0, 0, 2, 1};
  m4n_reader in = over(many);
  EXPECT_EQ(m4n_read_array(&in, "x", 0, UINT64_MAX, &count), M4N_EPROTO);
  EXPECT_EQ(message(), "F.x: announces 4294967295 items with 0 bytes left");
  in = over(map);
  EXPECT_EQ(m4n_read_map(&in, "x", UINT64_MAX, &count), M4N_EPROTO);
  for (const bytes &b : {many, map, text, bin}) {
    in = over(b);
    EXPECT_EQ(m4n_read_skip(&in, "x"), M4N_EPROTO);
  }
  char out[8];
  in = over(text);
  EXPECT_EQ(m4n_read_text(&in, "x", out, sizeof out), M4N_EPROTO);
  const uint8_t *data;
  in = over(bin);
  EXPECT_EQ(m4n_read_bin(&in, "x", 2, &data), M4N_EPROTO);
}

TEST(Reader, NestsEightDeepAndNoDeeper) {
  bytes nested(8, 0x91);
  bytes all = nested + bytes{0x01};
  m4n_reader in = over(all);
  EXPECT_EQ(m4n_read_skip(&in, "x"), 0) << message();
  EXPECT_EQ(m4n_read_end(&in), 0);
  all = bytes(9, 0x91) + bytes{0x01};
  in = over(all);
  EXPECT_EQ(m4n_read_skip(&in, "x"), M4N_EPROTO);
  all = bytes(100000, 0x91);
  in = over(all);
  EXPECT_EQ(m4n_read_skip(&in, "x"), M4N_EPROTO);
}

TEST(Reader, SkipsWholeTrees) {
  // [1, {"a": [nil, true, -1, 1.5f, bin]}, "b"], 7
  const bytes tree = {0x93, 0x01, 0x81, 0xa1, 'a',  0x95, 0xc0, 0xc3, 0xff, 0xca, 0x3f,
                      0xc0, 0x00, 0x00, 0xc4, 0x02, 9,    9,    0xa1, 'b',  0x07};
  m4n_reader in = over(tree);
  uint64_t value = 0;
  ASSERT_EQ(m4n_read_skip(&in, "x"), 0) << message();
  ASSERT_EQ(m4n_read_uint(&in, "y", 10, &value), 0);
  EXPECT_EQ(value, 7u);
  for (size_t cut = 0; cut + 1 < tree.size(); cut++) {
    bytes part(tree.begin(), tree.begin() + (long)cut);
    in = over(part);
    EXPECT_EQ(m4n_read_skip(&in, "x"), M4N_EPROTO) << cut;
  }
  for (uint8_t extension : {0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd8}) {
    const bytes b = {extension, 0, 0, 0, 0, 0, 0};
    in = over(b);
    EXPECT_EQ(m4n_read_skip(&in, "x"), M4N_EPROTO) << (int)extension;
  }
}

TEST(Reader, TextIsUtf8WithoutControlCharacters) {
  char out[8];
  auto text = [&](const std::string &s) {
    bytes b = {(uint8_t)(0xa0 | s.size())};
    b.insert(b.end(), s.begin(), s.end());
    m4n_reader in = over(b);
    return m4n_read_text(&in, "x", out, sizeof out);
  };
  EXPECT_EQ(text("h\xc3\xa9llo"), 0);
  EXPECT_STREQ(out, "h\xc3\xa9llo");
  EXPECT_EQ(text(""), 0);
  EXPECT_EQ(text("1234567"), 0);
  for (const char *bad : {"12345678", "a\nb", "\x7f", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf8", "\xc2\x85", "\x80"})
    EXPECT_EQ(text(bad), M4N_EPROTO) << bad;
  EXPECT_EQ(text(std::string("a\0b", 3)), M4N_EPROTO);
}

TEST(Reader, NamesTheField) {
  // {"k": [[5]]} inside an array
  const bytes b = {0x92, 0x01, 0x81, 0xa1, 'k', 0x91, 0x91, 0xa1, 'x'};
  m4n_reader in = over(b);
  uint64_t count, value;
  char key[4];
  ASSERT_EQ(m4n_read_array(&in, NULL, 2, 2, NULL), 0);
  ASSERT_EQ(m4n_read_uint(&in, "one", 10, &value), 0);
  ASSERT_EQ(m4n_read_map(&in, "map", 4, &count), 0);
  ASSERT_EQ(m4n_read_text(&in, NULL, key, sizeof key), 0);
  m4n_read_key(&in, key);
  ASSERT_EQ(m4n_read_array(&in, NULL, 1, 1, NULL), 0);
  ASSERT_EQ(m4n_read_array(&in, NULL, 1, 1, NULL), 0);
  EXPECT_EQ(m4n_read_uint(&in, NULL, 10, &value), M4N_EPROTO);
  EXPECT_EQ(message(), "F.map[k][0][0]: expected an integer, found text");
  EXPECT_EQ(m4n_read_leave(&in), M4N_EPROTO);
  EXPECT_EQ(message(), "F.map[k][0]: 1 items more than expected");
}

TEST(Packer, CleansTextAndReusesItsMemory) {
  m4n_buffer b{};
  m4n_pack_begin(&b);
  m4n_pack_str(&b, "a\nb\xff\xc3\xa9", 5);
  ASSERT_EQ(m4n_pack_end(&b, "text"), 0);
  EXPECT_EQ(std::string(b.data, b.data + b.size), "\xa4"
                                                  "a?b?"); // the last character does not fit whole
  const uint8_t *before = b.data;
  m4n_pack_begin(&b);
  m4n_pack_u64(&b, 3);
  EXPECT_EQ(b.data, before);
  // What is lent stays as it is.
  m4n_block *lent = m4n_buffer_lend(&b);
  m4n_pack_begin(&b);
  m4n_pack_u64(&b, 4);
  EXPECT_NE(b.data, before);
  EXPECT_EQ(before[0], 3);
  m4n_block_release(lent);
  m4n_buffer_close(&b);
}

TEST(Packer, RefusesFramesThatAreTooLarge) {
  m4n_buffer b{};
  m4n_pack_begin(&b);
  EXPECT_NE(m4n_pack_bin(&b, 1000), nullptr);
  EXPECT_EQ(m4n_pack_bin(&b, M4N_MAX_FRAME), nullptr);
  m4n_pack_u64(&b, 1); // after a failure nothing is written
  EXPECT_EQ(m4n_pack_end(&b, "STEP"), M4N_EARG);
  m4n_pack_begin(&b);
  m4n_pack_u64(&b, 1);
  EXPECT_EQ(m4n_pack_end(&b, "STEP"), 0);
  EXPECT_EQ(b.size, 1u);
  m4n_buffer_close(&b);
}
