// Chunk sizes: folders and Sabre JSON, every refusal, and videos that are generated.
#include <cmath>
#include <fstream>

#include "kernels/base/file.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"
#include "traces/video/model.h"
#include "traces/video/sizes.h"

#include <gtest/gtest.h>

namespace {

void put(const std::string &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string folder_of(std::vector<std::pair<std::string, std::string>> files) {
  std::string folder = m4n_temp_dir();
  for (auto &[name, text] : files) put(folder + "/" + name, text);
  return folder;
}

TEST(Folder, LevelsAreColumns) {
  std::string folder = folder_of({{"video_size_0", "\xEF\xBB\xBF"
                                                   "10\r\n20\r\n30"},
                                  {"video_size_1", "100\n\n200\n300\n"},
                                  {"README.md", "text"}});
  m4n_video v;
  ASSERT_EQ(m4n_video_open(&v, folder.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(v.levels, 2);
  EXPECT_EQ(v.chunks, 3);
  EXPECT_EQ(v.chunk_s, 0);
  EXPECT_EQ(v.kbps, nullptr);
  EXPECT_EQ(std::vector<double>(v.size, v.size + 6), (std::vector<double>{10, 100, 20, 200, 30, 300}));
  m4n_video_close(&v);
}

TEST(Folder, OneLevelAndSixteen) {
  std::vector<std::pair<std::string, std::string>> files;
  for (int i = 0; i < M4N_VIDEO_MAX_LEVELS; i++)
    files.push_back({"video_size_" + std::to_string(i), std::to_string(i + 1)});
  m4n_video v;
  ASSERT_EQ(m4n_video_open(&v, folder_of(files).c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(v.levels, 16);
  EXPECT_EQ(v.size[15], 16);
  m4n_video_close(&v);
  ASSERT_EQ(m4n_video_open(&v, folder_of({{"video_size_0", "7"}}).c_str()), M4N_OK);
  EXPECT_EQ(v.levels, 1);
  m4n_video_close(&v);
}

TEST(Folder, Refusals) {
  struct {
    std::vector<std::pair<std::string, std::string>> files;
    int status;
    const char *says;
  } cases[] = {
      {{}, M4N_ENOTFOUND, "video_size_0"},
      {{{"video_size_0", "1\n"}, {"video_size_2", "1\n"}}, M4N_EFORMAT, "video_size_1 is missing"},
      {{{"video_size_1", "1\n"}}, M4N_EFORMAT, "video_size_0 is missing"},
      {{{"video_size_0", "1\n2\n"}, {"video_size_1", "1\n"}},
       M4N_EFORMAT,
       "video_size_1: chunks: 1 chunks: expected 2"},
      {{{"video_size_0", "1\n2\n"}, {"video_size_1", "1\n-2\n"}},
       M4N_EFORMAT,
       "video_size_1:2: size: \"-2\""},
      {{{"video_size_0", "1\nnan\n"}}, M4N_EFORMAT, "video_size_0:2: size: \"nan\""},
      {{{"video_size_0", "1\ninf\n"}}, M4N_EFORMAT, "video_size_0:2: size: \"inf\""},
      {{{"video_size_0", "1\n0\n"}}, M4N_EFORMAT, "above 0"},
      {{{"video_size_0", "1 2\n"}}, M4N_EFORMAT, "one number"},
      {{{"video_size_0", ""}}, M4N_EFORMAT, "0 chunks: expected 1 to 65536"},
      {{{"video_size_0", "1"}, {"video_size_x", "1"}},
       M4N_EFORMAT,
       "video_size_x: expected video_size_0 to video_size_15"},
      {{{"video_size_0", "1"}, {"video_size_01", "1"}}, M4N_EFORMAT, "video_size_01"},
      {{{"video_size_0", "1"}, {"video_size_16", "1"}}, M4N_EFORMAT, "video_size_16"},
      {{{"video_size_0", "1"}, {"video_size_99999999999999999999", "1"}}, M4N_EFORMAT, "video_size_9999"},
  };
  for (auto &c : cases) {
    m4n_video v;
    EXPECT_EQ(m4n_video_open(&v, folder_of(c.files).c_str()), c.status) << c.says;
    EXPECT_NE(std::string(m4n_error_message()).find(c.says), std::string::npos) << m4n_error_message();
    EXPECT_EQ(v.memory.first, nullptr) << "something of a video that failed was kept";
  }
}

const char sabre[] = "{\n\"segment_duration_ms\": 3000,\n\"bitrates_kbps\": [230, 331.5],\n"
                     "\"segment_sizes_bits\": [\n[886360, 1180512],\n[8, 16],\n[24, 40]\n]}";

TEST(Sabre, BitsBecomeBytes) {
  m4n_video v;
  ASSERT_EQ(m4n_video_parse_json(&v, "v.json", sabre, sizeof sabre - 1), M4N_OK) << m4n_error_message();
  EXPECT_EQ(v.levels, 2);
  EXPECT_EQ(v.chunks, 3);
  EXPECT_EQ(v.chunk_s, 3);
  EXPECT_EQ(v.kbps[1], 331.5);
  EXPECT_EQ(std::vector<double>(v.size, v.size + 6), (std::vector<double>{110795, 147564, 1, 2, 3, 5}));
  m4n_video_close(&v);
}

TEST(Sabre, Refusals) {
  struct {
    const char *from, *to, *key;
    long line;
  } edits[] = {
      {"3000", "0", "segment_duration_ms", 0},
      {"3000", "\"3000\"", "segment_duration_ms", 0},
      {"[230, 331.5]", "230", "bitrates_kbps", 0},
      {"[230, 331.5]", "[]", "levels", 0},
      {"230,", "400,", "bitrates_kbps", 3},
      {"230,", "-1,", "bitrates_kbps", 3},
      {"230, 331.5", "230", "segment_sizes_bits", 5},
      {"[8, 16]", "[8]", "segment_sizes_bits", 6},
      {"[8, 16]", "8", "segment_sizes_bits", 6},
      {"[8, 16]", "[0, 16]", "segment_sizes_bits", 6},
      {"40]", "null]", "segment_sizes_bits", 7},
      {"segment_sizes_bits", "sizes", "segment_sizes_bits", 0},
      {"]}", "]", "", 8},
      {"{\n", "[\n", "", 2},
  };
  for (auto &e : edits) {
    SCOPED_TRACE(std::string(e.from) + " -> " + e.to);
    std::string text = sabre;
    text.replace(text.find(e.from), strlen(e.from), e.to);
    m4n_video v;
    EXPECT_EQ(m4n_video_parse_json(&v, "v.json", text.data(), text.size()), M4N_EFORMAT);
    EXPECT_STREQ(m4n_last_error()->file, "v.json");
    EXPECT_STREQ(m4n_last_error()->key, e.key) << m4n_error_message();
    EXPECT_EQ(m4n_last_error()->line, e.line) << m4n_error_message();
    EXPECT_EQ(v.memory.first, nullptr);
  }
  m4n_video v;
  EXPECT_EQ(m4n_video_open(&v, "/none"), M4N_ENOTFOUND);
}

// Counts, and sizes per second of play against the table of the data folder's README.
TEST(RealVideos, AsTheDataFolderSays) {
  std::string data = m4n_data() + "/abr/videos/";
  if (!m4n_is_dir(data.c_str())) GTEST_SKIP() << "no data at " << data;
  struct {
    const char *name;
    int levels, chunks;
    double first, last; // kbit/s
  } videos[] = {{"envivio-pensieve", 6, 49, 302, 4279},
                {"netllm-video2", 6, 49, 366, 5138},
                {"merina-avengers", 6, 150, 525, 4093},
                {"sabre/bbb.json", 10, 199, 230, 6000},
                {"sabre/movie.json", 10, 199, 230, 6000}};
  for (auto &want : videos) {
    SCOPED_TRACE(want.name);
    m4n_video v;
    ASSERT_EQ(m4n_video_open(&v, (data + want.name).c_str()), M4N_OK) << m4n_error_message();
    EXPECT_EQ(v.levels, want.levels);
    EXPECT_EQ(v.chunks, want.chunks);
    double first = 0, last = 0, seconds = v.chunks * (v.chunk_s ? v.chunk_s : 4);
    for (int c = 0; c < v.chunks; c++) {
      first += v.size[c * v.levels] * 8 / 1000 / seconds;
      last += v.size[c * v.levels + v.levels - 1] * 8 / 1000 / seconds;
    }
    if (v.kbps) {
      EXPECT_EQ(v.kbps[0], want.first);
      EXPECT_EQ(v.kbps[v.levels - 1], want.last);
    } else {
      EXPECT_NEAR(first, want.first, 1);
      EXPECT_NEAR(last, want.last, 1);
    }
    m4n_video_close(&v);
  }
}

// ---- generated videos -------------------------------------------------------------------------------------

TEST(Model, WritesReadsGeneratesAndFitsAgain) {
  m4n_video_model model, back;
  ASSERT_EQ(m4n_video_model_open(&model, "pensieve"), M4N_OK) << m4n_error_message();
  EXPECT_EQ(model.levels, 6);
  EXPECT_EQ(model.chunks, 49);
  EXPECT_EQ(model.kbps[5], 4300);
  model.chunks = 4000;
  model.chunk = 0.4;
  std::string path = m4n_temp_dir() + "/v.json";
  ASSERT_EQ(m4n_video_model_write(&model, path.c_str()), M4N_OK);
  ASSERT_EQ(m4n_video_model_open(&back, path.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(back.chunks, 4000);
  EXPECT_EQ(back.sigma, model.sigma);

  m4n_video v, again;
  ASSERT_EQ(m4n_video_generate(&v, &back, 9, 0), M4N_OK);
  ASSERT_EQ(m4n_video_generate(&again, &back, 9, 0), M4N_OK);
  EXPECT_EQ(memcmp(v.size, again.size, sizeof(double) * v.levels * v.chunks), 0);
  double mean = 0;
  for (int c = 0; c < v.chunks; c++) mean += v.size[c * 6 + 5] / v.chunks;
  EXPECT_NEAR(mean * 8 / 4 / 1000, 4300, 60);
  ASSERT_EQ(m4n_video_model_fit(&back, &v, 1, "again"), M4N_OK);
  EXPECT_NEAR(back.sigma, model.sigma, 0.01);
  EXPECT_NEAR(back.shared, model.shared, 0.03);
  EXPECT_NEAR(back.chunk, 0.4, 0.05);
  m4n_video_close(&v);
  m4n_video_close(&again);
}

TEST(Model, VideosReadBack) {
  m4n_video_model model;
  m4n_video v, back;
  ASSERT_EQ(m4n_video_model_open(&model, "pensieve"), M4N_OK);
  ASSERT_EQ(m4n_video_generate(&v, &model, 1, 0), M4N_OK);
  std::string folder = m4n_temp_dir() + "/video";
  ASSERT_EQ(m4n_video_write(&v, folder.c_str()), M4N_OK);
  ASSERT_EQ(m4n_video_open(&back, folder.c_str()), M4N_OK) << m4n_error_message();
  ASSERT_EQ(back.levels, 6);
  ASSERT_EQ(back.chunks, 49);
  EXPECT_EQ(memcmp(v.size, back.size, sizeof(double) * 6 * 49), 0);
  m4n_video_close(&v);
  m4n_video_close(&back);
}

TEST(Model, Refuses) {
  std::string text =
      "{\"kind\": \"mamba4net video model 1\", \"name\": \"v\", \"videos\": 1, \"levels\": 2, \"chunks\": 3, "
      "\"chunk_s\": 4, \"sigma\": 0.2, \"shared\": 0.5, \"chunk\": 0, \"kbps\": [100, 200]}";
  m4n_video_model model;
  ASSERT_EQ(m4n_video_model_parse(&model, "v", text.data(), text.size()), M4N_OK) << m4n_error_message();
  struct {
    const char *from, *to, *key;
  } edits[] = {{"[100, 200]", "[100]", "kbps"},
               {"[100, 200]", "[200, 100]", "kbps"},
               {"\"levels\": 2", "\"levels\": 17", "levels"},
               {"\"chunks\": 3", "\"chunks\": 3.5", "levels, chunks"},
               {"0.5", "1.5", "shared"},
               {"\"sigma\"", "\"simga\"", "simga"}};
  for (auto &e : edits) {
    std::string bad = text;
    bad.replace(bad.find(e.from), strlen(e.from), e.to);
    EXPECT_EQ(m4n_video_model_parse(&model, "v", bad.data(), bad.size()), M4N_EFORMAT);
    EXPECT_STREQ(m4n_last_error()->key, e.key) << m4n_error_message();
  }
  EXPECT_EQ(m4n_video_model_open(&model, "no-such"), M4N_ENOTFOUND);
  const double one[] = {5, 5, 5};
  m4n_video flat = {1, 3, 4, nullptr, one, {}};
  EXPECT_EQ(m4n_video_model_fit(&model, &flat, 1, "x"), M4N_EFORMAT);
}

} // namespace
