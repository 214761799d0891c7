// mamba4net train: what is collected, that a training goes on wherever it was cut, and that its parts can be left out.
#include <map>

#include "agent/learn/store.h"
#include "kernels/base/status.h"
#include "tests/agent/small_world.h"

namespace {

// The small world with a training of seconds in it: everything is as small as it can be.
struct Training : World {
  std::string yaml = dir + "/train.yaml", out = dir + "/out";
  Training() {
    write_file(
        yaml, "name: small-training\ntask: abr\nseed: 7\n"
              "abr:\n"
              "  train: {noise: 0.1, traces: traces, start: seeded}\n"
              "  valid: {traces: traces}\n"
              "  test: {traces: traces}\n"
              "  video: {sizes: video, ladder: [300, 750, 1850]}\n"
              "student: {preset: tiny}\n"
              "collect: {policies: [bba, robust-mpc, random], shares: [5, 3, 2], episodes: 21}\n"
              "adapt: {steps: 3, batch: 2, log_every: 1, save_every: 1, valid_every: 2, valid_episodes: 2}\n"
              "label: {stride: 4}\n"
              "distil: {steps: 6, batch: 2, log_every: 1, save_every: 2, valid_every: 4, valid_episodes: 2,\n"
              "         on_policy: {share: 0.5, every: 3, episodes: 4}}\n"
              "evaluate: {policies: [bba, teacher, student, 'student:stream:sample']}\n");
  }
  Ended train(Arguments more = {}) {
    Arguments all = {"train", yaml, "--out", out, "--device", "cpu"};
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  }
  std::string file(const std::string &name) const { return read_file(out + "/" + name); }
  std::map<std::string, std::string> results() const {
    std::map<std::string, std::string> all;
    for (const char *name : {"model/teacher.safetensors", "model/student-start.safetensors",
                             "label/labels.safetensors", "model/student.safetensors", "episodes.csv"})
      all[name] = file(name);
    return all;
  }
};

const Arguments no_teacher = {"--set", "label.by=none",
                              "--set", "reuse.mode=none",
                              "--set", "distil.on_policy.share=0",
                              "--set", "evaluate.policies=[bba, student]"};

// "policy episode" of every record, with its actions.
std::map<std::string, std::string> episodes_of(const std::string &path) {
  std::map<std::string, std::string> all;
  m4n_events_file *file;
  EXPECT_EQ(m4n_events_open(&file, path.c_str()), M4N_OK) << m4n_error_message();
  const m4n_events_header *header = m4n_events_header_of(file);
  bool more = true;
  for (m4n_episode e; !m4n_events_next(file, &e, &more) && more;) {
    std::string key = std::string(header->policy[e.policy]) + " " + std::to_string(e.episode);
    EXPECT_EQ(all.count(key), 0u) << key;
    EXPECT_EQ(e.set, M4N_SET_TRAIN);
    all[key] = std::string((const char *)e.action, (size_t)e.steps * header->spec.act_size) + e.label +
               (e.advice ? " advised" : "");
  }
  m4n_events_free(file);
  return all;
}

// ---- collect

TEST(Collect, SharesAreKeptAndEpisodesAreEachOnes) {
  Training t;
  Ended r = t.train({"--stage", "collect"});
  ASSERT_EQ(r.status, 0) << r.err;
  const auto all = episodes_of(t.out + "/collect/events.bin");
  EXPECT_EQ(all.size(), 21u);
  std::map<std::string, int> of; // 21 · 5/10, 3/10, 2/10: 10.5, 6.3, 4.2
  for (const auto &e : all) of[e.first.substr(0, e.first.find(' '))]++;
  EXPECT_EQ(of["bba"], 11);
  EXPECT_EQ(of["robust-mpc"], 6);
  EXPECT_EQ(of["random"], 4);
  EXPECT_TRUE(all.count("bba 0") && all.count("bba 10") && all.count("robust-mpc 11") &&
              all.count("random 20"));
  Training same;
  ASSERT_EQ(same.train({"--stage", "collect", "--set", "collect.together=yes"}).status, 0);
  const auto together = episodes_of(same.out + "/collect/events.bin");
  EXPECT_TRUE(together.count("bba 0") && together.count("robust-mpc 0") && together.count("random 0"));
}

TEST(Collect, ThreadsLanesAndTransportDoNotMatter) {
  std::map<std::string, std::string> first;
  const std::string ipc = "bridge.endpoint=ipc://" + m4n_temp_dir() + "/agent.sock";
  for (const Arguments &how : std::vector<Arguments>{{"--threads", "1"},
                                                     {"--threads", "2"},
                                                     {"--set", "bridge.lanes=1"},
                                                     {"--set", "bridge.lanes=5", "--set", ipc}}) {
    Training t;
    Arguments all = {"--stage", "collect"};
    all.insert(all.end(), how.begin(), how.end());
    Ended r = t.train(all);
    ASSERT_EQ(r.status, 0) << r.err;
    const auto got = episodes_of(t.out + "/collect/events.bin");
    if (first.empty()) first = got;
    EXPECT_EQ(got, first) << how[1];
  }
}

TEST(Collect, AdviceIsKept) {
  Training t;
  ASSERT_EQ(
      t.train({"--stage", "collect", "--set", "collect.advice=yes", "--set", "collect.episodes=3"}).status,
      0);
  for (const auto &e : episodes_of(t.out + "/collect/events.bin"))
    EXPECT_TRUE(holds(e.second, " advised")) << e.first;
}

// ---- a training

TEST(Train, GoesOnFromAnyStageToTheSameBytes) {
  Training t;
  Ended r = t.train();
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "student:stream:sample")) << r.out;
  EXPECT_TRUE(holds(r.out, "labels: teacher")) << r.out;
  EXPECT_TRUE(holds(t.file("report.html"), "labels: teacher"));
  for (const char *plot : {"loss", "agreement"}) {
    EXPECT_TRUE(holds(t.file("report.html"), std::string("Training: ") + plot)) << plot;
    const std::string table = t.file(std::string("plots/") + plot + ".csv");
    EXPECT_TRUE(holds(table, "\nadapt,1,") && holds(table, "\ndistil,6,")) << table;
  }
  const auto whole = t.results();
  for (const auto &f : whole) EXPECT_GT(f.second.size(), 50u) << f.first;

  Ended again = t.train({"--resume"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(holds(again.err, "adapt: done before") && holds(again.err, "evaluate: done before"))
      << again.err;

  for (const char *gone :
       {"collect/events.bin", "model/teacher.safetensors", "model/student-start.safetensors",
        "label/labels.safetensors", "model/student.safetensors", "report.html"}) {
    fs::remove(t.out + "/" + gone);
    Ended resumed = t.train({"--resume"});
    ASSERT_EQ(resumed.status, 0) << gone << ": " << resumed.err;
    EXPECT_TRUE(fs::exists(t.out + "/" + gone)) << gone;
    EXPECT_EQ(t.results(), whole) << gone;
  }

  Ended replayed = run({"replay", t.out});
  EXPECT_EQ(replayed.status, 0) << replayed.err;
  EXPECT_TRUE(holds(replayed.out, "same: 20 episodes")) << replayed.out;

  // Its models play from anywhere, and the run that they make can be replayed by itself.
  Ended other = run({"run", t.out + "/scenario.yaml", "--out", t.dir + "/other", "--device", "cpu"});
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(read_file(t.dir + "/other/episodes.csv"), t.file("episodes.csv"));
  EXPECT_EQ(run({"replay", t.dir + "/other"}).status, 0);

  // A new option makes its stage again, and what follows from it; nothing else.
  Ended changed = t.train({"--resume", "--set", "distil.steps=5"});
  ASSERT_EQ(changed.status, 0) << changed.err;
  EXPECT_TRUE(holds(changed.err, "label: done before") && holds(changed.err, "distil: makes") &&
              holds(changed.err, "evaluate: makes"))
      << changed.err;
  EXPECT_NE(t.file("model/student.safetensors"), whole.at("model/student.safetensors"));
}

TEST(Train, ThreadsAndLanesDoNotMatter) {
  Training one, other;
  ASSERT_EQ(one.train({"--threads", "1"}).status, 0);
  ASSERT_EQ(other.train({"--threads", "2", "--set", "bridge.lanes=3"}).status, 0);
  EXPECT_EQ(one.results(), other.results());
}

TEST(Train, InterruptedAndKilledGoesOn) {
  Training whole, cut;
  ASSERT_EQ(whole.train().status, 0);
  for (int signal : {SIGINT, SIGKILL}) {
    Process p({"train", cut.yaml, "--out", cut.out, "--resume", "--device", "cpu"});
    const std::string waits = signal == SIGINT ? "adapt: makes" : "distil: makes";
    ASSERT_TRUE(p.says(waits)) << p.finish().err;
    p.send(signal);
    Ended r = p.finish();
    EXPECT_EQ(r.status, signal == SIGINT ? 130 : 128 + SIGKILL) << r.err;
  }
  Ended r = cut.train({"--resume"});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(cut.results(), whole.results());
}

TEST(Train, WithoutATeacher) {
  Training t;
  Ended r = t.train(no_teacher);
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_FALSE(fs::exists(t.out + "/model/teacher.safetensors"));
  EXPECT_FALSE(fs::exists(t.out + "/label"));
  EXPECT_TRUE(holds(r.out, "no labels")) << r.out;
}

TEST(Train, LabelsOfTheOptimumAreNamedSo) {
  Training t;
  Arguments how = no_teacher;
  how[1] = "label.by=oracle";
  how.insert(how.end(), {"--set", "collect.advice=yes"});
  Ended r = t.train(how);
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "labels: oracle")) << r.out;
  EXPECT_TRUE(holds(t.file("summary.json"), "labels: oracle"));
}

