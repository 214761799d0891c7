#include "agent/learn/schedule.h"

#include <math.h>

#include "kernels/base/status.h"

m4n_fit m4n_fit_usual(void) {
  return (m4n_fit){.steps = 1000,
                   .batch = 32,
                   .lr = 3e-4,
                   .schedule = M4N_LR_COSINE,
                   .warmup = 0.03,
                   .floor = 0.1,
                   .beta1 = 0.9,
                   .beta2 = 0.95,
                   .decay = 0.01,
                   .clip = 1,
                   .fresh = 1,
                   .ema = 0.999,
                   .log_every = 10,
                   .save_every = 200};
}

static int check(const char *key, double value, double low, double high) {
  return value >= low && value <= high
             ? M4N_OK
             : m4n_fail_at(M4N_EARG, NULL, 0, key, "%g: expected %g … %g", value, low, high);
}

int m4n_fit_check(const m4n_fit *f) {
  M4N_TRY(check("fit.steps", (double)f->steps, 1, 1e12));
  M4N_TRY(check("fit.batch", f->batch, 1, 1 << 20));
  M4N_TRY(check("fit.lr", f->lr, 0, 1e3));
  M4N_TRY(check("fit.warmup", f->warmup, 0, 1));
  M4N_TRY(check("fit.floor", f->floor, 0, 1));
  M4N_TRY(check("fit.beta1", f->beta1, 0, 0.999999));
  M4N_TRY(check("fit.beta2", f->beta2, 0, 0.999999));
  M4N_TRY(check("fit.decay", f->decay, 0, 1e3));
  if (!(f->clip > 0)) return m4n_fail_at(M4N_EARG, NULL, 0, "fit.clip", "%g: expected more than 0", f->clip);
  M4N_TRY(check("fit.fresh", f->fresh, 0, 1e3));
  M4N_TRY(check("fit.ema", f->ema, 0, 0.9999999));
  M4N_TRY(check("fit.log_every", (double)f->log_every, 1, 1e12));
  M4N_TRY(check("fit.save_every", (double)f->save_every, 1, 1e12));
  M4N_TRY(check("fit.valid_episodes", (double)f->valid_episodes, 0, 1e9));
  if (f->valid_episodes) M4N_TRY(check("fit.valid_every", (double)f->valid_every, 1, 1e12));
  return check("fit.patience", f->patience, 0, 1e9);
}

double m4n_learning_rate(const m4n_fit *f, int64_t step) {
  const double i = (double)step, warm = ceil(f->warmup * (double)f->steps), rest = (double)f->steps - warm;
  if (i < warm) return f->lr * (i + 1) / warm;
  if (f->schedule == M4N_LR_CONSTANT) return f->lr;
  // lr·(floor + (1 − floor)·½(1 + cos πx)), x = 0 … 1 over the rest
  const double x = rest > 1 ? (i - warm) / (rest - 1) : 0;
  return f->lr * (f->floor + (1 - f->floor) * 0.5 * (1 + cos(3.14159265358979323846 * x)));
}

double m4n_ema_decay(const m4n_fit *f, int64_t step) {
  return fmin(f->ema, (1 + (double)step) / (10 + (double)step));
}
