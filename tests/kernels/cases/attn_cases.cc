#include "tests/kernels/cases/case.h"

namespace {

struct Shape : m4n_attention {
  int q_row() const { return q_ld ? q_ld : H * D; }
  int kv_row() const { return kv_ld ? kv_ld : Hkv * D; }
  int o_row() const { return o_ld ? o_ld : H * D; }
  std::string name() const {
    return std::to_string(B) + "x" + std::to_string(T) + " heads " + std::to_string(H) + "/" +
           std::to_string(Hkv) + "x" + std::to_string(D) + (causal ? " causal" : "") +
           (window ? " window " + std::to_string(window) : "") + (q_ld ? " ld" : "");
  }
};
Shape shape(int B, int T, int H, int Hkv, int D, int causal, int window = 0) {
  Shape n = {};
  n.B = B, n.T = T, n.H = H, n.Hkv = Hkv, n.D = D, n.causal = causal, n.window = window;
  n.scale = (m4n_real)(1.3 / sqrt(D));
  return n;
}

bool sees(const Shape &n, int t, int j, int length) {
  return j < length && (!n.causal || j <= t) && (!n.window || j > t - n.window);
}

/* p[j] of query t of head h; q, k begin at the batch. Returns ln Σ exp. */
double softmax_row(Vector &p, const Shape &n, const double *q, const double *k, int t, int h, int length) {
  const int kv = h * n.Hkv / n.H;
  double top = -INFINITY, sum = 0;
  for (int j = 0; j < n.T; j++) {
    p[(size_t)j] = 0;
    if (!sees(n, t, j, length)) continue;
    for (int d = 0; d < n.D; d++)
      p[(size_t)j] += n.scale * q[t * n.q_row() + h * n.D + d] * k[j * n.kv_row() + kv * n.D + d];
    top = fmax(top, p[(size_t)j]);
  }
  for (int j = 0; j < n.T; j++)
    if (sees(n, t, j, length)) sum += exp(p[(size_t)j] - top);
  for (int j = 0; j < n.T; j++) p[(size_t)j] = sees(n, t, j, length) ? exp(p[(size_t)j] - top) / sum : 0;
  return top + log(sum);
}

struct Parts {
  int q, k, v;
};
Parts inputs(Arrays &c, const Shape &n) {
  const size_t rows = (size_t)n.B * n.T;
  return {c.in(normal(rows * n.q_row(), 2)), c.in(normal(rows * n.kv_row())),
          c.in(normal(rows * n.kv_row()))};
}

void naive_forward(Host &h, const Parts &p, const Shape &n, const std::vector<int32_t> &length, int o,
                   int lse) {
  Vector w((size_t)n.T);
  for (int b = 0; b < n.B; b++)
    for (int head = 0; head < n.H; head++)
      for (int t = 0; t < n.T; t++) {
        const int end = length.empty() ? n.T : length[(size_t)b], kv = head * n.Hkv / n.H;
        double *out = &h[o][(size_t)(b * n.T + t) * n.o_row() + head * n.D];
        for (int d = 0; d < n.D; d++) out[d] = 0;
        if (lse >= 0) h[lse][(b * n.H + head) * n.T + t] = 0;
        if (t >= end) continue;
        const double total = softmax_row(w, n, &h[p.q][(size_t)b * n.T * n.q_row()],
                                         &h[p.k][(size_t)b * n.T * n.kv_row()], t, head, end);
        if (lse >= 0) h[lse][(b * n.H + head) * n.T + t] = total;
        for (int j = 0; j < end; j++)
          for (int d = 0; d < n.D; d++)
            out[d] += w[(size_t)j] * h[p.v][(size_t)(b * n.T + j) * n.kv_row() + kv * n.D + d];
      }
}

void naive_backward(Host &h, const Parts &p, const Parts &g, const Shape &n,
                    const std::vector<int32_t> &length, int d_o) {
  Vector w((size_t)n.T), dp((size_t)n.T);
  for (int b = 0; b < n.B; b++) {
    const int end = length.empty() ? n.T : length[(size_t)b];
    const size_t qb = (size_t)b * n.T * n.q_row(), kb = (size_t)b * n.T * n.kv_row();
    for (int t = 0; t < n.T; t++) {
      for (int i = 0; i < n.H * n.D; i++) h[g.q][qb + t * n.q_row() + i] = 0;
      for (int i = 0; i < n.Hkv * n.D; i++)
        h[g.k][kb + t * n.kv_row() + i] = h[g.v][kb + t * n.kv_row() + i] = 0;
    }
    for (int head = 0; head < n.H; head++)
      for (int t = 0; t < end; t++) {
        const int kv = head * n.Hkv / n.H;
        const double *out = &h[d_o][(size_t)(b * n.T + t) * n.o_row() + head * n.D];
        softmax_row(w, n, &h[p.q][qb], &h[p.k][kb], t, head, end);
        double along = 0;
        for (int j = 0; j < end; j++) {
          dp[j] = 0;
          for (int d = 0; d < n.D; d++) dp[j] += out[d] * h[p.v][kb + j * n.kv_row() + kv * n.D + d];
          along += w[j] * dp[j];
        }
        for (int j = 0; j < end; j++)
          for (int d = 0; d < n.D; d++) {
            const double s = n.scale * w[j] * (dp[j] - along);
            h[g.q][qb + t * n.q_row() + head * n.D + d] += s * h[p.k][kb + j * n.kv_row() + kv * n.D + d];
            h[g.k][kb + j * n.kv_row() + kv * n.D + d] += s * h[p.q][qb + t * n.q_row() + head * n.D + d];
            h[g.v][kb + j * n.kv_row() + kv * n.D + d] += w[j] * out[d];
          }
      }
  }
}

void attention(Lists &l, Shape n, std::vector<int32_t> lengths = {}) {
  const size_t rows = (size_t)n.B * n.T;
  const m4n_attention plain = n;
  {
    Case c("attention_fwd", n.name() + (lengths.empty() ? "" : " lengths"));
    const Parts p = inputs(c, n);
    int o = c.inout(normal(rows * n.o_row())), lse = c.out((size_t)n.B * n.H * n.T);
    int length = lengths.empty() ? -1 : c.raw(lengths);
    c.run = [=](Call &r) {
      m4n_attention_fwd(r.s, r.real(o), r.real(lse), r.real(p.q), r.real(p.k), r.real(p.v),
                        r.raw<int32_t>(length), &plain);
    };
    c.naive = [=](Host &h) { naive_forward(h, p, n, lengths, o, lse); };
    l.cases.push_back(c);
  }
  Case c("attention_bwd", n.name() + (lengths.empty() ? "" : " lengths"));
  const Parts p = inputs(c, n);
  int o = c.in(Vector(rows * n.o_row())), lse = c.in(Vector((size_t)n.B * n.H * n.T)),
      d_o = c.in(normal(rows * n.o_row()));
  int length = lengths.empty() ? -1 : c.raw(lengths);
  const Parts g = {c.inout(normal(rows * n.q_row())), c.inout(normal(rows * n.kv_row())),
                   c.inout(normal(rows * n.kv_row()))};
  c.run = [=](Call &r) {
    m4n_attention_fwd(r.s, r.real(o), r.real(lse), r.real(p.q), r.real(p.k), r.real(p.v),
                      r.raw<int32_t>(length), &plain);
    m4n_attention_bwd(r.s, r.real(g.q), r.real(g.k), r.real(g.v), r.real(d_o), r.real(p.q), r.real(p.k),
                      r.real(p.v), r.real(o), r.real(lse), r.raw<int32_t>(length), &plain);
  };
  c.naive = [=](Host &h) { naive_backward(h, p, g, n, lengths, d_o); };
  c.nmse *= 10;
  l.cases.push_back(c);
}

void gradient(Lists &l, Shape n) {
  const size_t rows = (size_t)n.B * n.T;
  const m4n_attention plain = n;
  Gradient g("attention_bwd", n.name());
  int q = g.input(normal(rows * n.q_row())), k = g.input(normal(rows * n.kv_row())),
      v = g.input(normal(rows * n.kv_row()));
  int o = g.output(rows * n.o_row()), lse = g.in(Vector((size_t)n.B * n.H * n.T));
  g.forward = [=](Call &r) {
    m4n_attention_fwd(r.s, r.real(o), r.real(lse), r.real(q), r.real(k), r.real(v), nullptr, &plain);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_attention_bwd(r.s, d[q], d[k], d[v], d[o], r.real(q), r.real(k), r.real(v), r.real(o), r.real(lse),
                      nullptr, &plain);
  };
  l.gradients.push_back(g);
}

/* A sequence in pieces through the cache of slot B − 1 − b equals attention over the whole of it. `capacity` is that of
 * the ring; positions start at `skip`, of which nothing is kept (only with a window that has left them behind). */
void step(Lists &l, Shape n, int capacity, std::vector<int> pieces) {
  const size_t rows = (size_t)n.B * n.T;
  Case c("attention_step", n.name() + " capacity " + std::to_string(capacity));
  const Parts p = inputs(c, n);
  std::vector<int32_t> slot0, pos0;
  for (int b = 0; b < n.B; b++) slot0.push_back(n.B - 1 - b);
  for (int at = 0, i = 0; i < (int)pieces.size(); at += pieces[(size_t)i++])
    for (int b = 0; b < n.B; b++) pos0.push_back(at);
  const size_t cache = (size_t)n.B * capacity * n.Hkv * n.D;
  int o = c.out(rows * n.H * n.D), ck = c.in(Vector(cache)), cv = c.in(Vector(cache));
  int slot = c.raw(slot0), pos = c.raw(pos0);
  int sq = c.in(Vector(rows * n.H * n.D)), so = c.in(Vector(rows * n.H * n.D));
  int sk = c.in(Vector(rows * n.Hkv * n.D)), sv = c.in(Vector(rows * n.Hkv * n.D));
  c.run = [=](Call &r) {
    const m4n_cache ring = {r.real(ck), r.real(cv), capacity};
    for (int at = 0, i = 0; i < (int)pieces.size(); at += pieces[(size_t)i++]) {
      const int count = pieces[(size_t)i];
      m4n_attention part = n;
      part.T = count;
      auto cut = [&](int to, int from, int width) {
        m4n_copy_rows(r.s, r.real(to), r.real(from) + at * width, n.B, count * width, count * width,
                      n.T * width);
      };
      cut(sq, p.q, n.H * n.D), cut(sk, p.k, n.Hkv * n.D), cut(sv, p.v, n.Hkv * n.D);
      m4n_attention_step(r.s, r.real(so), &ring, r.real(sq), r.real(sk), r.real(sv),
                         r.raw<int32_t>(pos) + i * n.B, r.raw<int32_t>(slot), &part);
      m4n_copy_rows(r.s, r.real(o) + at * n.H * n.D, r.real(so), n.B, count * n.H * n.D, n.T * n.H * n.D,
                    count * n.H * n.D);
    }
  };
  c.naive = [=](Host &h) { naive_forward(h, p, n, {}, o, -1); };
  l.cases.push_back(c);
}

void rope(Lists &l, int B, int T, int H, int D, int interleaved, int per_batch) {
  const int ld = H * D + (per_batch ? 5 : 0), half = D / 2;
  const std::string size = std::to_string(B) + "x" + std::to_string(T) + " " + std::to_string(H) + "x" +
                           std::to_string(D) + (interleaved ? " interleaved" : "") +
                           (per_batch ? " per batch" : "");
  const size_t n = (size_t)B * T * ld;
  m4n_rope s = {};
  s.B = B, s.T = T, s.H = H, s.D = D, s.x_ld = per_batch ? ld : 0, s.interleaved = interleaved,
  s.per_batch = per_batch;
  const int rows = per_batch ? B * T : T;
  Vector freq0;
  for (int i = 0; i < half; i++) freq0.push_back(pow(10000, -2.0 * i / D));
  begin_draws("rope " + size);
  std::vector<int32_t> pos0 = below((size_t)rows, 200);
  if (!per_batch)
    for (int t = 0; t < T; t++) pos0[(size_t)t] = t;
  for (bool back : {false, true}) {
    Case c(back ? "rope_bwd" : "rope_fwd", size + " in place");
    int y = c.inout(normal(n)), freq = c.in(freq0), table = c.out((size_t)rows * D),
        pos = per_batch ? c.raw(pos0) : -1;
    c.run = [=](Call &r) {
      m4n_rope_table(r.s, r.real(table), r.real(freq), r.raw<int32_t>(pos), rows, half);
      (back ? m4n_rope_bwd : m4n_rope_fwd)(r.s, r.real(y), r.real(y), r.real(table), &s);
    };
    c.naive = [=](Host &h) {
      auto angle = [&](int row, int i) {
        return (double)((m4n_real)pos0[(size_t)row] * (m4n_real)h[freq][i]);
      };
      for (int row = 0; row < rows; row++)
        for (int i = 0; i < half; i++) {
          h[table][row * D + i] = cos(angle(row, i));
          h[table][row * D + half + i] = sin(angle(row, i));
        }
      for (int row = 0; row < B * T; row++)
        for (int k = 0; k < H; k++)
          for (int i = 0; i < half; i++) {
            double *x = &h[y][(size_t)row * ld + k * D];
            double &u = x[interleaved ? 2 * i : i], &w = x[interleaved ? 2 * i + 1 : i + half];
            const double a = angle(per_batch ? row : row % T, i) * (back ? -1 : 1), u0 = u;
            u = u0 * cos(a) - w * sin(a);
            w = w * cos(a) + u0 * sin(a);
          }
    };
    l.cases.push_back(c);
  }
  if (per_batch || n > 300) return;
  Case t("rope_table", size);
  int table = t.out((size_t)T * D), freq = t.in(freq0);
  t.run = [=](Call &r) { m4n_rope_table(r.s, r.real(table), r.real(freq), nullptr, T, half); };
  t.naive = [=](Host &h) {
    for (int row = 0; row < T; row++)
      for (int i = 0; i < half; i++) {
        const double a = (double)((m4n_real)row * (m4n_real)h[freq][i]);
        h[table][row * D + i] = cos(a), h[table][row * D + half + i] = sin(a);
      }
  };
  l.cases.push_back(t);
  Gradient g("rope_bwd", size);
  int x = g.input(normal(n)), gf = g.in(freq0), gt = g.in(Vector((size_t)T * D)), y = g.output(n);
  g.forward = [=](Call &r) {
    m4n_rope_table(r.s, r.real(gt), r.real(gf), nullptr, T, half);
    m4n_rope_fwd(r.s, r.real(y), r.real(x), r.real(gt), &s);
  };
  g.backward = [=](Call &r, const std::vector<m4n_real *> &d) {
    m4n_rope_bwd(r.s, d[x], d[y], r.real(gt), &s);
  };
  l.gradients.push_back(g);
}

} // namespace

