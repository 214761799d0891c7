/* A case is one call of one op: its arrays, the call, and what a plain loop in double makes of the same arrays.
 *
 *     Case c("rmsnorm_fwd", "7x33");
 *     int y = c.out(7 * 33), x = c.in(normal(7 * 33)), g = c.in(normal(33));
 *     c.run = [=](Call &r) { m4n_rmsnorm_fwd(r.s, r.real(y), nullptr, r.real(x), r.real(g), 7, 33, 1e-5f); };
 *     c.naive = [=](Host &h) { for (...) h[y][i] = ...; };
 *     cases.push_back(c);
 *
 * A Gradient is an op and its backward: inputs, outputs, both calls; the test differentiates Σ output·R numerically.
 * What the engine does with them is in ops_test.cc and grad_test.cc; a backend of another kind runs the same lists.
 */
#ifndef M4N_TESTS_KERNELS_CASE_H
#define M4N_TESTS_KERNELS_CASE_H

#include <math.h>
#include <string.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/rng.h"
#include "kernels/linear.h"
#include "kernels/ops.h"

using Vector = std::vector<double>;
using Host = std::vector<Vector>; /* by array number */

/* Memory of a backend for one call. Reals are addressed by the number that in/out/inout gave. */
struct Call {
  m4n_backend *backend;
  m4n_stream *s;
  std::vector<m4n_real *> array;
  std::vector<void *> other; /* integers and bytes, and what a case asks for besides */
  m4n_real *real(int i) const { return i < 0 ? nullptr : array[(size_t)i]; }
  template <class T> T *raw(int i) const { return i < 0 ? nullptr : (T *)other[(size_t)i]; }
};

/* Draws are numbered from a name on, that of a case or of what several cases share: they are the same whatever stands
 * before them in a list. */
struct Draws {
  uint64_t seed = 20261123, number = 0;
};
inline Draws &draws() {
  static Draws d;
  return d;
}
inline void begin_draws(const std::string &name) {
  uint64_t hash = 14695981039346656037u; // FNV-1a
  for (char c : name) hash = (hash ^ (unsigned char)c) * 1099511628211u;
  draws() = {hash, 0};
}
inline m4n_rng test_rng() {
  Draws &d = draws();
  return m4n_rng_make(d.seed, d.number++, M4N_RNG_TEST);
}
struct Arrays {
  Host start;                /* rounded to m4n_real */
  std::vector<bool> written; /* compared afterwards */
  std::vector<std::vector<uint8_t>> bytes;

  int add(Vector v, bool is_output) {
    for (double &x : v) x = (double)(m4n_real)x;
    start.push_back(std::move(v));
    written.push_back(is_output);
    return (int)start.size() - 1;
  }
  int in(Vector v) { return add(std::move(v), false); }
  int inout(Vector v) { return add(std::move(v), true); }
  int out(size_t n) { return add(Vector(n, NAN), true); } /* every element must be written */
  template <class T> int raw(const std::vector<T> &v) {
    std::vector<uint8_t> b(v.size() * sizeof(T));
    if (!b.empty()) memcpy(b.data(), v.data(), b.size());
    bytes.push_back(b);
    return (int)bytes.size() - 1;
  }
};

struct Case : Arrays {
  std::string op, size;
  std::function<void(Call &)> run;
  std::function<void(Host &)> naive;
  double nmse = sizeof(m4n_real) == 4 ? 1e-12 : 1e-24; /* of each output */
  Case(const std::string &op_, const std::string &size_) : op(op_), size(size_) {
    begin_draws(op + " " + size);
  }
};

struct Gradient : Arrays {
  std::string op, size;
  std::vector<int> inputs;     /* dx is written; begins as NaN */
  std::vector<int> parameters; /* dw is added to; begins as noise */
  std::vector<int> outputs;
  std::function<void(Call &)> forward;
  std::function<void(Call &, const std::vector<m4n_real *> &)>
      backward; /* gradient by array number: of outputs given */
  Gradient(const std::string &op_, const std::string &size_) : op(op_), size(size_) {
    begin_draws(op + " " + size);
  }
  int input(Vector v) { return inputs.push_back(in(std::move(v))), inputs.back(); }
  int parameter(Vector v) { return parameters.push_back(in(std::move(v))), parameters.back(); }
  int output(size_t n) { return outputs.push_back(out(n)), outputs.back(); }
};

struct Lists {
  std::vector<Case> cases;
  std::vector<Gradient> gradients;
};

/* One function a file of this folder. */
void act_cases(Lists &);
void attn_cases(Lists &);
void conv_cases(Lists &);
void graph_cases(Lists &);
void linear_cases(Lists &);
void loss_cases(Lists &);
void norm_cases(Lists &);
void optim_cases(Lists &);
void rows_cases(Lists &);
void scan_cases(Lists &);

inline Lists all_lists() {
  Lists l;
  for (auto fill : {act_cases, attn_cases, conv_cases, graph_cases, loss_cases, norm_cases, optim_cases,
                    rows_cases, scan_cases, linear_cases})
    fill(l);
  return l;
}

inline Vector normal(size_t n, double scale = 1, double mean = 0) {
  m4n_rng rng = test_rng();
  Vector v(n);
  for (double &x : v) x = mean + scale * m4n_rng_normal(&rng);
  return v;
}
inline Vector uniform(size_t n, double low, double high) {
  m4n_rng rng = test_rng();
  Vector v(n);
  for (double &x : v) x = low + (high - low) * m4n_rng_uniform(&rng);
  return v;
}
inline std::vector<int32_t> below(size_t n, int bound) {
  m4n_rng rng = test_rng();
  std::vector<int32_t> v(n);
  for (int32_t &x : v) x = (int32_t)m4n_rng_below(&rng, (uint32_t)bound);
  return v;
}

inline double naive_sigmoid(double x) {
  return 1 / (1 + exp(-x));
}
inline double naive_silu(double x) {
  return x * naive_sigmoid(x);
}

#endif
