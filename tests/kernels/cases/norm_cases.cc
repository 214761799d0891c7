#include "tests/kernels/cases/case.h"

namespace {

const m4n_real eps = (m4n_real)1e-5;

void norms(Lists &l, int rows, int C) {
  const std::string size = std::to_string(rows) + "x" + std::to_string(C);
  const size_t n = (size_t)rows * C;

  Case rms("rmsnorm_fwd", size);
  int y = rms.out(n), r1 = rms.out((size_t)rows), x = rms.in(normal(n, 2)), g = rms.in(normal((size_t)C));
  rms.run = [=](Call &r) { m4n_rmsnorm_fwd(r.s, r.real(y), r.real(r1), r.real(x), r.real(g), rows, C, eps); };
  rms.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++) {
      double sum = 0;
      for (int c = 0; c < C; c++) sum += h[x][i * C + c] * h[x][i * C + c];
      h[r1][i] = 1 / sqrt(sum / C + eps);
      for (int c = 0; c < C; c++) h[y][i * C + c] = h[g][c] * h[x][i * C + c] * h[r1][i];
    }
  };
  l.cases.push_back(rms);

  Case layer("layernorm_fwd", size);
  int ly = layer.out(n), st = layer.out(2 * (size_t)rows), lx = layer.in(normal(n, 2, 1));
  int lg = layer.in(normal((size_t)C)), lb = layer.in(normal((size_t)C));
  layer.run = [=](Call &r) {
    m4n_layernorm_fwd(r.s, r.real(ly), r.real(st), r.real(lx), r.real(lg), r.real(lb), rows, C, eps);
  };
  layer.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++) {
      double sum = 0, square = 0;
      for (int c = 0; c < C; c++) sum += h[lx][i * C + c];
      for (int c = 0; c < C; c++) square += pow(h[lx][i * C + c] - sum / C, 2);
      h[st][2 * i] = sum / C, h[st][2 * i + 1] = 1 / sqrt(square / C + eps);
      for (int c = 0; c < C; c++)
        h[ly][i * C + c] = h[lg][c] * (h[lx][i * C + c] - h[st][2 * i]) * h[st][2 * i + 1] + h[lb][c];
    }
  };
  // Of one channel, x − μ is exactly 0 and the result is the bias.
  l.cases.push_back(layer);

  // The backward by the formulae, with the residual's gradient and into memory of dres itself.
  Case back("rmsnorm_bwd", size + " with residual");
  Vector x0 = normal(n, 2), stats;
  for (int i = 0; i < rows; i++) {
    double sum = 0;
    for (int c = 0; c < C; c++) sum += pow((double)(m4n_real)x0[(size_t)(i * C + c)], 2);
    stats.push_back(1 / sqrt(sum / C + eps));
  }
  int bdx = back.inout(normal(n)), bdg = back.inout(normal((size_t)C)), bdy = back.in(normal(n)),
      bx = back.in(x0);
  int br = back.in(stats), bg = back.in(normal((size_t)C));
  back.run = [=](Call &r) {
    m4n_rmsnorm_bwd(r.s, r.real(bdx), r.real(bdg), r.real(bdy), r.real(bdx), r.real(bx), r.real(br),
                    r.real(bg), rows, C);
  };
  back.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++) {
      double along = 0, r = h[br][i];
      for (int c = 0; c < C; c++) along += h[bdy][i * C + c] * h[bg][c] * h[bx][i * C + c] * r / C;
      for (int c = 0; c < C; c++) {
        double xhat = h[bx][i * C + c] * r;
        h[bdx][i * C + c] += r * (h[bdy][i * C + c] * h[bg][c] - xhat * along);
        h[bdg][c] += h[bdy][i * C + c] * xhat;
      }
    }
  };
  back.nmse *= 10;
  l.cases.push_back(back);

  Case lback("layernorm_bwd", size + " with residual");
  Vector lx0 = normal(n, 2, 1), lstats;
  for (int i = 0; i < rows; i++) {
    double sum = 0, square = 0;
    for (int c = 0; c < C; c++) sum += (double)(m4n_real)lx0[(size_t)(i * C + c)];
    for (int c = 0; c < C; c++) square += pow((double)(m4n_real)lx0[(size_t)(i * C + c)] - sum / C, 2);
    lstats.push_back(sum / C), lstats.push_back(1 / sqrt(square / C + eps));
  }
  int ddx = lback.inout(normal(n)), ddg = lback.inout(normal((size_t)C)),
      ddb = lback.inout(normal((size_t)C));
  int ddy = lback.in(normal(n)), dx = lback.in(lx0), dst = lback.in(lstats), dg = lback.in(normal((size_t)C));
  lback.run = [=](Call &r) {
    m4n_layernorm_bwd(r.s, r.real(ddx), r.real(ddg), r.real(ddb), r.real(ddy), r.real(ddx), r.real(dx),
                      r.real(dst), r.real(dg), rows, C);
  };
  lback.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++) {
      const double mean = h[dst][2 * i], r = h[dst][2 * i + 1];
      double total = 0, along = 0;
      for (int c = 0; c < C; c++) {
        total += h[ddy][i * C + c] * h[dg][c] / C;
        along += h[ddy][i * C + c] * h[dg][c] * (h[dx][i * C + c] - mean) * r / C;
      }
      for (int c = 0; c < C; c++) {
        const double xhat = (h[dx][i * C + c] - mean) * r;
        h[ddx][i * C + c] += r * (h[ddy][i * C + c] * h[dg][c] - total - xhat * along);
        h[ddg][c] += h[ddy][i * C + c] * xhat;
        h[ddb][c] += h[ddy][i * C + c];
      }
    }
  };
  // Of one channel x̂ is 0, r = 1/√eps, and what it multiplies is rounding.
  lback.nmse *= C == 1 ? 1e6 : 10;
  l.cases.push_back(lback);
}

void gradients(Lists &l, int rows, int C) {
  const std::string size = std::to_string(rows) + "x" + std::to_string(C);
  const size_t n = (size_t)rows * C;
  Gradient g("rmsnorm_bwd", size);
  int x = g.input(normal(n, 2)), gain = g.parameter(normal((size_t)C)), y = g.output(n),
      r1 = g.out((size_t)rows);
  g.forward = [=](Call &r) {
    m4n_rmsnorm_fwd(r.s, r.real(y), r.real(r1), r.real(x), r.real(gain), rows, C, eps);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_rmsnorm_bwd(r.s, d[x], d[gain], d[y], nullptr, r.real(x), r.real(r1), r.real(gain), rows, C);
  };
  l.gradients.push_back(g);

  Gradient m("layernorm_bwd", size);
  int lx = m.input(normal(n, 2, 1)), lg = m.parameter(normal((size_t)C)), lb = m.parameter(normal((size_t)C));
  int ly = m.output(n), st = m.out(2 * (size_t)rows);
  m.forward = [=](Call &r) {
    m4n_layernorm_fwd(r.s, r.real(ly), r.real(st), r.real(lx), r.real(lg), r.real(lb), rows, C, eps);
  };
  m.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_layernorm_bwd(r.s, d[lx], d[lg], d[lb], d[ly], nullptr, r.real(lx), r.real(st), r.real(lg), rows, C);
  };
  l.gradients.push_back(m);
}

} // namespace

void norm_cases(Lists &l) {
  for (int rows : {1, 7, 33, 129})
    for (int C : {1, 7, 33, 129}) norms(l, rows, C);
  norms(l, 70, 512);
  for (int rows : {1, 7})
    for (int C : {7, 33, 70}) gradients(l, rows, C);
}
