#include "agent/scenario.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "agent/scenario_keys.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

const std::string good = "name: small\n"
                         "task: abr\n"
                         "abr:\n"
                         "  test: {traces: traces}\n"
                         "  video: {sizes: video}\n"
                         "evaluate:\n"
                         "  policies: [bba, rate]\n";

struct Loaded {
  m4n_scenario *s = nullptr;
  int status;
  Loaded(const std::string &text, std::vector<const char *> sets = {}, const char *path = "dir/x.yaml") {
    status = m4n_scenario_parse(&s, path, text.data(), text.size(), sets.data(), (int)sets.size());
  }
  ~Loaded() { m4n_scenario_free(s); }
  m4n_scenario *operator->() { return s; }
};

std::string here() {
  char path[4096];
  return getcwd(path, sizeof path) ? path : "";
}

std::string replaced(std::string text, const std::string &what, const std::string &with) {
  size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

// ---- what is accepted

TEST(Scenario, FillsTheStruct) {
  Loaded s(good + "  episodes: 12\n  set: test\n  delay: {kind: fixed, ms: 2.5}\n"
                  "seed: 18446744073709551615\n"
                  "bridge: {endpoint: tcp, lanes: 7, mode: async, fallback: bba, decide_ms: 20}\n");
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_STREQ(s->name, "small");
  EXPECT_STREQ(s->task, "abr");
  EXPECT_EQ(s->seed, UINT64_MAX);
  EXPECT_EQ(s->evaluate.n_policies, 2);
  EXPECT_STREQ(s->evaluate.policies[1], "rate");
  EXPECT_EQ(s->evaluate.episodes, 12);
  EXPECT_EQ(s->evaluate.delay.kind, M4N_DELAY_FIXED);
  EXPECT_EQ(s->evaluate.delay.ms, 2.5);
  EXPECT_STREQ(s->bridge.endpoint, "tcp");
  EXPECT_EQ(s->bridge.lanes, 7);
  EXPECT_FALSE(s->bridge.lockstep);
  EXPECT_STREQ(s->bridge.fallback, "bba");
  EXPECT_EQ(s->bridge.decide_ms, 20);
}

TEST(Scenario, DefaultsAreTheDocumentedOnes) {
  Loaded s(good);
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->seed, 1u);
  EXPECT_EQ(s->evaluate.episodes, 0);
  EXPECT_EQ(s->evaluate.delay.kind, M4N_DELAY_ZERO);
  EXPECT_STREQ(s->bridge.endpoint, "inproc");
  EXPECT_EQ(s->bridge.lanes, 64);
  EXPECT_TRUE(s->bridge.lockstep);
  EXPECT_EQ(s->bridge.fallback, nullptr);
  EXPECT_EQ(s->abr.qoe, M4N_QOE_LINEAR);
  EXPECT_LT(s->abr.rebuffer, 0) << "the kind's own";
  EXPECT_EQ(s->abr.rtt_ms, 80);
  EXPECT_EQ(s->abr.buffer_cap_s, 60);
  EXPECT_EQ(s->abr.drain_ms, 500);
  EXPECT_EQ(s->abr.payload, 0.95);
  EXPECT_EQ(s->abr.chunks, 0);
  EXPECT_EQ(s->abr.ladder, nullptr);
  EXPECT_EQ(s->abr.levels, 0);
  EXPECT_EQ(s->abr.set[M4N_SET_TRAIN].n_paths, 0);
}

