// mamba4net ablate: variants and seeds in one table, what they share made once, and the same table after any interruption.
#include <map>

#include "tests/agent/small_world.h"

namespace {

struct Ablation : World {
  std::string yaml = dir + "/ablation.yaml", out = dir + "/out";
  Ablation() {
    write_file(yaml, "name: small-ablation\ntask: abr\nseed: 7\n"
                     "abr:\n"
                     "  train: {noise: 0.1, traces: traces, start: seeded}\n"
                     "  test: {traces: traces}\n"
                     "  video: {sizes: video, ladder: [300, 750, 1850]}\n"
                     "student: {preset: tiny}\n"
                     "collect: {policies: [bba, robust-mpc], episodes: 12}\n"
                     "adapt: {steps: 3, batch: 2}\n"
                     "label: {stride: 4}\n"
                     "distil: {steps: 4, batch: 2, on_policy: {share: 0.5, every: 2, episodes: 4}}\n"
                     "evaluate: {policies: [bba, student]}\n"
                     "ablation:\n"
                     "  seeds: 2\n"
                     "  variants:\n"
                     "    - no-teacher label.by=none reuse.mode=none distil.on_policy.share=0\n"
                     "    - same distil.temperature=2\n"
                     "    - reverse distil.divergence=reverse\n");
  }
  Ended ablate(Arguments more = {}) {
    Arguments all = {"ablate", yaml, "--out", out, "--device", "cpu"};
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  }
  std::string file(const std::string &name) const { return read_file(out + "/" + name); }
};

// The rows of ablation.csv by the variant's name, without the quoted settings.
std::map<std::string, std::vector<std::string>> rows_of(const std::string &csv) {
  std::map<std::string, std::vector<std::string>> all;
  std::stringstream in(csv);
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> cells;
    std::stringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
    all[cells[0]] = cells;
  }
  return all;
}

// The mean of a policy's qoe in an episodes.csv.
double mean_of(const std::string &csv, const std::string &policy) {
  std::stringstream in(csv);
  std::string line, cell;
  std::getline(in, line);
  std::stringstream names(line);
  int column = 0;
  for (; std::getline(names, cell, ',') && cell != "qoe"; column++) {
  }
  double sum = 0;
  int n = 0;
  while (std::getline(in, line)) {
    std::stringstream text(line);
    std::getline(text, cell, ',');
    if (cell != policy) continue;
    for (int i = 0; i < column; i++) std::getline(text, cell, ',');
    sum += std::stod(cell), n++;
  }
  EXPECT_EQ(n, 5);
  return sum / n;
}

TEST(Ablate, OneTableOfAllVariantsAndSeeds) {
  Ablation a;
  Ended r = a.ablate();
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(r.out, a.file("ablation.txt"));
  EXPECT_TRUE(holds(r.out, "qoe of 'student' over 5 episodes, seeds: 2")) << r.out;
  EXPECT_TRUE(holds(r.out, "  no-teacher: label.by=none reuse.mode=none")) << r.out;
  EXPECT_TRUE(holds(r.out, "distil: no labels") && holds(r.out, "reverse KL, labels: teacher")) << r.out;
  const auto rows = rows_of(a.file("ablation.csv"));
  ASSERT_EQ(rows.size(), 6u); // a heading, four variants, and bba of the full runs
  for (const char *name : {"full", "no-teacher", "same", "reverse", "bba"}) {
    const auto &row = rows.at(name);
    double mean[2];
    for (int s = 0; s < 2; s++) {
      const bool variant = strcmp(name, "bba") != 0;
      mean[s] =
          mean_of(a.file("seed-" + std::to_string(7 + s) + "/" + (variant ? name : "full") + "/episodes.csv"),
                  variant ? "student" : "bba");
    }
    EXPECT_EQ(row[2], "2");
    EXPECT_EQ(row[3], "5");
    EXPECT_NEAR(std::stod(row[4]), (mean[0] + mean[1]) / 2, 1e-9) << name;
    EXPECT_LE(std::stod(row[5]), std::stod(row[4]));
    EXPECT_GE(std::stod(row[6]), std::stod(row[4]));
    EXPECT_NEAR(std::stod(row[7]), std::min(mean[0], mean[1]), 1e-9) << name;
    EXPECT_NEAR(std::stod(row[8]), std::max(mean[0], mean[1]), 1e-9) << name;
    EXPECT_NEAR(std::stod(row[9]), std::stod(row[4]) - std::stod(rows.at("full")[4]), 1e-9) << name;
  }
  for (int i = 9; i < 14; i++)
    EXPECT_EQ(rows.at("same")[(size_t)i], "0"); // what is no variant makes no difference
  EXPECT_NE(rows.at("reverse")[9], "0");
  EXPECT_EQ(run({"replay", a.out + "/seed-8/reverse"}).status, 0);
}

