/* What the expert sees of an ABR row: all of it, brought near the range −1 … 1 by the simulator's own constants (ladder, chunk seconds),
 * so that one expert's features mean the same under another ladder.
 *
 *     m4n_features features;
 *     M4N_TRY(m4n_features_open(&features, spec));            // EUNSUPPORTED names the field or constant that is missing
 *     m4n_features_fill(&features, x, row);                   // x[features.n]
 */
#ifndef M4N_LEARN_FEATURES_H
#define M4N_LEARN_FEATURES_H

#include "kernels/ops.h"
#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_features {
  int n; /* features of a row */
  int levels, history, lookahead;
  uint32_t throughput, download, buffer, last_level, chunks_left, next_sizes; /* offsets in a row */
  double top_mbps, chunk_s, chunks;
} m4n_features;

int m4n_features_open(m4n_features *features, const m4n_spec *spec);
void m4n_features_fill(const m4n_features *features, m4n_real *x, const uint8_t *row);

/* As JSON for a checkpoint, freed by the caller; and whether a checkpoint's were the same (EUNSUPPORTED says what differs). */
char *m4n_features_text(const m4n_features *features);
int m4n_features_match(const m4n_features *features, const char *text, const char *path);

#ifdef __cplusplus
}
#endif
#endif
