#include "agent/learn/store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "agent/learn/store_format.h"
#include "kernels/base/status.h"
#include "tests/agent/learn/toy.h"
#include "tests/support/alloc.h"
#include "tests/support/paths.h"

extern char **environ;

namespace {

using bytes = std::vector<uint8_t>;

// Sanitized programs look at every so manyth position.
const size_t stride = m4n_sanitized() ? 5 : 1;

bytes read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return bytes(std::istreambuf_iterator<char>(in), {});
}

void write_file(const std::string &path, const bytes &data) {
  std::ofstream(path, std::ios::binary).write((const char *)data.data(), (std::streamsize)data.size());
}

// A file that is written thousands of times: in memory, since a disk under load takes its time.
struct memory_file {
  int fd = memfd_create("events", MFD_CLOEXEC);
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  ~memory_file() { close(fd); }
  const std::string &with(const bytes &data) {
    EXPECT_EQ(ftruncate(fd, 0), 0);
    EXPECT_EQ(pwrite(fd, data.data(), data.size(), 0), (ssize_t)data.size());
    return path;
  }
};

// Writes episodes 0 … n-1 one after the other.
void write_log(const std::string &path, int n) {
  toy_header h;
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_OK) << m4n_error_message();
  for (int e = 0; e < n; e++) toy_episode(h.header.spec, e).write(log, 0);
  ASSERT_EQ(m4n_events_close(log), M4N_OK) << m4n_error_message();
}

std::vector<bytes> records_of(const bytes &file) {
  std::vector<bytes> records;
  for (size_t at = 0; at < file.size();) {
    uint64_t frame;
    memcpy(&frame, &file[at + 16], 8);
    records.emplace_back(file.begin() + (long)at, file.begin() + (long)(at + M4N_RECORD_HEAD + frame));
    at += M4N_RECORD_HEAD + frame;
  }
  return records;
}

void expect_same_double(double a, double b) {
  if (std::isnan(b))
    EXPECT_TRUE(std::isnan(a));
  else
    EXPECT_EQ(a, b);
}

// Field by field: what lies between fields and behind a count's rows is zero in the file.
void expect_row(const m4n_spec &spec, const uint8_t *got, const bytes &want) {
  bytes clean(spec.obs_size);
  for (int i = 0; i < spec.n_obs; i++) {
    const m4n_field &f = spec.obs[i];
    size_t size = f.count * m4n_dtype_size(f.dtype);
    if (f.rank && f.shape[0] == -1) {
      uint32_t count;
      memcpy(&count, &want[f.offset], 4);
      memcpy(&clean[f.offset], &count, 4);
      size = size / (size_t)f.max_rows * count;
      if (size) memcpy(&clean[f.offset + 8], &want[f.offset + 8], size);
    } else
      memcpy(&clean[f.offset], &want[f.offset], size);
  }
  EXPECT_EQ(memcmp(got, clean.data(), clean.size()), 0);
}

void expect_episode(const m4n_spec &spec, const m4n_episode &got) {
  toy_episode want(spec, got.episode);
  ASSERT_EQ(got.steps, want.steps);
  ASSERT_EQ(got.advice != nullptr, got.episode % 4 == 1);
  EXPECT_EQ(got.policy, want.policy);
  EXPECT_EQ(got.set, want.order().set);
  EXPECT_EQ(got.seed, want.order().seed);
  EXPECT_EQ(got.flags, want.flags);
  EXPECT_EQ(got.label, want.label);
  for (int t = 0; t <= want.steps; t++) {
    expect_row(spec, got.obs + (size_t)t * spec.obs_size, want.obs[(size_t)t]);
    EXPECT_EQ(got.sim_time_ns[t], want.time[(size_t)t]);
  }
  for (int t = 0; t < want.steps; t++) {
    EXPECT_EQ(memcmp(got.action + (size_t)t * spec.act_size, want.action[(size_t)t].data(), spec.act_size),
              0);
    if (got.advice) {
      const bytes none(spec.act_size, 0xff), &advice = want.advice[(size_t)t];
      EXPECT_EQ(memcmp(got.advice + (size_t)t * spec.act_size, (advice.empty() ? none : advice).data(),
                       spec.act_size),
                0);
    }
    EXPECT_EQ(got.reward[t], want.reward[(size_t)t]);
    EXPECT_EQ(got.delay_ns[t], want.delay[(size_t)t]);
    EXPECT_EQ(got.served_by[t], want.served_by[(size_t)t]);
    for (int i = 0; i < 2; i++)
      expect_same_double(got.info[2 * t + i], want.knows_info ? want.info[(size_t)(2 * t + i)] : NAN);
  }
  for (int i = 0; i < 3; i++)
    expect_same_double(got.metrics[i], want.knows_metrics ? want.metrics[(size_t)i] : NAN);
}

