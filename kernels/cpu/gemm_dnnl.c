/* Products through oneDNN's C API, major versions 2 and 3.
 *
 * Two things to know. A primitive is made for fixed sizes and distances, and takes its operands as memory objects whose
 * address is set before each run; objects and scratch exist once per thread. And an address must not be set on an
 * object whose layout has padding: the library then writes zeros into it, which is a race; such layouts are not used. */
#include "kernels/cpu/gemm.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

enum { ALIGN = 64 };

typedef struct worker {
  dnnl_stream_t stream;
  void *scratch;
} worker;

struct m4n_gemm_library {
  dnnl_engine_t engine;
  int threads;
  size_t scratch; /* bytes a thread */
  worker worker[];
};

/* The memory objects of one thread. */
typedef struct operands {
  dnnl_memory_t x, w, y, scratch, plain;
} operands;

struct m4n_gemm {
  m4n_gemm_library *library;
  m4n_gemm_shape shape;
  dnnl_primitive_t product,
      reorder; /* reorder: plain w to the library's order; NULL where that is plain too */
  size_t packed_bytes;
#if DNNL_VERSION_MAJOR >= 3
  dnnl_memory_desc_t w_order;
#else
  dnnl_memory_desc_t w_order_value, *w_order;
#endif
  operands of_thread[];
};

/* ---- the differences between the two major versions ----------------------------------------------------------------------- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_in;

static dnnl_status_t layout_strided(layout *l, const dnnl_dims_t dims, dnnl_data_type_t type,
                                    const dnnl_dims_t strides) {
  return dnnl_memory_desc_create_with_strides(l, 2, dims, type, strides);
}
static dnnl_status_t layout_any(layout *l, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_create_with_tag(l, 2, dims, type, dnnl_format_tag_any);
}
static layout_in layout_see(const layout *l) {
  return *l;
}
static void layout_close(layout *l) {
  if (*l) dnnl_memory_desc_destroy(*l);
}
static dnnl_status_t describe_product(dnnl_primitive_desc_t *desc, dnnl_engine_t engine, layout_in x,
                                      layout_in w, layout_in y, dnnl_primitive_attr_t attr) {
  return dnnl_matmul_primitive_desc_create(desc, engine, x, w, NULL, y, attr);
}
static dnnl_status_t add_to_result(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
}
static dnnl_status_t keep_order(m4n_gemm *g, layout_in w) {
  return dnnl_memory_desc_clone(&g->w_order, w);
}
static void drop_order(m4n_gemm *g) {
  if (g->w_order) dnnl_memory_desc_destroy(g->w_order);
}
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_in;

static dnnl_status_t layout_strided(layout *l, const dnnl_dims_t dims, dnnl_data_type_t type,
                                    const dnnl_dims_t strides) {
  return dnnl_memory_desc_init_by_strides(l, 2, dims, type, strides);
}
static dnnl_status_t layout_any(layout *l, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_init_by_tag(l, 2, dims, type, dnnl_format_tag_any);
}
static layout_in layout_see(const layout *l) {
  return l;
}
static void layout_close(layout *l) {
  (void)l;
}
static dnnl_status_t describe_product(dnnl_primitive_desc_t *desc, dnnl_engine_t engine, layout_in x,
                                      layout_in w, layout_in y, dnnl_primitive_attr_t attr) {
  dnnl_matmul_desc_t product;
  dnnl_status_t status = dnnl_matmul_desc_init(&product, x, w, NULL, y);
  return status ? status : dnnl_primitive_desc_create(desc, &product, attr, engine, NULL);
}
static dnnl_status_t add_to_result(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1);
}
static dnnl_status_t keep_order(m4n_gemm *g, layout_in w) {
  g->w_order_value = *w, g->w_order = &g->w_order_value;
  return dnnl_success;
}
static void drop_order(m4n_gemm *g) {
  (void)g;
}
#endif

/* ---- the library ------------------------------------------------------------------------------------------------------------ */

/* oneDNN's threads are OpenMP's; ours are enough, so each of them tells OpenMP that it is alone. Asked for by name, since
 * the library may be built without OpenMP. */
