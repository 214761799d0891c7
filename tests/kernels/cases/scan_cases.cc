#include "tests/kernels/cases/case.h"

namespace {

m4n_scan dense(m4n_scan n) {
  const int states = n.G * n.N;
  if (!n.u_ld) n.u_ld = n.C;
  if (!n.dt_ld) n.dt_ld = n.C;
  if (!n.z_ld) n.z_ld = n.C;
  if (!n.y_ld) n.y_ld = n.C;
  if (!n.b_ld) n.b_ld = states;
  if (!n.c_ld) n.c_ld = states;
  return n;
}

/* The arrays of a call, by number; z and bias −1 where there are none. */
struct Parts {
  int u, dt, A, b, c, D, z, bias;
};
Parts inputs(Arrays &c, const m4n_scan &given, bool gate, bool bias) {
  const m4n_scan n = dense(given);
  const size_t rows = (size_t)n.B * n.T, C = (size_t)n.C;
  Parts p;
  p.u = c.in(normal(rows * n.u_ld));
  p.dt = c.in(n.softplus ? normal(rows * n.dt_ld, 2, -3) : uniform(rows * n.dt_ld, 0.001, 0.5));
  p.A = c.in(uniform(C * n.N, -3, -0.05));
  p.b = c.in(normal(rows * n.b_ld));
  p.c = c.in(normal(rows * n.c_ld));
  p.D = c.in(normal(C));
  p.z = gate ? c.in(normal(rows * n.z_ld, 2)) : -1;
  p.bias = bias ? c.in(uniform(C, 0, 0.3)) : -1;
  return p;
}

double softplus(double x) {
  return x > 30 ? x : log1p(exp(x));
}

/* y, and the last state [N][C] of each batch, from a state of zeros. */
void naive_scan(Host &h, const Parts &p, const m4n_scan &n, int y, int last) {
  for (int i = 0; i < n.B; i++)
    for (int c = 0; c < n.C; c++) {
      const int g = c / (n.C / n.G);
      Vector state((size_t)n.N, 0);
      for (int t = 0; t < n.T; t++) {
        const int row = i * n.T + t;
        double delta = h[p.dt][row * n.dt_ld + c] + (p.bias < 0 ? 0 : h[p.bias][c]);
        if (n.softplus) delta = softplus(delta);
        const double u = h[p.u][row * n.u_ld + c];
        double sum = h[p.D][c] * u;
        for (int k = 0; k < n.N; k++) {
          double &x = state[(size_t)k];
          x = exp(delta * h[p.A][c * n.N + k]) * x + delta * h[p.b][row * n.b_ld + g * n.N + k] * u;
          sum += x * h[p.c][row * n.c_ld + g * n.N + k];
        }
        h[y][row * n.y_ld + c] = sum * (p.z < 0 ? 1 : naive_silu(h[p.z][row * n.z_ld + c]));
      }
      for (int k = 0; k < n.N; k++) h[last][(i * n.N + k) * n.C + c] = state[(size_t)k];
    }
}

std::string name_of(const m4n_scan &n, bool gate, bool bias) {
  return std::to_string(n.B) + "x" + std::to_string(n.T) + "x" + std::to_string(n.C) + " N " +
         std::to_string(n.N) + " G " + std::to_string(n.G) + (n.softplus ? " softplus" : "") +
         (gate ? " gate" : "") + (bias ? " bias" : "");
}

void forward(Lists &l, m4n_scan n, bool gate, bool bias) {
  const m4n_scan d = dense(n);
  const size_t rows = (size_t)n.B * n.T;
  Case c("scan_fwd", name_of(n, gate, bias));
  const Parts p = inputs(c, n, gate, bias);
  int y = c.inout(normal(rows * d.y_ld)), last = c.out((size_t)n.B * n.N * n.C);
  c.run = [=](Call &r) {
    m4n_scan_fwd(r.s, r.real(y), nullptr, r.real(last), r.real(p.u), r.real(p.dt), r.real(p.A), r.real(p.b),
                 r.real(p.c), r.real(p.D), r.real(p.z), r.real(p.bias), &n);
  };
  c.naive = [=](Host &h) { naive_scan(h, p, d, y, last); };
  l.cases.push_back(c);

  // Pieces of 1, 2 and the rest, by way of the state of slot B − 1 − i; dense rows only.
  if (n.T < 4 || n.u_ld) return;
  Case s("scan_step", name_of(n, gate, bias) + " in pieces");
  const Parts q = inputs(s, n, gate, bias);
  std::vector<int32_t> slot0;
  for (int i = 0; i < n.B; i++) slot0.push_back(n.B - 1 - i);
  const int states = n.G * n.N;
  int sy = s.out(rows * n.C), state = s.inout(Vector((size_t)n.B * n.N * n.C, 0)), slot = s.raw(slot0);
  int pu = s.in(Vector(rows * n.C)), pdt = s.in(Vector(rows * n.C)), pz = s.in(Vector(rows * n.C));
  int pb = s.in(Vector(rows * states)), pc = s.in(Vector(rows * states)), py = s.in(Vector(rows * n.C));
  int in_order = s.out((size_t)n.B * n.N * n.C);
  s.run = [=](Call &r) {
    int at = 0;
    for (int count : {1, 2, n.T - 3}) {
      m4n_scan piece = n;
      piece.T = count;
      auto cut = [&](int to, int from, int width) {
        if (from >= 0)
          m4n_copy_rows(r.s, r.real(to), r.real(from) + at * width, n.B, count * width, count * width,
                        n.T * width);
      };
      cut(pu, q.u, n.C), cut(pdt, q.dt, n.C), cut(pz, q.z, n.C), cut(pb, q.b, states), cut(pc, q.c, states);
      m4n_scan_step(r.s, r.real(py), r.real(state), r.real(pu), r.real(pdt), r.real(q.A), r.real(pb),
                    r.real(pc), r.real(q.D), q.z < 0 ? nullptr : r.real(pz), r.real(q.bias),
                    r.raw<int32_t>(slot), &piece);
      m4n_copy_rows(r.s, r.real(sy) + at * n.C, r.real(py), n.B, count * n.C, n.T * n.C, count * n.C);
      at += count;
    }
    m4n_gather_fwd(r.s, r.real(in_order), r.real(state), r.raw<int32_t>(slot), n.B, n.N * n.C, 0, 0);
  };
  s.naive = [=](Host &h) {
    naive_scan(h, q, d, sy, in_order);
    for (int i = 0; i < n.B; i++)
      for (int k = 0; k < n.N * n.C; k++)
        h[state][(n.B - 1 - i) * n.N * n.C + k] = h[in_order][i * n.N * n.C + k];
  };
  l.cases.push_back(s);
}

/* The backward of §5.4 step by step, with all states stored. */
void naive_backward(Host &h, const Parts &p, const Parts &d, const m4n_scan &n, int dy) {
  for (int i = 0; i < n.B * n.T; i++) {
    for (int k = 0; k < n.G * n.N; k++) h[d.b][i * n.b_ld + k] = h[d.c][i * n.c_ld + k] = 0;
  }
  for (int i = 0; i < n.B; i++)
    for (int c = 0; c < n.C; c++) {
      const int g = c / (n.C / n.G);
      std::vector<Vector> state((size_t)n.T + 1, Vector((size_t)n.N, 0));
      Vector delta((size_t)n.T), raw((size_t)n.T), y((size_t)n.T), eta((size_t)n.N, 0);
      for (int t = 0; t < n.T; t++) {
        const int row = i * n.T + t;
        raw[t] = h[p.dt][row * n.dt_ld + c] + (p.bias < 0 ? 0 : h[p.bias][c]);
        delta[t] = n.softplus ? softplus(raw[t]) : raw[t];
        const double u = h[p.u][row * n.u_ld + c];
        y[t] = h[p.D][c] * u;
        for (int k = 0; k < n.N; k++) {
          state[t + 1][k] = exp(delta[t] * h[p.A][c * n.N + k]) * state[t][k] +
                            delta[t] * h[p.b][row * n.b_ld + g * n.N + k] * u;
          y[t] += state[t + 1][k] * h[p.c][row * n.c_ld + g * n.N + k];
        }
      }
      for (int t = n.T - 1; t >= 0; t--) {
        const int row = i * n.T + t;
        const double u = h[p.u][row * n.u_ld + c];
        double ybar = h[dy][row * n.y_ld + c];
        if (p.z >= 0) {
          const double z = h[p.z][row * n.z_ld + c], s = naive_sigmoid(z);
          h[d.z][row * n.z_ld + c] = ybar * y[t] * s * (1 + z * (1 - s));
          ybar *= z * s;
        }
        h[d.D][c] += ybar * u;
        double du = ybar * h[p.D][c], dd = 0;
        for (int k = 0; k < n.N; k++) {
          const double A = h[p.A][c * n.N + k], alpha = exp(delta[t] * A);
          const double B = h[p.b][row * n.b_ld + g * n.N + k], C = h[p.c][row * n.c_ld + g * n.N + k];
          const double kappa = eta[k] + ybar * C, s = kappa * state[t][k] * alpha;
          h[d.c][row * n.c_ld + g * n.N + k] += ybar * state[t + 1][k];
          h[d.b][row * n.b_ld + g * n.N + k] += kappa * delta[t] * u;
          du += kappa * delta[t] * B;
          h[d.A][c * n.N + k] += s * delta[t];
          dd += s * A + kappa * B * u;
          eta[k] = kappa * alpha;
        }
        if (n.softplus) dd *= naive_sigmoid(raw[t]);
        h[d.u][row * n.u_ld + c] = du;
        h[d.dt][row * n.dt_ld + c] = dd;
        if (p.bias >= 0) h[d.bias][c] += dd;
      }
    }
}

void backward(Lists &l, m4n_scan n, bool gate, bool bias) {
  const m4n_scan d = dense(n);
  const size_t rows = (size_t)n.B * n.T, C = (size_t)n.C;
  Case c("scan_bwd", name_of(n, gate, bias));
  const Parts p = inputs(c, n, gate, bias);
  int y = c.in(Vector(rows * d.y_ld)), dy = c.in(normal(rows * d.y_ld));
  int saved = c.in(Vector(m4n_scan_saved(&n))), scratch = c.in(Vector(m4n_scan_scratch(&n), NAN));
  Parts g;
  g.u = c.inout(normal(rows * d.u_ld)), g.dt = c.inout(normal(rows * d.dt_ld)),
  g.A = c.inout(normal(C * n.N));
  g.b = c.inout(normal(rows * d.b_ld)), g.c = c.inout(normal(rows * d.c_ld)), g.D = c.inout(normal(C));
  g.z = gate ? c.inout(normal(rows * d.z_ld)) : -1, g.bias = bias ? c.inout(normal(C)) : -1;
  c.run = [=](Call &r) {
    m4n_scan_fwd(r.s, r.real(y), r.real(saved), nullptr, r.real(p.u), r.real(p.dt), r.real(p.A), r.real(p.b),
                 r.real(p.c), r.real(p.D), r.real(p.z), r.real(p.bias), &n);
    m4n_scan_bwd(r.s, r.real(g.u), r.real(g.dt), r.real(g.A), r.real(g.b), r.real(g.c), r.real(g.D),
                 r.real(g.z), r.real(g.bias), r.real(scratch), r.real(dy), r.real(saved), r.real(p.u),
                 r.real(p.dt), r.real(p.A), r.real(p.b), r.real(p.c), r.real(p.D), r.real(p.z),
                 r.real(p.bias), &n);
  };
  c.naive = [=](Host &h) { naive_backward(h, p, g, d, dy); };
  c.nmse *= 10;
  l.cases.push_back(c);
}

void gradient(Lists &l, m4n_scan n, bool gate, bool bias) {
  const size_t rows = (size_t)n.B * n.T, C = (size_t)n.C, states = (size_t)n.G * n.N;
  Gradient g("scan_bwd", name_of(n, gate, bias));
  int u = g.input(normal(rows * C)),
      dt = g.input(n.softplus ? normal(rows * C) : uniform(rows * C, 0.01, 0.5));
  int A = g.parameter(uniform(C * n.N, -2, -0.1)), b = g.input(normal(rows * states)),
      c = g.input(normal(rows * states));
  int D = g.parameter(normal(C)), z = gate ? g.input(normal(rows * C)) : -1,
      w = bias ? g.parameter(uniform(C, 0, 0.3)) : -1;
  int y = g.output(rows * C), saved = g.in(Vector(m4n_scan_saved(&n))),
      scratch = g.in(Vector(m4n_scan_scratch(&n)));
  g.forward = [=](Call &r) {
    m4n_scan_fwd(r.s, r.real(y), r.real(saved), nullptr, r.real(u), r.real(dt), r.real(A), r.real(b),
                 r.real(c), r.real(D), r.real(z), r.real(w), &n);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_scan_bwd(r.s, d[u], d[dt], d[A], d[b], d[c], d[D], z < 0 ? nullptr : d[z], w < 0 ? nullptr : d[w],
                 r.real(scratch), d[y], r.real(saved), r.real(u), r.real(dt), r.real(A), r.real(b), r.real(c),
                 r.real(D), r.real(z), r.real(w), &n);
  };
  l.gradients.push_back(g);
}

} // namespace