struct reading {
  int status = M4N_OK;
  bool truncated = false;
  std::vector<int64_t> episodes;
};

// Reads all there is and compares every episode that is handed out with what was written.
reading read_log(const std::string &path, bool compare = true) {
  reading r;
  m4n_events_file *file;
  r.status = m4n_events_open(&file, path.c_str());
  if (r.status) return r;
  const m4n_spec &spec = m4n_events_header_of(file)->spec;
  for (bool more = true;;) {
    m4n_episode e;
    r.status = m4n_events_next(file, &e, &more);
    if (r.status || !more) break;
    if (compare) expect_episode(spec, e);
    r.episodes.push_back(e.episode);
  }
  r.truncated = m4n_events_truncated(file);
  m4n_events_free(file);
  return r;
}

TEST(Store, GivesBackWhatWasWritten) {
  std::string path = m4n_temp_dir() + "/events.bin";
  write_log(path, 200);
  m4n_events_file *file;
  ASSERT_EQ(m4n_events_open(&file, path.c_str()), M4N_OK) << m4n_error_message();
  toy_header h;
  const m4n_events_header *got = m4n_events_header_of(file);
  EXPECT_EQ(memcmp(&got->spec, &h.header.spec, sizeof got->spec), 0);
  EXPECT_EQ(got->seed, h.header.seed);
  EXPECT_STREQ(got->scenario, h.header.scenario);
  ASSERT_EQ(got->n_policies, 3);
  for (int i = 0; i < 3; i++) EXPECT_STREQ(got->policy[i], h.header.policy[i]);
  for (int i = 0; i < 3; i++) EXPECT_STREQ(got->about[i], h.about[(size_t)i]);
  m4n_events_free(file);
  reading r = read_log(path);
  EXPECT_EQ(r.status, M4N_OK);
  EXPECT_FALSE(r.truncated);
  ASSERT_EQ(r.episodes.size(), 200u);
  for (int64_t i = 0; i < 200; i++)
    EXPECT_EQ(r.episodes[(size_t)i], i); // one slot: in the order of finishing
}

