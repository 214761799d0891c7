#include "tests/kernels/cases/case.h"

namespace {

/* Masks that keep at least class 0 of every row; every third row of a set without a mask is whole. */
std::vector<uint8_t> random_mask(int rows, int V) {
  std::vector<int32_t> keep = below((size_t)rows * V, 3);
  std::vector<uint8_t> mask;
  for (int32_t k : keep) mask.push_back(k != 0);
  for (int r = 0; r < rows; r++) mask[(size_t)r * V] = 1;
  return mask;
}

bool counts(const std::vector<uint8_t> &mask, int at) {
  return mask.empty() || mask[(size_t)at];
}

/* ln p of a row over unmasked classes at temperature ϑ. */
Vector log_softmax(const Vector &z, const std::vector<uint8_t> &mask, int r, int V, double temperature) {
  double sum = 0, top = -INFINITY;
  Vector p((size_t)V, -INFINITY);
  for (int v = 0; v < V; v++)
    if (counts(mask, r * V + v)) top = fmax(top, z[(size_t)(r * V + v)] / temperature);
  for (int v = 0; v < V; v++)
    if (counts(mask, r * V + v)) sum += exp(z[(size_t)(r * V + v)] / temperature - top);
  for (int v = 0; v < V; v++)
    if (counts(mask, r * V + v)) p[(size_t)v] = z[(size_t)(r * V + v)] / temperature - top - log(sum);
  return p;
}

struct Options {
  bool masked, weighted, add;
};
std::string describe(int rows, int V, const Options &o) {
  return std::to_string(rows) + "x" + std::to_string(V) + (o.masked ? " masked" : "") +
         (o.weighted ? " weighted" : "") + (o.add ? " added" : "");
}

void xent(Lists &l, int rows, int V, Options o) {
  const size_t n = (size_t)rows * V;
  begin_draws("xent " + describe(rows, V, o));
  const std::vector<uint8_t> mask0 = o.masked ? random_mask(rows, V) : std::vector<uint8_t>();
  std::vector<int32_t> target0 = below((size_t)rows, V);
  for (int r = 0; r < rows; r++) {
    while (!counts(mask0, r * V + target0[(size_t)r])) target0[(size_t)r] = (target0[(size_t)r] + 1) % V;
    if (r % 5 == 3) target0[(size_t)r] = -1;
  }
  const Vector weight0 = normal((size_t)rows);
  auto weight_of = [=](const Host &h, int weight, int r) {
    return target0[(size_t)r] < 0 ? 0 : weight < 0 ? 1 : h[(size_t)weight][(size_t)r];
  };
  {
    Case c("softmax", describe(rows, V, o));
    int p = c.out(n), z = c.in(normal(n, 3)), mask = o.masked ? c.raw(mask0) : -1;
    c.run = [=](Call &r) { m4n_softmax(r.s, r.real(p), r.real(z), r.raw<uint8_t>(mask), rows, V, 2); };
    c.naive = [=](Host &h) {
      for (int r = 0; r < rows; r++) {
        const Vector lp = log_softmax(h[z], mask0, r, V, 2);
        for (int v = 0; v < V; v++) h[p][r * V + v] = exp(lp[(size_t)v]);
      }
    };
    l.cases.push_back(c);
  }
  {
    Case c("xent_fwd", describe(rows, V, o));
    int loss = c.out((size_t)rows), z = c.in(normal(n, 3)), weight = o.weighted ? c.in(weight0) : -1;
    int mask = o.masked ? c.raw(mask0) : -1, target = c.raw(target0);
    c.run = [=](Call &r) {
      m4n_xent_fwd(r.s, r.real(loss), r.real(z), r.raw<int32_t>(target), r.raw<uint8_t>(mask), r.real(weight),
                   rows, V);
    };
    c.naive = [=](Host &h) {
      for (int r = 0; r < rows; r++)
        h[loss][r] =
            target0[(size_t)r] < 0
                ? 0
                : -weight_of(h, weight, r) * log_softmax(h[z], mask0, r, V, 1)[(size_t)target0[(size_t)r]];
    };
    // ln p of a likely class is near 0: its error is absolute.
    c.nmse *= 10;
    l.cases.push_back(c);
  }
  Case c("xent_bwd", describe(rows, V, o));
  int dz = c.inout(normal(n)), z = c.in(normal(n, 3)), weight = o.weighted ? c.in(weight0) : -1;
  int mask = o.masked ? c.raw(mask0) : -1, target = c.raw(target0);
  c.run = [=](Call &r) {
    m4n_xent_bwd(r.s, r.real(dz), r.real(z), r.raw<int32_t>(target), r.raw<uint8_t>(mask), r.real(weight),
                 rows, V, o.add);
  };
  c.naive = [=](Host &h) {
    for (int r = 0; r < rows; r++) {
      const Vector lp = log_softmax(h[z], mask0, r, V, 1);
      for (int v = 0; v < V; v++) {
        const double grad = weight_of(h, weight, r) * (exp(lp[(size_t)v]) - (v == target0[(size_t)r]));
        h[dz][r * V + v] = grad + (o.add ? h[dz][r * V + v] : 0);
      }
    }
  };
  c.nmse *= 10;
  l.cases.push_back(c);

  if (n > 300) return;
  Gradient g("xent_bwd", describe(rows, V, o));
  int gz = g.input(normal(n, 2)), gw = o.weighted ? g.in(weight0) : -1, gl = g.output((size_t)rows);
  int gm = o.masked ? g.raw(mask0) : -1, gt = g.raw(target0);
  g.forward = [=](Call &r) {
    m4n_xent_fwd(r.s, r.real(gl), r.real(gz), r.raw<int32_t>(gt), r.raw<uint8_t>(gm), r.real(gw), rows, V);
  };
  // The gradient of Σ weight·R: rows are scaled by R.
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_real *scaled = (m4n_real *)m4n_alloc(r.backend, (size_t)rows * sizeof(m4n_real));
    if (gw < 0)
      m4n_copy(r.s, scaled, d[gl], (size_t)rows * sizeof(m4n_real));
    else
      m4n_mul(r.s, scaled, d[gl], r.real(gw), rows);
    m4n_xent_bwd(r.s, d[gz], r.real(gz), r.raw<int32_t>(gt), r.raw<uint8_t>(gm), scaled, rows, V, 0);
    m4n_sync(r.s);
    m4n_free(r.backend, scaled);
  };
  l.gradients.push_back(g);
}

