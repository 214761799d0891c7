/* Memory that is laid out once: an arena grows while things are planned and is freed whole.
 *
 * Blocks never move, so addresses handed out stay good until reset or close. All allocations are zeroed and
 * aligned to 64 bytes. NULL means no memory (the error record is set); nothing is allocated in a step or a
 * training iteration.
 */
#ifndef M4N_BASE_ARENA_H
#define M4N_BASE_ARENA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct m4n_arena {
  struct m4n_arena_block *first, *current;
  size_t block_size; /* of new blocks; 0 is 1 MiB */
} m4n_arena;         /* a zeroed one is ready */

void *m4n_arena_alloc(m4n_arena *arena, size_t size); /* size 0 gives a valid address */
char *m4n_arena_strdup(m4n_arena *arena, const char *text);
void m4n_arena_reset(m4n_arena *arena); /* forgets what was handed out, keeps the blocks for reuse */
void m4n_arena_close(m4n_arena *arena);
size_t m4n_arena_used(const m4n_arena *arena);

#ifdef __cplusplus
}
#endif
#endif
