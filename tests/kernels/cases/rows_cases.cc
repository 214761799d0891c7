#include "tests/kernels/cases/case.h"

namespace {

void elementwise(Lists &l, size_t n) {
  const std::string size = std::to_string(n);
  {
    Case c("fill", size);
    int y = c.out(n);
    c.run = [=](Call &r) { m4n_fill(r.s, r.real(y), (int64_t)n, (m4n_real)0.25); };
    c.naive = [=](Host &h) { h[y].assign(n, 0.25); };
    l.cases.push_back(c);
  }
  for (bool multiply : {false, true}) {
    Case c(multiply ? "mul" : "add", size + " in place");
    int y = c.inout(normal(n)), b = c.in(normal(n));
    c.run = [=](Call &r) {
      (multiply ? m4n_mul : m4n_add)(r.s, r.real(y), r.real(y), r.real(b), (int64_t)n);
    };
    c.naive = [=](Host &h) {
      for (size_t i = 0; i < n; i++) h[y][i] = multiply ? h[y][i] * h[b][i] : h[y][i] + h[b][i];
    };
    l.cases.push_back(c);
  }
  for (double beta : {0.0, 0.5}) {
    Case c("axpby", size + (beta == 0 ? " over what is no number" : ""));
    int y = beta == 0 ? c.out(n) : c.inout(normal(n)), x = c.in(normal(n));
    c.run = [=](Call &r) {
      m4n_axpby(r.s, r.real(y), r.real(x), (int64_t)n, (m4n_real)-1.5, (m4n_real)beta);
    };
    c.naive = [=](Host &h) {
      for (size_t i = 0; i < n; i++) h[y][i] = -1.5 * h[x][i] + (beta == 0 ? 0 : beta * h[y][i]);
    };
    l.cases.push_back(c);
  }
  {
    Case c("ema", size);
    int y = c.inout(normal(n)), w = c.in(normal(n));
    c.run = [=](Call &r) { m4n_ema(r.s, r.real(y), r.real(w), (int64_t)n, (m4n_real)0.875); };
    c.naive = [=](Host &h) {
      for (size_t i = 0; i < n; i++) h[y][i] = 0.875 * h[y][i] + 0.125 * h[w][i];
    };
    l.cases.push_back(c);
  }
  for (bool add : {false, true}) {
    Case c("sum", size + (add ? " added" : ""));
    int y = c.inout({0.5}), x = c.in(normal(n, 1, 1));
    c.run = [=](Call &r) { m4n_sum(r.s, r.real(y), r.real(x), (int64_t)n, (m4n_real)0.25, add); };
    c.naive = [=](Host &h) {
      double sum = 0;
      for (double v : h[x]) sum += v;
      h[y][0] = (add ? h[y][0] : 0) + 0.25 * sum;
    };
    l.cases.push_back(c);
  }
}

/* Through bf16 and back, by way of integers: what the upper half of a float32 is. */
void bf16(Lists &l) {
  const size_t n = 1029;
  begin_draws("bf16");
  Vector x0 = normal(n);
  x0[0] = 1.00390625, x0[1] = 1.01171875, x0[2] = 3.4e38, x0[3] = INFINITY, x0[4] = -0.0,
  x0[5] = 2e-38 /* the least normal ones: below, ops may take 0 */;
  auto rounded = [](double v) {
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t rest = bits & 0xffff, half = bits >> 16;
    if (rest > 0x8000 || (rest == 0x8000 && (half & 1))) half++;
    bits = half << 16;
    memcpy(&f, &bits, 4);
    return (double)f;
  };
  for (const char *op : {"to_bf16", "from_bf16"}) {
    Case c(op, "there and back");
    int y = c.out(n), x = c.in(x0), half = c.raw(std::vector<uint16_t>(n));
    c.run = [=](Call &r) {
      m4n_to_bf16(r.s, r.raw<uint16_t>(half), r.real(x), (int64_t)n);
      m4n_from_bf16(r.s, r.real(y), r.raw<uint16_t>(half), (int64_t)n);
    };
    c.naive = [=](Host &h) {
      for (size_t i = 0; i < n; i++) h[y][i] = rounded(h[x][i]);
    };
    c.nmse = 0;
    l.cases.push_back(c);
  }
}

void dropout(Lists &l, size_t n) {
  Case c("dropout", std::to_string(n));
  std::vector<uint32_t> key0 = {17, 4};
  int y = c.inout(normal(n, 1, 5)), key = c.raw(key0);
  c.run = [=](Call &r) {
    m4n_dropout(r.s, r.real(y), r.real(y), r.raw<uint32_t>(key), (int64_t)n, 9, (m4n_real)0.25);
  };
  c.naive = [=](Host &h) {
    for (size_t i = 0; i < n; i++) {
      uint32_t counter[4] = {(uint32_t)(i / 4), 0, 9, 0}, draw[4], k[2] = {key0[0], key0[1]};
      m4n_philox4x32(draw, counter, k);
      h[y][i] = (draw[i % 4] >> 8) < 0.25 * 16777216 ? 0 : h[y][i] / 0.75;
    }
  };
  l.cases.push_back(c);
}

void rows(Lists &l, int count, int C, int period) {
  const std::string size =
      std::to_string(count) + "x" + std::to_string(C) + " period " + std::to_string(period);
  const size_t n = (size_t)count * C;
  const int ld = C + 3;
  {
    Case c("copy_rows", size);
    int y = c.inout(normal((size_t)count * ld)), x = c.in(normal(n));
    c.run = [=](Call &r) { m4n_copy_rows(r.s, r.real(y), r.real(x), count, C, ld, 0); };
    c.naive = [=](Host &h) {
      for (int i = 0; i < count; i++)
        for (int j = 0; j < C; j++) h[y][i * ld + j] = h[x][i * C + j];
    };
    l.cases.push_back(c);
  }
  {
    Case c("add_rows", size + " in place");
    int y = c.inout(normal(n)), p = c.in(normal((size_t)period * C));
    c.run = [=](Call &r) { m4n_add_rows(r.s, r.real(y), r.real(y), r.real(p), count, period, C); };
    c.naive = [=](Host &h) {
      for (int i = 0; i < count; i++)
        for (int j = 0; j < C; j++) h[y][i * C + j] += h[p][i % period * C + j];
    };
    l.cases.push_back(c);
  }
  {
    Case c("sum_rows", size);
    int dp = c.inout(normal((size_t)period * C)), dy = c.in(normal((size_t)count * ld));
    c.run = [=](Call &r) { m4n_sum_rows(r.s, r.real(dp), r.real(dy), count, period, C, ld); };
    c.naive = [=](Host &h) {
      for (int i = 0; i < count; i++)
        for (int j = 0; j < C; j++) h[dp][i % period * C + j] += h[dy][i * ld + j];
    };
    l.cases.push_back(c);
  }
}

} // namespace

void rows_cases(Lists &l) {
  for (size_t n : {1, 7, 33, 129, 40001}) elementwise(l, n);
  elementwise(l, 5000011);
  bf16(l);
  for (size_t n : {1, 7, 40001}) dropout(l, n);
  for (int count : {1, 7, 33, 129})
    for (int C : {1, 7, 33, 129}) rows(l, count, C, count % 2 && C % 3 ? 1 : 7);
  rows(l, 1280, 512, 160);
}
