#include "tests/kernels/cases/case.h"

namespace {

/* Three steps with two groups of parameters, the second without decay and with three times the rate. */
void adamw(Lists &l, size_t n, double factor0) {
  Case c("adamw", std::to_string(n) + " factor " + std::to_string(factor0));
  const double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  // As the op is told them.
  const double b1 = (m4n_real)beta1, b2 = (m4n_real)beta2, e = (m4n_real)eps, lr = (m4n_real)1e-2;
  const size_t chunks = (n + M4N_ADAMW_CHUNK - 1) / M4N_ADAMW_CHUNK;
  std::vector<uint8_t> group_of0;
  for (size_t i = 0; i < chunks; i++) group_of0.push_back(i % 3 == 1);
  std::vector<m4n_adamw_group> groups0 = {{1, (m4n_real)0.1}, {3, 0}};
  std::vector<m4n_adamw_step> steps0;
  for (int k = 1; k <= 3; k++)
    steps0.push_back({(m4n_real)lr, (m4n_real)(1 - pow(beta1, k)), (m4n_real)(1 - pow(beta2, k))});
  int w = c.inout(normal(n)), m = c.inout(normal(n, 0.1)), v = c.inout(uniform(n, 0.01, 1));
  int g = c.in(normal(3 * n)), factor = c.in({factor0});
  int groups = c.raw(groups0), group_of = c.raw(group_of0), steps = c.raw(steps0);
  c.run = [=](Call &r) {
    const m4n_adamw_rates rates = {(m4n_real)beta1, (m4n_real)beta2, (m4n_real)eps};
    for (int k = 0; k < 3; k++)
      m4n_adamw(r.s, r.real(w), r.real(m), r.real(v), r.real(g) + k * n,
                factor0 == 1 ? nullptr : r.real(factor), r.raw<m4n_adamw_step>(steps) + k,
                r.raw<m4n_adamw_group>(groups), r.raw<uint8_t>(group_of), (int64_t)n, &rates);
  };
  c.naive = [=](Host &h) {
    const double f = h[factor][0];
    for (int k = 0; k < 3 && f != 0; k++)
      for (size_t i = 0; i < n; i++) {
        const m4n_adamw_group &p = groups0[group_of0[i / M4N_ADAMW_CHUNK]];
        const double gi = f * h[g][k * n + i], rate = lr * p.lr_scale;
        h[m][i] = b1 * h[m][i] + (1 - b1) * gi;
        h[v][i] = b2 * h[v][i] + (1 - b2) * gi * gi;
        h[w][i] -= rate * (p.decay * h[w][i] + h[m][i] / steps0[(size_t)k].correct1 /
                                                   (sqrt(h[v][i] / steps0[(size_t)k].correct2) + e));
      }
  };
  l.cases.push_back(c);
}

void clip(Lists &l, double norm0, double most, double expected) {
  Case c("clip_factor", std::to_string(norm0) + " to " + std::to_string(most));
  int factor = c.out(1), norm = c.in({norm0});
  c.run = [=](Call &r) { m4n_clip_factor(r.s, r.real(factor), r.real(norm), (m4n_real)most); };
  c.naive = [=](Host &h) { h[factor][0] = expected; };
  l.cases.push_back(c);
}

} // namespace

void optim_cases(Lists &l) {
  for (size_t n : {1, 7, 33, 129, 40001})
    for (double factor : {1.0, 0.25, 0.0}) adamw(l, n, factor);
  clip(l, 4, 1, 0.25);
  clip(l, 0.5, 1, 1);
  clip(l, 0, 1, 1);
  clip(l, 3, INFINITY, 1);
  clip(l, NAN, 1, 0);
  clip(l, INFINITY, 1, 0);
  for (size_t n : {1, 7, 33, 129, 40001}) {
    Case c("grad_norm", std::to_string(n));
    int norm = c.out(1), g = c.in(normal(n));
    c.run = [=](Call &r) { m4n_grad_norm(r.s, r.real(norm), r.real(g), (int64_t)n); };
    c.naive = [=](Host &h) {
      double sum = 0;
      for (double x : h[g]) sum += x * x;
      h[norm][0] = sqrt(sum);
    };
    l.cases.push_back(c);
  }
}