static void work_alone(void) {
  static _Thread_local bool done;
  if (done) return;
  union {
    void *object;
    void (*function)(int);
  } set_threads = {dlsym(RTLD_DEFAULT, "omp_set_num_threads")};
  if (set_threads.object) set_threads.function(1);
  done = true;
}

static int failed(dnnl_status_t status, const char *what) {
  return m4n_fail(status == dnnl_out_of_memory ? M4N_ENOMEM : M4N_EUNSUPPORTED,
                  "oneDNN: %s failed with status %d", what, (int)status);
}

int m4n_gemm_library_open(m4n_gemm_library **out, int threads) {
  *out = NULL;
  work_alone();
  m4n_gemm_library *library = calloc(1, sizeof *library + (size_t)threads * sizeof *library->worker);
  if (!library) return m4n_fail(M4N_ENOMEM, "no memory for matrix products");
  library->threads = threads;
  dnnl_status_t status = dnnl_engine_create(&library->engine, dnnl_cpu, 0);
  for (int i = 0; i < threads && !status; i++)
    status = dnnl_stream_create(&library->worker[i].stream, library->engine, dnnl_stream_default_flags);
  if (status) {
    m4n_gemm_library_close(library);
    return failed(status, "starting");
  }
  *out = library;
  return M4N_OK;
}

void m4n_gemm_library_close(m4n_gemm_library *library) {
  if (!library) return;
  for (int i = 0; i < library->threads; i++) {
    if (library->worker[i].stream) dnnl_stream_destroy(library->worker[i].stream);
    free(library->worker[i].scratch);
  }
  if (library->engine) dnnl_engine_destroy(library->engine);
  free(library);
}

const char *m4n_gemm_library_name(void) {
  static char name[32];
  const dnnl_version_t *v = dnnl_version();
  if (!name[0]) snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  return name;
}

bool m4n_gemm_has(const m4n_gemm_library *library, int type) {
  (void)library;
  if (type == M4N_GEMM_REAL) return true;
    // Below these, oneDNN has no bf16, and its 8-bit products saturate in 16 bits.
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (type == M4N_GEMM_BF16) return __builtin_cpu_supports("avx512bf16");
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

static int grow_scratch(m4n_gemm_library *library, size_t bytes) {
  if (bytes <= library->scratch) return M4N_OK;
  bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  for (int i = 0; i < library->threads; i++) {
    void *scratch = aligned_alloc(ALIGN, bytes);
    if (!scratch)
      return m4n_fail(M4N_ENOMEM, "no memory for %zu bytes of scratch for a matrix product", bytes);
    free(library->worker[i].scratch);
    library->worker[i].scratch = scratch;
  }
  library->scratch = bytes;
  return M4N_OK;
}

/* ---- one product ---------------------------------------------------------------------------------------------------------------- */

static const dnnl_data_type_t x_types[] = {dnnl_f32, dnnl_bf16, dnnl_u8},
                              w_types[] = {dnnl_f32, dnnl_bf16, dnnl_s8},
                              y_types[] = {dnnl_f32, dnnl_f32, dnnl_s32};
static size_t w_size(int type) {
  return type == M4N_GEMM_REAL ? 4 : type == M4N_GEMM_BF16 ? 2 : 1;
}

typedef struct plan {
  layout x, w, w_plain, y;
  dnnl_primitive_attr_t attr;
  dnnl_post_ops_t ops;
  dnnl_primitive_desc_t product, reorder;
} plan;

static void plan_close(plan *p) {
  layout_close(&p->x), layout_close(&p->w), layout_close(&p->w_plain), layout_close(&p->y);
  if (p->attr) dnnl_primitive_attr_destroy(p->attr);
  if (p->ops) dnnl_post_ops_destroy(p->ops);
  if (p->product) dnnl_primitive_desc_destroy(p->product);
  if (p->reorder) dnnl_primitive_desc_destroy(p->reorder);
}

#define DNNL_TRY(expression)                                                                                 \
  do {                                                                                                       \
    dnnl_status_t try_status = (expression);                                                                 \
    if (try_status) return try_status;                                                                       \
  } while (0)

static dnnl_status_t describe(plan *p, const m4n_gemm_shape *s) {
  const dnnl_dims_t x_dims = {s->M, s->K}, w_dims = {s->K, s->N}, y_dims = {s->M, s->N};
  const dnnl_dims_t x_rows = {s->x_ld, 1}, x_columns = {1, s->x_ld}, y_rows = {s->y_ld, 1};
  const dnnl_dims_t w_rows = {s->w_ld, 1}, w_columns = {1, s->w_ld};
  DNNL_TRY(layout_strided(&p->x, x_dims, x_types[s->type], s->x_transposed ? x_columns : x_rows));
  DNNL_TRY(layout_strided(&p->w_plain, w_dims, w_types[s->type], s->w_transposed ? w_columns : w_rows));
  DNNL_TRY(layout_any(&p->w, w_dims, w_types[s->type]));
  DNNL_TRY(layout_strided(&p->y, y_dims, y_types[s->type], y_rows));
  DNNL_TRY(dnnl_primitive_attr_create(&p->attr));
  DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(p->attr, dnnl_scratchpad_mode_user));
  if (s->add) {
    DNNL_TRY(dnnl_post_ops_create(&p->ops));
    DNNL_TRY(add_to_result(p->ops));
    DNNL_TRY(dnnl_primitive_attr_set_post_ops(p->attr, p->ops));
  }
  return dnnl_success;
}