void attn_cases(Lists &l) {
  for (int T : {1, 7, 33, 129})
    for (int D : {1, 7, 33, 128}) attention(l, shape(T == 7 ? 3 : 1, T, 4, T % 3 ? 2 : 4, D, D % 3 != 0));
  attention(l, shape(2, 160, 8, 8, 64, 1));
  attention(l, shape(1, 160, 32, 32, 16, 1));
  attention(l, shape(1, 97, 6, 1, 256, 0));
  attention(l, shape(2, 150, 2, 1, 16, 1, 40));
  attention(l, shape(2, 150, 2, 1, 16, 1, 64));
  attention(l, shape(1, 5, 2, 2, 8, 1, 1));
  Shape apart = shape(2, 40, 4, 2, 8, 1);
  apart.q_ld = 70, apart.kv_ld = 65, apart.o_ld = 33;
  attention(l, apart);
  attention(l, shape(3, 70, 2, 2, 16, 0), {70, 1, 33});
  attention(l, shape(3, 70, 2, 2, 16, 1), {0, 64, 65});
  for (const Shape &n : {shape(2, 9, 4, 2, 4, 1), shape(1, 12, 2, 2, 5, 0), shape(1, 20, 2, 1, 3, 1, 6)})
    gradient(l, n);

  step(l, shape(2, 20, 4, 2, 8, 1), 20, {1, 8, 11});
  step(l, shape(1, 167, 32, 32, 16, 1), 200, {160, 7});
  step(l, shape(3, 90, 2, 1, 16, 1, 24), 31, {8, 8, 8, 8, 1, 1, 8, 8, 8, 8, 8, 8, 8});
  step(l, shape(1, 140, 1, 1, 33, 1, 1), 1, std::vector<int>(140, 1));
  step(l, shape(2, 100, 2, 2, 64, 1, 70), 130, {40, 60});

  for (int T : {1, 7, 33})
    for (int D : {2, 16, 34})
      for (int interleaved : {0, 1})
        for (int per_batch : {0, 1}) rope(l, 2, T, 3, D, interleaved, per_batch);
}