double divergence(int kind, const Vector &lt, const Vector &ls, double b) {
  double sum = 0;
  for (size_t v = 0; v < lt.size(); v++) {
    if (std::isinf(ls[v])) continue;
    const double pt = exp(lt[v]), ps = exp(ls[v]), m = log(b * pt + (1 - b) * ps);
    sum += kind == M4N_KL_FORWARD   ? pt * (lt[v] - ls[v])
           : kind == M4N_KL_REVERSE ? ps * (ls[v] - lt[v])
                                    : b * pt * (lt[v] - m) + (1 - b) * ps * (ls[v] - m);
  }
  return sum;
}

void kl(Lists &l, m4n_kl n, Options o) {
  static const char *names[] = {" forward", " reverse", " JSD"};
  const int rows = n.rows, V = n.V;
  const size_t count = (size_t)rows * V;
  const std::string size = describe(rows, V, o) + names[n.divergence];
  begin_draws("kl " + size);
  const std::vector<uint8_t> mask0 = o.masked ? random_mask(rows, V) : std::vector<uint8_t>();
  const Vector weight0 = uniform((size_t)rows, 0, 2);
  {
    Case c("kl_fwd", size);
    int loss = c.inout(normal((size_t)rows)), zs = c.in(normal(count, 2)), zt = c.in(normal(count, 2));
    int weight = o.weighted ? c.in(weight0) : -1, mask = o.masked ? c.raw(mask0) : -1;
    c.run = [=](Call &r) {
      m4n_kl_fwd(r.s, r.real(loss), r.real(zs), r.real(zt), r.raw<uint8_t>(mask), r.real(weight), &n);
    };
    c.naive = [=](Host &h) {
      for (int r = 0; r < rows; r++)
        h[loss][r] = (weight < 0 ? 1 : h[weight][r]) * n.temperature * n.temperature *
                     divergence(n.divergence, log_softmax(h[zt], mask0, r, V, n.temperature),
                                log_softmax(h[zs], mask0, r, V, n.temperature), n.b);
    };
    c.nmse *= 10;
    l.cases.push_back(c);
  }
  Case c("kl_bwd", size);
  int dz = c.inout(normal(count)), zs = c.in(normal(count, 2)), zt = c.in(normal(count, 2));
  int weight = o.weighted ? c.in(weight0) : -1, mask = o.masked ? c.raw(mask0) : -1;
  c.run = [=](Call &r) {
    m4n_kl_bwd(r.s, r.real(dz), r.real(zs), r.real(zt), r.raw<uint8_t>(mask), r.real(weight), &n, o.add);
  };
  c.naive = [=](Host &h) {
    for (int r = 0; r < rows; r++) {
      const Vector ls = log_softmax(h[zs], mask0, r, V, n.temperature),
                   lt = log_softmax(h[zt], mask0, r, V, n.temperature);
      const double w = (weight < 0 ? 1 : h[weight][r]) * n.temperature;
      double mean = 0;
      auto ratio = [&](int v) {
        return n.divergence == M4N_KL_REVERSE ? ls[v] - lt[v]
                                              : ls[v] - log(n.b * exp(lt[v]) + (1 - n.b) * exp(ls[v]));
      };
      for (int v = 0; v < V; v++)
        if (counts(mask0, r * V + v) && n.divergence != M4N_KL_FORWARD) mean += exp(ls[v]) * ratio(v);
      for (int v = 0; v < V; v++) {
        double grad = 0;
        if (counts(mask0, r * V + v))
          grad = n.divergence == M4N_KL_FORWARD
                     ? exp(ls[v]) - exp(lt[v])
                     : exp(ls[v]) * (ratio(v) - mean) * (n.divergence == M4N_JSD ? 1 - n.b : 1);
        h[dz][r * V + v] = w * grad + (o.add ? h[dz][r * V + v] : 0);
      }
    }
  };
  c.nmse *= 10;
  l.cases.push_back(c);

  if (count > 300 || V == 1 || o.weighted) return;
  Gradient g("kl_bwd", size);
  int gs = g.input(normal(count, 2)), gt = g.in(normal(count, 2)), gl = g.output((size_t)rows);
  int gm = o.masked ? g.raw(mask0) : -1;
  g.forward = [=](Call &r) {
    m4n_kl_fwd(r.s, r.real(gl), r.real(gs), r.real(gt), r.raw<uint8_t>(gm), nullptr, &n);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_kl_bwd(r.s, d[gs], r.real(gs), r.real(gt), r.raw<uint8_t>(gm), d[gl], &n, 0);
  };
  l.gradients.push_back(g);
}