TEST(Train, AnExpertPlaysAndLabels) {
  Training t;
  Arguments how = no_teacher;
  how[1] = "label.by=expert";
  for (const char *set : {"expert.steps=300", "expert.lanes=8", "expert.width=8", "expert.layers=1",
                          "expert.batch=64", "collect.policies=[expert:sample, bba]", "collect.shares=[1, 1]",
                          "evaluate.policies=[expert, student]"})
    how.insert(how.end(), {"--set", set});
  Ended r = t.train(how);
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "trained by PPO") && holds(r.out, "labels: expert")) << r.out;
  EXPECT_EQ(run({"replay", t.out}).status, 0);
}

TEST(Train, TunesWhatItDistilled) {
  Training t;
  Arguments how;
  for (const char *set : {"tune.steps=5", "tune.batch=2", "tune.every=3", "tune.episodes=4", "tune.stride=4",
                          "tune.value_first=1", "tune.log_every=1", "tune.valid_every=4",
                          "tune.valid_episodes=2", "evaluate.policies=[bba, student, tuned]"})
    how.insert(how.end(), {"--set", set});
  Ended r = t.train(how);
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "tune: PPO, 2 rounds of 4 episodes, KL 0.1 to teacher")) << r.out;
  EXPECT_TRUE(holds(t.file("summary.json"), "tune: PPO") && holds(t.file("report.html"), "tune: PPO"));
  EXPECT_TRUE(holds(t.file("plots/loss.csv"), "\ntune,5,"));
  const std::string tuned = t.file("model/tuned.safetensors"), student = t.file("model/student.safetensors");
  EXPECT_NE(tuned, student);
  EXPECT_EQ(run({"replay", t.out}).status, 0);
  fs::remove(t.out + "/model/tuned.safetensors");
  how.push_back("--resume");
  Ended again = t.train(how);
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(holds(again.err, "distil: done before")) << again.err;
  EXPECT_EQ(t.file("model/tuned.safetensors"), tuned);
  // A student that is there already needs nobody's labels: its own rewards, and itself to be held to.
  Training other;
  Ended alone =
      other.train({"--set", "student.checkpoint=" + t.out + "/model/student.safetensors", "--set",
                   "label.by=none", "--set", "distil.on_policy.share=0", "--set", "tune.steps=2", "--set",
                   "tune.episodes=2", "--set", "tune.every=2", "--set", "tune.batch=2", "--set",
                   "tune.reference.by=student", "--set", "evaluate.policies=[student, tuned]"});
  ASSERT_EQ(alone.status, 0) << alone.err;
  EXPECT_FALSE(fs::exists(other.out + "/collect"));
  EXPECT_TRUE(holds(alone.out, "KL 0.1 to the student before")) << alone.out;
  Ended elsewhere =
      run({"run", other.out + "/scenario.yaml", "--out", other.dir + "/run", "--device", "cpu"});
  EXPECT_EQ(elsewhere.status, 0) << elsewhere.err;
  EXPECT_EQ(read_file(other.dir + "/run/episodes.csv"), other.file("episodes.csv"));
}

