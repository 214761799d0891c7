#include "tests/kernels/cases/case.h"

namespace {

void gather(Lists &l, int rows, int table_rows, int C) {
  const std::string size =
      std::to_string(rows) + " of " + std::to_string(table_rows) + "x" + std::to_string(C);
  const int ld = C + 2;
  begin_draws("gather " + size);
  std::vector<int32_t> index0 = below((size_t)rows, table_rows);
  if (rows > 2) index0[1] = -1;
  for (bool add : {false, true}) {
    Case c("gather_fwd", size + (add ? " added" : ""));
    int y = c.inout(normal((size_t)rows * ld)), table = c.in(normal((size_t)table_rows * C)),
        index = c.raw(index0);
    c.run = [=](Call &r) {
      m4n_gather_fwd(r.s, r.real(y), r.real(table), r.raw<int32_t>(index), rows, C, ld, add);
    };
    c.naive = [=](Host &h) {
      for (int i = 0; i < rows; i++)
        for (int j = 0; j < C; j++)
          h[y][i * ld + j] = (add ? h[y][i * ld + j] : 0) +
                             (index0[(size_t)i] < 0 ? 0 : h[table][index0[(size_t)i] * C + j]);
    };
    l.cases.push_back(c);
  }
  Case b("gather_bwd", size);
  int dt = b.inout(normal((size_t)table_rows * C)), dy = b.in(normal((size_t)rows * ld)),
      index = b.raw(index0);
  b.run = [=](Call &r) { m4n_gather_bwd(r.s, r.real(dt), r.real(dy), r.raw<int32_t>(index), rows, C, ld); };
  b.naive = [=](Host &h) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < C && index0[(size_t)i] >= 0; j++)
        h[dt][index0[(size_t)i] * C + j] += h[dy][i * ld + j];
  };
  l.cases.push_back(b);
}

void segments(Lists &l, int count, int rows, int C, bool named) {
  const std::string size =
      std::to_string(count) + " segments of " + std::to_string(rows) + "x" + std::to_string(C);
  begin_draws("segments " + size + (named ? " by index" : ""));
  // Some segments are empty, some rows are in several of them.
  std::vector<int32_t> offset0 = {0};
  const std::vector<int32_t> lengths = below((size_t)count, 4);
  for (int k = 0; k < count; k++) offset0.push_back(offset0.back() + (k == 0 ? 3 : lengths[(size_t)k]));
  const size_t edges = (size_t)offset0.back(), elements = named ? (size_t)rows * C : edges * C;
  const std::vector<int32_t> index0 = below(edges, rows);
  auto source = [=](size_t e) { return named ? (size_t)index0[e] : e; };
  for (bool add : {false, true}) {
    Case c("segment_sum_fwd", size + (named ? " by index" : "") + (add ? " added" : ""));
    int y = add ? c.inout(normal((size_t)count * C)) : c.out((size_t)count * C), x = c.in(normal(elements));
    int offset = c.raw(offset0), index = named ? c.raw(index0) : -1;
    c.run = [=](Call &r) {
      m4n_segment_sum_fwd(r.s, r.real(y), r.real(x), r.raw<int32_t>(offset), r.raw<int32_t>(index), count, C,
                          add);
    };
    c.naive = [=](Host &h) {
      for (int k = 0; k < count; k++)
        for (int j = 0; j < C; j++) {
          double sum = add ? h[y][k * C + j] : 0;
          for (int e = offset0[(size_t)k]; e < offset0[(size_t)k + 1]; e++)
            sum += h[x][source((size_t)e) * C + j];
          h[y][k * C + j] = sum;
        }
    };
    l.cases.push_back(c);
  }
  Case b("segment_sum_bwd", size + (named ? " by index" : ""));
  int dx = b.inout(normal(elements)), dy = b.in(normal((size_t)count * C));
  int offset = b.raw(offset0), index = named ? b.raw(index0) : -1;
  b.run = [=](Call &r) {
    m4n_segment_sum_bwd(r.s, r.real(dx), r.real(dy), r.raw<int32_t>(offset), r.raw<int32_t>(index), count, C);
  };
  b.naive = [=](Host &h) {
    for (int k = 0; k < count; k++)
      for (int e = offset0[(size_t)k]; e < offset0[(size_t)k + 1]; e++)
        for (int j = 0; j < C; j++) h[dx][source((size_t)e) * C + j] += h[dy][k * C + j];
  };
  l.cases.push_back(b);

  if (count * C > 300) return;
  Gradient g("segment_sum_bwd", size + (named ? " by index" : ""));
  int gx = g.parameter(normal(elements)), gy = g.output((size_t)count * C);
  int go = g.raw(offset0), gi = named ? g.raw(index0) : -1;
  g.forward = [=](Call &r) {
    m4n_segment_sum_fwd(r.s, r.real(gy), r.real(gx), r.raw<int32_t>(go), r.raw<int32_t>(gi), count, C, 0);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_segment_sum_bwd(r.s, d[gx], d[gy], r.raw<int32_t>(go), r.raw<int32_t>(gi), count, C);
  };
  l.gradients.push_back(g);
}

} // namespace

void graph_cases(Lists &l) {
  for (int rows : {1, 7, 33, 129})
    for (int C : {1, 7, 33, 129}) gather(l, rows, 1 + rows / 2, C);
  gather(l, 1280, 48, 512);
  for (int count : {1, 7, 33, 129})
    for (int C : {1, 33, 129})
      for (bool named : {false, true}) segments(l, count, 1 + count / 2, C, named);

  Gradient g("gather_bwd", "9 of 4x5");
  std::vector<int32_t> index0 = {0, 3, 3, -1, 1, 2, 0, 0, 1};
  int table = g.parameter(normal(20)), y = g.output(45), index = g.raw(index0);
  g.forward = [=](Call &r) {
    m4n_gather_fwd(r.s, r.real(y), r.real(table), r.raw<int32_t>(index), 9, 5, 0, 0);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_gather_bwd(r.s, d[table], d[y], r.raw<int32_t>(index), 9, 5, 0);
  };
  l.gradients.push_back(g);
}