double wrapped(double e, double period) {
  return period > 0 ? e - period * floor(e / period + 0.5) : e;
}
Vector periods(int C) {
  Vector p;
  for (int c = 0; c < C; c++) p.push_back(c % 3 == 1 ? 0 : 36);
  return p;
}

void huber(Lists &l, int rows, int C, bool wrap, bool weighted, double delta, bool add) {
  const size_t n = (size_t)rows * C;
  const std::string size = describe(rows, C, {false, weighted, add}) + (wrap ? " wrapped" : "") + " delta " +
                           std::to_string(delta);
  begin_draws("huber " + size);
  const Vector weight0 = uniform((size_t)rows, 0, 2);
  auto error_of = [=](const Host &h, int y, int target, int period, int i, int c) {
    return wrapped(h[y][i * C + c] - h[target][i * C + c], period < 0 ? 0 : h[period][c]);
  };
  for (bool back : {false, true}) {
    Case c(back ? "huber_bwd" : "huber_fwd", size);
    int out = back ? c.inout(normal(n)) : c.out((size_t)rows), y = c.in(normal(n, 20)),
        target = c.in(normal(n, 20));
    int period = wrap ? c.in(periods(C)) : -1, weight = weighted ? c.in(weight0) : -1;
    c.run = [=](Call &r) {
      if (back)
        m4n_huber_bwd(r.s, r.real(out), r.real(y), r.real(target), r.real(period), r.real(weight), rows, C,
                      (m4n_real)delta, add);
      else
        m4n_huber_fwd(r.s, r.real(out), r.real(y), r.real(target), r.real(period), r.real(weight), rows, C,
                      (m4n_real)delta);
    };
    c.naive = [=](Host &h) {
      for (int i = 0; i < rows; i++) {
        const double w = weight < 0 ? 1 : h[weight][i];
        double sum = 0;
        for (int j = 0; j < C; j++) {
          const double e = error_of(h, y, target, period, i, j);
          sum += fabs(e) <= delta ? e * e / 2 : delta * (fabs(e) - delta / 2);
          if (back) h[out][i * C + j] = w * fmax(-delta, fmin(delta, e)) + (add ? h[out][i * C + j] : 0);
        }
        if (!back) h[out][i] = w * sum;
      }
    };
    c.nmse *= 10;
    l.cases.push_back(c);
  }
  if (n > 300) return;
  Gradient g("huber_bwd", size);
  int y = g.input(normal(n, 9)), target = g.in(normal(n, 9)), period = wrap ? g.in(periods(C)) : -1,
      out = g.output((size_t)rows);
  g.forward = [=](Call &r) {
    m4n_huber_fwd(r.s, r.real(out), r.real(y), r.real(target), r.real(period), nullptr, rows, C,
                  (m4n_real)delta);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_huber_bwd(r.s, d[y], r.real(y), r.real(target), r.real(period), d[out], rows, C, (m4n_real)delta, 0);
  };
  l.gradients.push_back(g);
}

