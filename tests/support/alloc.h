// Counts calls of malloc and its kin in this process: link tests/support/alloc.cc into the test.
#ifndef M4N_TESTS_SUPPORT_ALLOC_H
#define M4N_TESTS_SUPPORT_ALLOC_H

#include <stdint.h>

// Allocations of this process so far; constant 0 where a sanitizer owns the allocator (the release build counts).
int64_t m4n_allocations(void);

// Those that code linked into the test program asked for itself: libraries that allocate inside a call (oneDNN does, in
// every product) are left out.
int64_t m4n_own_allocations(void);

// True under a sanitizer: everything is several times slower, and tests may look at a part of their cases.
constexpr bool m4n_sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return true;
#endif
#endif
  return false;
}

#endif
