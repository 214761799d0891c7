#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>

#include "kernels/base/arena.h"
#include "kernels/base/file.h"
#include "kernels/base/pool.h"
#include "kernels/base/status.h"
#include "kernels/base/text.h"
#include "tests/support/paths.h"

TEST(Status, NamesFileLineKeyAndText) {
  EXPECT_EQ(m4n_fail_at(M4N_EFORMAT, "a.txt", 3, "time", "%g is before %g", 1.0, 2.0), M4N_EFORMAT);
  EXPECT_STREQ(m4n_error_message(), "a.txt:3: time: 1 is before 2");
  m4n_context(M4N_EFORMAT, "reading %s", "traces");
  m4n_context(M4N_EFORMAT, "abr");
  EXPECT_STREQ(m4n_error_message(), "abr: reading traces: a.txt:3: time: 1 is before 2");
  m4n_fail(M4N_EARG, "no such %s", "thing");
  EXPECT_STREQ(m4n_error_message(), "no such thing");
}

TEST(Status, BelongsToItsThread) {
  m4n_fail(M4N_EIO, "here");
  m4n_error other;
  std::thread([&] {
    m4n_fail(M4N_EBUSY, "there");
    other = *m4n_last_error();
  }).join();
  EXPECT_STREQ(m4n_last_error()->text, "here");
  EXPECT_EQ(m4n_set_error(&other), M4N_EBUSY);
  EXPECT_STREQ(m4n_last_error()->text, "there");
}

TEST(Status, LongTextsAreCutNotOverrun) {
  std::string text(5000, 'x');
  m4n_fail_at(M4N_EFORMAT, text.c_str(), 1, text.c_str(), "%s", text.c_str());
  m4n_context(M4N_EFORMAT, "%s", text.c_str());
  EXPECT_LT(strlen(m4n_error_message()), sizeof(m4n_error) + 64);
}

TEST(Text, LinesWordsAndFields) {
  const char text[] = "\xEF\xBB\xBF"
                      "1 \t2\r\n\nlast, x";
  m4n_lines in = m4n_lines_of(text, sizeof text - 1);
  m4n_span line, word;
  ASSERT_TRUE(m4n_lines_next(&in, &line));
  m4n_words words = {line};
  ASSERT_TRUE(m4n_words_next(&words, &word));
  EXPECT_TRUE(m4n_span_is(word, "1"));
  ASSERT_TRUE(m4n_words_next(&words, &word));
  EXPECT_TRUE(m4n_span_is(word, "2"));
  EXPECT_FALSE(m4n_words_next(&words, &word));
  ASSERT_TRUE(m4n_lines_next(&in, &line));
  EXPECT_EQ(line.size, 0u);
  ASSERT_TRUE(m4n_lines_next(&in, &line));
  EXPECT_EQ(in.number, 3);
  ASSERT_TRUE(m4n_span_split(&line, ',', &word));
  EXPECT_TRUE(m4n_span_is(word, "last"));
  ASSERT_TRUE(m4n_span_split(&line, ',', &word));
  EXPECT_TRUE(m4n_span_is(word, "x"));
  EXPECT_FALSE(m4n_span_split(&line, ',', &word));
  EXPECT_FALSE(m4n_lines_next(&in, &line));
}

TEST(Text, Numbers) {
  double x;
  int64_t i;
  auto span = [](const char *s) { return m4n_span{s, strlen(s)}; };
  EXPECT_TRUE(m4n_span_double(span("1.5e3"), &x));
  EXPECT_EQ(x, 1500);
  EXPECT_TRUE(m4n_span_double(span("nan"), &x));
  EXPECT_TRUE(std::isnan(x));
  for (const char *bad : {"", "1x", "x", "1 2", " 1"}) EXPECT_FALSE(m4n_span_double(span(bad), &x)) << bad;
  EXPECT_FALSE(m4n_span_double(span(std::string(100, '1').c_str()), &x));
  EXPECT_TRUE(m4n_span_int64(span("-9223372036854775808"), &i));
  EXPECT_EQ(i, INT64_MIN);
  for (const char *bad : {"", "9223372036854775808", "1.0", "0x"})
    EXPECT_FALSE(m4n_span_int64(span(bad), &i)) << bad;
}

TEST(File, IsWrittenWholeOrNotAtAll) {
  std::string dir = m4n_temp_dir();
  std::string path = dir + "/x";
  m4n_writer w;
  ASSERT_EQ(m4n_writer_open(&w, path.c_str()), M4N_OK);
  fputs("half", w.stream);
  EXPECT_FALSE(m4n_exists(path.c_str()));
  m4n_writer_abort(&w);
  m4n_names names;
  ASSERT_EQ(m4n_list_dir(&names, dir.c_str()), M4N_OK);
  EXPECT_EQ(names.count, 0);
  m4n_names_free(&names);
  ASSERT_EQ(m4n_writer_open(&w, path.c_str()), M4N_OK);
  fputs("whole", w.stream);
  ASSERT_EQ(m4n_writer_commit(&w), M4N_OK);
  EXPECT_EQ(m4n_read_file(path), "whole");
  m4n_map map;
  ASSERT_EQ(m4n_map_open(&map, path.c_str(), 100), M4N_OK);
  EXPECT_EQ(std::string((const char *)map.data, map.size), "whole");
  m4n_map_close(&map);
}

