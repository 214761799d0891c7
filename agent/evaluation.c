#include "agent/evaluation.h"

#include <stdio.h>
#include <string.h>

#include "agent/learn/report.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

static int open_loop(m4n_evaluation *e) {
  const m4n_scenario *s = e->o.scenario;
  const m4n_loop_options options = {.scenario = s,
                                    .endpoint = e->o.endpoint,
                                    .simulator = e->o.simulator,
                                    .slots = e->o.slots,
                                    .wait_ms = e->o.wait_ms,
                                    .policy =
                                        s->evaluate.n_policies == 1 ? s->evaluate.policies[0] : s->name};
  return m4n_loop_open(&e->loop, &options);
}

static m4n_serve_options serve_options(const m4n_evaluation *e) {
  const m4n_scenario *s = e->o.scenario;
  return (m4n_serve_options){.policy = s->evaluate.policies,
                             .n_policies = s->evaluate.n_policies,
                             .set = s->evaluate.set,
                             .episodes = s->evaluate.episodes,
                             .seed = s->seed,
                             .slots = e->o.slots,
                             .delay_kind = s->evaluate.delay.kind,
                             .delay_ms = s->evaluate.delay.ms,
                             .fallback = s->bridge.fallback,
                             .decide_ms = s->bridge.decide_ms,
                             .events = e->folder.events,
                             .scenario = s->resolved,
                             .title = "episodes",
                             .models = &e->models.known,
                             .pool = e->pool};
}

static int open_serve(m4n_evaluation *e) {
  m4n_serve_options options = serve_options(e);
  return m4n_serve_open(&e->serve, &options);
}

static int check_policies(const m4n_evaluation *e) {
  m4n_serve_options options = serve_options(e);
  return e->o.simulator ? m4n_serve_check(&options, m4n_vec_spec(e->o.simulator->vec)) : M4N_OK;
}

// The folder comes after all that may be refused.
int m4n_evaluation_open(m4n_evaluation *e, const m4n_evaluation_options *options) {
  *e = (m4n_evaluation){.o = *options};
  const m4n_scenario *s = options->scenario;
  int status = m4n_pool_open(&e->pool, options->threads);
  if (!status)
    status =
        m4n_models_open(&e->models, s, options->folder ? options->folder->path : s->folder, options->device);
  if (!status) status = check_policies(e);
  if (!status) status = open_loop(e);
  if (!status && options->folder) e->folder = *options->folder;
  if (!status && !options->folder)
    status = m4n_run_folder_open(&e->folder, options->out, s, M4N_FOLDER_REPLACE);
  if (!status) status = open_serve(e);
  if (status) m4n_evaluation_close(e, status);
  return status;
}

int m4n_evaluation_serve(m4n_evaluation *e, const m4n_stop *stop) {
  m4n_server_owner owner = m4n_serve_owner(e->serve);
  e->start_ns = m4n_now_ns();
  return m4n_loop_run(&e->loop, &owner, stop);
}

static int write_report(m4n_evaluation *e, const m4n_serve_stats *stats) {
  double seconds = (double)(m4n_now_ns() - e->start_ns) * 1e-9;
  m4n_log(M4N_LOG_INFO, "%lld episodes, %lld decisions in %.2f s", (long long)stats->finished,
          (long long)stats->decisions, seconds);
  if (stats->late)
    m4n_log(M4N_LOG_WARN, "%lld decisions were late: the fallback made them", (long long)stats->late);
  const m4n_report_options options = {.plots = true,
                                      .table = e->o.json || e->o.silent ? NULL : stdout,
                                      .json = e->o.json && !e->o.silent ? stdout : NULL};
  const char *folders[] = {e->folder.path};
  M4N_TRY(m4n_report_write(e->folder.path, folders, 1, &options));
  m4n_log(M4N_LOG_INFO, "report: %s/report.html", e->folder.path);
  if (stats->given_up)
    return m4n_fail(M4N_EPROTO,
                    "%lld of %lld episodes were lost with their simulators: the report lacks them",
                    (long long)stats->given_up, (long long)stats->planned);
  return M4N_OK;
}

int m4n_evaluation_close(m4n_evaluation *e, int status) {
  m4n_error why = *m4n_last_error();
  m4n_serve_stats stats = {0};
  const char *kept = "are recorded";
  // A failure of our own (a full disk, a policy that cannot serve) is the cause of what peers then complain of.
  if (m4n_serve_close(e->serve, &stats)) {
    status = m4n_last_error()->status;
    why = *m4n_last_error();
    kept = "were played, and those that could be written are";
  }
  m4n_loop_close(&e->loop);
  if (!status) {
    status = write_report(e, &stats);
    if (status) why = *m4n_last_error();
  } else if (stats.finished) {
    m4n_log(M4N_LOG_WARN, "%lld of %lld episodes %s in %s (mamba4net report reads them)",
            (long long)stats.finished, (long long)stats.planned, kept, e->folder.path);
  }
  if (!e->o.folder) m4n_run_folder_close(&e->folder, stats.finished > 0);
  m4n_models_close(&e->models);
  if (e->pool) m4n_pool_close(e->pool);
  return status ? m4n_set_error(&why) : M4N_OK;
}
