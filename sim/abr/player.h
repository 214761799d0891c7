/* The client of the published chunk-level streaming environment (Pensieve, NetLLM; algorithms.md §8.1): what happens to trace cursor
 * and buffer while chunks are fetched. Shared by the environment's step and by the offline optimum, which plays real states.
 *
 * Everything is float64 in the published order of operations: results are compared bit for bit with the original program, so no
 * expression here may be "simplified". */
#ifndef M4N_SIM_ABR_PLAYER_H
#define M4N_SIM_ABR_PLAYER_H

#include <math.h>
#include <stdint.h>

/* Row i of a trace: its rate holds from the time of row i-1 to its own. `span` and `bytes` are those of the whole row. */
typedef struct abr_row {
  double time;  /* s, the row's end */
  double rate;  /* bytes/s = Mbit/s · 1000000 / 8 */
  double span;  /* s = time[i] − time[i−1] */
  double bytes; /* payload = rate · span · 0.95 */
} abr_row;

/* Where a client is in its trace: inside row p ≥ 1, at `cursor` seconds. */
typedef struct abr_cursor {
  double cursor;
  int32_t p, rows;
} abr_cursor;

/* Behind the last row the pointer becomes 1 and the cursor 0, even where the trace starts later. */
static inline void abr_next_row(const abr_row *row, abr_cursor *at) {
  at->cursor = row[at->p].time;
  if (++at->p >= at->rows) at->p = 1, at->cursor = 0;
}

/* Fetches `bytes`; returns the seconds it takes without round trip.
 *   while sent + rate·D·0.95 ≤ bytes: take the rest of the row;   then f = (bytes − sent) / rate / 0.95 */
static inline double abr_fetch(const abr_row *row, double payload, double bytes, abr_cursor *at) {
  double seconds = 0, sent = 0;
  double span = row[at->p].time - at->cursor, room = row[at->p].rate * span * payload;
  while (!(sent + room > bytes)) {
    sent += room;
    seconds += span;
    abr_next_row(row, at);
    if (at->p > 1) {
      span = row[at->p].span, room = row[at->p].bytes;
    } else { // after the wrap row 1 lasts from 0
      span = row[1].time - at->cursor, room = row[1].rate * span * payload;
    }
  }
  double rest = (bytes - sent) / row[at->p].rate / payload;
  at->cursor += rest;
  return seconds + rest;
}

/* Lets `ms` milliseconds pass without fetching; returns what was left of them when the last row was entered (the published log's figure). */
static inline double abr_pass(const abr_row *row, double ms, abr_cursor *at) {
  for (;;) {
    double span = row[at->p].time - at->cursor;
    if (span > ms / 1000) break;
    ms -= span * 1000;
    abr_next_row(row, at);
  }
  at->cursor += ms / 1000;
  return ms;
}

/* What one chunk did to the client. */
typedef struct abr_chunk {
  double fetch_s;    /* download without round trip */
  double delay_ms;   /* download with round trip (and noise) */
  double rebuffer_s; /* stall */
  double sleep_ms;   /* waited since the buffer was full */
  double sleep_left; /* of sleep_ms, when the last row was entered */
} abr_chunk;

typedef struct abr_client {
  double payload, rtt_ms, chunk_ms, cap_ms, drain_ms;
} abr_client;

/* Fetches one chunk: delay, stall, buffer (ms), and sleep above the cap. `noise` multiplies the delay, `scale` the trace's rates:
 * a link of twice the rate carries the chunk like one of half the bytes (and bytes / 1 are the bytes, bit for bit). */
static inline abr_chunk abr_play(const abr_row *row, const abr_client *c, double bytes, double noise,
                                 double scale, abr_cursor *at, double *buffer_ms) {
  abr_chunk out;
  out.fetch_s = abr_fetch(row, c->payload, bytes / scale, at);
  out.sleep_ms = out.sleep_left = 0;
  double delay = out.fetch_s * 1000 + c->rtt_ms;
  if (noise != 1) delay *= noise;
  double b = *buffer_ms, stall = delay - b, kept = b - delay;
  out.delay_ms = delay;
  out.rebuffer_s = (stall > 0 ? stall : 0) / 1000;
  b = (kept > 0 ? kept : 0) + c->chunk_ms;
  if (b > c->cap_ms) {
    out.sleep_ms = ceil((b - c->cap_ms) / c->drain_ms) * c->drain_ms;
    b -= out.sleep_ms;
    out.sleep_left = abr_pass(row, out.sleep_ms, at);
  }
  *buffer_ms = b;
  return out;
}

#endif