TEST(Ablate, WhatIsSharedIsMadeOnce) {
  Ablation a;
  Ended r = a.ablate({"--set", "ablation.seeds=1"});
  ASSERT_EQ(r.status, 0) << r.err;
  auto same = [&](const std::string &name, const std::string &variant) {
    return fs::equivalent(a.out + "/seed-7/full/" + name, a.out + "/seed-7/" + variant + "/" + name);
  };
  for (const char *name : {"collect/events.bin", "model/teacher.safetensors", "label/labels.safetensors",
                           "model/student-start.safetensors"})
    EXPECT_TRUE(same(name, "reverse")) << name;
  EXPECT_FALSE(same("model/student.safetensors", "reverse"));
  EXPECT_FALSE(same("adapt/train.csv", "reverse")); // may be written on: a copy
  EXPECT_EQ(a.file("seed-7/reverse/adapt/train.csv"), a.file("seed-7/full/adapt/train.csv"));
  EXPECT_TRUE(same("collect/events.bin", "no-teacher"));
  EXPECT_FALSE(fs::exists(a.out + "/seed-7/no-teacher/model/teacher.safetensors"));
  // Temperature 2 is what it was anyway.
  EXPECT_TRUE(same("model/student.safetensors", "same"));
  EXPECT_TRUE(holds(r.err, "adapt: as in " + a.out + "/seed-7/full")) << r.err;
}

TEST(Ablate, GoesOnToTheSameTable) {
  Ablation whole, cut;
  ASSERT_EQ(whole.ablate().status, 0);
  for (int signal : {SIGINT, SIGKILL}) {
    Process p({"ablate", cut.yaml, "--out", cut.out, "--resume", "--device", "cpu"});
    ASSERT_TRUE(p.says(signal == SIGINT ? "no-teacher with seed 7" : "reverse with seed 7"))
        << p.finish().err;
    p.send(signal);
    Ended r = p.finish();
    EXPECT_EQ(r.status, signal == SIGINT ? 130 : 128 + SIGKILL) << r.err;
    if (signal == SIGINT) {
      EXPECT_TRUE(holds(r.err, "--out " + cut.out + " --resume goes on")) << r.err;
    }
  }
  EXPECT_EQ(cut.ablate().status, 2); // not over what is there
  Ended r = cut.ablate({"--resume"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(cut.file("ablation.txt"), whole.file("ablation.txt"));
  EXPECT_EQ(cut.file("ablation.csv"), whole.file("ablation.csv"));
}

struct Refusal {
  const char *variants, *words;
};

TEST(Ablate, SaysWhatItCannotDo) {
  Ablation a;
  const Refusal cases[] = {{"[]", "ablation.variants: is empty"},
                           {"[two words]", "expected key=value"},
                           {"[alone]", "changes nothing"},
                           {"[a/b distil.jsd=0.4]", "expected a name"},
                           {"[full distil.jsd=0.4]", "this name is taken"},
                           {"[x distil.jsd=0.4, x distil.jsd=0.5]", "this name is taken"},
                           {"[x seed=3]", "the same for all"},
                           {"[x evaluate.set=train]", "the same for all"},
                           {"[x distil.divergence=sideways]", "variant x"},
                           {"[x distil.jzd=0.5]", "did you mean 'distil.jsd'"},
                           {"[x label.by=expert]", "variant x"}};
  for (const Refusal &c : cases) {
    Ended r = a.ablate({"--set", std::string("ablation.variants=") + c.variants});
    EXPECT_EQ(r.status, 2) << c.words << r.err;
    EXPECT_TRUE(holds(r.err, c.words)) << r.err;
    EXPECT_FALSE(fs::exists(a.out)) << c.words;
  }
  Ended other = a.ablate({"--set", "ablation.policy=robust-mpc"});
  EXPECT_EQ(other.status, 2);
  EXPECT_TRUE(holds(other.err, "is not among evaluate.policies")) << other.err;
  EXPECT_EQ(run({"ablate", a.yaml, "--resume"}).status, 2);
}

} // namespace
