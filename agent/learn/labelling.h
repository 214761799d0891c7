/* Labelling: a teacher's, an expert's or the oracle's answers to a pool, into a label file. What the label stage and the
 * on-policy rounds of distillation share.
 *
 *     m4n_labelling *labelling;
 *     M4N_TRY(m4n_labelling_open(&labelling, &workshop, &(m4n_labelling_options){.labeller = M4N_LABEL_TEACHER,
 *                                .teacher = "teacher.safetensors", .stride = 5}));
 *     M4N_TRY(m4n_labelling_run(labelling, pool, events, n_events, "labels.safetensors"));
 *     m4n_labelling_close(labelling);
 */
#ifndef M4N_LEARN_LABELLING_H
#define M4N_LEARN_LABELLING_H

#include "agent/learn/labels.h"
#include "agent/learn/workshop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_labelling_options {
  int labeller; /* enum m4n_labeller */
  const char *teacher, *expert;
  int batch;  /* windows of a pass; 0: 64 */
  int stride; /* 0: 1 */
} m4n_labelling_options;

typedef struct m4n_labelling m4n_labelling;

/* A teacher is read here and stays in memory. */
int m4n_labelling_open(m4n_labelling **labelling, const m4n_workshop *workshop,
                       const m4n_labelling_options *options);
void m4n_labelling_close(m4n_labelling *labelling); /* NULL is fine */

/* The teacher's, NULL where there is none. Its pools must be opened with its condition. */
const m4n_checkpoint *m4n_labelling_teacher(const m4n_labelling *labelling);

/* `events` are the logs that the pool was read from. What a teacher has labelled so far lies beside `out`: with `resume`
 * of the stage a killed run goes on there. EUNSUPPORTED where the expert wants advice; EARG where a log has none
 * for the oracle; ECANCELLED. */
int m4n_labelling_run(m4n_labelling *labelling, const m4n_trajectories *pool, const char *const *events,
                      int n_events, const char *out);

#ifdef __cplusplus
}
#endif
#endif