TEST(Scenario, ListsOfNumbers) {
  Loaded s(replaced(good, "sizes: video", "sizes: video, ladder: [300, 750.5, 1200]") + "seed: 0\n",
           {"abr.qoe.kind=hd", "abr.qoe.utility=[1, -2.5,3]"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  ASSERT_EQ(s->abr.levels, 3);
  EXPECT_EQ(s->abr.ladder[1], 750.5);
  ASSERT_EQ(s->abr.levels_hd, 3);
  EXPECT_EQ(s->abr.utility[1], -2.5);
  EXPECT_EQ(s->seed, 0u);
}

TEST(Scenario, ScaleOfSeededStarts) {
  Loaded s(good, {"abr.train.traces=/t", "abr.train.start=seeded", "abr.train.scale=[0.5,2]"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->abr.set[M4N_SET_TRAIN].scale[0], 0.5);
  EXPECT_EQ(s->abr.set[M4N_SET_TRAIN].scale[1], 2);
  EXPECT_EQ(s->abr.set[M4N_SET_TEST].scale[0], 0);
}

TEST(Scenario, KeysOfTrainingFillTheStagesOptions) {
  Loaded s(good +
           "teacher: {base: models/llama, lora: {rank: 8, targets: [q_proj, k_proj, v_proj]}}\n"
           "student: {preset: tiny, mamba_layers: 3, checkpoint: done.safetensors, context: stream}\n"
           "expert: {steps: 10000000000, lr: 1e-3}\n"
           "collect: {policies: [bba, rate], shares: [2, 1], episodes: 90, advice: yes}\n"
           "adapt: {steps: 7, schedule: constant, rtg_scale: 1000, weighting: advantage}\n"
           "label: {by: oracle, stride: 4}\n"
           "reuse: {mode: random}\n"
           "distil: {batch: 5, divergence: jsd, jsd: 0.25, fresh: 2, on_policy: {share: 0.5, keep: 2}}\n");
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->teacher.base, here() + "/dir/models/llama");
  EXPECT_EQ(s->teacher.checkpoint, nullptr) << "trained";
  EXPECT_EQ(s->teacher.lora.rank, 8);
  ASSERT_EQ(s->teacher.lora.n_targets, 3);
  EXPECT_STREQ(s->teacher.lora.targets[1], "k_proj");
  EXPECT_STREQ(s->student.preset, "tiny");
  EXPECT_EQ(s->student.mamba_layers, 3);
  EXPECT_EQ(s->student.attention_layers, -1);
  EXPECT_EQ(s->student.checkpoint, here() + "/dir/done.safetensors");
  EXPECT_STREQ(s->student.context, "stream");
  EXPECT_EQ(s->expert.ppo.steps, 10000000000);
  EXPECT_EQ(s->expert.ppo.lr, 1e-3);
  ASSERT_EQ(s->collect.n_shares, 2);
  EXPECT_EQ(s->collect.shares[0], 2);
  EXPECT_EQ(s->collect.episodes, 90);
  EXPECT_TRUE(s->collect.advice);
  EXPECT_FALSE(s->collect.together);
  EXPECT_EQ(s->adapt.fit.steps, 7);
  EXPECT_EQ(s->adapt.fit.schedule, M4N_LR_CONSTANT);
  EXPECT_EQ(s->adapt.rtg_scale, 1000);
  EXPECT_EQ(s->adapt.weighting, M4N_WEIGHT_ADVANTAGE);
  EXPECT_EQ(s->label.by, M4N_LABEL_ORACLE);
  EXPECT_EQ(s->label.stride, 4);
  EXPECT_STREQ(s->reuse.mode, "random");
  EXPECT_EQ(s->distil.fit.batch, 5);
  EXPECT_EQ(s->distil.fit.steps, 1000) << "adapt's keys are adapt's alone";
  EXPECT_EQ(s->distil.fit.fresh, 2);
  EXPECT_EQ(s->distil.divergence, M4N_DISTIL_JSD);
  EXPECT_EQ(s->distil.jsd, 0.25);
  EXPECT_EQ(s->distil.on_policy.share, 0.5);
  EXPECT_EQ(s->distil.on_policy.keep, 2);
}

TEST(Scenario, DefaultsOfTraining) {
  Loaded s(good);
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_STREQ(s->teacher.preset, "mini");
  ASSERT_EQ(s->teacher.lora.n_targets, 2);
  EXPECT_STREQ(s->teacher.lora.targets[1], "v_proj");
  EXPECT_EQ(s->collect.n_policies, 0);
  EXPECT_EQ(s->expert.ppo.steps, 0) << "no expert unless it is asked for";
  EXPECT_EQ(s->label.expert, nullptr);
  EXPECT_EQ(s->adapt.rtg_scale, 0);
  EXPECT_EQ(s->adapt.window, 0);
}

TEST(Scenario, WordsStandForNumbers) {
  Loaded s(good + "  episodes: all\n",
           {"abr.rtt_ms=trace", "abr.video.chunk_s=video", "bridge.wait_ms=forever"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->evaluate.episodes, 0);
  EXPECT_EQ(s->abr.rtt_ms, -1);
  EXPECT_EQ(s->abr.chunk_s, 0);
  EXPECT_EQ(s->bridge.wait_ms, 0);
}

// ---- paths

TEST(Scenario, PathsOfTheFileAreRelativeToIt) {
  Loaded s(replaced(good, "sizes: video", "sizes: /abs/video"));
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->abr.set[M4N_SET_TEST].paths[0], here() + "/dir/traces");
  EXPECT_STREQ(s->abr.video, "/abs/video");
}

TEST(Scenario, PathsOfSetAreRelativeToTheWorkingDirectory) {
  Loaded s(good, {"abr.test.traces=other/traces"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->abr.set[M4N_SET_TEST].paths[0], here() + "/other/traces");
}

TEST(Scenario, TracesMayBeInSeveralFolders) {
  Loaded file(replaced(good, "traces: traces", "traces: [a, /b, demo:test]"));
  ASSERT_EQ(file.status, M4N_OK) << m4n_error_message();
  ASSERT_EQ(file->abr.set[M4N_SET_TEST].n_paths, 3);
  EXPECT_EQ(file->abr.set[M4N_SET_TEST].paths[0], here() + "/dir/a");
  EXPECT_STREQ(file->abr.set[M4N_SET_TEST].paths[1], "/b");
  EXPECT_EQ(file->abr.set[M4N_SET_TEST].paths[2], std::string(M4N_BUILD_DIR) + "/demo/test");
  Loaded set(good, {"abr.test.traces=[x, /y]", "abr.train.traces=/one, two", "abr.valid.traces=none"});
  ASSERT_EQ(set.status, M4N_OK) << m4n_error_message();
  ASSERT_EQ(set->abr.set[M4N_SET_TEST].n_paths, 2);
  EXPECT_EQ(set->abr.set[M4N_SET_TEST].paths[0], here() + "/x");
  ASSERT_EQ(set->abr.set[M4N_SET_TRAIN].n_paths, 1) << "only brackets make a list of paths";
  EXPECT_STREQ(set->abr.set[M4N_SET_TRAIN].paths[0], "/one, two");
  EXPECT_EQ(set->abr.set[M4N_SET_VALID].n_paths, 0);
  Loaded again(set->resolved, {}, "elsewhere/x.yaml");
  ASSERT_EQ(again.status, M4N_OK) << m4n_error_message();
  ASSERT_EQ(again->abr.set[M4N_SET_TEST].n_paths, 2);
  EXPECT_EQ(again->abr.set[M4N_SET_TEST].paths[0], here() + "/x");
  EXPECT_EQ(again->abr.set[M4N_SET_VALID].n_paths, 0);
}

TEST(Scenario, DemoDataLiesInTheBuild) {
  Loaded s(good, {"abr.test.traces=demo:test"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->abr.set[M4N_SET_TEST].paths[0], std::string(M4N_BUILD_DIR) + "/demo/test");
}

TEST(Scenario, TextOfSetIsTakenAsItStands) {
  Loaded s(good, {"abr.test.traces=/odd # path: [x", "bridge.endpoint=tcp://127.0.0.1:5555"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_STREQ(s->abr.set[M4N_SET_TEST].paths[0], "/odd # path: [x");
  EXPECT_STREQ(s->bridge.endpoint, "tcp://127.0.0.1:5555");
}

// ---- overriding

TEST(Scenario, TheLastSetWins) {
  Loaded s(good, {"seed=5", "evaluate.policies=[bola]", "seed=6", "evaluate.policies=bba, mpc ,rate"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->seed, 6u);
  ASSERT_EQ(s->evaluate.n_policies, 3);
  EXPECT_STREQ(s->evaluate.policies[1], "mpc");
}

TEST(Scenario, SetMakesTheSectionsItNeeds) {
  Loaded s(good, {"evaluate.delay.kind=fixed", "evaluate.delay.ms=3", "abr.train.traces=/t"});
  ASSERT_EQ(s.status, M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->evaluate.delay.ms, 3);
  EXPECT_STREQ(s->abr.set[M4N_SET_TRAIN].paths[0], "/t");
}

TEST(Scenario, ResolvedTextReadsBackToTheSame) {
  Loaded a(good, {"abr.train.noise=0.125", "evaluate.episodes=9", "abr.test.traces=/odd # path: [x"});
  ASSERT_EQ(a.status, M4N_OK) << m4n_error_message();
  Loaded b(a->resolved, {}, "/elsewhere/scenario.yaml");
  ASSERT_EQ(b.status, M4N_OK) << m4n_error_message();
  EXPECT_STREQ(a->resolved, b->resolved);
  EXPECT_EQ(b->abr.set[M4N_SET_TRAIN].noise, 0.125);
  EXPECT_STREQ(b->abr.set[M4N_SET_TEST].paths[0], a->abr.set[M4N_SET_TEST].paths[0]);
  for (int i = 0; i < m4n_n_keys; i++) {
    std::string key = std::string(m4n_keys[i].path);
    EXPECT_NE(std::string(a->resolved).find(key.substr(key.rfind('.') + 1) + ":"), std::string::npos) << key;
  }
}

// ---- what is refused

struct Refusal {
  const char *what;
  std::string text;
  const char *set; // may be NULL
  long line;
  const char *key, *words;
};

class Refused : public testing::TestWithParam<Refusal> {};

TEST_P(Refused, NamesFileLineKeyAndWhatWasExpected) {
  const Refusal &r = GetParam();
  std::vector<const char *> sets;
  if (r.set) sets.push_back(r.set);
  Loaded s(r.text, sets);
  ASSERT_NE(s.status, M4N_OK) << r.what;
  const m4n_error *e = m4n_last_error();
  EXPECT_STREQ(e->file, r.set ? "--set" : "dir/x.yaml") << m4n_error_message();
  EXPECT_EQ(e->line, r.line) << m4n_error_message();
  EXPECT_STREQ(e->key, r.key) << m4n_error_message();
  EXPECT_NE(std::string(e->text).find(r.words), std::string::npos) << m4n_error_message();
}

std::string with(const std::string &line) {
  return good + line + "\n";
}

INSTANTIATE_TEST_SUITE_P(
    Structure, Refused,
    testing::Values(
        Refusal{"empty", "", nullptr, 0, "", "is empty"},
        Refusal{"only a comment", "# nothing\n", nullptr, 0, "", "is empty"},
        Refusal{"no mapping", "- a\n- b\n", nullptr, 1, "", "expected keys and values"},
        Refusal{"a second document", good + "---\nname: b\n", nullptr, 8, "", "second document"},
        Refusal{"broken YAML", "name: [a\ntask: abr\n", nullptr, 2, "", "no YAML"},
        Refusal{"a tab", "name: a\n\ttask: abr\n", nullptr, 2, "", "no YAML"},
        Refusal{"twice", with("name: b"), nullptr, 8, "name", "stands twice, first in line 1"},
        Refusal{"an alias", "name: &n a\ntask: *n\n", nullptr, 1, "", "aliases are not accepted"},
        Refusal{"a circle", "name: &n [*n]\n", nullptr, 1, "", "aliases are not accepted"},
        Refusal{"a tag", "name: !!int 5\n", nullptr, 1, "", "tag"},
        Refusal{"a zero byte", "name: \"a\\0b\"\n", nullptr, 1, "", "zero byte"},
        Refusal{"a key that is a list", "? [a]\n: b\n", nullptr, 1, "", "plain word"},
        Refusal{"a section without keys", "name: a\nabr:\n", nullptr, 2, "abr", "expected keys below"},
        Refusal{"a key in place of a section", "name: a\nabr: 5\n", nullptr, 2, "abr", "expected keys below"},
        Refusal{"a list in place of a value", "name: [a]\n", nullptr, 1, "name", "found a list"},
        Refusal{"a section in place of a value", "seed:\n  x: 1\n", nullptr, 2, "seed", "found a section"},
        Refusal{"a value in place of a list", "evaluate: {policies: bba}\n", nullptr, 1, "evaluate.policies",
                "expected a list"},
        Refusal{"a list in a list", "evaluate: {policies: [[bba]]}\n", nullptr, 1, "evaluate.policies",
                "expected one value"}));

INSTANTIATE_TEST_SUITE_P(
    Keys, Refused,
    testing::Values(
        Refusal{"unknown", with("sead: 1"), nullptr, 8, "sead", "did you mean 'seed'?"},
        Refusal{"unknown section", "name: a\nabr:\n  tset: {traces: x}\n", nullptr, 3, "abr.tset",
                "did you mean 'abr.test'?"},
        Refusal{"in the wrong section", "abr:\n  rebuffer: 4\n", nullptr, 2, "abr.rebuffer",
                "did you mean 'abr.qoe.rebuffer'?"},
        Refusal{
            "far from everything", with("hovercraft: eels"), nullptr, 8, "hovercraft",
            "expected one of name, task, seed, abr, teacher, student, expert, collect, adapt, label, reuse, "
            "distil, tune, evaluate, ablation, bridge"},
        Refusal{"a dotted key", with("abr.payload: 1"), nullptr, 8, "abr.payload", "unknown key"},
        Refusal{"an unknown preset", with("teacher: {preset: maxi}"), nullptr, 8, "teacher.preset",
                "mini, base"},
        Refusal{"shares without policies", with("collect: {policies: [bba, rate], shares: [1]}"), nullptr, 8,
                "collect.shares", "as many shares"},
        Refusal{"advice that nobody asked for", with("label: {by: oracle}"), nullptr, 8, "label.by",
                "collect.advice"},
        Refusal{"a labeller that nobody asks", with("label: {expert: bba}"), nullptr, 8, "label.expert",
                "by: expert"},
        Refusal{"nobody who labels", with("label: {by: none}\ndistil: {on_policy: {share: 0.5}}"), nullptr, 9,
                "distil.on_policy.share", "who labels"},
        Refusal{"no name", "task: abr\n", nullptr, 0, "name", "is missing"},
        Refusal{"no task", "name: a\n", nullptr, 0, "task", "is missing"},
        Refusal{"no policies", "name: a\ntask: abr\n", nullptr, 0, "evaluate.policies", "is missing"},
        Refusal{"no traces", replaced(good, "traces: traces", "format: auto"), nullptr, 0, "abr.test.traces",
                "is missing"},
        Refusal{"no video", replaced(good, "{sizes: video}", "{chunks: 10}"), nullptr, 0, "abr.video.sizes",
                "is missing"},
        Refusal{"no traces in the set", with("  set: train"), nullptr, 0, "abr.train.traces", "is missing"},
        Refusal{"listed without a list", replaced(good, "traces: traces", "traces: t, start: listed"),
                nullptr, 0, "abr.test.pointers", "needs a file"},
        Refusal{"a list without listed", replaced(good, "traces: traces", "traces: t, pointers: p"), nullptr,
                4, "abr.test.pointers", "start: listed"},
        Refusal{"utility without hd", with("abr: {}"), nullptr, 8, "abr", "stands twice"},
        Refusal{"a delay nobody reads", with("  delay: {ms: 5}"), nullptr, 8, "evaluate.delay.ms",
                "kind: fixed"}));

INSTANTIATE_TEST_SUITE_P(
    Values, Refused,
    testing::Values(
        Refusal{"a negative seed", with("seed: -1"), nullptr, 8, "seed", "from 0 to 18446744073709551615"},
        Refusal{"a seed too large", with("seed: 18446744073709551616"), nullptr, 8, "seed", "from 0 to"},
        Refusal{"an octal seed", with("seed: 017"), nullptr, 8, "seed", "from 0 to"},
        Refusal{"a broken seed", with("seed: 1.5"), nullptr, 8, "seed", "a whole number"},
        Refusal{"a quoted number", with("seed: '1'"), nullptr, 8, "seed", "a whole number"},
        Refusal{"not a number", with("  delay: {kind: fixed, ms: .nan}"), nullptr, 8, "evaluate.delay.ms",
                "a number from 0 to 60000"},
        Refusal{"nan as C writes it", with("  delay: {kind: fixed, ms: nan}"), nullptr, 8,
                "evaluate.delay.ms", "a number from"},
        Refusal{"infinite", with("  delay: {kind: fixed, ms: 1e999}"), nullptr, 8, "evaluate.delay.ms",
                "a number from"},
        Refusal{"hexadecimal", with("  episodes: 0x10"), nullptr, 8, "evaluate.episodes", "a whole number"},
        Refusal{"out of range", with("  episodes: 0"), nullptr, 8, "evaluate.episodes", "or 'all'"},
        Refusal{"a fraction", with("  episodes: 1e3"), nullptr, 8, "evaluate.episodes", "a whole number"},
        Refusal{"nothing", with("  episodes:"), nullptr, 8, "evaluate.episodes", "a whole number"},
        Refusal{"many lanes", with("bridge: {lanes: 5000}"), nullptr, 8, "bridge.lanes", "from 1 to 4096"},
        Refusal{"no choice", with("  set: exam"), nullptr, 8, "evaluate.set", "test, train or valid"},
        Refusal{"no task", replaced(good, "task: abr", "task: chess"), nullptr, 2, "task", "abr or null"},
        Refusal{"a name with a slash", replaced(good, "name: small", "name: ../x"), nullptr, 1, "name",
                "letters"},
        Refusal{"no policy", replaced(good, "[bba, rate]", "[bba, bbr]"), nullptr, 7, "evaluate.policies",
                "bbr"},
        Refusal{"a policy twice", replaced(good, "[bba, rate]", "[bba,\n  rate, bba]"), nullptr, 8,
                "evaluate.policies", "stands twice"},
        Refusal{"no policies", replaced(good, "[bba, rate]", "[]"), nullptr, 7, "evaluate.policies",
                "expected 1 to"},
        Refusal{"no fallback", with("bridge: {fallback: bbr}"), nullptr, 8, "bridge.fallback", "bbr"},
        Refusal{"a ladder's step", replaced(good, "sizes: video", "sizes: v, ladder: [1, x]"), nullptr, 5,
                "abr.video.ladder", "a number from"},
        Refusal{"a long ladder",
                replaced(good, "sizes: video", "sizes: v, ladder: [1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8]"),
                nullptr, 5, "abr.video.ladder", "17 items: expected none, or 1 to 16"},
        Refusal{"an empty path", replaced(good, "sizes: video", "sizes: ''"), nullptr, 5, "abr.video.sizes",
                "1 to 4095"}));

INSTANTIATE_TEST_SUITE_P(
    Sets, Refused,
    testing::Values(
        Refusal{"no value", good, "seed", 0, "seed", "expected KEY=VALUE"},
        Refusal{"unknown", good, "abr.drian_ms=1", 0, "abr.drian_ms", "did you mean 'abr.drain_ms'?"},
        Refusal{"a section", good, "abr.test=x", 0, "abr.test", "is a section: set one of its keys, traces"},
        Refusal{"a bad number", good, "abr.test.noise=nan", 0, "abr.test.noise", "from 0 to 0.99"},
        Refusal{"a bad item", good, "evaluate.policies=[bba,bbr]", 0, "evaluate.policies", "bbr"},
        Refusal{"twice", good, "evaluate.policies=bba,bba", 0, "evaluate.policies", "stands twice"},
        Refusal{"empty", good, "evaluate.policies=[]", 0, "evaluate.policies", "expected 1 to"},
        Refusal{"too many", good, "abr.video.ladder=1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8", 0, "abr.video.ladder",
                "expected none, or 1 to 16"}));

TEST(Scenario, BigFilesAreRefused) {
  Loaded s(good + "#" + std::string(2 << 20, 'x'));
  EXPECT_EQ(s.status, M4N_EFORMAT);
  EXPECT_NE(std::string(m4n_error_message()).find("at most"), std::string::npos);
}

TEST(Scenario, ManyKeysAreRefusedAtOnce) {
  std::string text;
  for (int i = 0; i < 100000; i++) text += "k" + std::to_string(i) + ": 1\n";
  Loaded s(text);
  EXPECT_EQ(s.status, M4N_EFORMAT);
}

TEST(Scenario, FilesThatAreNone) {
  m4n_scenario *s;
  std::string dir = m4n_temp_dir();
  EXPECT_EQ(m4n_scenario_load(&s, (dir + "/none.yaml").c_str(), nullptr, 0), M4N_ENOTFOUND);
  EXPECT_EQ(m4n_scenario_load(&s, dir.c_str(), nullptr, 0), M4N_EFORMAT);
  EXPECT_EQ(m4n_scenario_load(&s, "/dev/null", nullptr, 0), M4N_EFORMAT);
  std::ofstream(dir + "/empty.yaml");
  EXPECT_EQ(m4n_scenario_load(&s, (dir + "/empty.yaml").c_str(), nullptr, 0), M4N_EFORMAT);
  EXPECT_EQ(std::string(m4n_last_error()->file), dir + "/empty.yaml");
}

TEST(Scenario, LoadsAFile) {
  std::string dir = m4n_temp_dir();
  std::ofstream(dir + "/a.yaml") << good;
  m4n_scenario *s;
  ASSERT_EQ(m4n_scenario_load(&s, (dir + "/a.yaml").c_str(), nullptr, 0), M4N_OK) << m4n_error_message();
  EXPECT_EQ(s->abr.set[M4N_SET_TEST].paths[0], dir + "/traces");
  m4n_scenario_free(s);
}

// ---- the table

TEST(ScenarioKeys, EveryKeyHasAMeaningAndADefaultThatIsAccepted) {
  for (int i = 0; i < m4n_n_keys; i++) {
    const m4n_key *key = &m4n_keys[i];
    ASSERT_TRUE(key->meaning && *key->meaning) << key->path;
    EXPECT_EQ(std::string(key->meaning).find('\n'), std::string::npos) << key->path;
    if (key->usual && !key->most) {
      EXPECT_EQ(m4n_key_check(key, key->usual, true, "table", 0), M4N_OK) << m4n_error_message();
    }
    EXPECT_EQ(m4n_key_find(key->path), key) << "twice";
    EXPECT_FALSE(m4n_key_is_section(key->path)) << key->path << " is a key and a section";
  }
}

TEST(ScenarioKeys, TheReadmeHoldsTheTable) {
  char *table = nullptr;
  size_t size = 0;
  FILE *out = open_memstream(&table, &size);
  m4n_key_print(out, true);
  fclose(out);
  std::stringstream readme;
  readme << std::ifstream(M4N_SOURCE_DIR "/scenarios/README.md").rdbuf();
  EXPECT_NE(readme.str().find(table), std::string::npos) << "expected in scenarios/README.md:\n" << table;
  free(table);
}

} // namespace
