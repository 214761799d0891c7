/* Adaptive-bitrate specs and observation rows made by hand, and policies asked one row at a time.
 */
#ifndef M4N_TESTS_AGENT_ABR_ROWS_H
#define M4N_TESTS_AGENT_ABR_ROWS_H

#include <gtest/gtest.h>
#include <math.h>
#include <string.h>

#include <string>
#include <vector>

#include "agent/policy.h"
#include "kernels/base/status.h"

inline std::vector<double> pensieve_ladder() {
  return {300, 750, 1200, 1850, 2850, 4300};
}

struct abr_options {
  std::vector<double> ladder = pensieve_ladder(), utility;
  double chunk_s = 4, rebuffer = 4.3, smooth = 1, chunks = 48;
  std::string without; /* a field or constant that is left out */
};

inline m4n_spec abr_spec(const abr_options &o = {}) {
  m4n_spec spec = {};
  strcpy(spec.task, "abr");
  strcpy(spec.reward, "qoe-linear 4.3 1.0");
  int levels = (int)o.ladder.size();
  std::vector<double> utility = o.utility;
  if (utility.empty())
    for (double kbps : o.ladder) utility.push_back(kbps / 1000);
  auto observe = [&](const char *name, int rank, int rows, int columns) {
    if (o.without != name)
      m4n_spec_add_obs(&spec, name, M4N_F64, "", -HUGE_VAL, HUGE_VAL, rank, rows, columns);
  };
  auto state = [&](const char *name, int count, const double *values) {
    if (o.without != name) m4n_spec_add_constant(&spec, name, count, values);
  };
  observe(M4N_ABR_THROUGHPUT, 1, M4N_ABR_HISTORY, 0);
  observe(M4N_ABR_BUFFER, 0, 0, 0);
  observe(M4N_ABR_LAST_LEVEL, 0, 0, 0);
  observe(M4N_ABR_CHUNKS_LEFT, 0, 0, 0);
  observe(M4N_ABR_NEXT_SIZES, 2, M4N_ABR_LOOKAHEAD, levels);
  m4n_spec_add_choice(&spec, "level", levels);
  state(M4N_ABR_LADDER, levels, o.ladder.data());
  state(M4N_ABR_UTILITY, levels, utility.data());
  state(M4N_ABR_CHUNKS, 1, &o.chunks);
  state(M4N_ABR_CHUNK_SECONDS, 1, &o.chunk_s);
  state(M4N_ABR_REBUFFER, 1, &o.rebuffer);
  state(M4N_ABR_SMOOTH, 1, &o.smooth);
  EXPECT_EQ(M4N_OK, m4n_spec_layout(&spec)) << m4n_error_message();
  return spec;
}

/* One observation; throughputs are given newest last and fill the end of the history. */
struct abr_row {
  std::vector<double> throughput;
  double buffer = 10, last_level = 0, chunks_left = 40;
  std::vector<double> sizes; /* [5][levels] bytes; empty: chunk_s at the nominal rate */

  std::vector<uint64_t> bytes(const m4n_spec &spec) const {
    std::vector<uint64_t> row(spec.obs_size / 8);
    auto put = [&](const char *name, const std::vector<double> &values, size_t at = 0) {
      const m4n_field *f = m4n_spec_obs(&spec, name);
      if (f && !values.empty())
        memcpy((char *)row.data() + f->offset + 8 * at, values.data(), 8 * values.size());
    };
    put(M4N_ABR_THROUGHPUT, throughput, M4N_ABR_HISTORY - throughput.size());
    put(M4N_ABR_BUFFER, {buffer});
    put(M4N_ABR_LAST_LEVEL, {last_level});
    put(M4N_ABR_CHUNKS_LEFT, {chunks_left});
    std::vector<double> all = sizes;
    if (all.empty()) {
      int levels;
      double chunk_s = 4;
      const double *ladder = m4n_spec_constant(&spec, M4N_ABR_LADDER, &levels);
      if (const double *s = m4n_spec_constant(&spec, M4N_ABR_CHUNK_SECONDS, NULL)) chunk_s = *s;
      for (int k = 0; ladder && k < M4N_ABR_LOOKAHEAD; k++)
        for (int l = 0; l < levels; l++) all.push_back(ladder[l] * 1000 / 8 * chunk_s);
    }
    put(M4N_ABR_NEXT_SIZES, all);
    return row;
  }
};

/* A policy with one lane. */
struct one_lane {
  m4n_spec spec;
  m4n_policy policy = {};
  explicit one_lane(const char *name, const abr_options &o = {}) : spec(abr_spec(o)) {
    m4n_policy_setup setup = {};
    setup.spec = &spec;
    setup.slots = 1;
    EXPECT_EQ(M4N_OK, m4n_policy_open(&policy, name, &setup)) << m4n_error_message();
    begin();
  }
  ~one_lane() { m4n_policy_close(&policy); }
  one_lane(const one_lane &) = delete;
  one_lane &operator=(const one_lane &) = delete;
  void begin(int64_t episode = 0) {
    m4n_start start = {0, episode, 1};
    policy.kind->begin(policy.self, &start, 1);
  }
  int operator()(const abr_row &row) {
    std::vector<uint64_t> obs = row.bytes(spec);
    int32_t slot = 0, action[2] = {-1, -1};
    m4n_batch batch = {};
    batch.n = 1;
    batch.slot = &slot;
    batch.obs = (const uint8_t *)obs.data();
    m4n_decisions out = {};
    out.action = (uint8_t *)action;
    policy.kind->decide(policy.self, &batch, &out);
    return action[0];
  }
};

#endif
