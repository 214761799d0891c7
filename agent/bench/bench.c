#include "agent/bench/bench.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool json;

void m4n_bench_json(bool on) {
  json = on;
}

static double share_of(const m4n_bench_result *r) {
  bool time = !strcmp(r->unit, "us");
  return time ? r->limit / r->value : r->value / r->limit;
}

// Names and units are ours: letters, digits, '-', '/', so nothing needs escaping.
static void emit_json(const m4n_bench_result *r) {
  printf("{\"bench\": \"%s\", \"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", ", r->bench, r->name,
         r->value, r->unit);
  if (r->limit > 0)
    printf("\"limit\": %.6g, \"share\": %.4f}\n", r->limit, share_of(r));
  else
    printf("\"limit\": null, \"share\": null}\n");
}

static void emit_row(const m4n_bench_result *r) {
  printf("%-8s %-24s %14.6g %-14s", r->bench, r->name, r->value, r->unit);
  if (r->limit > 0) printf(" %5.1f %% of %.6g", 100 * share_of(r), r->limit);
  printf("\n");
}

void m4n_bench_emit(const m4n_bench_result *result) {
  if (json)
    emit_json(result);
  else
    emit_row(result);
  fflush(stdout);
}

double m4n_bench_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int m4n_bench_scenario(m4n_scenario **scenario, const char *traces, const char *video, const char *set) {
  static const char text[] = "name: bench\ntask: abr\n"
                             "abr: {test: {traces: demo:test}, video: {sizes: demo:video}}\n"
                             "evaluate: {policies: [level-0]}\n";
  char from[3][4200];
  const char *sets[3];
  int n = 0;
  if (traces) snprintf(from[n], sizeof from[n], "abr.test.traces=%s", traces), n++;
  if (video) snprintf(from[n], sizeof from[n], "abr.video.sizes=%s", video), n++;
  if (set) snprintf(from[n], sizeof from[n], "%s", set), n++;
  for (int i = 0; i < n; i++) sets[i] = from[i];
  return m4n_scenario_parse(scenario, "bench", text, sizeof text - 1, sets, n);
}
