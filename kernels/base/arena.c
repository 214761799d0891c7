#include "kernels/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"

enum { ALIGN = 64 };

typedef struct m4n_arena_block {
  struct m4n_arena_block *next;
  size_t size, used; /* bytes behind the block's head */
} block;

static_assert(sizeof(block) <= ALIGN, "a block's head fits before its first aligned byte");
static uint8_t *block_data(block *b) {
  return (uint8_t *)b + ALIGN;
}

void *m4n_arena_alloc(m4n_arena *arena, size_t size) {
  if (size > SIZE_MAX - 2 * ALIGN) {
    m4n_fail(M4N_ENOMEM, "no memory for %zu bytes", size);
    return NULL;
  }
  size = (size + ALIGN - 1) / ALIGN * ALIGN;
  // Blocks that a reset emptied come first; one that is too small is passed over until the next reset.
  block *b = arena->current;
  while (b && b->size - b->used < size) b = b->next;
  if (!b) {
    size_t want = arena->block_size ? arena->block_size : (size_t)1 << 20;
    if (want < size) want = size;
    want = (want + ALIGN - 1) / ALIGN * ALIGN;
    b = aligned_alloc(ALIGN, ALIGN + want);
    if (!b) {
      m4n_fail(M4N_ENOMEM, "no memory for %zu bytes", size);
      return NULL;
    }
    *b = (block){NULL, want, 0};
    block **end = &arena->first;
    while (*end) end = &(*end)->next;
    *end = b;
  }
  arena->current = b;
  void *at = block_data(b) + b->used;
  b->used += size;
  memset(at, 0, size);
  return at;
}

char *m4n_arena_strdup(m4n_arena *arena, const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = m4n_arena_alloc(arena, size);
  if (copy) memcpy(copy, text, size);
  return copy;
}

void m4n_arena_reset(m4n_arena *arena) {
  for (block *b = arena->first; b; b = b->next) b->used = 0;
  arena->current = arena->first;
}

void m4n_arena_close(m4n_arena *arena) {
  for (block *b = arena->first, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  *arena = (m4n_arena){.block_size = arena->block_size};
}

size_t m4n_arena_used(const m4n_arena *arena) {
  size_t used = 0;
  for (const block *b = arena->first; b; b = b->next) used += b->used;
  return used;
}
