#include "agent/learn/report.h"

#include <gtest/gtest.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "agent/learn/report_gnuplot.h"
#include "agent/learn/store.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "tests/support/paths.h"

namespace {

std::string read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

int count_of(const std::string &text, const std::string &what) {
  int n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) n++;
  return n;
}

m4n_spec plain_spec(bool metrics) {
  m4n_spec spec = {};
  strcpy(spec.task, "plain");
  strcpy(spec.reward, "r");
  m4n_spec_add_obs(&spec, "x", M4N_F64, "", -HUGE_VAL, HUGE_VAL, 0);
  m4n_spec_add_choice(&spec, "a", 2);
  if (metrics) {
    m4n_spec_add_metric(&spec, "score", "points", 1);
    m4n_spec_add_metric(&spec, "cost", "s", -1);
  }
  m4n_spec_layout(&spec);
  return spec;
}

// What the streaming task reports, by name; the numbers are the test's own.
m4n_spec abr_spec() {
  m4n_spec spec = {};
  strcpy(spec.task, "abr");
  strcpy(spec.reward, "qoe");
  m4n_spec_add_obs(&spec, "buffer", M4N_F64, "s", 0, HUGE_VAL, 0);
  m4n_spec_add_choice(&spec, "level", 6);
  for (const char *name :
       {"level", "bitrate_mbps", "rebuffer_s", "buffer_s", "download_s", "sleep_s", "link_mbps"})
    m4n_spec_add_info(&spec, name, "", 0);
  m4n_spec_add_metric(&spec, "qoe", "per chunk", 1);
  m4n_spec_add_metric(&spec, "quality", "per chunk", 1);
  m4n_spec_add_metric(&spec, "rebuffer_s", "s per chunk", -1);
  m4n_spec_add_metric(&spec, "smooth", "per chunk", -1);
  m4n_spec_add_metric(&spec, "rebuffer_ratio", "1", -1);
  const double weights[] = {4.3, 1};
  m4n_spec_add_constant(&spec, M4N_ABR_REBUFFER, 1, weights);
  m4n_spec_add_constant(&spec, M4N_ABR_SMOOTH, 1, weights + 1);
  m4n_spec_layout(&spec);
  return spec;
}

struct played {
  int policy;
  int64_t episode;
  std::string label;
  std::vector<double> rewards, metrics;
  uint32_t flags = M4N_TERMINATED;
  int served_by = 0;
};

// A run's folder whose log holds these episodes, in this order.
void write_run(const std::string &folder, const m4n_spec &spec, const std::vector<const char *> &policies,
               const std::vector<played> &episodes, const char *scenario = "name: 'try'\ntask: plain\n",
               uint64_t seed = 1) {
  mkdir(folder.c_str(), 0777);
  m4n_events_header header = {spec, seed, (int)policies.size(), policies.data(), scenario, nullptr};
  m4n_events *log;
  ASSERT_EQ(m4n_events_create(&log, (folder + "/events.bin").c_str(), &header, 1), M4N_OK)
      << m4n_error_message();
  for (const played &e : episodes) {
    m4n_reset order = {};
    order.episode = e.episode;
    order.copy_of = -1;
    double obs = 0, info[7] = {1, 0.75, 0.5, 8, 2, 0, 1.5};
    uint8_t action[8] = {1};
    m4n_events_begin(log, 0, e.policy, &order, e.label.c_str(), (const uint8_t *)&obs, 0);
    for (size_t t = 0; t < e.rewards.size(); t++) {
      bool last = t + 1 == e.rewards.size() && e.flags != M4N_LOST;
      m4n_events_action(log, 0, action, 0, e.served_by);
      m4n_events_result(log, 0, (const uint8_t *)&obs, e.rewards[t], spec.n_info ? info : nullptr,
                        (int64_t)(t + 1) * 2000000000, last ? e.flags : 0,
                        e.metrics.empty() ? nullptr : e.metrics.data());
    }
    if (e.flags == M4N_LOST) m4n_events_lost(log, 0);
  }
  ASSERT_EQ(m4n_events_close(log), M4N_OK) << m4n_error_message();
}

int report(const std::string &out, const std::vector<std::string> &folders, m4n_report_options options = {}) {
  std::vector<const char *> names;
  for (const std::string &f : folders) names.push_back(f.c_str());
  if (!options.resamples) options.resamples = 500;
  return m4n_report_write(out.c_str(), names.data(), (int)names.size(), &options);
}

