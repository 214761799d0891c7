/* Products on the matrix tiles of x86-64 (AMX): a tile is 16 rows of 64 bytes, and c += a·b for a of 16 rows of x and b of
 * 16 columns of a panel, 32 bf16 or 64 int8 deep, is one instruction. Compiled once, asked for at start. */
#include "kernels/cpu/packed.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WITH_TILES __attribute__((target("amx-tile,amx-bf16,amx-int8")))

enum {
  ROW = 64,
  ROWS = 16,
  PANEL_ROW = 2 * ROW,
  STEP = ROWS * PANEL_ROW,
  FAR = 2 * STEP
}; /* bytes; tiles side by side */

/* What LDTILECFG reads: all eight tiles are of 16 rows of 64 bytes. */
typedef struct tile_shapes {
  uint8_t palette, start, reserved[14];
  uint16_t row[16];
  uint8_t rows[16];
} tile_shapes;

WITH_TILES static void begin(void) {
  static const tile_shapes shapes = {.palette = 1,
                                     .row = {ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW},
                                     .rows = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS}};
  _tile_loadconfig(&shapes);
}
WITH_TILES static void end(void) {
  _tile_release();
}

/* A core that waits for its loads reads memory at a third of what it can. */
static inline void fetch(const char *w) {
  for (int line = 0; line < STEP; line += ROW) __builtin_prefetch(w + FAR + line, 0, 2);
}

/* Tiles 0 … 3: sums of two times 16 rows and two times 16 columns; 4, 5: rows of x; 6, 7: columns of the panel. */
#define BEGIN(tile, c)                                                                                       \
  if (x->from)                                                                                               \
    _tile_loadd(tile, c, c_row);                                                                             \
  else                                                                                                       \
    _tile_zero(tile);
#define PRODUCT(name, multiply)                                                                              \
  WITH_TILES static void name(void *c, size_t c_row, const m4n_tiled_rows *x, const char *panel) {           \
    const char *upper = x->x, *lower = upper + ROWS * x->row, *w = panel + x->from / ROW * STEP;             \
    char *left = c, *right = left + ROW, *left_below = left + ROWS * c_row, *right_below = left_below + ROW; \
    if (x->rows <= ROWS) {                                                                                   \
      BEGIN(0, left)                                                                                         \
      BEGIN(1, right)                                                                                        \
      for (size_t k = x->from; k < x->to; k += ROW, w += STEP) {                                             \
        fetch(w);                                                                                            \
        _tile_loadd(4, upper + k * ROWS, ROW);                                                               \
        _tile_loadd(6, w, PANEL_ROW);                                                                        \
        _tile_loadd(7, w + ROW, PANEL_ROW);                                                                  \
        multiply(0, 4, 6);                                                                                   \
        multiply(1, 4, 7);                                                                                   \
      }                                                                                                      \
    } else {                                                                                                 \
      BEGIN(0, left)                                                                                         \
      BEGIN(1, right)                                                                                        \
      BEGIN(2, left_below)                                                                                   \
      BEGIN(3, right_below)                                                                                  \
      for (size_t k = x->from; k < x->to; k += ROW, w += STEP) {                                             \
        _tile_loadd(4, upper + k * ROWS, ROW);                                                               \
        _tile_loadd(6, w, PANEL_ROW);                                                                        \
        _tile_loadd(7, w + ROW, PANEL_ROW);                                                                  \
        _tile_loadd(5, lower + k * ROWS, ROW);                                                               \
        multiply(0, 4, 6);                                                                                   \
        multiply(1, 4, 7);                                                                                   \
        multiply(2, 5, 6);                                                                                   \
        multiply(3, 5, 7);                                                                                   \
      }                                                                                                      \
      _tile_stored(2, left_below, c_row);                                                                    \
      _tile_stored(3, right_below, c_row);                                                                   \
    }                                                                                                        \
    _tile_stored(0, left, c_row);                                                                            \
    _tile_stored(1, right, c_row);                                                                           \
  }
PRODUCT(product_bf16, _tile_dpbf16ps)
PRODUCT(product_int8, _tile_dpbssd)

/* CPUID leaf 7, EDX: bf16, tiles, int8; then the system is asked, since tiles make a thread's state 8 KB larger. */
const m4n_tile_unit *m4n_tile_unit_here(void) {
  enum { NEEDED = 1 << 22 | 1 << 24 | 1 << 25, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };
  static const m4n_tile_unit unit = {begin, end, product_bf16, product_int8};
  unsigned a, b, c, d;
  if (sizeof(m4n_real) != sizeof(float) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & NEEDED) != NEEDED)
    return NULL;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA) ? NULL : &unit;
}
#else
const m4n_tile_unit *m4n_tile_unit_here(void) {
  return NULL;
}
#endif
