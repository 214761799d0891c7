#include "kernels/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "kernels/base/status.h"

/* A round's work, or the gap between two, is often shorter than the 20 to 60 µs that it takes to wake a thread: who waits
 * spins for PAUSES (5 to 15 µs, as processors go), then lets others run for up to YIELD_NS, then sleeps. */
enum { MAX_THREADS = 256, PAUSES = 300, YIELD_NS = 200000, CLOSED = 1 << 30 };
enum { LINES = 128 }; /* bytes that the cache fetches together */

/* Each thread has a share of a round's tiles, which are neighbours, and takes others' when its own are done: so what it
 * fetches ahead is its own, what it reads it often wrote itself a round before, and threads seldom write the same line. */
typedef struct share {
  _Alignas(LINES) atomic_int next; /* the tile to be taken next */
  int end;
} share;

typedef struct worker {
  struct m4n_pool *pool;
  pthread_t thread;
  int number; /* 1 … threads − 1; the caller is 0 */
} worker;

struct m4n_pool {
  int threads; /* the caller's included */
  worker workers[MAX_THREADS];
  pthread_mutex_t lock;
  pthread_cond_t start, done;
  atomic_uint round;
  atomic_int
      gate; /* workers inside the round, and CLOSED when its tiles are taken: who comes late stays out */
  atomic_int asleep;  /* workers that must be woken */
  atomic_bool awaits; /* the caller sleeps until the last worker leaves */
  atomic_bool stop;
  m4n_tile tile;
  void *self;
  share shares[]; /* one a thread */
};

static _Thread_local int thread_number; /* in the pool whose tile this thread runs */

int m4n_pool_thread(void) {
  return thread_number;
}

static bool take(share *from, int *tile) {
  if (atomic_load_explicit(&from->next, memory_order_relaxed) >= from->end) return false;
  *tile = atomic_fetch_add(&from->next, 1);
  return *tile < from->end;
}

static void work(m4n_pool *pool) {
  for (int i = 0, tile; i < pool->threads; i++)
    while (take(&pool->shares[(thread_number + i) % pool->threads], &tile)) pool->tile(pool->self, tile);
}

/* How long a thread has waited. */
typedef struct patience {
  int pauses;
  int64_t since;
} patience;

/* Waits a little; false when it is time to sleep. */
static bool wait_awake(patience *p) {
  if (p->pauses++ < PAUSES) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
    return true;
  }
  const int64_t now = m4n_now_ns();
  if (!p->since) p->since = now;
  sched_yield(); // at once where nobody else wants the core
  return now - p->since < YIELD_NS;
}

/* Returns the number of a round other than `seen`. */
static unsigned next_round(m4n_pool *pool, unsigned seen) {
  for (patience p = {0}; atomic_load(&pool->round) == seen && wait_awake(&p);) continue;
  if (atomic_load(&pool->round) == seen) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->asleep, 1);
    while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->start, &pool->lock);
    atomic_fetch_sub(&pool->asleep, 1);
    pthread_mutex_unlock(&pool->lock);
  }
  return atomic_load(&pool->round);
}

static void *run_worker(void *argument) {
  m4n_pool *pool = ((worker *)argument)->pool;
  thread_number = ((worker *)argument)->number;
  for (unsigned seen = 0;;) {
    seen = next_round(pool, seen);
    if (atomic_load(&pool->stop)) return NULL;
    if (!(atomic_fetch_add(&pool->gate, 1) & CLOSED)) work(pool);
    if (atomic_fetch_sub(&pool->gate, 1) == CLOSED + 1 && atomic_load(&pool->awaits)) {
      pthread_mutex_lock(&pool->lock);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->lock);
    }
  }
}

static void begin_round(m4n_pool *pool) {
  atomic_fetch_add(&pool->round, 1);
  if (!atomic_load(&pool->asleep)) return;
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->start);
  pthread_mutex_unlock(&pool->lock);
}

int m4n_processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  return 1;
}

int m4n_pool_open(m4n_pool **out, int threads) {
  *out = NULL;
  if (threads == 0) threads = m4n_processors();
  if (threads < 1 || threads > MAX_THREADS)
    return m4n_fail(M4N_EARG, "%d threads: expected 1 to %d, or 0 for one a processor", threads, MAX_THREADS);
  const size_t bytes = sizeof(m4n_pool) + (size_t)threads * sizeof(share);
  m4n_pool *pool = aligned_alloc(LINES, bytes); // both parts are whole numbers of LINES
  if (!pool) return m4n_fail(M4N_ENOMEM, "no memory for a thread pool");
  memset(pool, 0, bytes);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->start, NULL);
  pthread_cond_init(&pool->done, NULL);
  atomic_store(&pool->gate, CLOSED);
  pool->threads = 1;
  for (; pool->threads < threads; pool->threads++) {
    worker *w = &pool->workers[pool->threads];
    *w = (worker){.pool = pool, .number = pool->threads};
    if (pthread_create(&w->thread, NULL, run_worker, w)) {
      m4n_pool_close(pool);
      return m4n_fail(M4N_EIO, "the system refuses %d threads", threads);
    }
  }
  *out = pool;
  return M4N_OK;
}

/* A worker that the system has not let run yet is not waited for: the caller does its tiles. */
static void run_round(m4n_pool *pool, int tiles, m4n_tile tile, void *self) {
  pool->tile = tile, pool->self = self;
  for (int i = 0; i < pool->threads; i++) {
    atomic_store(&pool->shares[i].next, (int)((int64_t)tiles * i / pool->threads));
    pool->shares[i].end = (int)((int64_t)tiles * (i + 1) / pool->threads);
  }
  atomic_fetch_and(&pool->gate, ~CLOSED);
  begin_round(pool);
  work(pool);
  atomic_fetch_or(&pool->gate, CLOSED);
  for (patience p = {0}; atomic_load(&pool->gate) != CLOSED && wait_awake(&p);) continue;
  if (atomic_load(&pool->gate) != CLOSED) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->awaits, true);
    while (atomic_load(&pool->gate) != CLOSED) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->awaits, false);
    pthread_mutex_unlock(&pool->lock);
  }
}

void m4n_pool_run(m4n_pool *pool, int tiles, m4n_tile tile, void *self) {
  // A worker of one pool may call another one: there it is the caller, number 0.
  int outer = thread_number;
  thread_number = 0;
  if (!pool || pool->threads == 1 || tiles <= 1)
    for (int i = 0; i < tiles; i++) tile(self, i);
  else
    run_round(pool, tiles, tile, self);
  thread_number = outer;
}

int m4n_pool_threads(const m4n_pool *pool) {
  return pool ? pool->threads : 1;
}

void m4n_pool_close(m4n_pool *pool) {
  if (!pool) return;
  atomic_store(&pool->stop, true);
  begin_round(pool);
  for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->start);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}