void scan_cases(Lists &l) {
  auto shape = [](int B, int T, int C, int N, int G, int softplus) {
    m4n_scan n = {};
    n.B = B, n.T = T, n.C = C, n.N = N, n.G = G, n.softplus = softplus;
    return n;
  };
  for (int T : {1, 7, 16, 17, 33, 129})
    for (int C : {1, 7, 33, 129}) {
      const m4n_scan n = shape(T % 3 ? 1 : 3, T, C, C == 33 ? 3 : 16, 1, T % 2);
      forward(l, n, C != 7, T != 7);
      backward(l, n, C != 7, T != 7);
    }
  m4n_scan wide = shape(2, 40, 24, 8, 4, 1); // distances of a fused projection
  wide.u_ld = 30, wide.dt_ld = 25, wide.b_ld = wide.c_ld = 80, wide.z_ld = 100, wide.y_ld = 26;
  for (const m4n_scan &n :
       {shape(2, 37, 24, 8, 4, 1), shape(2, 160, 512, 16, 32, 1), shape(2, 20, 160, 16, 1, 1),
        shape(1, 9, 300, 5, 2, 1), shape(1, 5, 16, 128, 1, 1), wide}) {
    forward(l, n, true, true);
    backward(l, n, true, true);
  }
  gradient(l, shape(2, 19, 6, 3, 2, 1), true, true);
  gradient(l, shape(1, 7, 5, 4, 1, 0), false, false);
  gradient(l, shape(1, 3, 70, 2, 1, 1), true, false);
}
