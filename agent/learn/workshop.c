#include "agent/learn/workshop.h"

#include <inttypes.h>
#include <stdlib.h>

#include "kernels/base/file.h"
#include "kernels/base/status.h"

int m4n_workshop_open(m4n_workshop *w, const m4n_stage *stage) {
  *w = (m4n_workshop){.stage = stage};
  int status = m4n_mkdirs(stage->work);
  if (!status) status = m4n_backend_open(&w->backend, stage->device, stage->pool);
  if (!status) status = m4n_stream_open(&w->stream, w->backend);
  if (status) m4n_workshop_close(w);
  return status;
}

void m4n_workshop_close(m4n_workshop *w) {
  m4n_stream_close(w->stream);
  m4n_backend_close(w->backend);
  *w = (m4n_workshop){0};
}

bool m4n_stage_done(const m4n_stage *stage, const char *out) {
  return stage->resume && m4n_exists(out);
}

int m4n_identity_open(m4n_identity *id) {
  *id = (m4n_identity){0};
  id->stream = open_memstream(&id->text, &id->size);
  return id->stream ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory for a description");
}

void m4n_identity_fit(m4n_identity *id, const m4n_fit *f) {
  fprintf(id->stream,
          "steps=%" PRId64
          "\nbatch=%d\nlr=%.17g\nschedule=%d\nwarmup=%.17g\nfloor=%.17g\nbeta1=%.17g\nbeta2=%.17g\n"
          "decay=%.17g\nclip=%.17g\nfresh=%.17g\nema=%.17g\nlog_every=%" PRId64 "\nvalid_every=%" PRId64
          "\nvalid_episodes=%" PRId64 "\npatience=%d\n",
          f->steps, f->batch, f->lr, f->schedule, f->warmup, f->floor, f->beta1, f->beta2, f->decay, f->clip,
          f->fresh, f->ema, f->log_every, f->valid_every, f->valid_episodes, f->patience);
}

int m4n_identity_done(m4n_identity *id) {
  const bool failed = fflush(id->stream) || ferror(id->stream);
  return failed ? m4n_fail(M4N_ENOMEM, "no memory for a description") : M4N_OK;
}

void m4n_identity_close(m4n_identity *id) {
  if (id->stream) fclose(id->stream);
  free(id->text);
  *id = (m4n_identity){0};
}
