// m4n-bench: `mamba4net bench kernels|model` alone, for machines that lack what the whole program needs.
#include <stdio.h>
#include <string.h>

#include "agent/bench/emit.h"
#include "agent/bench/kernels.h"
#include "agent/bench/model.h"
#include "kernels/base/status.h"

static int usage(void) {
  fprintf(stderr, "usage: m4n-bench [--json] [--device cpu|cuda|cuda-tf32|auto] kernels|model…\n");
  return 2;
}

static int run(const char *group, const char *device) {
  if (!strcmp(group, "kernels")) return m4n_bench_kernels(device, 0);
#ifdef M4N_WITH_MODEL
  if (!strcmp(group, "model")) return m4n_bench_model(device, 0);
#endif
  return m4n_fail(M4N_EARG, "%s: this build has no such group of figures", group);
}

int main(int argc, char **argv) {
  const char *device = "auto";
  int groups = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--json")) {
      m4n_bench_json(true);
    } else if (!strcmp(argv[i], "--device") && i + 1 < argc) {
      device = argv[++i];
    } else if (argv[i][0] == '-') {
      return usage();
    } else if (run(argv[i], device)) {
      fprintf(stderr, "m4n-bench: %s\n", m4n_error_message());
      return 1;
    } else {
      groups++;
    }
  }
  return groups ? 0 : usage();
}