TEST(File, RefusesWhatItCannotRead) {
  std::string dir = m4n_temp_dir();
  m4n_map map;
  EXPECT_EQ(m4n_map_open(&map, (dir + "/none").c_str(), 100), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_map_open(&map, dir.c_str(), 100), M4N_EFORMAT);
  EXPECT_EQ(m4n_map_open(&map, m4n_write_file(dir + "/big", "0123456789").c_str(), 9), M4N_EFORMAT);
  EXPECT_EQ(m4n_map_open(&map, m4n_write_file(dir + "/empty", "").c_str(), 9), M4N_OK);
  EXPECT_EQ(map.size, 0u);
  m4n_writer w;
  EXPECT_EQ(m4n_writer_open(&w, (dir + "/no/such/folder").c_str()), M4N_ENOTFOUND);
}

TEST(File, FullDiskIsReported) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  std::string dir = m4n_temp_dir();
  std::string path = dir + "/x";
  m4n_writer w;
  ASSERT_EQ(m4n_writer_open(&w, path.c_str()), M4N_OK);
  ASSERT_TRUE(freopen("/dev/full", "w", w.stream));
  fputs("lost", w.stream);
  EXPECT_EQ(m4n_writer_commit(&w), M4N_EIO);
  EXPECT_FALSE(m4n_exists(path.c_str()));
}

TEST(File, FoldersAndPaths) {
  std::string dir = m4n_temp_dir();
  std::string deep = dir + "/a/b/c";
  ASSERT_EQ(m4n_mkdirs(deep.c_str()), M4N_OK);
  EXPECT_TRUE(m4n_is_dir(deep.c_str()));
  EXPECT_NE(m4n_mkdirs((m4n_write_file(dir + "/f", "x") + "/d").c_str()), M4N_OK);
  for (const char *name : {"b10", "B", "b9", ".hidden"}) m4n_write_file(dir + "/a/b/c/" + name, "");
  m4n_names names;
  ASSERT_EQ(m4n_list_dir(&names, deep.c_str()), M4N_OK);
  ASSERT_EQ(names.count, 3);
  EXPECT_STREQ(names.name[0], "B");
  EXPECT_STREQ(names.name[1], "b10");
  EXPECT_STREQ(names.name[2], "b9");
  m4n_names_free(&names);
  char *joined = m4n_path_join("a/", "b"), *absolute = m4n_path_join("a", "/b"),
       *folder = m4n_path_dir("x/y/z");
  EXPECT_STREQ(joined, "a/b");
  EXPECT_STREQ(absolute, "/b");
  EXPECT_STREQ(folder, "x/y");
  EXPECT_STREQ(m4n_path_base("x/y/z"), "z");
  free(joined), free(absolute), free(folder);
}

TEST(Arena, KeepsAddressesAndReusesBlocks) {
  m4n_arena arena = {};
  arena.block_size = 256;
  char *a = (char *)m4n_arena_alloc(&arena, 100);
  memset(a, 1, 100);
  char *b = (char *)m4n_arena_alloc(&arena, 10000);
  ASSERT_TRUE(a && b);
  EXPECT_EQ((uintptr_t)a % 64, 0u);
  EXPECT_EQ((uintptr_t)b % 64, 0u);
  EXPECT_EQ(a[99], 1);
  m4n_arena_reset(&arena);
  EXPECT_EQ(m4n_arena_used(&arena), 0u);
  char *c = (char *)m4n_arena_alloc(&arena, 100);
  EXPECT_EQ(c, a);
  EXPECT_EQ(c[99], 0);
  EXPECT_EQ(m4n_arena_alloc(&arena, SIZE_MAX - 10), nullptr);
  m4n_arena_close(&arena);
}

TEST(Pool, EveryTileOnceWhateverTheThreads) {
  for (int threads : {1, 2, 5}) {
    m4n_pool *pool;
    ASSERT_EQ(m4n_pool_open(&pool, threads), M4N_OK);
    EXPECT_EQ(m4n_pool_threads(pool), threads);
    std::atomic<int> hits[97] = {};
    for (int round = 0; round < 200; round++)
      m4n_pool_run(
          pool, 97, [](void *self, int i) { ((std::atomic<int> *)self)[i]++; }, hits);
    for (auto &h : hits) EXPECT_EQ(h.load(), 200);
    m4n_pool_close(pool);
  }
  m4n_pool *pool;
  EXPECT_EQ(m4n_pool_open(&pool, -1), M4N_EARG);
  int count = 0;
  m4n_pool_run(
      nullptr, 3, [](void *self, int) { ++*(int *)self; }, &count);
  EXPECT_EQ(count, 3);
}

// Rounds so short that workers come late, or not at all: none may meet the next round's tiles with this one's.
TEST(Pool, ShortRoundsFollowEachOther) {
  m4n_pool *pool;
  ASSERT_EQ(m4n_pool_open(&pool, 4), M4N_OK);
  struct Round {
    int number;
    std::atomic<int> sum;
  };
  for (int number = 0; number < 5000; number++) {
    Round round{number, {0}};
    const int tiles = 2 + number % 4;
    m4n_pool_run(
        pool, tiles, [](void *self, int i) { ((Round *)self)->sum += ((Round *)self)->number + i; }, &round);
    ASSERT_EQ(round.sum.load(), tiles * number + tiles * (tiles - 1) / 2);
  }
  m4n_pool_close(pool);
}
