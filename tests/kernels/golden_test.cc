/* Ops against vectors of the reference libraries (the golden folder's README): outputs within NMSE 1e-12 in float32,
 * gradients within 1e-11; in the f64 build what float64 gives. */
#include <gtest/gtest.h>

#include "agent/model/safetensors.h"
#include "tests/kernels/cases/engine.h"
#include "tests/support/paths.h"

namespace {

const double output_nmse = sizeof(m4n_real) == 4 ? 1e-12 : 1e-20, gradient_nmse = 10 * output_nmse;

class Vectors {
public:
  explicit Vectors(const std::string &name) {
    if (m4n_safetensors_open(&file_, (m4n_golden() + "/" + name + "/io.safetensors").c_str()))
      ADD_FAILURE() << m4n_error_message();
  }
  ~Vectors() { m4n_safetensors_close(file_); }
  Vectors(const Vectors &) = delete;
  Vectors &operator=(const Vectors &) = delete;
  Vector get(const std::string &name) const {
    const m4n_tensor *t = m4n_safetensors_find(file_, name.c_str());
    if (!t) {
      ADD_FAILURE() << "no " << name;
      return {};
    }
    Vector v((size_t)t->count);
    EXPECT_EQ(m4n_tensor_read_double(t, 0, t->count, v.data()), M4N_OK) << m4n_error_message();
    return v;
  }

private:
  m4n_safetensors *file_ = nullptr;
};

/* [B][rows][columns] to [B][columns][rows]: the reference has time last, we have it first. */
Vector transposed(const Vector &v, int B, int rows, int columns) {
  Vector t(v.size());
  for (int b = 0; b < B; b++)
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < columns; j++)
        t[(size_t)((b * columns + j) * rows + i)] = v[(size_t)((b * rows + i) * columns + j)];
  return t;
}

void expect_near(Loaded &memory, int array, const Vector &expected, double most, const char *name) {
  std::string what;
  const auto got = memory.get(memory.run.real(array), expected.size());
  EXPECT_LE(nmse(got, expected, Vector(expected.size(), 0), &what), most) << name << " " << what;
}

class Golden : public testing::TestWithParam<std::string> {};

void selective_scan(const std::string &name, int groups, const std::string &device_name) {
  M4N_NEED(m4n_golden() + "/" + name);
  const Vectors v(name);
  Device device(device_name, 2);
  m4n_scan n = {};
  n.B = 2, n.T = 37, n.C = 24, n.N = 8, n.G = groups, n.softplus = 1;
  const int rows = n.B * n.T, states = n.G * n.N;
  auto in_time = [&](const char *array, int width) { return transposed(v.get(array), n.B, width, n.T); };
  Arrays a;
  const int u = a.in(in_time("u", n.C)), dt = a.in(in_time("dt", n.C)), A = a.in(v.get("A"));
  const int b = a.in(in_time("B", states)), c = a.in(in_time("C", states)), D = a.in(v.get("D"));
  const int z = a.in(in_time("z", n.C)), bias = a.in(v.get("dt_bias")), R = a.in(in_time("R", n.C));
  const size_t wide = (size_t)rows * n.C, narrow = (size_t)rows * states, C = (size_t)n.C;
  const int y = a.out(wide), last = a.out((size_t)n.B * n.N * C);
  const int saved = a.out(m4n_scan_saved(&n)), scratch = a.out(m4n_scan_scratch(&n));
  const int du = a.out(wide), ddt = a.out(wide), dA = a.in(Vector(C * n.N)), db = a.out(narrow),
            dc = a.out(narrow);
  const int dD = a.in(Vector(C)), dz = a.out(wide), dbias = a.in(Vector(C));
  Loaded m(device, a);
  const Call &r = m.run;
  m4n_scan_fwd(r.s, r.real(y), r.real(saved), r.real(last), r.real(u), r.real(dt), r.real(A), r.real(b),
               r.real(c), r.real(D), r.real(z), r.real(bias), &n);
  m4n_scan_bwd(r.s, r.real(du), r.real(ddt), r.real(dA), r.real(db), r.real(dc), r.real(dD), r.real(dz),
               r.real(dbias), r.real(scratch), r.real(R), r.real(saved), r.real(u), r.real(dt), r.real(A),
               r.real(b), r.real(c), r.real(D), r.real(z), r.real(bias), &n);
  expect_near(m, y, in_time("y", n.C), output_nmse, "y");
  expect_near(m, last, transposed(v.get("h_last"), n.B, n.C, n.N), output_nmse, "h_last");
  expect_near(m, du, in_time("d.u", n.C), gradient_nmse, "d.u");
  expect_near(m, ddt, in_time("d.dt", n.C), gradient_nmse, "d.dt");
  expect_near(m, dA, v.get("d.A"), gradient_nmse, "d.A");
  expect_near(m, db, in_time("d.B", states), gradient_nmse, "d.B");
  expect_near(m, dc, in_time("d.C", states), gradient_nmse, "d.C");
  expect_near(m, dD, v.get("d.D"), gradient_nmse, "d.D");
  expect_near(m, dz, in_time("d.z", n.C), gradient_nmse, "d.z");
  expect_near(m, dbias, v.get("d.dt_bias"), gradient_nmse, "d.dt_bias");
}
TEST_P(Golden, SelectiveScanOfOneGroup) {
  selective_scan("selective_scan_g1", 1, GetParam());
}
TEST_P(Golden, SelectiveScanOfFourGroups) {
  selective_scan("selective_scan_g4", 4, GetParam());
}

