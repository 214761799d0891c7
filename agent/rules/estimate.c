#include "agent/rules/estimate.h"

#include <math.h>

// 1 / (Σ 1/x / k), oldest first: the order in which the published programs round.
double m4n_harmonic_mean(const double *throughput, int n) {
  double sum = 0;
  int known = 0;
  for (int i = n > M4N_ESTIMATE_WINDOW ? n - M4N_ESTIMATE_WINDOW : 0; i < n; i++) {
    if (throughput[i] <= 0) continue;
    sum += 1 / throughput[i];
    known++;
  }
  return known ? 1 / (sum / known) : 0;
}

double m4n_robust_estimate(m4n_robust *memory, const double throughput[M4N_ABR_HISTORY], double first_error) {
  double newest = throughput[M4N_ABR_HISTORY - 1];
  double error = memory->mean > 0 && newest > 0 ? fabs(memory->mean - newest) / newest : first_error;
  memory->error[memory->next] = error;
  memory->next = (memory->next + 1) % M4N_ESTIMATE_WINDOW;
  double largest = 0;
  for (int i = 0; i < M4N_ESTIMATE_WINDOW; i++)
    largest = memory->error[i] > largest ? memory->error[i] : largest;
  memory->mean = m4n_harmonic_mean(throughput, M4N_ABR_HISTORY);
  return memory->mean / (1 + largest);
}
