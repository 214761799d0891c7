#include "agent/learn/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/learn/schedule.h"
#include "agent/learn/train_log.h"
#include "agent/learn/train_state.h"
#include "agent/model/optimiser.h"
#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status.h"

struct m4n_trainer {
  m4n_trainer_options o;
  m4n_fit fit;
  m4n_train_state state;
  m4n_train_log log;
  int64_t saved;                // step of the last checkpoint of this process
  m4n_real *parts, *host_parts; // of a step's loss, on the backend and on the host
  uint32_t *dropout, *host_dropout;
};

// ---- opening -------------------------------------------------------------------------------------------------------------

static int take_memory(m4n_trainer *t) {
  m4n_params *p = t->o.net->params;
  m4n_backend *backend = m4n_stream_backend(p->stream);
  const size_t vector = (size_t)p->n * sizeof(m4n_real), parts = M4N_MAX_PARTS * sizeof(m4n_real);
  if (!(t->parts = m4n_alloc(backend, parts)) || !(t->host_parts = m4n_alloc_host(backend, parts)) ||
      !(t->dropout = m4n_alloc(backend, 2 * sizeof *t->dropout)) ||
      !(t->host_dropout = m4n_alloc_host(backend, 2 * sizeof *t->dropout)) ||
      (t->fit.ema > 0 && !(t->state.average = m4n_alloc(backend, vector))) ||
      (t->o.objective->validate && !(t->state.best_weights = m4n_alloc(backend, vector))))
    return m4n_context(m4n_last_error()->status, "training");
  t->state.params = p;
  t->state.identity = t->o.identity;
  t->o.net->dropout = t->dropout;
  return m4n_optimiser_open(&t->state.optimiser, p,
                            &(m4n_optimiser_options){.beta1 = t->fit.beta1,
                                                     .beta2 = t->fit.beta2,
                                                     .eps = 1e-8,
                                                     .decay = t->fit.decay,
                                                     .clip = t->fit.clip,
                                                     .fresh = t->fit.fresh});
}

static void begin_state(m4n_trainer *t) {
  m4n_train_state *s = &t->state;
  const size_t vector = (size_t)s->params->n * sizeof(m4n_real);
  s->start_loss = NAN, s->best = -INFINITY;
  if (s->average) m4n_copy(s->params->stream, s->average, s->params->w, vector);
  if (s->best_weights) m4n_copy(s->params->stream, s->best_weights, s->params->w, vector);
}

static int open_trainer(m4n_trainer *t) {
  bool found = false;
  M4N_TRY(m4n_fit_check(&t->fit));
  M4N_TRY(m4n_mkdirs(t->o.work));
  M4N_TRY(take_memory(t));
  begin_state(t);
  if (t->o.resume)
    M4N_TRY(m4n_train_state_load(&t->state, t->o.work, &found));
  else
    M4N_TRY(m4n_train_state_clear(t->o.work));
  t->saved = found ? t->state.step : -1;
  return m4n_train_log_open(&t->log, t->o.name, t->o.work, &t->fit, t->o.objective, t->state.step,
                            t->state.tally);
}

int m4n_trainer_open(m4n_trainer **out, const m4n_trainer_options *options) {
  m4n_trainer *t = *out = calloc(1, sizeof *t);
  if (!t) return m4n_fail(M4N_ENOMEM, "no memory for training");
  t->o = *options;
  t->fit = *options->fit;
  t->o.fit = &t->fit;
  int status = open_trainer(t);
  if (!status) return M4N_OK;
  m4n_trainer_close(t);
  *out = NULL;
  return status;
}

void m4n_trainer_close(m4n_trainer *t) {
  if (!t) return;
  m4n_backend *backend = m4n_stream_backend(t->o.net->stream);
  m4n_train_log_close(&t->log);
  m4n_optimiser_close(t->state.optimiser);
  m4n_free(backend, t->state.average);
  m4n_free(backend, t->state.best_weights);
  m4n_free(backend, t->parts);
  m4n_free(backend, t->dropout);
  m4n_free_host(backend, t->host_parts);
  m4n_free_host(backend, t->host_dropout);
  t->o.net->dropout = NULL;
  free(t);
}

const m4n_real *m4n_trainer_weights(const m4n_trainer *t) {
  return t->state.best_weights ? t->state.best_weights : t->state.average;
}

int64_t m4n_trainer_steps(const m4n_trainer *t) {
  return t->state.step;
}

// ---- a step ----------------------------------------------------------------------------------------------------------------

static void key_dropout(m4n_trainer *t, int64_t step) {
  m4n_rng rng = m4n_rng_make(t->o.seed, (uint64_t)step, M4N_RNG_DROPOUT);
  for (int i = 0; i < 2; i++) t->host_dropout[i] = m4n_rng_u32(&rng);
  m4n_copy_in(t->o.net->stream, t->dropout, t->host_dropout, 2 * sizeof *t->dropout);
}

