#include "agent/rules/estimate.h"

#include <math.h>

// 1 / (Σ 1/x / n), oldest first: the order in which the published programs round.
double m4n_harmonic_mean(const double throughput[M4N_ABR_HISTORY]) {
  double sum = 0;
  int n = 0;
  for (int i = M4N_ABR_HISTORY - M4N_ESTIMATE_WINDOW; i < M4N_ABR_HISTORY; i++) {
    if (throughput[i] <= 0) continue;
    sum += 1 / throughput[i];
    n++;
  }
  return n ? 1 / (sum / n) : 0;
}

double m4n_robust_estimate(m4n_robust *memory, const double throughput[M4N_ABR_HISTORY], double first_error) {
  double newest = throughput[M4N_ABR_HISTORY - 1];
  double error = memory->mean > 0 && newest > 0 ? fabs(memory->mean - newest) / newest : first_error;
  memory->error[memory->next] = error;
  memory->next = (memory->next + 1) % M4N_ESTIMATE_WINDOW;
  double largest = 0;
  for (int i = 0; i < M4N_ESTIMATE_WINDOW; i++)
    largest = memory->error[i] > largest ? memory->error[i] : largest;
  memory->mean = m4n_harmonic_mean(throughput);
  return memory->mean / (1 + largest);
}
