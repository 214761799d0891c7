/* What all stages need to work: a device, a folder, and a text of what their result depends on. */
#ifndef M4N_LEARN_WORKSHOP_H
#define M4N_LEARN_WORKSHOP_H

#include <stdio.h>

#include "agent/learn/stages.h"
#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_workshop {
  const m4n_stage *stage;
  m4n_backend *backend;
  m4n_stream *stream;
} m4n_workshop;

/* Opens the device and makes the folder. */
int m4n_workshop_open(m4n_workshop *workshop, const m4n_stage *stage);
void m4n_workshop_close(m4n_workshop *workshop); /* harmless on a zeroed one */

/* True if the stage is to be resumed and its output is there. */
bool m4n_stage_done(const m4n_stage *stage, const char *out);

/* Lines "key=value" of all that a result depends on (m4n_identity_check compares two).
 *
 *     m4n_identity id;
 *     m4n_identity_open(&id);
 *     if (id.stream) fprintf(id.stream, "seed=%llu\n", …);
 *     M4N_TRY(m4n_identity_done(&id));            // now id.text is whole
 *     m4n_identity_close(&id);
 */
typedef struct m4n_identity {
  FILE *stream;
  char *text;
  size_t size;
} m4n_identity;
int m4n_identity_open(m4n_identity *identity);
void m4n_identity_fit(m4n_identity *identity, const m4n_fit *fit);
int m4n_identity_done(m4n_identity *identity);
void m4n_identity_close(m4n_identity *identity);

#ifdef __cplusplus
}
#endif
#endif