// A teacher of one family of traces on another: the base stays, its adapter is an output like any other, and the chain behind
// it (weights reused, labels, rounds) works with both.
TEST(Train, ATeacherMovesByLora) {
  Training from, moved;
  ASSERT_EQ(from.train({"--stage", "collect", "--stage", "adapt"}).status, 0);
  const std::string base = from.out + "/model/teacher.safetensors", before = read_file(base);
  const Arguments how = {
      "--set", "teacher.base=" + base,  "--set", "teacher.lora.rank=2",
      "--set", "abr.train.scale=[2,3]", "--set", "evaluate.policies=[bba, teacher, student]"};
  Ended r = moved.train(how);
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_TRUE(holds(r.out, "adapt: cross-entropy, LoRA 2 on teacher.safetensors")) << r.out;
  EXPECT_TRUE(holds(r.out, "labels: teacher")) << r.out;
  EXPECT_TRUE(read_file(base) == before);
  EXPECT_LT(size_of(moved.out + "/model/teacher.safetensors"), before.size() / 2); // without the backbone
  const std::string adapter = "model/teacher-adapter/adapter_model.safetensors", bytes = moved.file(adapter);
  EXPECT_GT(bytes.size(), 1000u);
  EXPECT_EQ(run({"replay", moved.out}).status, 0);
  Arguments again = how;
  again.push_back("--resume");
  fs::remove(moved.out + "/" + adapter);
  const auto whole = moved.results();
  Ended resumed = moved.train(again);
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_TRUE(moved.file(adapter) == bytes);
  EXPECT_EQ(moved.results(), whole);
  // Trained as a whole from the same base, it has no adapter.
  again.insert(again.end(), {"--set", "teacher.lora.rank=0"});
  Ended all = moved.train(again);
  ASSERT_EQ(all.status, 0) << all.err;
  EXPECT_TRUE(holds(all.out, "adapt: cross-entropy, begun with teacher.safetensors")) << all.out;
  EXPECT_FALSE(fs::exists(moved.out + "/" + adapter));
}