/* Which order of w the product is made for: another's, the library's own choice, or plain where that would be padded. */
static dnnl_status_t choose_order(m4n_gemm *g, plan *p, const m4n_gemm *like) {
  const m4n_gemm_shape *s = &g->shape;
  const dnnl_engine_t engine = g->library->engine;
  layout_in x = layout_see(&p->x), plain = layout_see(&p->w_plain), y = layout_see(&p->y);
  if (like && like->reorder) {
    DNNL_TRY(describe_product(&p->product, engine, x, like->w_order, y, p->attr));
    return keep_order(g, like->w_order);
  }
  if (s->packed && !like) {
    DNNL_TRY(describe_product(&p->product, engine, x, layout_see(&p->w), y, p->attr));
    layout_in chosen = dnnl_primitive_desc_query_md(p->product, dnnl_query_weights_md, 0);
    g->packed_bytes = dnnl_memory_desc_get_size(chosen);
    if (g->packed_bytes == (size_t)s->N * (size_t)s->K * w_size(s->type) &&
        !dnnl_memory_desc_equal(chosen, plain))
      return keep_order(g, chosen);
    dnnl_primitive_desc_destroy(p->product), p->product = NULL;
  }
  DNNL_TRY(describe_product(&p->product, engine, x, plain, y, p->attr));
  return keep_order(g, plain);
}

static dnnl_status_t make(m4n_gemm *g, plan *p, const m4n_gemm *like) {
  const dnnl_engine_t engine = g->library->engine;
  const m4n_gemm_shape *s = &g->shape;
  DNNL_TRY(describe(p, s));
  DNNL_TRY(choose_order(g, p, like));
  DNNL_TRY(dnnl_primitive_create(&g->product, p->product));
  g->packed_bytes = (size_t)s->N * (size_t)s->K * w_size(s->type);
  layout_in plain = layout_see(&p->w_plain);
  if (s->packed && !dnnl_memory_desc_equal(g->w_order, plain)) {
    DNNL_TRY(dnnl_reorder_primitive_desc_create(&p->reorder, plain, engine, g->w_order, engine, NULL));
    DNNL_TRY(dnnl_primitive_create(&g->reorder, p->reorder));
  }
  layout_in scratch = dnnl_primitive_desc_query_md(p->product, dnnl_query_scratchpad_md, 0);
  for (int i = 0; i < g->library->threads; i++) {
    operands *o = &g->of_thread[i];
    DNNL_TRY(dnnl_memory_create(&o->x, layout_see(&p->x), engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&o->w, g->w_order, engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&o->y, layout_see(&p->y), engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&o->scratch, scratch, engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&o->plain, plain, engine, DNNL_MEMORY_NONE));
  }
  return dnnl_success;
}