TEST(Store, EqualEpisodesAreEqualRecordsWhateverTheSlots) {
  std::string dir = m4n_temp_dir();
  toy_header h;
  enum { N = 90, SLOTS = 8 };
  write_log(dir + "/one", N);
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, (dir + "/eight").c_str(), &h.header, SLOTS), M4N_OK);
  // Lanes advance in turn and take the next episode when theirs ends; episodes without steps end at once.
  std::vector<toy_episode> live;
  std::vector<int> at(SLOTS, 0);
  int next = 0;
  auto begin = [&]() {
    for (;; next++) {
      toy_episode e(h.header.spec, N - 1 - next);
      if (e.steps) return next++, e;
      e.begin(log, (int)live.size() % SLOTS);
    }
  };
  int sleeping = 0;
  for (int s = 0; s < SLOTS; s++) live.push_back(begin());
  for (int s = 0; s < SLOTS; s++) live[(size_t)s].begin(log, s);
  while (sleeping < SLOTS)
    for (int s = 0; s < SLOTS; s++) {
      if (at[(size_t)s] < 0) continue;
      toy_episode &e = live[(size_t)s];
      e.step(log, s, at[(size_t)s]++);
      if (at[(size_t)s] < e.steps) continue;
      while (next < N && toy_episode(h.header.spec, N - 1 - next).steps == 0)
        toy_episode(h.header.spec, N - 1 - next++).begin(log, s);
      if (next == N) {
        at[(size_t)s] = -1;
        sleeping++;
        continue;
      }
      e = toy_episode(h.header.spec, N - 1 - next++);
      at[(size_t)s] = 0;
      e.begin(log, s);
    }
  ASSERT_EQ(m4n_events_close(log), M4N_OK);
  std::vector<bytes> one = records_of(read_file(dir + "/one")), eight = records_of(read_file(dir + "/eight"));
  EXPECT_NE(one, eight); // another order of finishing …
  std::sort(one.begin(), one.end());
  std::sort(eight.begin(), eight.end());
  EXPECT_EQ(one, eight); // … of the same records
}

TEST(Store, EpisodesWithoutAnEndAreRecordedAsLost) {
  std::string path = m4n_temp_dir() + "/events.bin";
  toy_header h;
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 2), M4N_OK);
  int64_t n = 1;
  while (toy_episode(h.header.spec, n).steps < 5) n++;
  toy_episode e(h.header.spec, n);
  e.begin(log, 1);
  for (int t = 0; t < 3; t++) e.step(log, 1, t);
  m4n_events_action(log, 1, e.action[3].data(), 0, 0); // its result never comes
  m4n_events_lost(log, 0);                             // nothing was there
  ASSERT_EQ(m4n_events_close(log), M4N_OK);
  m4n_events_file *file;
  m4n_episode got;
  bool more;
  ASSERT_EQ(m4n_events_open(&file, path.c_str()), M4N_OK);
  ASSERT_EQ(m4n_events_next(file, &got, &more), M4N_OK) << m4n_error_message();
  ASSERT_TRUE(more);
  EXPECT_EQ(got.flags, (uint32_t)M4N_LOST);
  EXPECT_EQ(got.steps, 3);
  EXPECT_EQ(got.reward[2], e.reward[2]);
  EXPECT_TRUE(std::isnan(got.metrics[0]));
  ASSERT_EQ(m4n_events_next(file, &got, &more), M4N_OK);
  EXPECT_FALSE(more);
  m4n_events_free(file);
}

TEST(Store, ReadsAnyBeginningUpToItsLastWholeRecord) {
  std::string dir = m4n_temp_dir();
  memory_file cut;
  write_log(dir + "/whole", 6);
  bytes whole = read_file(dir + "/whole");
  std::vector<bytes> records = records_of(whole);
  for (size_t size = 0; size < whole.size(); size += stride) {
    size_t complete = 0, end = 0;
    while (end + records[complete].size() <= size) end += records[complete++].size();
    reading r = read_log(cut.with(bytes(whole.begin(), whole.begin() + (long)size)));
    if (complete == 0) {
      EXPECT_EQ(r.status, M4N_EFORMAT) << size;
    } else {
      EXPECT_EQ(r.status, M4N_OK) << size << m4n_error_message();
      EXPECT_TRUE(r.truncated) << size;
      EXPECT_EQ(r.episodes.size(), complete - 1) << size;
    }
  }
}

