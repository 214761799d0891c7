/* From a row of the ABR task (sim/spec.h) to a row of features (agent/model/abr.h): the one place where the names of a
 * spec meet the columns of an encoder. Learner and model policies read rows through it, so they see the same.
 *
 *     m4n_abr_rows rows;
 *     M4N_TRY(m4n_abr_rows_open(&rows, spec, &config.abr));
 *     m4n_abr_rows_fill(&rows, features, obs);                      // the state's columns; return and action are yours
 */
#ifndef M4N_LEARN_ABR_ROWS_H
#define M4N_LEARN_ABR_ROWS_H

#include "agent/model/abr.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_abr_rows {
  m4n_abr_shape shape;
  uint32_t throughput, download_time, buffer, last_level, next_sizes, chunks_left; /* offsets in a row */
  int history;                        /* what the row has of it */
  double bitrate[M4N_ABR_MAX_LEVELS]; /* kbit/s */
} m4n_abr_rows;

/* Gives a preset's shape the levels and the episode's length of the spec. EUNSUPPORTED where it is no ABR task. */
int m4n_abr_rows_shape(m4n_abr_shape *shape, const m4n_spec *spec);

/* EUNSUPPORTED names what the shape needs and the spec has not: other levels, a shorter history or look-ahead. */
int m4n_abr_rows_open(m4n_abr_rows *rows, const m4n_spec *spec, const m4n_abr_shape *shape);
void m4n_abr_rows_fill(const m4n_abr_rows *rows, m4n_real *features, const uint8_t *obs);

#ifdef __cplusplus
}
#endif
#endif
