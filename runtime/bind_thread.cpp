#include "runtime/bind_thread.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace flex {

void bind_this_thread([[maybe_unused]] int index) noexcept {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  const int count = CPU_COUNT(&allowed);
  if (count == 0) return;
  int left = index % count;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || left-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    static_cast<void>(pthread_setaffinity_np(pthread_self(), sizeof(one), &one));  // or it stays unbound
    return;
  }
#endif
}

}  // namespace flex
