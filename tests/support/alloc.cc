#include "tests/support/alloc.h"

#include <atomic>
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(M4N_SANITIZED)
int64_t m4n_allocations(void) {
  return 0;
}
int64_t m4n_own_allocations(void) {
  return 0;
}
#else
static std::atomic<int64_t> count, own;

// Set by the linker: the program's own instructions, without shared libraries.
extern "C" char __executable_start, etext;

static inline void note(const void *caller) {
  count++;
  if (caller >= &__executable_start && caller < &etext) own++;
}
#define NOTE() note(__builtin_return_address(0))

// glibc's own names behind the public ones.
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
  NOTE();
  return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
  NOTE();
  return __libc_calloc(n, size);
}
void *realloc(void *at, size_t size) {
  NOTE();
  return __libc_realloc(at, size);
}
void *aligned_alloc(size_t align, size_t size) {
  NOTE();
  return __libc_memalign(align, size);
}
int posix_memalign(void **at, size_t align, size_t size) {
  NOTE();
  *at = __libc_memalign(align, size);
  return *at ? 0 : 12;
}
}

int64_t m4n_allocations(void) {
  return count;
}
int64_t m4n_own_allocations(void) {
  return own;
}
#endif
