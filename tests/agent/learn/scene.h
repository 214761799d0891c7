/* What tests of the later stages begin with: a log, a teacher that was trained on it for a moment, and what can be made of
 * the two.
 */
#ifndef M4N_TESTS_LEARN_SCENE_H
#define M4N_TESTS_LEARN_SCENE_H

#include <filesystem>
#include <sstream>

#include "tests/agent/learn/abr_world.h"

namespace abr_world {

/* A number of a table's last (first) row. */
inline double cell(const std::string &csv, const std::string &column, bool from_end = true) {
  std::stringstream in(m4n_read_file(csv));
  std::string header, line, row;
  std::getline(in, header);
  while (std::getline(in, line)) {
    row = line;
    if (!from_end) break;
  }
  std::stringstream names(header), cells(row);
  for (std::string name, value; std::getline(names, name, ',') && std::getline(cells, value, ',');)
    if (name == column) return std::stod(value);
  ADD_FAILURE() << csv << " has no column " << column;
  return NAN;
}
/* A table without its last two columns, which depend on the clock. */
inline std::string without_clock(const std::string &csv) {
  std::stringstream in(m4n_read_file(csv));
  std::string all;
  for (std::string line; std::getline(in, line);) {
    for (int i = 0; i < 2; i++) line = line.substr(0, line.rfind(','));
    all += line + "\n";
  }
  return all;
}

// A run's folder with a log of two policies, and a teacher that was trained on it for a moment.
struct Scene {
  std::string dir = m4n_temp_dir(), events = dir + "/events.bin", teacher = dir + "/teacher.safetensors";
  Scene() {
    Script s;
    s.episodes = 6, s.advice = true;
    play(events, s, careful(0.2));
    const char *log = events.c_str();
    m4n_adapt_options o = {};
    const std::string work = dir + "/adapt";
    o.stage.device = "cpu", o.stage.seed = 1, o.stage.work = work.c_str();
    o.fit = m4n_fit_usual();
    o.fit.steps = 60, o.fit.batch = 4, o.fit.lr = 3e-3;
    o.events = &log, o.n_events = 1, o.preset = "tiny", o.window = 8, o.attention_layers = 2,
    o.out = teacher.c_str();
    EXPECT_EQ(m4n_adapt(&o), M4N_OK) << m4n_error_message();
  }
  std::string label(int labeller, const char *expert = nullptr, int stride = 1,
                    const char *name = "labels") const {
    const std::string out = dir + "/" + name + ".safetensors", work = dir + "/label";
    const char *log = events.c_str();
    m4n_label_options o = {};
    o.stage.device = "cpu", o.stage.work = work.c_str();
    o.events = &log, o.n_events = 1, o.labeller = labeller, o.teacher = teacher.c_str(), o.expert = expert;
    o.stride = stride, o.batch = 7, o.out = out.c_str();
    EXPECT_EQ(m4n_label(&o), M4N_OK) << m4n_error_message();
    return out;
  }
  std::string reuse(const char *mode, const char *name = "student") const {
    const std::string out = dir + "/" + name + ".safetensors", work = dir + "/reuse";
    const char *log = events.c_str();
    m4n_reuse_stage_options o = {};
    o.stage.device = "cpu", o.stage.seed = 3, o.stage.work = work.c_str();
    o.teacher = teacher.c_str(), o.preset = "tiny", o.mamba_layers = 1, o.attention_layers = 1, o.mode = mode;
    o.events = &log, o.n_events = 1, o.out = out.c_str();
    EXPECT_EQ(m4n_reuse_stage(&o), M4N_OK) << m4n_error_message();
    return out;
  }
  int pool_of(Pool &pool, const m4n_condition *condition) const {
    const m4n_abr_shape shape = tiny_shape();
    const char *log = events.c_str();
    m4n_trajectories_options o = {};
    o.events = &log, o.n_events = 1, o.shape = &shape, o.condition = condition;
    return m4n_trajectories_open(&pool.pool, &o);
  }
};
inline const Scene &scene() {
  static const Scene s;
  return s;
}

} // namespace abr_world

#endif
