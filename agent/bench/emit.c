#include "agent/bench/emit.h"

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
static void emit_json(const m4n_bench_result *r, double us) {
  printf("{\"bench\": \"%s\", \"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", ", r->bench, r->name,
         r->value, r->unit);
  if (us > 0) printf("\"us\": %.6g, ", us);
  if (r->limit > 0)
    printf("\"limit\": %.6g, \"share\": %.4f}\n", r->limit, share_of(r));
  else
    printf("\"limit\": null, \"share\": null}\n");
}

static void emit_row(const m4n_bench_result *r, double us) {
  printf("%-8s %-32s %14.6g %-14s", r->bench, r->name, r->value, r->unit);
  if (r->limit > 0) printf(" %5.1f %% of %-10.6g", 100 * share_of(r), r->limit);
  if (us > 0) printf(" %10.1f us", us);
  printf("\n");
}

void m4n_bench_emit_call(const m4n_bench_result *result, double us) {
  if (json)
    emit_json(result, us);
  else
    emit_row(result, us);
  fflush(stdout);
}

void m4n_bench_emit(const m4n_bench_result *result) {
  m4n_bench_emit_call(result, 0);
}

double m4n_bench_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