// A loss ten times what it was in the beginning will not come back.
static int check_loss(m4n_trainer *t, double loss, double norm) {
  m4n_train_state *s = &t->state;
  if (isnan(s->start_loss)) s->start_loss = loss;
  const double limit = 10 * fmax(s->start_loss, 1);
  if (isfinite(loss) && isfinite(norm) && loss <= limit) return M4N_OK;
  return m4n_fail(M4N_EDIVERGED,
                  "%s diverged in step %lld: loss %g, gradient %g, where the first loss was %g; what was "
                  "learned up to step "
                  "%lld is in %s. A lower learning rate or more warm-up may help",
                  t->o.name, (long long)s->step + 1, loss, norm, s->start_loss,
                  (long long)(t->saved < 0 ? 0 : t->saved), t->o.work);
}

static int do_step(m4n_trainer *t) {
  const m4n_objective *o = t->o.objective;
  m4n_net *net = t->o.net;
  m4n_stream *stream = net->stream;
  m4n_train_state *s = &t->state;
  const double lr = m4n_learning_rate(&t->fit, s->step);
  M4N_TRY(o->batch(o->self, s->step));
  key_dropout(t, s->step);
  o->loss(o->self, t->parts);
  m4n_net_zero(net);
  m4n_net_backward(net);
  m4n_optimiser_step(s->optimiser, lr);
  if (s->average)
    m4n_ema(stream, s->average, net->params->w, net->params->n, (m4n_real)m4n_ema_decay(&t->fit, s->step));
  m4n_copy_out(stream, t->host_parts, t->parts, (size_t)o->parts * sizeof *t->parts);
  double norm, part[M4N_MAX_PARTS], loss = 0;
  M4N_TRY(m4n_optimiser_norm(s->optimiser, &norm));
  for (int i = 0; i < o->parts; i++) loss += part[i] = (double)t->host_parts[i];
  M4N_TRY(check_loss(t, loss, norm));
  m4n_agreement agreement = {0};
  if (o->look) o->look(o->self, &agreement);
  s->step++;
  m4n_train_log_step(&t->log, s->step, part, norm, agreement, lr, s->step == t->fit.steps);
  return M4N_OK;
}

// ---- what happens between steps ----------------------------------------------------------------------------------------------

static int save(m4n_trainer *t) {
  if (t->saved == t->state.step) return M4N_OK;
  m4n_train_log_tally(&t->log, t->state.tally);
  M4N_TRY(m4n_train_state_save(&t->state, t->o.work));
  t->saved = t->state.step;
  return M4N_OK;
}

static int validate(m4n_trainer *t) {
  const m4n_objective *o = t->o.objective;
  m4n_train_state *s = &t->state;
  double measure;
  M4N_TRY(o->validate(o->owner, s->step, s->average, &measure));
  const bool best = measure > s->best;
  s->unimproved = best ? 0 : s->unimproved + 1;
  if (best) {
    s->best = measure, s->best_step = s->step;
    m4n_copy(s->params->stream, s->best_weights, s->average ? s->average : s->params->w,
             (size_t)s->params->n * sizeof(m4n_real));
  }
  s->stopped = t->fit.patience && s->unimproved >= t->fit.patience;
  m4n_train_log_valid(&t->log, s->step, measure, best);
  m4n_log(M4N_LOG_INFO, "%s: validation after %lld steps: %.4f%s", t->o.name, (long long)s->step, measure,
          best         ? ", the best so far"
          : s->stopped ? ", no better for too long: done"
                       : "");
  return m4n_sync(s->params->stream);
}

static int after_step(m4n_trainer *t) {
  const int64_t step = t->state.step, start = m4n_now_ns();
  const bool last = step == t->fit.steps;
  const bool valid = t->o.objective->validate && (last || step % t->fit.valid_every == 0);
  if (valid) M4N_TRY(validate(t));
  if (valid || last || step % t->fit.save_every == 0) M4N_TRY(save(t));
  t->log.aside_ns += m4n_now_ns() - start;
  return M4N_OK;
}

static int begin_round(m4n_trainer *t, bool first) {
  const m4n_objective *o = t->o.objective;
  if (!o->round || !(first || o->due(o->owner, t->state.step))) return M4N_OK;
  const int64_t start = m4n_now_ns();
  M4N_TRY(save(t)); // a round takes long: what it was played with must not be lost
  M4N_TRY(o->round(o->owner, t->state.step, t->state.average));
  t->log.aside_ns += m4n_now_ns() - start;
  return M4N_OK;
}

int m4n_trainer_run(m4n_trainer *t) {
  for (bool first = true; t->state.step < t->fit.steps && !t->state.stopped; first = false) {
    if (m4n_stop_requested(t->o.stop)) {
      M4N_TRY(save(t));
      return m4n_fail(M4N_ECANCELLED, "%s: stopped after step %lld of %lld; it can be resumed", t->o.name,
                      (long long)t->state.step, (long long)t->fit.steps);
    }
    M4N_TRY(begin_round(t, first));
    M4N_TRY(do_step(t));
    M4N_TRY(after_step(t));
  }
  return m4n_train_log_close(&t->log);
}