TEST_P(Golden, DivergencesWithTemperature) {
  M4N_NEED(m4n_golden() + "/kl");
  const Vectors v("kl");
  Device device(GetParam(), 1);
  for (const char *kind : {"forward", "reverse"})
    for (int tau : {1, 2}) {
      SCOPED_TRACE(std::string(kind) + " at " + std::to_string(tau));
      m4n_kl n = {};
      n.rows = 7, n.V = 6, n.temperature = (m4n_real)tau;
      n.divergence = kind[0] == 'f' ? M4N_KL_FORWARD : M4N_KL_REVERSE;
      Arrays a;
      const int zs = a.in(v.get("student_logits")), zt = a.in(v.get("teacher_logits"));
      const int mean = a.in(Vector(7, 1.0 / 7)), loss = a.out(7), total = a.out(1), dz = a.out(42);
      Loaded m(device, a);
      const Call &r = m.run;
      m4n_kl_fwd(r.s, r.real(loss), r.real(zs), r.real(zt), nullptr, r.real(mean), &n);
      m4n_sum(r.s, r.real(total), r.real(loss), 7, 1, 0);
      m4n_kl_bwd(r.s, r.real(dz), r.real(zs), r.real(zt), nullptr, r.real(mean), &n, 0);
      const std::string name = std::string(kind) + ".tau" + std::to_string(tau);
      expect_near(m, total, v.get(name + ".loss"), output_nmse, "loss");
      expect_near(m, dz, v.get(name + ".d"), gradient_nmse, "gradient");
    }
}

TEST_P(Golden, TwentyStepsOfAdamW) {
  M4N_NEED(m4n_golden() + "/adamw");
  const Vectors v("adamw");
  Device device(GetParam(), 1);
  Arrays a;
  const int w = a.in(v.get("p0")), g = a.in(v.get("grads")), mean = a.in(Vector(33)),
            square = a.in(Vector(33));
  std::vector<m4n_adamw_step> steps0;
  for (int k = 1; k <= 20; k++)
    steps0.push_back({(m4n_real)1e-2, (m4n_real)(1 - pow(0.9, k)), (m4n_real)(1 - pow(0.95, k))});
  const int groups = a.raw(std::vector<m4n_adamw_group>{{1, (m4n_real)0.1}}),
            group_of = a.raw(std::vector<uint8_t>{0});
  const int steps = a.raw(steps0);
  const m4n_adamw_rates rates = {(m4n_real)0.9, (m4n_real)0.95, (m4n_real)1e-8};
  Loaded m(device, a);
  const Call &r = m.run;
  for (int k = 0; k < 20; k++)
    m4n_adamw(r.s, r.real(w), r.real(mean), r.real(square), r.real(g) + 33 * k, nullptr,
              r.raw<m4n_adamw_step>(steps) + k, r.raw<m4n_adamw_group>(groups), r.raw<uint8_t>(group_of), 33,
              &rates);
  expect_near(m, w, v.get("p20"), output_nmse, "p20");
}

INSTANTIATE_TEST_SUITE_P(Cpu, Golden, testing::ValuesIn(cpu_devices()), [](const auto &info) {
  std::string name = info.param;
  for (char &c : name)
    if (c == '-') c = '_';
  return name;
});

} // namespace
