/* The ABR task's encoder and head (algorithms.md §4.2), for any width, any number of levels, history and look-ahead.
 *
 * A step of an episode is eight tokens: return-to-go, six of the state (last bitrate, buffer, throughput, download
 * time, next sizes, chunks left), the action taken. All get the step's row of a table added, then a LayerNorm. The
 * answer to a step is read where its last state token is.
 *
 * A step's numbers come as one row of features, made on the host:
 *
 *     m4n_real row[…];                                                  // m4n_abr_features(&shape)
 *     m4n_abr_fill(&shape, row, &(m4n_abr_state){…});                   // scales and cuts what the simulator says
 *     row[M4N_ABR_RETURN] = g;  row[M4N_ABR_ACTION] = m4n_abr_action(&shape, level);
 */
#ifndef M4N_MODEL_ABR_H
#define M4N_MODEL_ABR_H

#include "agent/model/block.h"
#include "agent/model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { M4N_ABR_TOKENS = 8, M4N_ABR_ANSWER = 6 };        /* tokens of a step, and the one that is read */
enum { M4N_ABR_RETURN, M4N_ABR_ACTION, M4N_ABR_STATE }; /* columns of a row; the state's begin at the last */

/* Columns of a row of features. */
int m4n_abr_features(const m4n_abr_shape *shape);

/* What a client knows when it asks for a chunk, in physical units. */
typedef struct m4n_abr_state {
  const double *throughput, *download_time; /* [history_given], MB/s and s, oldest first */
  int history_given;                        /* at least the shape's history: its last entries are taken */
  const double *next_sizes;                 /* [lookahead][levels] bytes */
  double last_bitrate, top_bitrate;         /* of the last chunk, of the ladder's top: any one unit */
  double buffer;                            /* s */
  double chunks_left;
} m4n_abr_state;

/* Writes the state's columns of `row`, scaled as published: bitrate/top, buffer/10 s, MB/s, download time/10 s, MB,
 * min(chunks left, 48)/48. */
void m4n_abr_fill(const m4n_abr_shape *shape, m4n_real *row, const m4n_abr_state *state);

/* The action column: (level + 1)/levels. */
static inline m4n_real m4n_abr_action(const m4n_abr_shape *shape, int level) {
  return (m4n_real)(level + 1) / (m4n_real)shape->levels;
}
/* The row of the step table for a step of an episode, from 0. */
static inline int32_t m4n_abr_step_row(const m4n_abr_shape *shape, int step) {
  return step < shape->max_steps ? step : shape->max_steps;
}

typedef struct m4n_abr m4n_abr;

/* Declares encoder.* and head.* for a stream of width d; at most `steps` steps a pass. */
int m4n_abr_declare(m4n_abr **abr, m4n_builder *at, const m4n_abr_shape *shape, int d, int steps);
size_t m4n_abr_bytes(const m4n_abr *abr, bool train);
int m4n_abr_plan(m4n_abr *abr, bool train); /* ENOMEM, EDEVICE */
void m4n_abr_release(m4n_abr *abr);         /* NULL is fine */

/* tokens [steps·8][d] from rows [steps][features] and table rows index[steps·8] (< 0: nothing is added), all on the
 * backend. `action_first`: the eight are (action of the step before, return, state), as a stream of decisions feeds them;
 * else (return, state, action). */
void m4n_abr_encode(const m4n_abr *abr, const m4n_pass *pass, m4n_real *tokens, const m4n_real *rows,
                    const int32_t *index, int steps, bool action_first);
/* From the gradient of the tokens, of the last encode (not action_first). */
void m4n_abr_encode_backward(const m4n_abr *abr, const m4n_pass *pass, const m4n_real *d_tokens,
                             const m4n_real *rows, const int32_t *index, int steps);

/* logits [steps][levels] of the answers, which lie 8·d apart from `hidden` + 6·d on. */
void m4n_abr_head(const m4n_abr *abr, const m4n_pass *pass, m4n_real *logits, const m4n_real *hidden,
                  int steps);
/* Writes the gradient of hidden [steps·8][d]: 0 but at the answers. */
void m4n_abr_head_backward(const m4n_abr *abr, const m4n_pass *pass, m4n_real *d_hidden,
                           const m4n_real *d_logits, const m4n_real *hidden, int steps);

#ifdef __cplusplus
}
#endif
#endif