void gauss(Lists &l, int rows, int C, bool wrap, bool gated, bool add) {
  const size_t n = (size_t)rows * C;
  const std::string size =
      describe(rows, C, {false, true, add}) + (wrap ? " wrapped" : "") + (gated ? " gated" : "");
  for (bool back : {false, true}) {
    Case c(back ? "gauss_kl_bwd" : "gauss_kl_fwd", size);
    int out = back ? c.inout(normal(n)) : c.out((size_t)rows), y = c.in(normal(n, 20)),
        yt = c.in(normal(n, 20));
    int sigma = c.in(uniform((size_t)C, 0.5, 4)), target = gated ? c.in(normal(n, 20)) : -1;
    int period = wrap ? c.in(periods(C)) : -1, weight = c.in(uniform((size_t)rows, 0, 2));
    c.run = [=](Call &r) {
      if (back)
        m4n_gauss_kl_bwd(r.s, r.real(out), r.real(y), r.real(yt), r.real(sigma), r.real(target),
                         r.real(period), r.real(weight), rows, C, add);
      else
        m4n_gauss_kl_fwd(r.s, r.real(out), r.real(y), r.real(yt), r.real(sigma), r.real(target),
                         r.real(period), r.real(weight), rows, C);
    };
    c.naive = [=](Host &h) {
      for (int i = 0; i < rows; i++) {
        double sum = 0;
        for (int j = 0; j < C; j++) {
          const double p = period < 0 ? 0 : h[period][j], e = wrapped(h[y][i * C + j] - h[yt][i * C + j], p);
          bool open = true;
          if (target >= 0)
            open = fabs(wrapped(h[yt][i * C + j] - h[target][i * C + j], p)) <
                   fabs(wrapped(h[y][i * C + j] - h[target][i * C + j], p));
          if (open) sum += e * e / (2 * h[sigma][j] * h[sigma][j]);
          if (back)
            h[out][i * C + j] =
                (open ? h[weight][i] * e / (h[sigma][j] * h[sigma][j]) : 0) + (add ? h[out][i * C + j] : 0);
        }
        if (!back) h[out][i] = h[weight][i] * sum;
      }
    };
    c.nmse *= 10;
    l.cases.push_back(c);
  }
  if (n > 300) return;
  Gradient g("gauss_kl_bwd", size);
  int y = g.input(normal(n, 9)), yt = g.in(normal(n, 9)), sigma = g.in(uniform((size_t)C, 0.5, 4));
  int target = gated ? g.in(normal(n, 9)) : -1, period = wrap ? g.in(periods(C)) : -1,
      out = g.output((size_t)rows);
  g.forward = [=](Call &r) {
    m4n_gauss_kl_fwd(r.s, r.real(out), r.real(y), r.real(yt), r.real(sigma), r.real(target), r.real(period),
                     nullptr, rows, C);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_gauss_kl_bwd(r.s, d[y], r.real(y), r.real(yt), r.real(sigma), r.real(target), r.real(period), d[out],
                     rows, C, 0);
  };
  l.gradients.push_back(g);
}

} // namespace

void loss_cases(Lists &l) {
  int k = 0;
  for (int rows : {1, 7, 33, 129})
    for (int V : {1, 6, 33, 129}) {
      xent(l, rows, V, {k % 2 == 1, k % 3 == 1, k % 5 == 1});
      for (int kind : {M4N_KL_FORWARD, M4N_KL_REVERSE, M4N_JSD}) {
        m4n_kl n = {};
        n.rows = rows, n.V = V, n.divergence = kind, n.temperature = k % 2 ? 2 : 1,
        n.b = (m4n_real)(kind == M4N_JSD ? 0.3 : 0.5);
        kl(l, n, {k % 3 == 1, k % 4 == 1, k % 5 == 1});
      }
      huber(l, rows, V, k % 2, k % 3 == 1, k % 4 ? 5 : INFINITY, k % 5 == 1);
      gauss(l, rows, V, k % 2, k % 3 == 1, k % 5 == 1);
      k++;
    }
}