// A bit that zstd has no use for may flip; whatever is handed out is what was written.
TEST(Store, NoFlippedBitChangesAnything) {
  std::string dir = m4n_temp_dir();
  memory_file bad;
  write_log(dir + "/whole", 4);
  bytes whole = read_file(dir + "/whole");
  size_t last = whole.size() - records_of(whole).back().size(), head = records_of(whole)[0].size(),
         unnoticed = 0;
  for (size_t at = 0; at < whole.size(); at += stride) {
    bytes damaged = whole;
    damaged[at] ^= (uint8_t)(1 << at % 8);
    reading r = read_log(bad.with(damaged)); // which compares what it gets
    if (r.status == M4N_OK) {
      EXPECT_TRUE(r.episodes.size() == 4) << at;
      unnoticed += at < last;
      continue;
    }
    EXPECT_EQ(r.status, M4N_EFORMAT) << at;
    if (at < head) continue;
    const char *where = strstr(m4n_last_error()->text, "at byte ");
    ASSERT_NE(where, nullptr);
    EXPECT_LE(strtoull(where + 8, nullptr, 10), at);
  }
  EXPECT_LT(unnoticed, whole.size() / stride / 100);
}

TEST(Store, NamesTheOffsetOfABrokenRecord) {
  std::string path = m4n_temp_dir() + "/events.bin";
  write_log(path, 5);
  bytes file = read_file(path);
  std::vector<bytes> records = records_of(file);
  size_t third = records[0].size() + records[1].size() + records[2].size();
  file[third + M4N_RECORD_HEAD + records[3].size() / 2] ^= 0xff;
  write_file(path, file);
  reading r = read_log(path);
  EXPECT_EQ(r.status, M4N_EFORMAT);
  EXPECT_EQ(r.episodes.size(), 2u);
  EXPECT_NE(strstr(m4n_error_message(), ("at byte " + std::to_string(third) + ":").c_str()), nullptr)
      << m4n_error_message();
}

bytes content_of(const bytes &record) {
  uint64_t size;
  memcpy(&size, &record[8], 8);
  bytes content(size);
  EXPECT_EQ(ZSTD_decompress(content.data(), size, &record[M4N_RECORD_HEAD], record.size() - M4N_RECORD_HEAD),
            size);
  return content;
}

bytes make_record(uint32_t kind, const bytes &content) {
  bytes record(M4N_RECORD_HEAD + ZSTD_compressBound(content.size()));
  size_t frame = ZSTD_compress(&record[M4N_RECORD_HEAD], record.size() - M4N_RECORD_HEAD, content.data(),
                               content.size(), 1);
  m4n_record head = {kind, content.size(), frame, XXH3_64bits(content.data(), content.size())};
  m4n_record_put(record.data(), &head);
  record.resize(M4N_RECORD_HEAD + frame);
  return record;
}

// A liar's file: all hashes are right, the contents are not. The sanitizers watch.
TEST(Store, SurvivesContentsOfALiar) {
  std::string dir = m4n_temp_dir();
  memory_file bad;
  write_log(dir + "/whole", 3);
  std::vector<bytes> records = records_of(read_file(dir + "/whole"));
  int refused = 0, tried = 0;
  for (size_t which : {0, 2}) {
    bytes content = content_of(records[which]);
    for (size_t at = 0; at < content.size(); at++)
      for (uint8_t mask : {0x01, 0x80, 0xff}) {
        if (at % stride || (which == 2 && at > 400 && at % 7)) continue; // columns are all alike
        bytes lie = content;
        lie[at] ^= mask;
        bytes file;
        for (size_t i = 0; i < records.size(); i++) {
          bytes r = i == which ? make_record(which ? 2 : 1, lie) : records[i];
          file.insert(file.end(), r.begin(), r.end());
        }
        reading r = read_log(bad.with(file), false);
        EXPECT_TRUE(r.status == M4N_OK || r.status == M4N_EFORMAT) << m4n_error_message();
        refused += r.status != M4N_OK;
        tried++;
      }
  }
  EXPECT_GT(refused, tried / 4);
}