TEST(Train, SimulatorsMayComeFromOutside) {
  Training own, outside;
  ASSERT_EQ(own.train(no_teacher).status, 0);
  const std::string uri = "bridge.endpoint=" + socket_of(outside);
  Process simulator({"sim", outside.yaml, "--stay", "--endpoint", socket_of(outside)});
  Arguments how = no_teacher;
  how.insert(how.end(), {"--external", "--set", uri});
  Ended r = outside.train(how);
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(outside.file("model/student.safetensors"), own.file("model/student.safetensors"));
  EXPECT_EQ(outside.file("episodes.csv"), own.file("episodes.csv"));
  simulator.send(SIGINT);
  EXPECT_EQ(simulator.finish().status, 0);
}

// ---- serving what came out

TEST(Train, ItsStudentIsServed) {
  Training t;
  ASSERT_EQ(t.train(no_teacher).status, 0);
  Process agent(
      {"serve", "--model", t.out + "/model/student.safetensors:stream", "--endpoint", socket_of(t)});
  ASSERT_TRUE(agent.says("serving"));
  Process simulator({"sim", t.scenario, "--endpoint", socket_of(t)});
  ASSERT_TRUE(agent.says("lanes of 'abr'"));
  std::this_thread::sleep_for(std::chrono::milliseconds(500)); // it plays
  agent.send(SIGINT);
  Ended r = agent.finish();
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_FALSE(holds(r.err, " 0 decisions")) << r.err;
}

