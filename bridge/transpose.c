#include "bridge/transpose.h"

#include <float.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error                                                                                                       \
    "the wire is little-endian and this code copies: a big-endian machine needs a swap in gather and scatter"
#endif

enum { COUNT = 8 }; // bytes before the rows of a varying field: its count, padded (sim/spec.h)

static bool varies(const m4n_field *f) {
  return f->rank > 0 && f->shape[0] == -1;
}

// Elements in one row of a varying field.
static size_t width(const m4n_field *f) {
  return f->count / (uint32_t)f->max_rows;
}

static uint32_t count_at(const uint8_t *at) {
  uint32_t count;
  memcpy(&count, at, sizeof count);
  return count;
}

size_t m4n_wire_size(const m4n_field *f, const uint8_t *rows, size_t stride, int32_t n) {
  size_t element = m4n_dtype_size(f->dtype);
  if (!varies(f)) return (size_t)n * f->count * element;
  size_t total = 0;
  for (int32_t i = 0; i < n; i++) total += count_at(rows + (size_t)i * stride + f->offset);
  return (size_t)n * sizeof(uint32_t) + total * width(f) * element;
}

void m4n_gather_field(uint8_t *wire, const m4n_field *f, const uint8_t *rows, size_t stride, int32_t n) {
  const uint8_t *from = rows + f->offset;
  size_t element = m4n_dtype_size(f->dtype), size = f->count * element;
  if (varies(f)) {
    uint8_t *to = wire + (size_t)n * sizeof(uint32_t);
    for (int32_t i = 0; i < n; i++, from += stride) {
      size_t used = count_at(from) * width(f) * element;
      memcpy(wire + (size_t)i * sizeof(uint32_t), from, sizeof(uint32_t));
      memcpy(to, from + COUNT, used);
      to += used;
    }
  } else if (size == 8) { // scalars: a copy of constant size is one instruction
    for (int32_t i = 0; i < n; i++) memcpy(wire + (size_t)i * 8, from + (size_t)i * stride, 8);
  } else {
    for (int32_t i = 0; i < n; i++) memcpy(wire + (size_t)i * size, from + (size_t)i * stride, size);
  }
}

// Copies `count` elements and tells whether all lie in [low, high]; a NaN lies nowhere. No early exit, and a flag of
// the elements' own kind, so that compilers keep both in vectors: who is to blame is found afterwards.
#define COPY_CHECKED(suffix, type)                                                                           \
  static bool copy_##suffix(uint8_t *restrict out, const uint8_t *restrict in, size_t count, double low,     \
                            double high) {                                                                   \
    double bad = 0;                                                                                          \
    for (size_t i = 0; i < count; i++) {                                                                     \
      type x;                                                                                                \
      memcpy(&x, in + i * sizeof x, sizeof x);                                                               \
      bad = (double)x >= low ? bad : 1;                                                                      \
      bad = (double)x <= high ? bad : 1;                                                                     \
      memcpy(out + i * sizeof x, &x, sizeof x);                                                              \
    }                                                                                                        \
    return bad == 0;                                                                                         \
  }
COPY_CHECKED(f64, double)
COPY_CHECKED(f32, float)
COPY_CHECKED(i32, int32_t)
COPY_CHECKED(i64, int64_t)
COPY_CHECKED(u8, uint8_t)
COPY_CHECKED(u32, uint32_t)

static bool copy_checked(int dtype, uint8_t *out, const uint8_t *in, size_t count, double low, double high) {
  switch (dtype) {
  case M4N_F64:
    return copy_f64(out, in, count, low, high);
  case M4N_F32:
    return copy_f32(out, in, count, low, high);
  case M4N_I32:
    return copy_i32(out, in, count, low, high);
  case M4N_I64:
    return copy_i64(out, in, count, low, high);
  case M4N_U8:
    return copy_u8(out, in, count, low, high);
  default:
    return copy_u32(out, in, count, low, high);
  }
}

static double value_at(int dtype, const uint8_t *at) {
  union {
    double f64;
    float f32;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint32_t u32;
  } x;
  memcpy(&x, at, m4n_dtype_size(dtype));
  switch (dtype) {
  case M4N_F64:
    return x.f64;
  case M4N_F32:
    return x.f32;
  case M4N_I32:
    return x.i32;
  case M4N_I64:
    return (double)x.i64;
  case M4N_U8:
    return x.u8;
  default:
    return x.u32;
  }
}

// Infinite bounds become the largest numbers: then one comparison refuses what is out of range and what is infinite.
static double inner(double bound) {
  return bound < -DBL_MAX ? -DBL_MAX : bound > DBL_MAX ? DBL_MAX : bound;
}

// Finds the element that copy_checked refused.
static bool blame(m4n_misfit *misfit, const m4n_field *f, const uint8_t *in, int32_t row, size_t count) {
  size_t element = m4n_dtype_size(f->dtype);
  for (size_t i = 0; i < count; i++) {
    double x = value_at(f->dtype, in + i * element);
    if (x >= inner(f->low) && x <= inner(f->high)) continue;
    *misfit = (m4n_misfit){row, (int64_t)i, x};
    break;
  }
  return false;
}

static bool scatter_varying(uint8_t *to, size_t stride, const m4n_field *f, const uint8_t *wire, size_t size,
                            int32_t n, m4n_misfit *misfit) {
  size_t element = m4n_dtype_size(f->dtype), heads = (size_t)n * sizeof(uint32_t);
  *misfit = (m4n_misfit){.row = -1};
  if (size < heads) return false;
  const uint8_t *in = wire + heads, *end = wire + size;
  for (int32_t i = 0; i < n; i++, to += stride) {
    uint32_t rows = count_at(wire + (size_t)i * sizeof(uint32_t));
    if (rows > (uint32_t)f->max_rows) return *misfit = (m4n_misfit){i, -1, rows}, false;
    size_t count = rows * width(f), used = count * element;
    if (used > (size_t)(end - in)) return false;
    memset(to, 0, COUNT);
    memcpy(to, &rows, sizeof rows);
    if (!copy_checked(f->dtype, to + COUNT, in, count, inner(f->low), inner(f->high)))
      return blame(misfit, f, in, i, count);
    memset(to + COUNT + used, 0, f->count * element - used);
    in += used;
  }
  return in == end;
}

bool m4n_scatter_field(uint8_t *rows, size_t stride, const m4n_field *f, const uint8_t *wire, size_t size,
                       int32_t n, m4n_misfit *misfit) {
  uint8_t *to = rows + f->offset;
  if (varies(f)) return scatter_varying(to, stride, f, wire, size, n, misfit);
  size_t bytes = f->count * m4n_dtype_size(f->dtype);
  double low = inner(f->low), high = inner(f->high);
  for (int32_t i = 0; i < n; i++, to += stride, wire += bytes)
    if (!copy_checked(f->dtype, to, wire, f->count, low, high)) return blame(misfit, f, wire, i, f->count);
  return true;
}