TEST(Store, RefusesWhatIsOutOfRange) {
  std::string dir = m4n_temp_dir();
  memory_file bad;
  write_log(dir + "/whole", 3);
  std::vector<bytes> records = records_of(read_file(dir + "/whole"));
  bytes content = content_of(records[2]); // episode 1
  m4n_spec spec = toy_spec();
  toy_episode e(spec, 1);
  size_t decisions = 40 + m4n_round8(e.label.size()) + 8 * 3, T = (size_t)e.steps;
  auto attempt = [&](size_t offset, const void *value, size_t size) {
    bytes lie = content;
    memcpy(&lie[offset], value, size);
    bytes file;
    for (const bytes &r : {records[0], records[1], make_record(2, lie)})
      file.insert(file.end(), r.begin(), r.end());
    reading r = read_log(bad.with(file), false);
    return r.status ? std::string(m4n_last_error()->text) : "accepted";
  };
  const double nan = NAN, inf = INFINITY, one = 1;
  const int32_t five = 5, minus = -1, minus_two = -2, many = INT32_MAX;
  EXPECT_EQ(attempt(decisions + 16 * T, &one, 8), "accepted");
  EXPECT_NE(attempt(decisions + 16 * T, &nan, 8).find("reward"), std::string::npos);
  EXPECT_NE(attempt(decisions + 24 * T, &inf, 8).find("info"), std::string::npos);
  EXPECT_NE(attempt(decisions + 40 * T, &five, 4).find("choices"), std::string::npos);
  EXPECT_NE(attempt(decisions + 40 * T, &minus, 4).find("choices"), std::string::npos);
  EXPECT_NE(attempt(decisions + 56 * T, &five, 4).find("advice"), std::string::npos);
  EXPECT_NE(attempt(decisions + 56 * T, &minus_two, 4).find("advice"), std::string::npos);
  EXPECT_EQ(attempt(decisions + 56 * T, &minus, 4), "accepted"); // none was given
  EXPECT_NE(attempt(decisions + 72 * T + 8 * (T + 1), &nan, 8).find("range"), std::string::npos);
  EXPECT_NE(attempt(0, &five, 4).find("policy"), std::string::npos);
  EXPECT_NE(attempt(4, &minus, 4).find("set"), std::string::npos);
  EXPECT_NE(attempt(24, &five, 4).find("unknown way"), std::string::npos); // FIRST | TRUNCATED
  EXPECT_NE(attempt(28, &many, 4).find("fewer decisions"), std::string::npos);
  EXPECT_NE(attempt(32, &many, 4).find("label"), std::string::npos);
  EXPECT_NE(attempt(36, &five, 4).find("does not know"), std::string::npos);
}

TEST(Store, RefusesOtherFiles) {
  std::string dir = m4n_temp_dir();
  m4n_events_file *file;
  EXPECT_EQ(m4n_events_open(&file, (dir + "/missing").c_str()), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_events_open(&file, dir.c_str()), M4N_EFORMAT);
  ASSERT_EQ(mkfifo((dir + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(m4n_events_open(&file, (dir + "/fifo").c_str()), M4N_EFORMAT);
  write_file(dir + "/empty", {});
  EXPECT_EQ(m4n_events_open(&file, (dir + "/empty").c_str()), M4N_EFORMAT);
  write_file(dir + "/text", bytes(1000, 'x'));
  EXPECT_EQ(m4n_events_open(&file, (dir + "/text").c_str()), M4N_EFORMAT);
  EXPECT_EQ(file, nullptr);
}

// A few bytes that claim a gigabyte are refused before anything is reserved.
TEST(Store, ReservesNothingOnAClaim) {
  std::string path = m4n_temp_dir() + "/bomb";
  bytes file(M4N_RECORD_HEAD + 20);
  m4n_record head = {1, 30 << 20, 20, 0};
  m4n_record_put(file.data(), &head);
  write_file(path, file);
  m4n_events_file *opened;
  EXPECT_EQ(m4n_events_open(&opened, path.c_str()), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "too small"), nullptr) << m4n_error_message();
}

TEST(Store, SaysWhatAHeaderCannotHold) {
  std::string path = m4n_temp_dir() + "/events.bin", name(M4N_POLICY_TEXT, 'p');
  toy_header h;
  h.names[1] = name.c_str();
  m4n_events *log;
  EXPECT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "policies"), nullptr) << m4n_error_message();
  h.names[1] = "short";
  h.about[1] = name.c_str();
  EXPECT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_EARG);
  h.about[1] = "";
  std::string scenario(33 << 20, '#');
  h.header.scenario = scenario.c_str();
  EXPECT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_EARG);
  EXPECT_EQ(access(path.c_str(), F_OK), -1); // nothing half-written
  h.header.scenario = "";
  EXPECT_EQ(m4n_events_create(&log, (path + "/x").c_str(), &h.header, 1), M4N_ENOTFOUND);
  name.pop_back(); // a checkpoint's path may be this long
  h.names[1] = h.about[2] = name.c_str();
  ASSERT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_events_close(log), M4N_OK);
  m4n_events_file *file;
  ASSERT_EQ(m4n_events_open(&file, path.c_str()), M4N_OK) << m4n_error_message();
  EXPECT_EQ(m4n_events_header_of(file)->policy[1], name);
  EXPECT_EQ(m4n_events_header_of(file)->about[2], name);
  m4n_events_free(file);
}

