/* What the files of the CPU backend share.
 *
 * Files with loops are compiled once for every level of the processor (CMakeLists.txt): M4N_VARIANT is v2, v3 or v4 on
 * x86-64 and `generic` elsewhere, and goes into every exported name, so that one program holds all of them. cpu.c picks
 * the table at start. Nothing in these files asks for the processor: width and fused multiply-add are the compiler's.
 */
#ifndef M4N_KERNELS_CPU_CPU_H
#define M4N_KERNELS_CPU_CPU_H

#include "kernels/backend_kind.h"
#include "kernels/base/pool.h"

typedef struct m4n_cpu_stream {
  m4n_stream stream;
  m4n_pool *pool; /* NULL: one thread */
} m4n_cpu_stream;

/* Runs tiles on the stream's threads. A tile's extent must follow from sizes alone, and it writes only what is its own:
 * then any number of threads gives the same bytes. Numbers too small to be normal are taken as 0 and become 0: they are
 * a hundred times slower, and gradients are full of them. */
void m4n_cpu_run(m4n_stream *s, int tiles, m4n_tile tile, void *self);

/* The tables of the variants. */
extern const m4n_ops m4n_cpu_v2_ops, m4n_cpu_v3_ops, m4n_cpu_v4_ops, m4n_cpu_generic_ops;

int m4n_cpu_linear_plan(const m4n_linear **plan, m4n_stream *stream, const m4n_linear_shape *shape);

#ifdef M4N_VARIANT
/* ---- inside a variant --------------------------------------------------------------------------------------------- */

#define M4N_PASTE_(a, b, c) a##b##c
#define M4N_PASTE(a, b, c) M4N_PASTE_(a, b, c)
#define M4N_CPU(name) M4N_PASTE(m4n_cpu_, M4N_VARIANT, _##name)

#define OP(name, parameters, arguments) void M4N_CPU(name) parameters;
#include "kernels/ops.def"
#undef OP

/* Elements a tile of an elementwise op has, and the rows of C that come near it. */
enum { M4N_TILE = 16384 };
static inline int m4n_tiles(int64_t n) {
  return (int)((n + M4N_TILE - 1) / M4N_TILE);
}
static inline int m4n_tile_rows(int C) {
  return C >= M4N_TILE ? 1 : M4N_TILE / C;
}
/* Tile `index` of `n` items cut by `step`: [begin, end). */
#define M4N_TILE_RANGE(type, begin, end, index, step, n)                                                     \
  const type begin = (type)(index) * (step), end = begin + (step) < (n) ? begin + (step) : (n)

/* In front of a loop whose rounds do not depend on each other, though outputs may lie exactly on inputs: without it a
 * compiler guards against overlap at run time and is slow in place. */
#define M4N_EACH _Pragma("omp simd")

static inline int m4n_ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
static inline int m4n_min(int a, int b) {
  return a < b ? a : b;
}
#endif
#endif
