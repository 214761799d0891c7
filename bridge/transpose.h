/* Between rows (a lane's fields behind one another) and wire fields (a field's elements of all lanes together).
 *
 * Rows lie `stride` bytes apart; a field's place in its row is field->offset. A field whose first dimension varies
 * goes over the wire as its counts, u32[n], and then the rows that there are, back to back.
 */
#ifndef M4N_BRIDGE_TRANSPOSE_H
#define M4N_BRIDGE_TRANSPOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes on the wire of a field of n rows; of a varying one as the rows in memory say. */
size_t m4n_wire_size(const m4n_field *field, const uint8_t *rows, size_t stride, int32_t n);
/* Rows to wire: m4n_wire_size bytes are written. */
void m4n_gather_field(uint8_t *wire, const m4n_field *field, const uint8_t *rows, size_t stride, int32_t n);

/* Where a check failed. */
typedef struct m4n_misfit {
  int32_t row;
  int64_t element; /* -1: the count */
  double value;
} m4n_misfit;

/* Wire to rows, every element checked: false, and `*misfit` set, for one that is not finite or lies outside
 * [low, high]. `size` has been checked for a field of fixed shape; a varying one's is checked here (misfit->row -1: the
 * bin's length does not fit its counts). What a row has room for and does not use becomes zero. */
bool m4n_scatter_field(uint8_t *rows, size_t stride, const m4n_field *field, const uint8_t *wire, size_t size,
                       int32_t n, m4n_misfit *misfit);

#ifdef __cplusplus
}
#endif
#endif
