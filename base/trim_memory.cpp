#include "base/trim_memory.h"

#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace flex {

void trim_memory() noexcept {
#ifdef __GLIBC__
  static_cast<void>(::malloc_trim(0));  // whether there was anything does not matter
#endif
}

void return_large_blocks() noexcept {
#ifdef __GLIBC__
  constexpr int kLargeBytes = 64 << 10;
  static_cast<void>(::mallopt(M_MMAP_THRESHOLD, kLargeBytes));
#endif
}

}  // namespace flex
