#include <stdlib.h>

#include "kernels/base/status.h"
#include "tests/kernels/cases/case.h"

namespace {

const m4n_linear *plan_of(const Call &r, const m4n_linear_shape &shape) {
  const m4n_linear *plan = nullptr;
  if (m4n_linear_plan(&plan, r.s, &shape)) {
    fprintf(stderr, "%s\n", m4n_error_message());
    abort();
  }
  return plan;
}

const char *format_name(int format) {
  static const char *names[] = {"", " packed", " bf16", " int8"};
  return names[format];
}

double bf16(double x) {
  float f = (float)x;
  uint32_t bits;
  memcpy(&bits, &f, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  memcpy(&f, &bits, 4);
  return f;
}

/* A row of x or w as the format has it. */
void squeeze(double *x, int n, int format) {
  if (format == M4N_W_BF16)
    for (int i = 0; i < n; i++) x[i] = bf16(x[i]);
  if (format != M4N_W_INT8) return;
  m4n_real most = 0;
  for (int i = 0; i < n; i++) most = fmax(most, (m4n_real)fabs(x[i]));
  const m4n_real scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < n; i++) x[i] = scale * nearbyint((m4n_real)x[i] * inverse);
}

std::string name_of(int rows, const m4n_linear_shape &n) {
  return std::to_string(rows) + "x" + std::to_string(n.in) + "x" + std::to_string(n.out) +
         format_name(n.format) +
         (n.x_ld ? " ld " + std::to_string(n.x_ld) + "," + std::to_string(n.y_ld) : "");
}

/* Rounding of products of bf16 is exact in float32, sums are not; a number on the edge between two int8 may fall to
 * either side, which moves a sum by a two-hundredth of one of its terms. */
void tolerance(Case &c, int format) {
  if (format == M4N_W_BF16) c.nmse = fmax(c.nmse, 1e-12);
  if (format == M4N_W_INT8) c.nmse = 1e-7;
}

/* A copy of w in the plan's format, for as long as the object lives. */
class Packed {
public:
  Packed(const Call &r, const m4n_linear *plan, const m4n_real *w)
      : r_(r), at_(m4n_alloc(r.backend, m4n_linear_bytes(plan))) {
    m4n_linear_pack(r.s, at_, w, plan);
  }
  ~Packed() {
    m4n_sync(r_.s);
    m4n_free(r_.backend, at_);
  }
  Packed(const Packed &) = delete;
  Packed &operator=(const Packed &) = delete;
  const void *at() const { return at_; }

private:
  const Call &r_;
  void *at_;
};

void linear(Lists &l, int rows, m4n_linear_shape n, bool bias, bool add) {
  const int x_ld = n.x_ld ? n.x_ld : n.in, y_ld = n.y_ld ? n.y_ld : n.out;
  const size_t xs = (size_t)(rows - 1) * x_ld + n.in + 4, ys = (size_t)rows * y_ld, ws = (size_t)n.out * n.in;
  const std::string size = name_of(rows, n);
  {
    Case c("linear_fwd", size + (bias ? " bias" : "") + (add ? " added" : ""));
    int y = c.inout(normal(ys)), x = c.in(normal(xs)), w = c.in(normal(ws)),
        b = bias ? c.in(normal((size_t)n.out)) : -1;
    c.run = [=](Call &r) {
      const m4n_linear *plan = plan_of(r, n);
      const Packed packed(r, plan, r.real(w));
      m4n_linear_fwd(r.s, r.real(y), r.real(x), packed.at(), r.real(b), plan, rows, add);
    };
    c.naive = [=](Host &h) {
      Vector weight = h[w], row((size_t)n.in);
      for (int o = 0; o < n.out; o++) squeeze(&weight[(size_t)o * n.in], n.in, n.format);
      for (int i = 0; i < rows; i++) {
        for (int k = 0; k < n.in; k++) row[(size_t)k] = h[x][(size_t)i * x_ld + k];
        squeeze(row.data(), n.in, n.format);
        for (int o = 0; o < n.out; o++) {
          double sum = (b < 0 ? 0 : h[b][o]) + (add ? h[y][(size_t)i * y_ld + o] : 0);
          for (int k = 0; k < n.in; k++) sum += row[(size_t)k] * weight[(size_t)o * n.in + k];
          h[y][(size_t)i * y_ld + o] = sum;
        }
      }
    };
    tolerance(c, n.format);
    l.cases.push_back(c);
  }
  if (n.grads & M4N_GRAD_X) {
    Case c("linear_bwd_x", size + (add ? " added" : ""));
    int dx = c.inout(normal(xs)), dy = c.in(normal(ys)), w = c.in(normal(ws));
    c.run = [=](Call &r) {
      const m4n_linear *plan = plan_of(r, n);
      const Packed packed(r, plan, r.real(w));
      m4n_linear_bwd_x(r.s, r.real(dx), r.real(dy), packed.at(), plan, rows, add);
    };
    c.naive = [=](Host &h) {
      Vector weight = h[w], row((size_t)n.out);
      squeeze(weight.data(), n.out * n.in, n.format);
      for (int i = 0; i < rows; i++) {
        for (int o = 0; o < n.out; o++) row[(size_t)o] = h[dy][(size_t)i * y_ld + o];
        squeeze(row.data(), n.out, n.format);
        for (int k = 0; k < n.in; k++) {
          double sum = add ? h[dx][(size_t)i * x_ld + k] : 0;
          for (int o = 0; o < n.out; o++) sum += row[(size_t)o] * weight[(size_t)o * n.in + k];
          h[dx][(size_t)i * x_ld + k] = sum;
        }
      }
    };
    tolerance(c, n.format);
    l.cases.push_back(c);
  }
  if (n.grads & M4N_GRAD_W) {
    Case c("linear_bwd_w", size);
    int dw = c.inout(normal(ws)), dy = c.in(normal(ys)), x = c.in(normal(xs));
    c.run = [=](Call &r) { m4n_linear_bwd_w(r.s, r.real(dw), r.real(dy), r.real(x), plan_of(r, n), rows); };
    c.naive = [=](Host &h) {
      for (int i = 0; i < rows; i++)
        for (int o = 0; o < n.out; o++)
          for (int k = 0; k < n.in; k++)
            h[dw][(size_t)o * n.in + k] += h[dy][(size_t)i * y_ld + o] * h[x][(size_t)i * x_ld + k];
    };
    l.cases.push_back(c);
  }
  if (n.format != M4N_W_REAL || bias || add) return;
  // Packing plain weights copies them.
  Case c("linear_pack", size);
  int to = c.out(ws), from = c.in(normal(ws));
  c.run = [=](Call &r) { m4n_linear_pack(r.s, r.real(to), r.real(from), plan_of(r, n)); };
  c.naive = [=](Host &h) { h[to] = h[from]; };
  l.cases.push_back(c);
}

m4n_linear_shape shape(int in, int out, int max_rows, int format, int grads, int x_ld = 0, int y_ld = 0) {
  m4n_linear_shape n = {};
  n.in = in, n.out = out, n.max_rows = max_rows, n.format = format, n.grads = grads, n.x_ld = x_ld,
  n.y_ld = y_ld;
  return n;
}

void gradients(Lists &l, int rows, int in, int out) {
  const m4n_linear_shape n = shape(in, out, rows, M4N_W_REAL, M4N_GRAD_X | M4N_GRAD_W);
  for (const char *op : {"linear_bwd_x", "linear_bwd_w"}) {
    const bool of_x = !strcmp(op, "linear_bwd_x");
    Gradient g(op, name_of(rows, n));
    int x = of_x ? g.input(normal((size_t)rows * in)) : g.in(normal((size_t)rows * in));
    int w = of_x ? g.in(normal((size_t)in * out)) : g.parameter(normal((size_t)in * out)),
        y = g.output((size_t)rows * out);
    g.forward = [=](Call &r) {
      m4n_linear_fwd(r.s, r.real(y), r.real(x), r.real(w), nullptr, plan_of(r, n), rows, 0);
    };
    g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
      if (of_x)
        m4n_linear_bwd_x(r.s, d[x], d[y], r.real(w), plan_of(r, n), rows, 0);
      else
        m4n_linear_bwd_w(r.s, d[w], d[y], r.real(x), plan_of(r, n), rows);
    };
    l.gradients.push_back(g);
  }
}

} // namespace

