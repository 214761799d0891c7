/* Throughput traces: what a network could carry over time, read from the formats that the field shares.
 *
 * All readers give one form, that of Pensieve's "cooked" files: row i's rate holds from the time of row i-1
 * to the time of row i, and row 0 only says where the trace begins. Times rise strictly after reading (rows
 * of length 0 are dropped). Cooked numbers are the file's own doubles; what the other formats become is in
 * traces/README.md.
 *
 *     m4n_traces set;
 *     M4N_TRY(m4n_traces_open(&set, "traces/fcc/test", M4N_TRACE_AUTO));
 *     for (int i = 0; i < set.count; i++) use(&set.trace[i]);
 *     m4n_traces_close(&set);
 */
#ifndef M4N_TRACES_THROUGHPUT_H
#define M4N_TRACES_THROUGHPUT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_trace_format {
  M4N_TRACE_AUTO, /* by content */
  M4N_TRACE_COOKED,
  M4N_TRACE_MAHIMAHI,
  M4N_TRACE_SABRE,
  M4N_TRACE_NYU,
  M4N_TRACE_OBOE,
  M4N_TRACE_UCC
};

enum { M4N_TRACE_MAX_ROWS = 4 << 20, M4N_TRACE_MAX_BYTES = 256 << 20, M4N_TRACE_MAX_FILES = 1 << 20 };

typedef struct m4n_trace {
  const char *name;   /* the file's name */
  int32_t rows;       /* at least 2 */
  int32_t format;     /* the one it was read from */
  const double *time; /* [rows] s, rising strictly */
  const double
      *mbps;     /* [rows] Mbit/s, finite, not negative, not all 0; mbps[0] is not used by the simulator */
  double rtt_ms; /* mean round trip that the file states; -1 where it states none */
} m4n_trace;

typedef struct m4n_traces {
  m4n_trace *trace; /* in byte order of the names */
  int count;
  m4n_arena memory;
} m4n_traces;

/* A file, or every regular file of a folder that is not hidden, is no README… and no index.tsv. EFORMAT names
 * file, line, key and what was expected: missing columns, NaN, negative or falling times, length 0, only zero
 * bandwidth, a mean below 1 kbit/s or rows below 1 ms. An empty folder is ENOTFOUND. Nothing is kept of a set
 * that fails. */
int m4n_traces_open(m4n_traces *set, const char *path, int format);
void m4n_traces_close(m4n_traces *set);

/* One trace out of bytes: what the fuzzer calls. `name` is for messages; memory comes from `arena`. */
int m4n_trace_parse(m4n_trace *trace, m4n_arena *arena, const char *name, const void *data, size_t size,
                    int format);

/* "auto", "cooked", "mahimahi", "sabre", "nyu", "oboe", "ucc"; -1 / NULL where there is none. */
int m4n_trace_format_of(const char *name);
const char *m4n_trace_format_name(int format);

/* Writes a file, whole or not at all. Cooked reads back to the same doubles; Mahimahi holds every second to
 * within a packet and needs a line for each; Sabre states the trace's round trip, or 80 ms. EUNSUPPORTED for
 * other formats and for rates that Mahimahi would need too large a file for. */
int m4n_trace_write(const m4n_trace *trace, const char *path, int format);

#ifdef __cplusplus
}
#endif
#endif
