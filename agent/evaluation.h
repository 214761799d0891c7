/* An evaluation as a whole: the scenario's policies in the loop with a simulator, the run's folder, and the report at the
 * end. What `run`, `serve` and the last stage of `train` share; they differ in where the simulator is.
 *
 *     m4n_evaluation evaluation;
 *     M4N_TRY(m4n_evaluation_open(&evaluation, &options));           // the address is bound: simulators may come
 *     int status = m4n_evaluation_serve(&evaluation, &m4n_interrupted);
 *     status = m4n_evaluation_close(&evaluation, status);            // tables, plots
 */
#ifndef M4N_AGENT_EVALUATION_H
#define M4N_AGENT_EVALUATION_H

#include "agent/loop.h"
#include "agent/models.h"
#include "agent/run_folder.h"
#include "agent/scenario.h"
#include "agent/serve.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_evaluation_options {
  const m4n_scenario *scenario;
  const char *endpoint; /* resolved */
  int slots;            /* lanes of all simulators together */
  int wait_ms;          /* with no simulator for so long: ETIMEOUT; 0: for ever */
  const char *out;      /* NULL: under runs/ */
  int threads;          /* 0: one a processor */
  bool json;            /* summary.json on standard output in place of the table */
  bool silent;          /* nothing on standard output */
  const char *device;   /* where models run: "cpu", "cuda", "auto" */
  /* A training's folder, open, whose models play; it is written into and stays the caller's. NULL: `out` is opened, and
   * models lie beside the scenario. */
  const m4n_run_folder *folder;
  m4n_simulator
      *simulator; /* plays here, and what does not fit it is refused at once; NULL: whoever connects */
} m4n_evaluation_options;

typedef struct m4n_evaluation {
  m4n_evaluation_options o;
  m4n_pool *pool;
  m4n_loop loop;
  m4n_serve *serve;
  m4n_models models;
  m4n_run_folder folder;
  int64_t start_ns;
} m4n_evaluation;

int m4n_evaluation_open(m4n_evaluation *evaluation, const m4n_evaluation_options *options);
/* Until every policy played every episode (0), or as m4n_server_run. */
int m4n_evaluation_serve(m4n_evaluation *evaluation, const m4n_stop *stop);
/* `status`: how serving ended. After 0 the report is written and the table shown. After anything else what was
 * recorded stays (`mamba4net report` reads it), or nothing if no episode was finished. Returns `status` or what went
 * wrong here, with the record of the graver failure. */
int m4n_evaluation_close(m4n_evaluation *evaluation, int status);

#ifdef __cplusplus
}
#endif
#endif
