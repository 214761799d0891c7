/* Rows of a trace under construction: what the readers of the single formats share. Only for traces/throughput.
 *
 * A reader knows its format's units; here it is checked that times rise, that rates are possible, and rows of
 * length 0 are dropped. All functions return a status with file, line and key.
 */
#ifndef M4N_TRACES_THROUGHPUT_ROWS_H
#define M4N_TRACES_THROUGHPUT_ROWS_H

#include "kernels/base/text.h"
#include "traces/throughput/throughput.h"

typedef struct m4n_rows {
  const char *file;    /* for messages */
  double *time, *mbps; /* in the arena */
  int32_t count, room;
  double rtt_ms; /* -1 until a reader says otherwise */
} m4n_rows;

/* Makes room for at most `room` rows; EFORMAT beyond M4N_TRACE_MAX_ROWS. */
int m4n_rows_reserve(m4n_rows *rows, m4n_arena *arena, size_t room);

/* Appends a row that ends at `time` s; a row that ends where the last one did is dropped. */
int m4n_rows_add(m4n_rows *rows, long line, double time, double mbps);

/* A finite number of at least 0. `key` is the column, `expected` what it holds ("seconds"). */
int m4n_rows_number(const m4n_rows *rows, long line, const char *key, const char *expected, m4n_span text,
                    double *value);

/* Lines with something in them; and how many lines there can be at most (for m4n_rows_reserve). */
bool m4n_rows_line(m4n_lines *lines, m4n_span *line);
size_t m4n_rows_lines(const void *data, size_t size);

/* One reader a format: fills rows that are zeroed but for `file`. */
typedef int m4n_trace_reader(m4n_rows *rows, m4n_arena *arena, const void *data, size_t size);
m4n_trace_reader m4n_trace_read_cooked, m4n_trace_read_mahimahi, m4n_trace_read_sabre, m4n_trace_read_nyu,
    m4n_trace_read_oboe, m4n_trace_read_ucc;

#endif
