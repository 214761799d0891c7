/* A pool of threads that works off numbered tiles.
 *
 * Work is cut into tiles by its size alone, never by the number of threads, and a tile writes only what is
 * its own: then T threads give the bytes that one gives. `m4n_pool_run` returns when all tiles are done; the
 * caller works too.
 *
 *     static void tile(void *self, int index) { … }
 *     m4n_pool_run(pool, tiles, tile, self);        // pool may be NULL: then in a plain loop
 */
#ifndef M4N_BASE_POOL_H
#define M4N_BASE_POOL_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_pool m4n_pool;
typedef void (*m4n_tile)(void *self, int index);

int m4n_pool_open(m4n_pool **pool, int threads); /* threads >= 1, the caller's included; 0: one a processor */
void m4n_pool_run(m4n_pool *pool, int tiles, m4n_tile tile,
                  void *self);              /* one caller at a time; not from a tile */
int m4n_pool_threads(const m4n_pool *pool); /* 1 for NULL */
/* Inside a tile: which of the pool's threads runs it, 0 (the caller) … threads − 1. For memory that a thread
 * has of its own; results must not depend on it. */
int m4n_pool_thread(void);
int m4n_processors(void); /* that this process may use */
void m4n_pool_close(m4n_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