struct summary {
  json_t *root;
  explicit summary(const std::string &folder)
      : root(json_load_file((folder + "/summary.json").c_str(), 0, nullptr)) {}
  ~summary() { json_decref(root); }
  json_t *policy(size_t i) { return json_array_get(json_object_get(root, "policies"), i); }
  json_t *pair(size_t i) { return json_array_get(json_object_get(root, "paired"), i); }
  json_t *metric(size_t i, const char *name) {
    return json_object_get(json_object_get(policy(i), "metrics"), name);
  }
};

double number(json_t *object, const char *key) {
  return json_number_value(json_object_get(object, key));
}
std::string text(json_t *object, const char *key) {
  const char *value = json_string_value(json_object_get(object, key));
  return value ? value : "(none)";
}

std::vector<played> two_policies() {
  return {{0, 0, "e0", {1, 2}, {1, 5}},
          {0, 1, "e1", {0.1}, {2, 6}},
          {0, 2, "e2", {-1, 1, 3}, {3, 7}},
          {0, 3, "e3", {1, 1}, {6, 8}},
          {1, 0, "e0", {1, 2}, {0, 5}},
          {1, 1, "e1", {0.2}, {0, 5}},
          {1, 2, "e2", {4}, {0, 5}, M4N_TRUNCATED},
          {1, 3, "e3", {1}, {2, 5}}};
}

TEST(Report, NumbersAreThoseOfHand) {
  std::string run = m4n_temp_dir();
  write_run(run, plain_spec(true), {"good", "bad"}, two_policies());
  ASSERT_EQ(report(run, {run}), M4N_OK) << m4n_error_message();
  EXPECT_EQ(read_file(run + "/episodes.csv"),
            "policy,episode,label,steps,reward_mean,reward_total,ended,score,cost\n"
            "good,0,e0,2,1.5,3,terminated,1,5\n"
            "good,1,e1,1,0.1,0.1,terminated,2,6\n"
            "good,2,e2,3,1,3,terminated,3,7\n"
            "good,3,e3,2,1,2,terminated,6,8\n"
            "bad,0,e0,2,1.5,3,terminated,0,5\n"
            "bad,1,e1,1,0.2,0.2,terminated,0,5\n"
            "bad,2,e2,1,4,4,truncated,0,5\n"
            "bad,3,e3,1,1,1,terminated,2,5\n");
  summary s(run);
  ASSERT_NE(s.root, nullptr);
  EXPECT_EQ(text(s.root, "scenario"), "try");
  EXPECT_EQ(text(s.root, "task"), "plain");
  EXPECT_EQ(number(s.root, "seed"), 1);
  EXPECT_TRUE(json_is_true(json_object_get(s.root, "complete")));
  EXPECT_EQ(text(s.policy(0), "name"), "good");
  EXPECT_EQ(number(s.policy(0), "episodes"), 4);
  json_t *score = s.metric(0, "score");
  EXPECT_EQ(number(score, "n"), 4);
  EXPECT_DOUBLE_EQ(number(score, "mean"), 3);
  EXPECT_DOUBLE_EQ(number(score, "median"), 2.5);
  EXPECT_DOUBLE_EQ(number(score, "p5"), 1.15);
  EXPECT_DOUBLE_EQ(number(score, "p95"), 5.55);
  json_t *ci = json_object_get(score, "ci95");
  double low = json_number_value(json_array_get(ci, 0)), high = json_number_value(json_array_get(ci, 1));
  EXPECT_TRUE(1 < low && low < 3 && 3 < high && high < 6) << low << " " << high;
  EXPECT_DOUBLE_EQ(number(s.metric(1, "cost"), "mean"), 5);
  ASSERT_EQ(json_array_size(json_object_get(s.root, "paired")), 1u);
  EXPECT_EQ(text(s.pair(0), "a"), "good");
  EXPECT_EQ(text(s.pair(0), "b"), "bad");
  EXPECT_EQ(text(s.pair(0), "metric"), "score");
  EXPECT_DOUBLE_EQ(number(s.pair(0), "mean_difference"), 2.5); // 1 2 3 4
  EXPECT_DOUBLE_EQ(number(s.pair(0), "p"), 0.125);
  EXPECT_DOUBLE_EQ(number(s.pair(0), "p_holm"), 0.125);
}