void linear_cases(Lists &l) {
  const int both = M4N_GRAD_X | M4N_GRAD_W;
  int k = 0;
  for (int rows : {1, 7, 33, 129})
    for (int in : {1, 7, 33, 129})
      for (int out : {1, 7, 33, 129}) {
        linear(l, rows, shape(in, out, k % 3 ? rows : 200, M4N_W_REAL, both), k % 2, k % 5 == 1);
        for (int format : {M4N_W_PACKED, M4N_W_BF16, M4N_W_INT8})
          linear(l, rows, shape(in, out, 200, format, format == M4N_W_BF16 ? M4N_GRAD_X : 0), k % 2,
                 k % 5 == 1);
        k++;
      }
  // The student's and their odd numbers of rows: whole pieces, pieces of 64 and of 16, a rest.
  for (int rows : {1, 8, 160, 300})
    for (int format : {0, 1, 2, 3})
      linear(l, rows,
             shape(512, 520, 300, format,
                   format == 0   ? both
                   : format == 2 ? M4N_GRAD_X
                                 : 0),
             format % 2, rows == 8);
  linear(l, 33, shape(1376, 70, 64, M4N_W_INT8, 0), false, false);
  linear(l, 33, shape(70, 1376, 64, M4N_W_BF16, M4N_GRAD_X), true, true);
  linear(l, 50, shape(40, 30, 64, M4N_W_REAL, both, 45, 100), true, true);
  linear(l, 50, shape(40, 30, 64, M4N_W_BF16, M4N_GRAD_X, 45, 100), true, true);
  linear(l, 50, shape(40, 30, 64, M4N_W_INT8, 0, 45, 100), true, true);
  // Rows that overlap: a window of 4 slides over a signal.
  linear(l, 37, shape(4, 9, 37, M4N_W_REAL, M4N_GRAD_W, 1, 0), true, false);
  linear(l, 37, shape(4, 9, 37, M4N_W_BF16, 0, 1, 0), true, false);
  gradients(l, 5, 7, 9);
  gradients(l, 33, 20, 12);
}
