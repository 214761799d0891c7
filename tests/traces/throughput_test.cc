// Every format with values worked by hand, every trap, every refusal.
#include <cmath>
#include <fstream>

#include "tests/support/paths.h"
#include "tests/traces/parsed.h"

namespace {

// ---- the formats ------------------------------------------------------------------------------------------

TEST(Cooked, DropsRepeatedStampsAndKeepsTheFilesDoubles) {
  Parsed p("0.0\t1.5\n1.0 2.25\n1.0 9\n3.5\t0.0\r\n4.25 0.66\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_COOKED);
  EXPECT_EQ(p.time(), (numbers{0, 1, 3.5, 4.25}));
  EXPECT_EQ(p.mbps(), (numbers{1.5, 2.25, 0, 0.66}));
  EXPECT_EQ(p.trace.rtt_ms, -1);
  EXPECT_STREQ(p.trace.name, "t.log");
}

TEST(Cooked, MayBeginLaterAndEndWithoutNewline) {
  Parsed p("\xEF\xBB\xBF"
           "50 1\n\n51 2\n 52\t3 ");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.time(), (numbers{50, 51, 52}));
  EXPECT_EQ(p.mbps(), (numbers{1, 2, 3}));
}

TEST(Cooked, NumbersComeThroughExactly) {
  Parsed p("0 0.1\n1.01 2.29085714286\n2.0109999999999997 1e-3\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.time(), (numbers{0, strtod("1.01", nullptr), strtod("2.0109999999999997", nullptr)}));
  EXPECT_EQ(p.mbps(), (numbers{0.1, strtod("2.29085714286", nullptr), 0.001}));
}

// Bins of 1 s: second 0 has three lines (two of them repeated), second 1 one, second 2 one; the partial second 3 is
// dropped. A packet a second is 0.012 Mbit/s.
TEST(Mahimahi, CountsPacketsOfWholeSeconds) {
  Parsed p("300\n300\n999\n1000\n2999\n3000\n3400\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_MAHIMAHI);
  EXPECT_EQ(p.time(), (numbers{0, 1, 2, 3}));
  EXPECT_EQ(p.mbps(), (numbers{3 * 0.012, 3 * 0.012, 0.012, 0.012}));
}

TEST(Mahimahi, SilenceIsRowsOfZero) {
  Parsed p("2500\r\n4000\r\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.time(), (numbers{0, 1, 2, 3, 4}));
  EXPECT_EQ(p.mbps(), (numbers{0, 0, 0, 0.012, 0}));
}

TEST(Mahimahi, ARecordingShorterThanABinRepeats) {
  Parsed p("1\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.time(), (numbers{0, 1}));
  EXPECT_EQ(p.mbps(), (numbers{12, 12}));
}

TEST(Sabre, PeriodsBecomeRowsAtTheirEnds) {
  Parsed p("\xEF\xBB\xBF [{\"duration_ms\": 500, \"bandwidth_kbps\": 0, \"latency_ms\": 20},\n"
           " {\"duration_ms\": 0, \"bandwidth_kbps\": 7, \"latency_ms\": 900},\n"
           " {\"duration_ms\": 1500, \"bandwidth_kbps\": 3200, \"latency_ms\": 40}]\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_SABRE);
  EXPECT_EQ(p.time(), (numbers{0, 0.5, 2}));
  EXPECT_EQ(p.mbps(), (numbers{0, 0, 3.2}));
  EXPECT_EQ(p.trace.rtt_ms, (500 * 20 + 1500 * 40) / 2000.0);
}

TEST(Sabre, LatencyMayBeMissing) {
  Parsed p("[{\"duration_ms\": 1000.5, \"bandwidth_kbps\": 1}]");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.rtt_ms, -1);
  EXPECT_EQ(p.time(), (numbers{0, 1.0005}));
}

TEST(Nyu, UnitsChangeBetweenLines) {
  Parsed p("3.97,Mbits/sec\n512,Kbits/sec\r\n0.00,bits/sec\n1.5,Gbits/sec\n250000 , bits/sec\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_NYU);
  EXPECT_EQ(p.time(), (numbers{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(p.mbps(), (numbers{3.97, 3.97, 0.512, 0, 1500, 0.25}));
}

// Pairs hold their rate, the gap from 3 s to 4 s the mean of both: (800 + 1600) / 2.
TEST(Oboe, GapsHoldTheMeanOfTheirNeighbours) {
  Parsed p("1000 800\n3000 800\n4000 1600\n9000 1600\n9000 400\n9500 400\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_OBOE);
  EXPECT_EQ(p.time(), (numbers{0, 2, 3, 8, 8.5}));
  EXPECT_EQ(p.mbps(), (numbers{0.8, 0.8, 1.2, 1.6, 0.4}));
}

// 23:59:58 states nothing and is before the first rate: the trace begins a second later. Midnight, a month's end,
// 0:00:00 twice (mean of 2 and 4 Mbit/s), held over the gap to 0:00:03, which states nothing and lasts 1 s.
TEST(Ucc, RepeatedSecondsGapsAndDashes) {
  Parsed p(m4n_valid_traces()[5].second);
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.trace.format, M4N_TRACE_UCC);
  EXPECT_EQ(p.time(), (numbers{0, 1, 4, 5}));
  EXPECT_EQ(p.mbps(), (numbers{1, 1, 3, 3}));
}

TEST(Ucc, CalendarKnowsLeapYears) {
  Parsed p("DL_bitrate,Timestamp\n1000,2020.02.28_23.59.59\n2000,2020.03.01_00.00.00\n");
  ASSERT_EQ(p.status, M4N_OK) << p.message;
  EXPECT_EQ(p.time(), (numbers{0, 86401, 86402}));
}

TEST(Auto, TellsTheFormatsApart) {
  for (const auto &[format, text] : m4n_valid_traces()) {
    Parsed p(text);
    EXPECT_EQ(p.status, M4N_OK) << p.message;
    EXPECT_EQ(p.trace.format, format) << text;
    Parsed named(text, format);
    EXPECT_EQ(named.time(), p.time());
    EXPECT_EQ(named.mbps(), p.mbps());
  }
}

// Few and long steps are cooked all the same where the rates are no kbit/s, or where there are no pairs.
TEST(Auto, ConstantCookedTracesAreNotOboe) {
  for (const char *text : {"0 1.5\n1000 1.5\n", "0 500\n300 500\n", "0 1\n400 1\n800 2\n1200 2\n",
                           "0 200\n200 300\n400 250\n600 270\n"}) {
    Parsed p(text);
    EXPECT_EQ(p.status, M4N_OK) << p.message;
    EXPECT_EQ(p.trace.format, M4N_TRACE_COOKED) << text;
  }
}

TEST(Auto, NamesOfFormats) {
  for (int format = M4N_TRACE_AUTO; format <= M4N_TRACE_UCC; format++)
    EXPECT_EQ(m4n_trace_format_of(m4n_trace_format_name(format)), format);
  EXPECT_EQ(m4n_trace_format_of("pcap"), -1);
  EXPECT_EQ(m4n_trace_format_name(7), nullptr);
  EXPECT_EQ(m4n_trace_format_name(-1), nullptr);
}

// ---- bad input --------------------------------------------------------------------------------------------

struct Bad {
  const char *what, *text;
  int format;
  long line;
  const char *key, *says; // a part of the text
};

const Bad bad[] = {
    {"empty", "", 0, 0, "", "is empty"},
    {"empty, named", "", M4N_TRACE_SABRE, 0, "", "is empty"},
    {"blank", " \n\t\n", 0, 0, "", "is empty"},
    {"words", "\nhello world\n", 0, 2, "", "no known format"},
    {"binary",
     "\x7f"
     "ELF\x02\x01\x01",
     0, 1, "", "no known format"},
    {"nan rate", "0 1\n1 nan\n", 0, 2, "bandwidth", "finite number"},
    {"inf rate", "0 1\n1 inf\n", 0, 2, "bandwidth", "finite number"},
    {"nan time", "nan 1\n1 2\n", 0, 1, "time", "finite number"},
    {"negative time", "-1 1\n1 2\n", 0, 1, "time", "at least 0"},
    {"negative rate", "0 1\n1 -2\n", 0, 2, "bandwidth", "at least 0"},
    {"unsorted", "0 1\n2 1\n1 1\n", 0, 3, "time", "1 s comes after 2 s"},
    {"one row", "0 1\n", 0, 0, "time", "length 0"},
    {"zero length", "3 1\n3 2\n3 4\n", 0, 0, "time", "length 0"},
    {"only zero", "0 5\n1 0\n2 0\n", 0, 0, "bandwidth", "always 0"},
    {"next to nothing", "0 1\n1 1e-300\n", 0, 0, "bandwidth", "at least 0.001 Mbit/s"},
    {"rows too short", "0 1\n1e-9 1\n2e-9 1\n", 0, 0, "time", "at least 1 ms a row"},
    {"three columns", "0 1\n1 2 3\n", 0, 2, "", "two columns"},
    {"one column of two", "0 1\n1\n", 0, 2, "bandwidth", "two columns"},
    {"word in cooked", "0 1\n1 x\n", 0, 2, "bandwidth", "\"x\": expected Mbit/s"},
    {"epoch", "1500000000 1\n1500000001 2\n", 0, 1, "time", "since the recording's start"},
    {"too fast", "0 1\n1 2e6\n", 0, 2, "bandwidth", "0 to 1e+06 Mbit/s"},
    {"too late", "0 1\n2e9 1\n", 0, 2, "time", "0 to 1e+09 s"},
    {"fraction in mahimahi", "1\n1.5\n", 0, 2, "time", "whole number"},
    {"negative in mahimahi", "-5\n", 0, 1, "time", "at least 0"},
    {"unsorted mahimahi", "5\n4\n", 0, 2, "time", "4 ms comes after 5 ms"},
    {"mahimahi of length 0", "0\n0\n", 0, 2, "time", "length 0"},
    {"mahimahi in microseconds", "1\n90000000\n", 0, 2, "time", "less than a day of silence"},
    {"mahimahi, number too large", "99999999999999999999\n", 0, 1, "time", "whole number"},
    {"truncated JSON", "[{\"duration_ms\": 5,\n", 0, 2, "", "expected JSON"},
    {"JSON object", "{\"duration_ms\": 5}", 0, 1, "", "expected a JSON array"},
    {"key missing", "[{\"duration_ms\": 5, \"bandwidth_kbps\": 1},\n{\"duration_ms\": 5}]", 0, 2,
     "bandwidth_kbps", "the key is missing"},
    {"text for a number", "[{\"duration_ms\": \"5\", \"bandwidth_kbps\": 1}]", 0, 1, "duration_ms",
     "a number from 0"},
    {"negative duration", "[\n{\"duration_ms\": -5, \"bandwidth_kbps\": 1}]", 0, 2, "duration_ms",
     "a number from 0"},
    {"negative latency", "[\n\n{\"duration_ms\": 5, \"bandwidth_kbps\": 1, \"latency_ms\": -1}]", 0, 3,
     "latency_ms", "a number from 0"},
    {"number in the array", "[{\"duration_ms\": 5, \"bandwidth_kbps\": 1},\n 7]", 0, 2, "",
     "expected an object"},
    {"empty array", "[]", 0, 0, "time", "length 0"},
    {"sabre only zero", "[{\"duration_ms\": 5, \"bandwidth_kbps\": 0}]", 0, 0, "bandwidth", "always 0"},
    {"repeated key", "[{\"duration_ms\": 5, \"duration_ms\": 6, \"bandwidth_kbps\": 1}]", 0, 1, "",
     "duplicate"},
    {"unknown unit", "3.97,Mbits/sec\n3.97,Pbits/sec\n", 0, 2, "unit", "Kbits/sec"},
    {"no unit", "3.97,Mbits/sec\n3.97\n", 0, 2, "unit", "value,unit"},
    {"nan in nyu", "nan,Mbits/sec\n", 0, 1, "bandwidth", "finite number"},
    {"outage only", "0.00,bits/sec\n0.00,bits/sec\n", 0, 0, "bandwidth", "always 0"},
    {"unsorted oboe", "5 100\n4 100\n", M4N_TRACE_OBOE, 2, "time", "4 ms comes after 5 ms"},
    {"one column oboe", "5\n", M4N_TRACE_OBOE, 1, "bandwidth", "two columns"},
    {"no rate column", "Timestamp,Speed\n2017.11.30_16.48.26,1\n", 0, 1, "DL_bitrate", "CSV header"},
    {"no time column", "Time,DL_bitrate\n1,1\n", M4N_TRACE_UCC, 1, "Timestamp", "CSV header"},
    {"bad stamp", "Timestamp,DL_bitrate\n2017.13.30_16.48.26,1\n", 0, 2, "Timestamp", "YYYY.MM.DD_HH.MM.SS"},
    {"short line", "DL_bitrate,Timestamp\n1\n", 0, 2, "Timestamp", "YYYY.MM.DD_HH.MM.SS"},
    {"bad rate", "Timestamp,DL_bitrate\n2017.11.30_16.48.26,x\n", 0, 2, "DL_bitrate", "\"x\""},
    {"back in time", "Timestamp,DL_bitrate\n2017.11.30_16.48.26,1\n2017.11.30_16.48.25,1\n", 0, 3,
     "Timestamp", "times that rise"},
    {"never a rate", "Timestamp,DL_bitrate\n2017.11.30_16.48.26,-\n", 0, 2, "DL_bitrate",
     "at least one known rate"},
};

TEST(Bad, EveryRefusalNamesFileLineKeyAndWhatWasExpected) {
  for (const Bad &b : bad) {
    SCOPED_TRACE(b.what);
    Parsed p(b.text, b.format);
    ASSERT_EQ(p.status, M4N_EFORMAT);
    const m4n_error *error = m4n_last_error();
    EXPECT_STREQ(error->file, "folder/t.log");
    EXPECT_EQ(error->line, b.line) << p.message;
    EXPECT_STREQ(error->key, b.key) << p.message;
    EXPECT_NE(std::string(error->text).find(b.says), std::string::npos) << p.message;
  }
}

TEST(Bad, NoFormatOfThatNumber) {
  EXPECT_EQ(Parsed("0 1\n1 1\n", 99).status, M4N_EARG);
  EXPECT_EQ(Parsed("0 1\n1 1\n", -1).status, M4N_EARG);
}

TEST(Bad, MessagesHoldNoControlCharacters) {
  Parsed p("\x1b[31mred\n");
  EXPECT_EQ(p.status, M4N_EFORMAT);
  for (char c : p.message) EXPECT_GE((unsigned char)c, ' ') << p.message;
}

// ---- folders ----------------------------------------------------------------------------------------------

void put(const std::string &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(Set, ReadsEveryFileInByteOrder) {
  std::string folder = m4n_temp_dir();
  put(folder + "/b", "0 1\n1 1\n");
  put(folder + "/a10", "1\n2000\n");
  put(folder + "/B", "[{\"duration_ms\": 5, \"bandwidth_kbps\": 1}]");
  put(folder + "/README.md", "text");
  put(folder + "/README.upstream", "text");
  put(folder + "/index.tsv", "text");
  put(folder + "/.hidden", "text");
  std::filesystem::create_directory(folder + "/deeper");
  m4n_traces set;
  ASSERT_EQ(m4n_traces_open(&set, folder.c_str(), M4N_TRACE_AUTO), M4N_OK) << m4n_error_message();
  ASSERT_EQ(set.count, 3);
  EXPECT_STREQ(set.trace[0].name, "B");
  EXPECT_STREQ(set.trace[1].name, "a10");
  EXPECT_STREQ(set.trace[2].name, "b");
  EXPECT_EQ(set.trace[0].format, M4N_TRACE_SABRE);
  m4n_traces_close(&set);
}

TEST(Set, OneBadFileFailsItWhole) {
  std::string folder = m4n_temp_dir();
  put(folder + "/a", "0 1\n1 1\n");
  put(folder + "/b", "0 1\n1 -1\n");
  m4n_traces set;
  EXPECT_EQ(m4n_traces_open(&set, folder.c_str(), M4N_TRACE_AUTO), M4N_EFORMAT);
  EXPECT_EQ(std::string(m4n_error_message()).find(folder + "/b:2: bandwidth: "), 0u) << m4n_error_message();
  EXPECT_EQ(set.count, 0);
  EXPECT_EQ(set.memory.first, nullptr);
}

TEST(Set, MissingAndEmpty) {
  std::string folder = m4n_temp_dir();
  m4n_traces set;
  EXPECT_EQ(m4n_traces_open(&set, (folder + "/none").c_str(), M4N_TRACE_AUTO), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_traces_open(&set, folder.c_str(), M4N_TRACE_AUTO), M4N_ENOTFOUND);
  EXPECT_NE(std::string(m4n_error_message()).find("holds no trace files"), std::string::npos);
  std::filesystem::create_directory(folder + "/train");
  EXPECT_EQ(m4n_traces_open(&set, folder.c_str(), M4N_TRACE_AUTO), M4N_ENOTFOUND);
  EXPECT_NE(std::string(m4n_error_message()).find("name one of them"), std::string::npos);
  put(folder + "/train/empty", "");
  EXPECT_EQ(m4n_traces_open(&set, (folder + "/train/empty").c_str(), M4N_TRACE_COOKED), M4N_EFORMAT);
  EXPECT_EQ(m4n_traces_open(&set, "/dev/zero", M4N_TRACE_AUTO), M4N_EFORMAT);
}

} // namespace
