#include "agent/bench/bench.h"

#include <stdio.h>

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