TEST(Report, EqualRunsAreEqualBytes) {
  std::string a = m4n_temp_dir(), b = m4n_temp_dir();
  std::vector<played> episodes = two_policies();
  episodes.push_back({0, 7, "e7", {1}, {}, M4N_LOST});
  write_run(a, plain_spec(true), {"good", "bad"}, episodes);
  write_run(b, plain_spec(true), {"good", "bad"}, std::vector<played>(episodes.rbegin(), episodes.rend()));
  ASSERT_EQ(report(a, {a}), M4N_OK);
  ASSERT_EQ(report(b, {b}), M4N_OK);
  EXPECT_NE(read_file(a + "/events.bin"), read_file(b + "/events.bin"));
  for (const char *name : {"/episodes.csv", "/summary.json", "/report.html"})
    EXPECT_EQ(read_file(a + name), read_file(b + name)) << name;
}

TEST(Report, LostEpisodesAreListedAndNotCounted) {
  std::string run = m4n_temp_dir();
  std::vector<played> episodes = two_policies();
  episodes.push_back({0, 9, "gone", {100, 100}, {}, M4N_LOST});
  episodes.push_back({0, 3, "e3", {50}, {}, M4N_LOST}); // lost first, played again
  write_run(run, plain_spec(true), {"good", "bad"}, episodes);
  char table[20000] = "";
  FILE *out = fmemopen(table, sizeof table, "w");
  m4n_report_options options = {};
  options.table = out;
  ASSERT_EQ(report(run, {run}, options), M4N_OK);
  fclose(out);
  summary s(run);
  EXPECT_EQ(number(s.policy(0), "episodes"), 4);
  EXPECT_EQ(number(s.policy(0), "lost"), 2);
  EXPECT_DOUBLE_EQ(number(s.metric(0, "score"), "mean"), 3);
  json_t *lost = json_object_get(s.root, "lost");
  ASSERT_EQ(json_array_size(lost), 2u);
  EXPECT_EQ(text(json_array_get(lost, 1), "label"), "gone");
  EXPECT_EQ(number(json_array_get(lost, 1), "steps"), 2);
  EXPECT_NE(read_file(run + "/episodes.csv").find("good,9,gone,2,100,200,lost,,\n"), std::string::npos);
  EXPECT_NE(strstr(table, "lost, and in none of these figures: 2 episodes"), nullptr) << table;
  EXPECT_NE(read_file(run + "/report.html").find("episode 9 gone"), std::string::npos);
}