// A simulator that never ends its episode must not eat all memory; the others' episodes are recorded all the same.
TEST(Store, AnEpisodeWithoutEndIsGivenUp) {
  std::string path = m4n_temp_dir() + "/events.bin";
  m4n_spec spec = {};
  strcpy(spec.task, "endless");
  m4n_spec_add_obs(&spec, "nodes", M4N_F64, "", 0, 1, 1, -1)->max_rows = M4N_MAX_ROW / 8 - 1;
  m4n_spec_add_choice(&spec, "which", 2);
  ASSERT_EQ(m4n_spec_layout(&spec), M4N_OK) << m4n_error_message();
  const char *policy = "p";
  m4n_events_header header = {spec, 1, 1, &policy, "", nullptr};
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, path.c_str(), &header, 1), M4N_OK);
  std::vector<uint64_t> obs(spec.obs_size / 8), action(1); // no nodes: little to write, a megabyte to read
  m4n_reset order = {};
  for (int steps : {2000, 3}) {
    m4n_events_begin(log, 0, 0, &order, "", (uint8_t *)obs.data(), 0);
    for (int t = 1; t <= steps; t++) {
      m4n_events_action(log, 0, (uint8_t *)action.data(), 0, 0);
      m4n_events_result(log, 0, (uint8_t *)obs.data(), 0, nullptr, 0, t == steps ? M4N_TERMINATED : 0,
                        nullptr);
    }
  }
  EXPECT_EQ(m4n_events_close(log), M4N_EFORMAT);
  EXPECT_NE(strstr(m4n_error_message(), "after 1024 decisions"), nullptr) << m4n_error_message();
  reading r = read_log(path, false);
  EXPECT_EQ(r.status, M4N_OK);
  EXPECT_EQ(r.episodes.size(), 1u);
  EXPECT_TRUE(r.truncated); // an episode is missing
}

// Buffers are made and grow while a run begins; from then on steps and episodes cost no allocation.
TEST(Store, AllocatesPerBufferNotPerStep) {
  if (m4n_sanitized()) GTEST_SKIP() << "allocations are counted without sanitizers only";
  std::string path = m4n_temp_dir() + "/events.bin";
  toy_header h;
  std::vector<toy_episode> episodes;
  for (int n = 0; n < 50; n++) episodes.emplace_back(h.header.spec, n);
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, path.c_str(), &h.header, 1), M4N_OK);
  int64_t steps = 0;
  for (int i = 0; i < 40; i++)
    for (const toy_episode &e : episodes) e.write(log, 0);
  int64_t before = m4n_allocations();
  for (int i = 0; i < 40; i++)
    for (const toy_episode &e : episodes) e.write(log, 0), steps += e.steps;
  int64_t made = m4n_allocations() - before;
  EXPECT_EQ(m4n_events_close(log), M4N_OK);
  EXPECT_GT(steps, 20000);
  EXPECT_LT(made, 500); // a queue that had never been full before may still make its last buffers
}

