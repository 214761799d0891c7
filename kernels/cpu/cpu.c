/* The CPU backend: memory is the host's, a stream does at once what it is told, and the op table is the widest that the
 * processor has. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels/base/status.h"
#include "kernels/cpu/linear.h"

enum { ALIGN = 64, HUGE = 1 << 21 };

typedef struct cpu_backend {
  m4n_backend backend;
  const m4n_ops *ops;
  m4n_pool *pool;
  m4n_cpu_workspace work;
} cpu_backend;

/* ---- which variant ------------------------------------------------------------------------------------------------------------ */

typedef struct variant {
  const char *name, *description;
  const m4n_ops *ops;
  bool tiles; // and the processor's matrix tiles
} variant;

#if defined(__x86_64__)
/* The levels of the x86-64 ABI, by the features that set each apart. */
static bool runs_here(const char *name) {
  __builtin_cpu_init();
  if (!strcmp(name, "v2")) return true;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
    return false;
  if (!strcmp(name, "v3")) return true;
  if (!strcmp(name, "amx") && !m4n_tile_unit_here()) return false;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
static const variant variants[] = {{"amx", "x86-64-v4 with AMX", &m4n_cpu_v4_ops, true},
                                   {"v4", "x86-64-v4", &m4n_cpu_v4_ops, false},
                                   {"v3", "x86-64-v3", &m4n_cpu_v3_ops, false},
                                   {"v2", "x86-64-v2", &m4n_cpu_v2_ops, false}};
#else
static bool runs_here(const char *name) {
  (void)name;
  return true;
}
static const variant variants[] = {{"generic", "generic", &m4n_cpu_generic_ops, false}};
#endif
enum { VARIANTS = sizeof variants / sizeof *variants };

static int choose(const variant **chosen, const char *wanted) {
  for (int i = 0; i < VARIANTS; i++)
    if (*wanted ? !strcmp(wanted, variants[i].name) : runs_here(variants[i].name)) {
      *chosen = &variants[i];
      if (!runs_here(variants[i].name))
        return m4n_fail(M4N_EUNSUPPORTED, "device cpu-%s: this processor does not have it", wanted);
      return M4N_OK;
    }
  return m4n_fail(M4N_EARG, "device cpu-%.20s: this build has no such variant", wanted);
}

/* ---- backend and memory -------------------------------------------------------------------------------------------------------- */

static void cpu_close(m4n_backend *backend) {
  m4n_cpu_workspace_close(&((cpu_backend *)backend)->work);
  free(backend);
}

static int cpu_open(m4n_backend **out, const char *wanted, m4n_pool *pool) {
  const variant *chosen = NULL;
  M4N_TRY(choose(&chosen, wanted));
  cpu_backend *cpu = calloc(1, sizeof *cpu);
  if (!cpu) return m4n_fail(M4N_ENOMEM, "no memory for the CPU backend");
  cpu->backend.kind = &m4n_cpu_kind;
  cpu->ops = chosen->ops;
  cpu->pool = pool;
  const int status =
      m4n_cpu_workspace_open(&cpu->work, m4n_pool_threads(pool), chosen->tiles ? m4n_tile_unit_here() : NULL);
  if (status) {
    cpu_close(&cpu->backend);
    return status;
  }
  snprintf(cpu->backend.description, sizeof cpu->backend.description, "cpu %s, %s, %d threads%s",
           chosen->description, m4n_gemm_library_name(), m4n_pool_threads(pool),
           sizeof(m4n_real) == sizeof(double) ? ", float64" : "");
  *out = &cpu->backend;
  return M4N_OK;
}

/* Large arrays in pages of 2 MB where the system has them: weights that are read once, at 4 KB a page, wait for the
 * page tables (a decision took 1.4 times as long). */
static void *cpu_alloc(m4n_backend *backend, size_t bytes) {
  (void)backend;
  const size_t align = bytes >= 2 * (size_t)HUGE ? HUGE : ALIGN;
  const size_t size = bytes > SIZE_MAX - align ? 0 : (bytes / align + 1) * align;
  void *memory = size ? aligned_alloc(align, size) : NULL;
  if (!memory) {
    m4n_fail(M4N_ENOMEM, "no memory for %zu bytes", bytes);
    return NULL;
  }
#ifdef MADV_HUGEPAGE
  if (align == HUGE) (void)madvise(memory, size, MADV_HUGEPAGE); // without them it is slower, not wrong
#endif
  return memset(memory, 0, size);
}
static void cpu_free(m4n_backend *backend, void *memory) {
  (void)backend;
  free(memory);
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------------------- */

/* The processor's word on numbers below the normal ones: FTZ and DAZ of MXCSR, FZ of FPCR. */
#if defined(__x86_64__)
typedef unsigned control;
static control flush_small(void) {
  const control before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);
  return before;
}
static void restore(control before) {
  __builtin_ia32_ldmxcsr(before);
}
#elif defined(__aarch64__)
typedef uint64_t control;
static control flush_small(void) {
  control before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  __asm__ volatile("msr fpcr, %0" : : "r"(before | (control)1 << 24));
  return before;
}
static void restore(control before) {
  __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
typedef int control;
static control flush_small(void) {
  return 0;
}
static void restore(control before) {
  (void)before;
}
#endif

typedef struct round_of_tiles {
  m4n_tile tile;
  void *self;
} round_of_tiles;

static void run_tile(void *self, int index) {
  const round_of_tiles *all = self;
  const control before = flush_small();
  all->tile(all->self, index);
  restore(before);
}

void m4n_cpu_run(m4n_stream *s, int tiles, m4n_tile tile, void *self) {
  m4n_pool_run(((m4n_cpu_stream *)s)->pool, tiles, run_tile, &(round_of_tiles){tile, self});
}

/* ---- streams -------------------------------------------------------------------------------------------------------------------- */

static int cpu_stream_open(m4n_stream **stream, m4n_backend *backend) {
  m4n_cpu_stream *s = calloc(1, sizeof *s);
  *stream = &s->stream;
  if (!s) return m4n_fail(M4N_ENOMEM, "no memory for a stream");
  const cpu_backend *cpu = (const cpu_backend *)backend;
  *s = (m4n_cpu_stream){.stream = {.head = {cpu->ops}, .backend = backend}, .pool = cpu->pool};
  return M4N_OK;
}
static void cpu_stream_close(m4n_stream *stream) {
  free(stream);
}
m4n_cpu_workspace *m4n_cpu_stream_workspace(m4n_stream *stream) {
  return &((cpu_backend *)stream->backend)->work;
}

static void cpu_copy(m4n_stream *stream, void *to, const void *from, size_t bytes) {
  (void)stream;
  if (bytes) memmove(to, from, bytes);
}
static void cpu_zero(m4n_stream *stream, void *at, size_t bytes) {
  (void)stream;
  if (bytes) memset(at, 0, bytes);
}
static int cpu_sync(m4n_stream *stream) {
  (void)stream;
  return M4N_OK;
}

const m4n_backend_kind m4n_cpu_kind = {.name = "cpu",
                                       .on_host = true,
                                       .open = cpu_open,
                                       .close = cpu_close,
                                       .alloc = cpu_alloc,
                                       .free = cpu_free,
                                       .alloc_host = cpu_alloc,
                                       .free_host = cpu_free,
                                       .stream_open = cpu_stream_open,
                                       .stream_close = cpu_stream_close,
                                       .copy_in = cpu_copy,
                                       .copy_out = cpu_copy,
                                       .copy = cpu_copy,
                                       .zero = cpu_zero,
                                       .sync = cpu_sync,
                                       .linear_plan = m4n_cpu_linear_plan};
