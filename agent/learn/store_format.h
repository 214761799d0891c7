/* The format of events.bin, in one place. Seen by the writer and the reader alone.
 *
 * All numbers are little-endian; `text` is a u32 length and as many bytes, none of them zero.
 *
 *     file     record of kind HEADER, records of kind EPISODE, record of kind END
 *     record   char[4] "M4E1"; u32 kind; u64 bytes of content; u64 bytes of frame; u64 XXH3-64 of the content;
 *              u64 XXH3-64 of the 32 bytes before; then the frame: the content, compressed by zstd
 *
 *     HEADER   u64 seed; text scenario; u32 policies, two texts each (name, about); the spec:
 *              text task; text reward; u32 capabilities;
 *              u32 n, observation fields; u32 n, action components; u32 n, info; u32 n, metrics; u32 n, constants
 *     field    text name; text unit; u32 dtype; u32 rank; i32 shape[rank]; i32 max_rows; f64 low; f64 high; text mask
 *     figure   text name; text unit; i32 better
 *     constant text name; u32 n; f64[n]
 *
 *     EPISODE  i32 policy; i32 set; i64 episode; u64 seed; u32 flags; u32 steps T; u32 bytes of label; u32 extras;
 *              the label, zeros up to a multiple of 8; f64 metrics[n_metrics];
 *              the decisions as columns of T words: delay_ns, served_by, reward, info…, words of the action row, with
 *              the extra ADVICE words of another action row, all bits set where there is no advice;
 *              the moments as columns of T+1 words: sim_time_ns, words of the observation row's fixed part;
 *              for each varying field the rows of all moments back to back, zeros up to a multiple of 8
 *     END      u64 episodes written
 *
 * A row's fixed part is the row without the room of varying fields, of which the count (one word) stays. Why
 * columns of words: a history that slides by one entry a step turns into columns that repeat each other, which
 * zstd copies whole. README.md has the measurements.
 */
#ifndef M4N_LEARN_STORE_FORMAT_H
#define M4N_LEARN_STORE_FORMAT_H

#include "agent/learn/store.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "events.bin is little-endian and this code copies its numbers as they are"
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum m4n_record_kind { M4N_RECORD_HEADER = 1, M4N_RECORD_EPISODE = 2, M4N_RECORD_END = 3 };

enum m4n_record_extra { M4N_EXTRA_ADVICE = 1 };

enum {
  M4N_RECORD_HEAD = 40,      /* bytes in front of a frame */
  M4N_EPISODE_HEAD = 40,     /* bytes in front of a label */
  M4N_DECISION_WORDS = 3,    /* delay, served_by, reward; then info and action */
  M4N_MAX_HEADER = 32 << 20, /* bytes of a header's content */
  M4N_MAX_EXPANSION = 32768  /* zstd's most: a block of 128 KiB out of 4 bytes */
};

/* ---- bytes that grow */
typedef struct m4n_bytes {
  uint8_t *data;
  size_t size, room;
} m4n_bytes;

bool m4n_bytes_reserve(m4n_bytes *bytes, size_t more); /* false: no memory; nothing has changed then */
void m4n_bytes_free(m4n_bytes *bytes);

/* ---- the record's head */
typedef struct m4n_record {
  uint32_t kind;
  uint64_t content, frame, hash;
} m4n_record;

void m4n_record_put(uint8_t out[M4N_RECORD_HEAD], const m4n_record *record);
/* NULL, or what is wrong with it. */
const char *m4n_record_get(m4n_record *record, const uint8_t in[M4N_RECORD_HEAD]);

/* ---- the header's content */
int m4n_header_put(m4n_bytes *out, const m4n_events_header *header); /* ENOMEM */
/* Strings and the list of names are in one block of memory, *strings, which the caller frees. */
int m4n_header_get(m4n_events_header *header, char **strings, const uint8_t *content, size_t size);

/* ---- rows: which bytes every row has, and which fields vary */
typedef struct m4n_row_plan {
  size_t words; /* of the fixed part */
  int n_spans, n_varying;
  struct {
    uint32_t offset, bytes; /* bytes that are copied; zeros follow up to a multiple of 8 */
  } span[M4N_MAX_FIELDS];
  struct {
    uint32_t offset;        /* of the count; the rows follow 8 bytes later */
    uint32_t row, max_rows; /* bytes of one row */
    uint32_t word;          /* where the count is in the fixed part */
  } varying[M4N_MAX_FIELDS];
} m4n_row_plan;

m4n_row_plan m4n_row_plan_of(const m4n_spec *spec);
void m4n_row_pack(const m4n_row_plan *plan, uint64_t *fixed, const uint8_t *row);

/* [rows][words] to [words][rows]; with the sizes exchanged, back again. */
void m4n_columns(uint64_t *out, const uint64_t *in, size_t rows, size_t words); /* not in place */

static inline size_t m4n_round8(size_t n) {
  return (n + 7) / 8 * 8;
}

#ifdef __cplusplus
}
#endif

#endif