TEST(Store, AFullDeviceIsAnError) {
  if (access("/dev/full", W_OK)) GTEST_SKIP() << "no /dev/full";
  toy_header h;
  m4n_events *log;
  EXPECT_EQ(m4n_events_create(&log, "/dev/full", &h.header, 1), M4N_EIO);
  EXPECT_NE(strstr(m4n_error_message(), "/dev/full"), nullptr);
}

// A limit on the file's size stands for a disk that runs full in the middle of a run.
TEST(Store, AFullDiskIsRememberedAndTheFileStaysWhole) {
  std::string path = m4n_temp_dir() + "/events.bin";
  toy_header h;
  struct rlimit old, little;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  little = old;
  little.rlim_cur = 40000;
  signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &little), 0);
  m4n_events *log;
  int status = m4n_events_create(&log, path.c_str(), &h.header, 1);
  int64_t n = 0;
  while (!status && n < 20000 && !(status = m4n_events_status(log)))
    toy_episode(h.header.spec, n++).write(log, 0);
  for (int i = 0; i < 200; i++) toy_episode(h.header.spec, n++).write(log, 0); // nobody waits for a dead disk
  int closed = m4n_events_close(log);
  std::string message = m4n_error_message();
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(status, M4N_EIO);
  EXPECT_EQ(closed, M4N_EIO);
  EXPECT_NE(message.find(path), std::string::npos) << message;
  reading r = read_log(path);
  EXPECT_EQ(r.status, M4N_OK);
  EXPECT_TRUE(r.truncated);
  EXPECT_GT(r.episodes.size(), 10u);
}

const char *const forever = "M4N_STORE_TEST_WRITE_FOREVER";

// Not a test of its own: what the next one starts and kills.
TEST(Store, WriterThatIsKilled) {
  const char *path = getenv(forever);
  if (!path) GTEST_SKIP() << "runs only as a child of SurvivesKill";
  toy_header h;
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, path, &h.header, 1), M4N_OK);
  for (int64_t n = 0; getppid() != 1; n++) toy_episode(h.header.spec, n % 1000).write(log, 0);
}

TEST(Store, SurvivesKill) {
  std::string path = m4n_temp_dir() + "/events.bin", variable = std::string(forever) + "=" + path;
  std::string filter = "--gtest_filter=Store.WriterThatIsKilled";
  std::vector<char *> env;
  for (char **e = environ; *e; e++) env.push_back(*e);
  env.push_back(variable.data());
  env.push_back(nullptr);
  char self[] = "/proc/self/exe";
  char *arguments[] = {self, filter.data(), nullptr};
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
  pid_t child;
  ASSERT_EQ(posix_spawn(&child, self, &quiet, nullptr, arguments, env.data()), 0);
  posix_spawn_file_actions_destroy(&quiet);
  struct stat about = {};
  for (int i = 0; i < 3000 && about.st_size < 100000; i++) {
    usleep(10000);
    if (stat(path.c_str(), &about)) about.st_size = 0;
  }
  kill(child, SIGKILL);
  int how;
  ASSERT_EQ(waitpid(child, &how, 0), child);
  ASSERT_TRUE(WIFSIGNALED(how));
  ASSERT_GE(about.st_size, 100000);
  reading r = read_log(path);
  EXPECT_EQ(r.status, M4N_OK) << m4n_error_message();
  EXPECT_TRUE(r.truncated);
  ASSERT_GT(r.episodes.size(), 25u) << "100,000 bytes are about fifty";
  for (size_t i = 0; i < r.episodes.size(); i++) EXPECT_EQ(r.episodes[i], (int64_t)(i % 1000));
}

} // namespace
