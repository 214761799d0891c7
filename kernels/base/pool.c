#include "kernels/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernels/base/status.h"

enum { MAX_THREADS = 256, SPIN = 2000 };

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
  atomic_uint round; /* changed under the lock; read without it while spinning */
  atomic_int next;   /* the next tile to take */
  atomic_int busy;   /* workers not yet back from this round */
  bool stop;
  int tiles;
  m4n_tile tile;
  void *self;
};

static _Thread_local int thread_number; /* in the pool whose tile this thread runs */

int m4n_pool_thread(void) {
  return thread_number;
}

static void work(m4n_pool *pool) {
  for (int i; (i = atomic_fetch_add(&pool->next, 1)) < pool->tiles;) pool->tile(pool->self, i);
}

static void *run_worker(void *argument) {
  m4n_pool *pool = ((worker *)argument)->pool;
  thread_number = ((worker *)argument)->number;
  unsigned seen = 0;
  for (;;) {
    // A short spin bridges the gap between two steps of one loop; then sleep, since cores are few.
    for (int i = 0; i < SPIN && atomic_load_explicit(&pool->round, memory_order_acquire) == seen; i++)
      __asm__ volatile("" ::: "memory");
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->start, &pool->lock);
    seen = atomic_load(&pool->round);
    bool stop = pool->stop;
    pthread_mutex_unlock(&pool->lock);
    if (stop) return NULL;
    work(pool);
    if (atomic_fetch_sub(&pool->busy, 1) == 1) {
      pthread_mutex_lock(&pool->lock);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->lock);
    }
  }
}

static void begin_round(m4n_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
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
  m4n_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return m4n_fail(M4N_ENOMEM, "no memory for a thread pool");
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->start, NULL);
  pthread_cond_init(&pool->done, NULL);
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

static void run_round(m4n_pool *pool, int tiles, m4n_tile tile, void *self) {
  pool->tiles = tiles, pool->tile = tile, pool->self = self;
  atomic_store(&pool->next, 0);
  atomic_store(&pool->busy, pool->threads - 1);
  begin_round(pool);
  work(pool);
  for (int i = 0; i < SPIN && atomic_load_explicit(&pool->busy, memory_order_acquire); i++)
    __asm__ volatile("" ::: "memory");
  if (atomic_load_explicit(&pool->busy, memory_order_acquire)) {
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->busy)) pthread_cond_wait(&pool->done, &pool->lock);
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
  pthread_mutex_lock(&pool->lock);
  pool->stop = true;
  pthread_mutex_unlock(&pool->lock);
  begin_round(pool);
  for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->start);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}