TEST(Report, StrangersTextIsHarmless) {
  std::string run = m4n_temp_dir();
  std::vector<played> episodes = {{0, 0, "<script>alert('x')</script>", {1}, {1, 1}, M4N_LOST},
                                  {0, 1, "a,\"b\"\x1b[31m\xff é", {1}, {1, 1}},
                                  {1, 1, "a,\"b\"\x1b[31m\xff é", {1}, {2, 1}}};
  write_run(run, plain_spec(true), {"<b>bold</b>", "it's"}, episodes, "name: <i>\nx: \x1b[2J </pre>\n");
  char table[20000] = "";
  FILE *out = fmemopen(table, sizeof table, "w");
  m4n_report_options options = {};
  options.table = out;
  options.plots = true;
  ASSERT_EQ(report(run, {run}, options), M4N_OK) << m4n_error_message();
  fclose(out);
  std::string html = read_file(run + "/report.html"), csv = read_file(run + "/episodes.csv");
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_EQ(count_of(html, "</pre>"), 2); // ours: the commands and the scenario
  EXPECT_NE(html.find("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), std::string::npos);
  EXPECT_NE(html.find("&lt;b&gt;bold&lt;/b&gt;"), std::string::npos);
  EXPECT_NE(html.find("it&#39;s"), std::string::npos);
  EXPECT_NE(csv.find("it's,1,\"a,\"\"b\"\"?[31m? é\",1,1,1,terminated,2,1\n"), std::string::npos) << csv;
  for (const std::string &all :
       {html, csv, std::string(table), read_file(run + "/summary.json"), read_file(run + "/plots/plots.gp")})
    EXPECT_EQ(all.find('\x1b'), std::string::npos);
  EXPECT_NE(summary(run).root, nullptr);
}

TEST(Report, SaysWhatIsNotDistinguishable) {
  std::string run = m4n_temp_dir();
  std::vector<played> episodes;
  for (int e = 0; e < 20; e++)
    for (int p = 0; p < 3; p++) {
      double noise = e * 7 % 20 - 9.5;
      episodes.push_back({p, e, "", {0}, {p == 0 ? noise : p == 1 ? -noise : noise - 30, 0}});
    }
  write_run(run, plain_spec(true), {"x", "y", "z"}, episodes);
  char table[20000] = "";
  FILE *out = fmemopen(table, sizeof table, "w");
  m4n_report_options options = {};
  options.table = out;
  ASSERT_EQ(report(run, {run}, options), M4N_OK);
  fclose(out);
  EXPECT_NE(strstr(table, "x and y are not distinguishable: difference 0.000 score"), nullptr) << table;
  EXPECT_NE(strstr(table, "x is better than z by 30.00 score (95 % interval 30.00 to 30.00"), nullptr)
      << table;
  std::string html = read_file(run + "/report.html");
  EXPECT_NE(html.find("x and y are not distinguishable"), std::string::npos);
  summary s(run);
  EXPECT_FALSE(json_is_true(json_object_get(s.pair(0), "distinguishable")));
  EXPECT_TRUE(json_is_true(json_object_get(s.pair(1), "distinguishable")));
  // Holm: y against z has the smallest p, x against z the next of three.
  EXPECT_LT(number(s.pair(2), "p"), number(s.pair(1), "p"));
  EXPECT_NEAR(number(s.pair(2), "p_holm"), 3 * number(s.pair(2), "p"), 1e-12);
  EXPECT_NEAR(number(s.pair(1), "p_holm"), 2 * number(s.pair(1), "p"), 1e-12);
}

TEST(Report, SmallerIsBetterWhereTheTaskSaysSo) {
  std::string run = m4n_temp_dir();
  m4n_spec spec = plain_spec(false);
  m4n_spec_add_metric(&spec, "error", "deg", -1);
  std::vector<played> episodes;
  for (int e = 0; e < 10; e++)
    for (int p = 0; p < 2; p++) episodes.push_back({p, e, "", {0}, {p ? 2.0 + e % 3 : 10.0 + e % 3}});
  write_run(run, spec, {"large", "small"}, episodes);
  char table[20000] = "";
  FILE *out = fmemopen(table, sizeof table, "w");
  m4n_report_options options = {};
  options.table = out;
  ASSERT_EQ(report(run, {run}, options), M4N_OK);
  fclose(out);
  EXPECT_NE(strstr(table, "small is better than large by 8.000 error"), nullptr) << table;
}

// A simulator that knows neither info nor metrics is measured by its rewards.
TEST(Report, WorksWithRewardsAlone) {
  std::string run = m4n_temp_dir();
  std::vector<played> episodes = two_policies();
  for (played &e : episodes) e.metrics.clear();
  write_run(run, plain_spec(false), {"good", "bad"}, episodes);
  m4n_report_options options = {};
  options.plots = true;
  ASSERT_EQ(report(run, {run}, options), M4N_OK) << m4n_error_message();
  summary s(run);
  EXPECT_DOUBLE_EQ(number(s.metric(0, "reward_mean"), "mean"), 0.9);
  EXPECT_DOUBLE_EQ(number(s.metric(0, "reward_total"), "mean"), 2.025);
  EXPECT_EQ(text(s.pair(0), "metric"), "reward_mean");
  EXPECT_EQ(read_file(run + "/episodes.csv").substr(0, 61),
            "policy,episode,label,steps,reward_mean,reward_total,ended\ngoo");
  // Metrics that are announced and never sent come behind the rewards.
  std::string silent = m4n_temp_dir();
  write_run(silent, plain_spec(true), {"good", "bad"}, episodes);
  ASSERT_EQ(report(silent, {silent}), M4N_OK);
  summary t(silent);
  EXPECT_EQ(text(t.pair(0), "metric"), "reward_mean");
  EXPECT_TRUE(json_is_null(json_object_get(t.metric(0, "score"), "mean")));
}

TEST(Report, EmptyRunsAndLonePoliciesHaveReports) {
  std::string empty = m4n_temp_dir(), lone = m4n_temp_dir();
  m4n_report_options options = {};
  options.plots = true;
  write_run(empty, plain_spec(true), {"good", "bad"}, {});
  ASSERT_EQ(report(empty, {empty}, options), M4N_OK) << m4n_error_message();
  EXPECT_EQ(count_of(read_file(empty + "/episodes.csv"), "\n"), 1);
  write_run(lone, plain_spec(true), {"good"}, {{0, 0, "e0", {1}, {1, 2}}});
  ASSERT_EQ(report(lone, {lone}, options), M4N_OK) << m4n_error_message();
  summary s(lone);
  EXPECT_DOUBLE_EQ(number(s.metric(0, "score"), "mean"), 1);
  EXPECT_EQ(json_array_size(json_object_get(s.root, "paired")), 0u);
}

TEST(Report, ComparesRunsByEpisode) {
  std::string dir = m4n_temp_dir(), a = dir + "/first", b = dir + "/second", out = dir + "/both";
  write_run(a, plain_spec(true), {"p"}, {{0, 0, "e0", {1}, {1, 0}}, {0, 1, "e1", {1}, {5, 0}}});
  write_run(b, plain_spec(true), {"p"},
            {{0, 1, "e1", {1}, {3, 0}}, {0, 2, "e2", {1}, {9, 0}}, {0, 0, "other", {1}, {9, 0}}}, "", 2);
  ASSERT_EQ(report(out, {a, b}), M4N_OK) << m4n_error_message();
  summary s(out);
  EXPECT_EQ(text(s.policy(0), "name"), "first/p");
  EXPECT_EQ(text(s.policy(1), "name"), "second/p");
  EXPECT_EQ(number(s.pair(0), "n"), 1); // only e1 is the same episode
  EXPECT_DOUBLE_EQ(number(s.pair(0), "mean_difference"), text(s.pair(0), "a") == "first/p" ? 2 : -2);
  EXPECT_NE(read_file(out + "/report.html").find("different seeds"), std::string::npos);

  m4n_spec other = plain_spec(true);
  strcpy(other.reward, "another");
  std::string c = dir + "/third";
  write_run(c, other, {"p"}, {});
  EXPECT_EQ(report(out, {a, c}), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "rewards are 'r' and 'another'"), nullptr) << m4n_error_message();
}

// A newer simulator has appended metrics: its runs are compared with older ones by what both measure.
TEST(Report, ComparesWithOlderRuns) {
  std::string dir = m4n_temp_dir(), older = dir + "/older", newer = dir + "/newer", out = dir + "/both";
  m4n_spec more = plain_spec(true), other = plain_spec(true);
  m4n_spec_add_metric(&more, "weather", "K", 0);
  strcpy(other.metric[1].name, "price");
  write_run(older, plain_spec(true), {"p"}, {{0, 0, "e0", {1}, {1, 0}}});
  write_run(newer, more, {"q"}, {{0, 0, "e0", {1}, {4, 5, 280}}});
  for (const auto &folders : {std::vector<std::string>{older, newer}, {newer, older}}) {
    ASSERT_EQ(report(out, folders), M4N_OK) << m4n_error_message();
    summary s(out);
    EXPECT_DOUBLE_EQ(fabs(number(s.pair(0), "mean_difference")), 3);
    size_t i = folders[0] == newer ? 0 : 1;
    EXPECT_DOUBLE_EQ(number(s.metric(i, "cost"), "mean"), 5);
    EXPECT_EQ(s.metric(i, "weather"), nullptr);
  }
  write_run(dir + "/other", other, {"p"}, {});
  EXPECT_EQ(report(out, {older, dir + "/other"}), M4N_EARG);
  EXPECT_NE(strstr(m4n_error_message(), "metrics are 'cost' and 'price'"), nullptr) << m4n_error_message();
  write_run(dir + "/none", plain_spec(false), {"p"}, {});
  EXPECT_EQ(report(out, {dir + "/none", older}), M4N_EARG);
  EXPECT_EQ(report(out, {older, dir + "/none"}), M4N_EARG);
}

// What an episode was like is no column of a table of policies; the first figure is drawn against it.
TEST(Report, ConditionsAreDrawnAgainst) {
  std::string run = m4n_temp_dir();
  m4n_spec spec = plain_spec(true);
  m4n_spec_add_metric(&spec, "weather", "K", 0); // the same for all
  m4n_spec_add_metric(&spec, "colour", "nm", 0); // a policy's own
  m4n_spec_add_metric(&spec, "still", "m", 0);   // never varies
  std::vector<played> episodes;
  for (int e = 0; e < 24; e++)
    for (int p = 0; p < 3; p++) {
      double kelvin = 270 + e * 5 % 24, score = p == 2 ? -1000 : (p + 1) * (kelvin - 270);
      episodes.push_back({p, e, "", {0}, {score, 0, kelvin, 400.0 + p, 7}});
    }
  write_run(run, spec, {"x", "y", "hopeless"}, episodes);
  char table[20000] = "";
  FILE *out = fmemopen(table, sizeof table, "w");
  m4n_report_options options = {};
  options.table = out;
  options.plots = true;
  ASSERT_EQ(report(run, {run}, options), M4N_OK) << m4n_error_message();
  fclose(out);
  std::string html = read_file(run + "/report.html");
  EXPECT_EQ(strstr(table, "weather"), nullptr) << table;
  EXPECT_NE(strstr(table, "colour"), nullptr) << table;
  EXPECT_EQ(html.find("<th>weather"), std::string::npos);
  EXPECT_NE(html.find("<th>colour"), std::string::npos);
  EXPECT_NE(read_file(run + "/episodes.csv").find(",score,cost,weather,colour,still\n"), std::string::npos);
  summary s(run);
  EXPECT_DOUBLE_EQ(number(s.metric(0, "weather"), "mean"), 270 + 11.5);

  std::string points = read_file(run + "/plots/condition1.csv");
  EXPECT_EQ(points.substr(0, points.find("\n272")), "weather,y score,x score\n270,0,0\n271,2,1");
  EXPECT_EQ(count_of(points, "\n"), 25);
  EXPECT_EQ(read_file(run + "/plots/condition1_bands.csv"), "from,to,episodes,weather,y score,x score\n"
                                                            "270,275,6,272.5,5,2.5\n"
                                                            "276,281,6,278.5,17,8.5\n"
                                                            "282,287,6,284.5,29,14.5\n"
                                                            "288,293,6,290.5,41,20.5\n");
  EXPECT_EQ(read_file(run + "/plots/condition2.csv"), "") << "what does not vary explains nothing";
  if (html.find("<svg") == std::string::npos) GTEST_SKIP() << "no gnuplot";
  EXPECT_NE(html.find("<h2>score against weather</h2>"), std::string::npos);
  EXPECT_NE(html.find("4 bands of equally many episodes (plots/condition1_bands.csv)"), std::string::npos);
  EXPECT_NE(html.find("Too far off to be shown: hopeless"), std::string::npos);
}

TEST(Report, AFallbackIsNamed) {
  std::string run = m4n_temp_dir();
  std::vector<played> episodes = two_policies();
  episodes[4].served_by = 1; // two decisions of "bad"
  write_run(run, plain_spec(true), {"good", "bad"}, episodes);
  ASSERT_EQ(report(run, {run}), M4N_OK);
  summary s(run);
  EXPECT_EQ(number(s.policy(1), "fallback_decisions"), 2);
  EXPECT_NE(read_file(run + "/report.html").find("bad: 2 decisions were made by its fallback"),
            std::string::npos);
}

TEST(Report, ABrokenRunIsReportedAsFarAsItGoes) {
  std::string run = m4n_temp_dir();
  write_run(run, plain_spec(true), {"good", "bad"}, two_policies());
  std::string log = read_file(run + "/events.bin");
  std::ofstream(run + "/events.bin", std::ios::binary) << log.substr(0, log.size() - 60);
  m4n_log_set_level(M4N_LOG_ERROR);
  ASSERT_EQ(report(run, {run}), M4N_OK) << m4n_error_message();
  m4n_log_set_level(M4N_LOG_INFO);
  EXPECT_TRUE(json_is_false(json_object_get(summary(run).root, "complete")));
  EXPECT_EQ(report(run, {m4n_temp_dir()}), M4N_ENOTFOUND);
  EXPECT_EQ(report("/proc/nowhere", {run}), M4N_ENOTFOUND);
}

std::vector<played> streaming() {
  std::vector<played> episodes;
  for (int e = 0; e < 12; e++)
    for (int p = 0; p < 3; p++)
      episodes.push_back({p,
                          e,
                          "trace " + std::to_string(e) + (p < 3 ? " <fast>" : ""),
                          std::vector<double>(8, 0.5),
                          {1 - 0.2 * p + 0.01 * e, 1.5, 0.1, 0.07 + 0.2 * p, 0.02}});
  return episodes;
}

bool has_gnuplot() {
  std::string dir = m4n_temp_dir();
  std::ofstream(dir + "/x.gp") << "exit\n";
  return m4n_gnuplot_run(nullptr, dir.c_str(), "x.gp", 10) == M4N_OK;
}

TEST(Report, PlotsOfStreaming) {
  if (!has_gnuplot()) GTEST_SKIP() << "no gnuplot";
  std::string run = m4n_temp_dir();
  write_run(run, abr_spec(), {"bba", "mpc", "rate"}, streaming());
  m4n_report_options options = {};
  options.plots = true;
  ASSERT_EQ(report(run, {run}, options), M4N_OK) << m4n_error_message();
  std::string html = read_file(run + "/report.html");
  EXPECT_EQ(count_of(html, "<svg"), 5);
  EXPECT_EQ(count_of(html, "</svg>"), 5);
  EXPECT_EQ(html.find("http://www.w3.org/1999/xlink\" href"), std::string::npos);
  EXPECT_NE(html.find("trace 5 &lt;fast&gt;"), std::string::npos); // the middle episode
  for (const char *name : {"cdf", "bars", "breakdown", "tradeoff", "timeline"}) {
    EXPECT_GT(read_file(run + "/plots/" + name + ".csv").size(), 20u) << name;
    EXPECT_NE(read_file(run + "/plots/" + name + ".svg").find("</svg>"), std::string::npos) << name;
  }
  EXPECT_EQ(read_file(run + "/plots/breakdown.csv"), "policy,utility,rebuffering,smoothness,sum\n"
                                                     "bba,1.5,0.43,0.07,1\n"
                                                     "mpc,1.5,0.43,0.27,0.8\n"
                                                     "rate,1.5,0.43,0.47,0.6\n");
  std::string timeline = read_file(run + "/plots/timeline.csv");
  EXPECT_EQ(count_of(timeline, "\n"), 1 + 8 + 1);
  EXPECT_EQ(timeline.substr(0, 11), "bba time_s,");
  EXPECT_NE(timeline.find("\n2,1.5,0.75,8,0.5,2,1.5,0.75,8,0.5\n"), std::string::npos) << timeline;
}

TEST(Report, WithoutGnuplotThereAreNumbersOnly) {
  std::string run = m4n_temp_dir();
  write_run(run, abr_spec(), {"bba", "mpc", "rate"}, streaming());
  m4n_report_options options = {};
  options.plots = true;
  options.gnuplot = "/nowhere/gnuplot";
  testing::internal::CaptureStderr();
  ASSERT_EQ(report(run, {run}, options), M4N_OK) << m4n_error_message();
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("no plots"), std::string::npos) << said;
  EXPECT_NE(said.find("/nowhere/gnuplot"), std::string::npos) << said;
  EXPECT_EQ(count_of(read_file(run + "/report.html"), "<svg"), 0);
  EXPECT_GT(read_file(run + "/plots/cdf.csv").size(), 20u);
}

TEST(Report, AGnuplotThatHangsOrFailsIsStopped) {
  std::string dir = m4n_temp_dir(), program = dir + "/slow";
  std::ofstream(program) << "#!/bin/sh\nexec sleep 60\n";
  chmod(program.c_str(), 0755);
  EXPECT_EQ(m4n_gnuplot_run(program.c_str(), dir.c_str(), "x.gp", 1), M4N_ETIMEOUT);
  program = dir + "/bad";
  std::ofstream(program) << "#!/bin/sh\npwd >&2\necho line 3: nonsense \"$2\" >&2\nexit 1\n";
  chmod(program.c_str(), 0755);
  EXPECT_EQ(m4n_gnuplot_run(program.c_str(), dir.c_str(), "a b.gp", 10), M4N_EIO);
  EXPECT_NE(strstr(m4n_error_message(), (dir + " line 3: nonsense a b.gp").c_str()), nullptr)
      << m4n_error_message();
}

} // namespace