// ---- what is refused

struct Refusal {
  Arguments how;
  const char *words;
};

TEST(Train, SaysWhatItCannotDo) {
  Training t;
  const Refusal cases[] = {
      {{"--set", "collect.policies=[]", "--set", "collect.shares=[]"}, "collect.policies: is missing"},
      {{"--set", "collect.shares=[0, 0, 0]"}, "collect.shares: expected a share above 0"},
      {{"--set", "collect.policies=[bba, student, rate]"}, "student.checkpoint"},
      {{"--set", "collect.policies=[bba, expert, rate]"}, "expert.steps: is 0"},
      {{"--set", "abr.train.start=fixed", "--set", "abr.train.traces=none"}, "abr.train.traces: is missing"},
      {{"--set", "abr.valid.traces=none"}, "abr.valid.traces: is missing"},
      {{"--set", "evaluate.policies=[bba, tuned]"}, "tune.steps: is 0"},
      {{"--set", "collect.policies=[bba, tuned, rate]"}, "tune.checkpoint"},
      {{"--set", "label.by=none", "--set", "distil.on_policy.share=0", "--set", "tune.steps=1"},
       "tune.reference.by: nobody labels"},
      {{"--set", "reuse.mode=tails"}, "expected slice, head"},
      {{"--set", "distil.on_policy.share=1.5"}, "from 0 to 1"},
      {{"--stage", "dance"}, "expected expert, collect"},
      {{"--stage", "expert"}, "does without"},
      {{"--device", "abacus"}, "expected cpu, cuda, cuda-tf32 or auto"},
      {{"--lanes", "4"}, "--external"},
      {{"--set", "abr.train.traces=/nowhere"}, "/nowhere"}};
  for (const Refusal &c : cases) {
    Ended r = t.train(c.how);
    EXPECT_EQ(r.status, 2) << c.words << r.err;
    EXPECT_TRUE(holds(r.err, c.words)) << r.err;
    EXPECT_FALSE(fs::exists(t.out)) << c.words;
  }
  EXPECT_EQ(run({"train", t.yaml, "--resume"}).status, 2);
  Ended early = t.train({"--stage", "distil"});
  EXPECT_EQ(early.status, 2);
  EXPECT_TRUE(holds(early.err, "earlier stage")) << early.err;
}

TEST(Train, NothingIsWrittenOverATraining) {
  Training t;
  ASSERT_EQ(t.train({"--stage", "collect"}).status, 0);
  Ended anew = t.train(), over = run({"run", t.scenario, "--out", t.out});
  EXPECT_EQ(anew.status, 2);
  EXPECT_TRUE(holds(anew.err, "--resume")) << anew.err;
  EXPECT_EQ(over.status, 2);
  EXPECT_TRUE(holds(over.err, "holds a training")) << over.err;
  EXPECT_TRUE(fs::exists(t.out + "/collect/events.bin"));
}

} // namespace