/* The first run of a primitive may build what the library has put off: let it be now. */
static int run_once(const m4n_gemm *g) {
  const m4n_gemm_shape *s = &g->shape;
  const size_t x_rows = (size_t)(s->x_transposed ? s->K : s->M),
               w_rows = (size_t)(s->w_transposed ? s->N : s->K);
  void *x = calloc(x_rows * (size_t)s->x_ld + (size_t)s->M + (size_t)s->K, sizeof(float));
  void *w = calloc(w_rows * (size_t)s->w_ld + (size_t)s->N + (size_t)s->K, sizeof(float));
  void *y = calloc((size_t)s->M * (size_t)s->y_ld + (size_t)s->N, sizeof(float));
  const int status = x && w && y ? M4N_OK : m4n_fail(M4N_ENOMEM, "no memory to try a product");
  if (!status) m4n_gemm_run(g, 0, y, x, w);
  free(x), free(w), free(y);
  return status;
}

int m4n_gemm_open(m4n_gemm **out, m4n_gemm_library *library, const m4n_gemm_shape *shape,
                  const m4n_gemm *like) {
  *out = NULL;
  work_alone();
  m4n_gemm *g = calloc(1, sizeof *g + (size_t)library->threads * sizeof *g->of_thread);
  if (!g) return m4n_fail(M4N_ENOMEM, "no memory for a matrix product");
  g->library = library, g->shape = *shape;
  plan p = {0};
  dnnl_status_t status = make(g, &p, like);
  size_t scratch = 0;
  if (!status) {
    layout_in md = dnnl_primitive_desc_query_md(p.product, dnnl_query_scratchpad_md, 0);
    scratch = dnnl_memory_desc_get_size(md);
  }
  plan_close(&p);
  int result = status ? failed(status, "planning a product") : grow_scratch(library, scratch);
  if (!result) result = run_once(g);
  if (result) {
    m4n_context(result, "product %d×%d×%d", shape->M, shape->N, shape->K);
    m4n_gemm_close(g);
    return result;
  }
  *out = g;
  return M4N_OK;
}

void m4n_gemm_close(m4n_gemm *g) {
  if (!g) return;
  for (int i = 0; i < g->library->threads; i++) {
    dnnl_memory_t all[] = {g->of_thread[i].x, g->of_thread[i].w, g->of_thread[i].y, g->of_thread[i].scratch,
                           g->of_thread[i].plain};
    for (size_t j = 0; j < sizeof all / sizeof *all; j++)
      if (all[j]) dnnl_memory_destroy(all[j]);
  }
  if (g->product) dnnl_primitive_destroy(g->product);
  if (g->reorder) dnnl_primitive_destroy(g->reorder);
  drop_order(g);
  free(g);
}

size_t m4n_gemm_packed_bytes(const m4n_gemm *g) {
  return g->packed_bytes;
}

void m4n_gemm_pack(const m4n_gemm *g, int thread, void *packed, const void *w) {
  const operands *o = &g->of_thread[thread];
  if (!g->reorder) {
    memcpy(packed, w, g->packed_bytes);
    return;
  }
  work_alone();
  dnnl_memory_set_data_handle(o->plain, (void *)(uintptr_t)w);
  dnnl_memory_set_data_handle(o->w, packed);
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, o->plain}, {DNNL_ARG_TO, o->w}};
  dnnl_primitive_execute(g->reorder, g->library->worker[thread].stream, 2, arguments);
}

void m4n_gemm_run(const m4n_gemm *g, int thread, void *y, const void *x, const void *w) {
  const operands *o = &g->of_thread[thread];
  work_alone();
  dnnl_memory_set_data_handle(o->x, (void *)(uintptr_t)x);
  dnnl_memory_set_data_handle(o->w, (void *)(uintptr_t)w);
  dnnl_memory_set_data_handle(o->y, y);
  dnnl_memory_set_data_handle(o->scratch, g->library->worker[thread].scratch);
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, o->x},
                                       {DNNL_ARG_WEIGHTS, o->w},
                                       {DNNL_ARG_DST, o->y},
                                       {DNNL_ARG_SCRATCHPAD, o->scratch}};
  dnnl_primitive_execute(g->product, g->library->worker[thread].stream, 4, arguments);
}
