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

}  // namespace flex
