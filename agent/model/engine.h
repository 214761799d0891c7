/* Deciding: a model that answers for many lanes at once and remembers each lane's past.
 *
 *     m4n_engine *engine;
 *     M4N_TRY(m4n_engine_open(&engine, stream, &(m4n_engine_options){.config = config, .context = M4N_CONTEXT_STREAM,
 *                                                                    .slots = 64, .batch = 64}));
 *     M4N_TRY(m4n_net_load(m4n_engine_net(engine), "student.safetensors"));
 *     m4n_engine_begin(engine, slot);                                   // an episode starts in a slot
 *     for each decision:
 *       M4N_TRY(m4n_engine_decide(engine, n, slots, rows, logits));     // rows [n][features], logits [n][levels]
 *       m4n_engine_acted(engine, slot, level);                          // for each of them: what was done
 *
 * What of the past a decision sees (algorithms.md §5.5):
 *   window  the last config.abr.window steps are run again, from a blank state: exactly what training saw, the price is
 *           8 tokens a step of them
 *   stream  state is carried on and 8 tokens are fed: Mamba's reaches back to the episode's start, attention's window
 *           over the last 8·window tokens
 *   reset   stream, but blank again after every `window` steps
 *
 * Nothing is allocated in begin, decide and acted. Answers do not depend on what else is in a batch.
 */
#ifndef M4N_MODEL_ENGINE_H
#define M4N_MODEL_ENGINE_H

#include "agent/model/net.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_context { M4N_CONTEXT_WINDOW, M4N_CONTEXT_STREAM, M4N_CONTEXT_RESET };

typedef struct m4n_engine_options {
  m4n_config config; /* with a task */
  int context;       /* enum m4n_context */
  int slots;         /* lanes that may be live at once */
  int batch;         /* lanes of a pass; more are answered in several */
  int format;        /* enum m4n_weight_format of the backbone */
} m4n_engine_options;

typedef struct m4n_engine m4n_engine;

/* ENOMEM, EDEVICE, EARG. The net's parameters are to be filled before the first decision. */
int m4n_engine_open(m4n_engine **engine, m4n_stream *stream, const m4n_engine_options *options);
void m4n_engine_close(m4n_engine *engine); /* NULL is fine */
m4n_net *m4n_engine_net(m4n_engine *engine);

void m4n_engine_begin(m4n_engine *engine, int slot);
/* n rows of different slots; a row's action column is not read. EDEVICE. */
int m4n_engine_decide(m4n_engine *engine, int n, const int32_t *slot, const m4n_real *rows, m4n_real *logits);
void m4n_engine_acted(m4n_engine *engine, int slot, int level);

/* "window", "stream", "reset"; −1 for another name. */
int m4n_context_of(const char *name);

#ifdef __cplusplus
}
#endif
#endif
