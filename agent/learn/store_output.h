/* Records on their way into a file: compressed, hashed, gathered, written; whole again after a failure. Of the
 * event log's writing side. */
#ifndef M4N_LEARN_STORE_OUTPUT_H
#define M4N_LEARN_STORE_OUTPUT_H

#include <sys/types.h>

#include "agent/learn/store_format.h"

typedef struct m4n_output {
  const char *path; /* the owner's */
  int fd;
  off_t whole;       /* length of the file, which always ends with a whole record */
  m4n_bytes content; /* of the next record: the owner fills it */
  m4n_bytes waiting; /* records that are not written yet */
  struct ZSTD_CCtx_s *zstd;
} m4n_output;

int m4n_output_init(m4n_output *output, const char *path); /* no file yet */
int m4n_output_open(m4n_output *output);                   /* replaces what is at the path */
/* Makes a record of the content and lets it wait; more than a quarter of a megabyte is written. */
int m4n_output_add(m4n_output *output, uint32_t kind);
/* EIO: what could be written ends with a whole record, the rest is lost. */
int m4n_output_flush(m4n_output *output);
int m4n_output_close(
    m4n_output *output); /* only now do some network file systems say that they are full: EIO */
void m4n_output_free(m4n_output *output);

#endif
