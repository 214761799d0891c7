#include "tests/kernels/cases/case.h"

namespace {

/* c_t = b + Σ_j w_j x_{t−K+1+j}; `before` gives x at negative t. */
double convolve(const Host &h, int x, int w, int b, int batch, int t, int c, const m4n_conv &n, int x_ld) {
  double sum = h[b][c];
  for (int j = 0; j < n.K; j++) {
    const int from = t - n.K + 1 + j;
    if (from >= 0) sum += h[w][c * n.K + j] * h[x][(batch * n.T + from) * x_ld + c];
  }
  return sum;
}

void conv(Lists &l, m4n_conv n) {
  const std::string size = std::to_string(n.B) + "x" + std::to_string(n.T) + "x" + std::to_string(n.C) +
                           " K " + std::to_string(n.K) + " ld " + std::to_string(n.x_ld) + "," +
                           std::to_string(n.y_ld);
  const int x_ld = n.x_ld ? n.x_ld : n.C, y_ld = n.y_ld ? n.y_ld : n.C;
  const size_t xs = (size_t)n.B * n.T * x_ld, ys = (size_t)n.B * n.T * y_ld, ws = (size_t)n.C * n.K;
  {
    Case c("conv_fwd", size);
    int y = c.inout(normal(ys)), x = c.in(normal(xs)), w = c.in(normal(ws)), b = c.in(normal((size_t)n.C));
    c.run = [=](Call &r) { m4n_conv_fwd(r.s, r.real(y), r.real(x), r.real(w), r.real(b), &n); };
    c.naive = [=](Host &h) {
      for (int i = 0; i < n.B; i++)
        for (int t = 0; t < n.T; t++)
          for (int j = 0; j < n.C; j++)
            h[y][(i * n.T + t) * y_ld + j] = naive_silu(convolve(h, x, w, b, i, t, j, n, x_ld));
    };
    l.cases.push_back(c);
  }
  {
    Case c("conv_bwd", size);
    int dx = c.inout(normal(xs)), dw = c.inout(normal(ws)), db = c.inout(normal((size_t)n.C)),
        dy = c.in(normal(ys));
    int x = c.in(normal(xs)), w = c.in(normal(ws)), b = c.in(normal((size_t)n.C));
    c.run = [=](Call &r) {
      m4n_conv_bwd(r.s, r.real(dx), r.real(dw), r.real(db), r.real(dy), r.real(x), r.real(w), r.real(b), &n);
    };
    c.naive = [=](Host &h) {
      for (int i = 0; i < n.B; i++)
        for (int j = 0; j < n.C; j++) {
          for (int t = 0; t < n.T; t++) h[dx][(i * n.T + t) * x_ld + j] = 0;
          for (int t = 0; t < n.T; t++) {
            const double v = convolve(h, x, w, b, i, t, j, n, x_ld), s = naive_sigmoid(v);
            const double dc = h[dy][(i * n.T + t) * y_ld + j] * s * (1 + v * (1 - s));
            h[db][j] += dc;
            for (int k = 0; k < n.K; k++) {
              const int from = t - n.K + 1 + k;
              if (from < 0) continue;
              h[dw][j * n.K + k] += dc * h[x][(i * n.T + from) * x_ld + j];
              h[dx][(i * n.T + from) * x_ld + j] += dc * h[w][j * n.K + k];
            }
          }
        }
    };
    l.cases.push_back(c);
  }
  // The same sequence in pieces of 1, then 2, then the rest, by way of the state of slot B − 1 − i.
  if (n.T < 4 || n.x_ld || n.y_ld) return;
  Case c("conv_step", size + " in pieces");
  std::vector<int32_t> slot0;
  for (int i = 0; i < n.B; i++) slot0.push_back(n.B - 1 - i);
  int y = c.out(ys), x = c.in(normal(xs)), w = c.in(normal(ws)), b = c.in(normal((size_t)n.C));
  int state = c.inout(Vector((size_t)n.B * (n.K - 1) * n.C, 0)), slot = c.raw(slot0);
  int some = c.in(Vector(xs)), got = c.in(Vector(xs)); // a piece, densely
  c.run = [=](Call &r) {
    int at = 0;
    for (int count : {1, 2, n.T - 3}) {
      m4n_conv piece = n;
      piece.T = count;
      m4n_copy_rows(r.s, r.real(some), r.real(x) + at * n.C, n.B, count * n.C, count * n.C, n.T * n.C);
      m4n_conv_step(r.s, r.real(got), r.real(state), r.real(some), r.real(w), r.real(b), r.raw<int32_t>(slot),
                    &piece);
      m4n_copy_rows(r.s, r.real(y) + at * n.C, r.real(got), n.B, count * n.C, n.T * n.C, count * n.C);
      at += count;
    }
  };
  c.naive = [=](Host &h) {
    for (int i = 0; i < n.B; i++)
      for (int j = 0; j < n.C; j++) {
        for (int t = 0; t < n.T; t++)
          h[y][(i * n.T + t) * n.C + j] = naive_silu(convolve(h, x, w, b, i, t, j, n, n.C));
        for (int k = 0; k < n.K - 1; k++) {
          const int from = n.T - n.K + 1 + k;
          h[state][((n.B - 1 - i) * (n.K - 1) + k) * n.C + j] =
              from < 0 ? 0 : h[x][(i * n.T + from) * n.C + j];
        }
      }
  };
  l.cases.push_back(c);
}

void gradient(Lists &l, m4n_conv n) {
  Gradient g("conv_bwd", std::to_string(n.B) + "x" + std::to_string(n.T) + "x" + std::to_string(n.C));
  const size_t xs = (size_t)n.B * n.T * n.C;
  int x = g.input(normal(xs)), w = g.parameter(normal((size_t)n.C * n.K)),
      b = g.parameter(normal((size_t)n.C));
  int y = g.output(xs);
  g.forward = [=](Call &r) { m4n_conv_fwd(r.s, r.real(y), r.real(x), r.real(w), r.real(b), &n); };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_conv_bwd(r.s, d[x], d[w], d[b], d[y], r.real(x), r.real(w), r.real(b), &n);
  };
  l.gradients.push_back(g);
}

} // namespace

void conv_cases(Lists &l) {
  for (int T : {1, 2, 7, 33, 129})
    for (int C : {1, 7, 33, 129}) conv(l, {T % 2 ? 1 : 3, T, C, C == 7 ? 3 : 4, 0, 0});
  for (int K : {1, 2, 8}) conv(l, {2, 33, 33, K, 0, 0});
  conv(l, {2, 33, 33, 4, 40, 35});
  conv(l, {2, 160, 512, 4, 0, 0});
  gradient(l, {2, 7, 5, 4, 0, 0});
  gradient(l, {1, 2, 33, 4, 0, 0});
  gradient(l, {3, 3, 7, 1, 0, 0});
}
