/* A toy task whose log exercises all of the format, and episodes of it that anybody can make again by number. */
#ifndef M4N_TESTS_LEARN_TOY_H
#define M4N_TESTS_LEARN_TOY_H

#include <math.h>
#include <string.h>

#include <string>
#include <vector>

#include "agent/learn/store.h"
#include "kernels/base/rng.h"

inline m4n_spec toy_spec() {
  m4n_spec spec = {};
  strcpy(spec.task, "toy");
  strcpy(spec.reward, "toy reward");
  m4n_spec_add_obs(&spec, "history", M4N_F64, "s", 0, HUGE_VAL, 2, 2, 3);
  m4n_spec_add_obs(&spec, "mask", M4N_U8, "", 0, 1, 1, 5); // 3 bytes of padding
  m4n_field *nodes = m4n_spec_add_obs(&spec, "nodes", M4N_F32, "", -10, 10, 2, -1, 3);
  nodes->max_rows = 7;
  m4n_spec_add_obs(&spec, "left", M4N_I32, "", 0, 1000, 0); // 4 bytes of padding
  m4n_field *edges = m4n_spec_add_obs(&spec, "edges", M4N_I32, "", 0, 6, 2, -1, 2);
  edges->max_rows = 9;
  strcpy(m4n_spec_add_choice(&spec, "which", 5)->mask, "mask");
  m4n_spec_add_choice(&spec, "how many", 3);
  m4n_spec_add_info(&spec, "cost", "s", -1);
  m4n_spec_add_info(&spec, "gain", "", 1);
  m4n_spec_add_metric(&spec, "score", "", 1);
  m4n_spec_add_metric(&spec, "waste", "%", -1);
  m4n_spec_add_metric(&spec, "unknown", "", 0);
  const double values[] = {1, 2, 3};
  m4n_spec_add_constant(&spec, "ladder", 3, values);
  m4n_spec_layout(&spec);
  return spec;
}

struct toy_header {
  std::vector<const char *> names = {"good", "bad", "strange"};
  std::vector<const char *> about = {"", "distil, labels: teacher", "made by hand"};
  m4n_events_header header = {};
  toy_header() {
    header.spec = toy_spec();
    header.seed = 0x1234567890abcdef;
    header.n_policies = (int)names.size();
    header.policy = names.data();
    header.about = about.data();
    header.scenario = "name: toy\nseed: 1\n";
  }
};

/* One episode as it goes into a log: everything follows from its number. */
struct toy_episode {
  int64_t number;
  int policy, steps;
  uint32_t flags;
  std::string label;
  std::vector<std::vector<uint8_t>> obs, action;
  std::vector<std::vector<uint8_t>> advice;  // of every fourth episode; empty where a step has none
  std::vector<double> reward, info, metrics; // info: two a step; every fifth episode has none
  std::vector<int64_t> time, delay;
  std::vector<uint8_t> served_by;
  bool knows_info, knows_metrics;

  toy_episode(const m4n_spec &spec, int64_t n) : number(n) {
    m4n_rng rng = m4n_rng_make(7, (uint64_t)n, M4N_RNG_TEST);
    policy = (int)m4n_rng_below(&rng, 3);
    steps = n % 11 == 5 ? 0 : 1 + (int)m4n_rng_below(&rng, 30);
    flags = steps == 0 ? M4N_LOST : n % 3 ? M4N_TERMINATED : M4N_TRUNCATED;
    label = n % 4 ? "trace <" + std::to_string(n) + ">" : "";
    knows_info = n % 5 != 0, knows_metrics = steps && n % 6 != 0;
    for (int t = 0; t <= steps; t++) {
      obs.push_back(row(spec, &rng));
      time.push_back((int64_t)t * 1000000007);
      if (t == steps) break;
      std::vector<uint8_t> act(spec.act_size);
      for (int i = 0; i < spec.n_act; i++) {
        int32_t choice = (int32_t)m4n_rng_below(&rng, (uint32_t)spec.act[i].high + 1);
        memcpy(&act[spec.act[i].offset], &choice, 4);
      }
      action.push_back(act);
      if (n % 4 == 1) advice.push_back(t % 5 == 2 ? std::vector<uint8_t>() : action[(size_t)(t / 2)]);
      reward.push_back(m4n_rng_normal(&rng));
      info.push_back(t % 3 ? m4n_rng_uniform(&rng) : NAN);
      info.push_back(t);
      delay.push_back(t % 2 ? 12345 : 0);
      served_by.push_back(t % 7 == 6);
    }
    metrics = {m4n_rng_normal(&rng), 100 * m4n_rng_uniform(&rng), NAN};
  }

  /* A row whose padding is full of rubbish, which must not reach the file. */
  static std::vector<uint8_t> row(const m4n_spec &spec, m4n_rng *rng) {
    std::vector<uint8_t> bytes(spec.obs_size);
    for (uint8_t &b : bytes) b = (uint8_t)m4n_rng_u32(rng);
    auto at = [&](const char *name) { return &bytes[m4n_spec_obs(&spec, name)->offset]; };
    for (int i = 0; i < 6; i++) {
      double value = m4n_rng_exponential(rng);
      memcpy(at("history") + 8 * i, &value, 8);
    }
    for (int i = 0; i < 5; i++) at("mask")[i] = m4n_rng_below(rng, 2);
    uint32_t nodes = m4n_rng_below(rng, 8), edges = m4n_rng_below(rng, 10);
    memcpy(at("nodes"), &nodes, 4);
    for (uint32_t i = 0; i < nodes * 3; i++) {
      float value = (float)(20 * m4n_rng_uniform(rng) - 10);
      memcpy(at("nodes") + 8 + 4 * i, &value, 4);
    }
    int32_t left = (int32_t)m4n_rng_below(rng, 1001);
    memcpy(at("left"), &left, 4);
    memcpy(at("edges"), &edges, 4);
    for (uint32_t i = 0; i < edges * 2; i++) {
      int32_t value = (int32_t)m4n_rng_below(rng, 7);
      memcpy(at("edges") + 8 + 4 * i, &value, 4);
    }
    return bytes;
  }

  m4n_reset order() const {
    m4n_reset r = {};
    r.episode = number;
    r.seed = 99 + (uint64_t)number;
    r.set = (int32_t)(number % M4N_SETS);
    r.copy_of = -1;
    r.options = number % 4 == 1 ? M4N_RESET_ADVICE : 0;
    return r;
  }
  void begin(m4n_events *log, int slot) const {
    m4n_reset r = order();
    m4n_events_begin(log, slot, policy, &r, label.c_str(), obs[0].data(), time[0]);
    if (!steps) m4n_events_lost(log, slot);
  }
  void step(m4n_events *log, int slot, int t) const {
    if (!advice.empty() && !advice[t].empty()) m4n_events_advice(log, slot, advice[t].data());
    m4n_events_action(log, slot, action[t].data(), delay[t], served_by[t]);
    m4n_events_result(log, slot, obs[t + 1].data(), reward[t], knows_info ? &info[2 * t] : nullptr,
                      time[t + 1], t + 1 == steps ? flags : 0, knows_metrics ? metrics.data() : nullptr);
  }
  void write(m4n_events *log, int slot) const {
    begin(log, slot);
    for (int t = 0; t < steps; t++) step(log, slot, t);
  }
};

#endif
