#include "tests/kernels/cases/case.h"

namespace {

using Forward = void (*)(m4n_stream *, m4n_real *, const m4n_real *, int64_t);
using Backward = void (*)(m4n_stream *, m4n_real *, const m4n_real *, const m4n_real *, int64_t);

/* y = f(x), and dx = dy·f'(v): v is x, or y where `from_y`. */
void unary(Lists &l, const std::string &name, Forward fwd, Backward bwd, double (*f)(double),
           double (*slope)(double), bool from_y) {
  for (size_t n : {1, 7, 33, 129, 40000}) {
    for (bool in_place : {false, true}) {
      Case c(name + "_fwd", std::to_string(n) + (in_place ? " in place" : ""));
      Vector x0 = normal(n, 3);
      int x = in_place ? c.inout(x0) : c.in(x0), y = in_place ? x : c.out(n);
      c.run = [=](Call &r) { fwd(r.s, r.real(y), r.real(x), (int64_t)n); };
      c.naive = [=](Host &h) {
        for (size_t i = 0; i < n; i++) h[(size_t)y][i] = f(h[(size_t)x][i]);
      };
      l.cases.push_back(c);

      Case b(name + "_bwd", std::to_string(n) + (in_place ? " in place" : ""));
      Vector dy0 = normal(n);
      int dy = in_place ? b.inout(dy0) : b.in(dy0), dx = in_place ? dy : b.out(n);
      int v = b.in(from_y ? uniform(n, -1, 1) : normal(n, 3));
      b.run = [=](Call &r) { bwd(r.s, r.real(dx), r.real(dy), r.real(v), (int64_t)n); };
      b.naive = [=](Host &h) {
        for (size_t i = 0; i < n; i++) h[(size_t)dx][i] = h[(size_t)dy][i] * slope(h[(size_t)v][i]);
      };
      l.cases.push_back(b);
    }
  }
  Gradient g(name + "_bwd", "33");
  int x = g.input(normal(33, 2)), y = g.output(33);
  g.forward = [=](Call &r) { fwd(r.s, r.real(y), r.real(x), 33); };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    bwd(r.s, d[(size_t)x], d[(size_t)y], r.real(from_y ? y : x), 33);
  };
  l.gradients.push_back(g);
}

double silu_slope(double x) {
  double s = naive_sigmoid(x);
  return s * (1 + x * (1 - s));
}
double gelu(double x) {
  return x * 0.5 * erfc(-x / sqrt(2.0));
}
double gelu_slope(double x) {
  return 0.5 * erfc(-x / sqrt(2.0)) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
}
const m4n_real slope_value = (m4n_real)0.2;
void leaky_fwd(m4n_stream *s, m4n_real *y, const m4n_real *x, int64_t n) {
  m4n_leaky_relu_fwd(s, y, x, n, slope_value);
}
void leaky_bwd(m4n_stream *s, m4n_real *dx, const m4n_real *dy, const m4n_real *x, int64_t n) {
  m4n_leaky_relu_bwd(s, dx, dy, x, n, slope_value);
}

void swiglu(Lists &l, int rows, int C, int ld) {
  const std::string size = std::to_string(rows) + "x" + std::to_string(C) + "/" + std::to_string(ld);
  const int distance = ld ? ld : C;
  const size_t wide = (size_t)rows * distance, n = (size_t)rows * C;
  Case c("swiglu_fwd", size);
  int m = c.out(n), a = c.in(normal(wide, 2)), b = c.in(normal(wide));
  c.run = [=](Call &r) { m4n_swiglu_fwd(r.s, r.real(m), r.real(a), r.real(b), rows, C, ld); };
  c.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < C; j++)
        h[m][i * C + j] = naive_silu(h[a][i * distance + j]) * h[b][i * distance + j];
  };
  l.cases.push_back(c);

  Case d("swiglu_bwd", size + " in place");
  int dm = d.in(normal(n)), da = d.inout(normal(wide, 2)), db = d.inout(normal(wide));
  d.run = [=](Call &r) {
    m4n_swiglu_bwd(r.s, r.real(da), r.real(db), r.real(dm), r.real(da), r.real(db), rows, C, ld);
  };
  d.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < C; j++) {
        double &x = h[da][i * distance + j], &y = h[db][i * distance + j], g = h[dm][i * C + j], x0 = x;
        x = g * y * silu_slope(x0);
        y = g * naive_silu(x0);
      }
  };
  l.cases.push_back(d);

  Gradient g("swiglu_bwd", size);
  int ga = g.input(normal(n)), gb = g.input(normal(n)), gm = g.output(n);
  g.forward = [=](Call &r) { m4n_swiglu_fwd(r.s, r.real(gm), r.real(ga), r.real(gb), rows, C, 0); };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &grad) {
    m4n_swiglu_bwd(r.s, grad[ga], grad[gb], grad[gm], r.real(ga), r.real(gb), rows, C, 0);
  };
  l.gradients.push_back(g);
}

} // namespace

void act_cases(Lists &l) {
  unary(l, "silu", m4n_silu_fwd, m4n_silu_bwd, naive_silu, silu_slope, false);
  unary(l, "gelu", m4n_gelu_fwd, m4n_gelu_bwd, gelu, gelu_slope, false);
  unary(
      l, "tanh", m4n_tanh_fwd, m4n_tanh_bwd, tanh, [](double y) { return 1 - y * y; }, true);
  unary(
      l, "leaky_relu", leaky_fwd, leaky_bwd, [](double x) { return x > 0 ? x : (double)slope_value * x; },
      [](double x) { return x > 0 ? 1.0 : (double)slope_value; }, false);
  for (int rows : {1, 7, 33, 129})
    for (int C : {1, 7, 33, 129}) swiglu(l, rows, C, rows % 2 ? 0 : 2 * C + 1);
  swiglu(l, 40, 1376, 2752);

  // A = −max(exp(a_log), 1e-4): the gradient is 0 where the bound holds.
  const size_t n = 129;
  Case c("neg_exp_fwd", "129");
  Vector logs = normal(n, 2);
  logs[0] = -20, logs[1] = -9.3;
  int A = c.out(n), a = c.in(logs);
  c.run = [=](Call &r) { m4n_neg_exp_fwd(r.s, r.real(A), r.real(a), (int64_t)n); };
  c.naive = [=](Host &h) {
    for (size_t i = 0; i < n; i++) h[A][i] = -fmax(exp(h[a][i]), 1e-4);
  };
  l.cases.push_back(c);
  Case b("neg_exp_bwd", "129");
  Vector rates = uniform(n, -3, -0.01);
  rates[4] = -1e-4; // where the bound holds
  int bd = b.inout(normal(n)), bA = b.in(normal(n)), rate = b.in(rates);
  b.run = [=](Call &r) { m4n_neg_exp_bwd(r.s, r.real(bd), r.real(bA), r.real(rate), (int64_t)n); };
  b.naive = [=](Host &h) {
    for (size_t i = 0; i < n; i++) h[bd][i] += i == 4 ? 0 : h[bA][i] * h[rate][i];
  };
  l.cases.push_back(b);

  Gradient g("neg_exp_bwd", "129");
  int ga = g.parameter(logs), gA = g.output(n);
  g.forward = [=](Call &r) { m4n_neg_exp_fwd(r.s, r.real(gA), r.real(ga), (int64_t)n); };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_neg_exp_bwd(r.s, d[ga], d[gA], r.real(gA), (int64_t)n);
  };
  l.gradients.push_back(g);
}
