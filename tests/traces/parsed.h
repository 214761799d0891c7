/* Traces out of text, for tests. */
#ifndef M4N_TESTS_TRACES_PARSED_H
#define M4N_TESTS_TRACES_PARSED_H

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "traces/throughput/throughput.h"

struct Parsed {
  m4n_arena arena = {};
  m4n_trace trace = {};
  int status;
  std::string message;

  explicit Parsed(const std::string &text, int format = M4N_TRACE_AUTO) {
    status = m4n_trace_parse(&trace, &arena, "folder/t.log", text.data(), text.size(), format);
    if (status) message = m4n_error_message();
  }
  Parsed(const Parsed &) = delete;
  ~Parsed() { m4n_arena_close(&arena); }

  std::vector<double> time() const { return std::vector<double>(trace.time, trace.time + trace.rows); }
  std::vector<double> mbps() const { return std::vector<double>(trace.mbps, trace.mbps + trace.rows); }
};

typedef std::vector<double> numbers;

/* One valid text a format, with its traps in it. */
inline const std::vector<std::pair<int, std::string>> &m4n_valid_traces() {
  static const std::vector<std::pair<int, std::string>> texts = {
      {M4N_TRACE_COOKED, "0.0\t1.5\n1.0 2.25\n1.0 9\n3.5\t0.0\r\n4.25 0.66\n"},
      {M4N_TRACE_MAHIMAHI, "300\n300\n999\n1000\n2999\n3000\n3400\n"},
      {M4N_TRACE_SABRE, "[{\"duration_ms\": 500, \"bandwidth_kbps\": 0, \"latency_ms\": 20},\n"
                        " {\"duration_ms\": 1500, \"bandwidth_kbps\": 3200, \"latency_ms\": 40}]\n"},
      {M4N_TRACE_NYU, "3.97,Mbits/sec\n512,Kbits/sec\n0.00,bits/sec\n1.5,Gbits/sec\n"},
      {M4N_TRACE_OBOE, "1000 800\n3000 800\n4000 1600\n9000 1600\n"},
      {M4N_TRACE_UCC,
       "Timestamp,Speed,DL_bitrate,State\n2017.11.30_23.59.58,0,-,I\n2017.11.30_23.59.59,1,1000,D\n"
       "2017.12.01_00.00.00,1,2000,D\n2017.12.01_00.00.00,1,4000,D\n2017.12.01_00.00.03,1,-,I\n"}};
  return texts;
}

#endif
