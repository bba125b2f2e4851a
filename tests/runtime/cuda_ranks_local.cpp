#include "runtime/launch.h"
#include "tests/runtime/cuda_ranks.h"

namespace flex::testing {

void run_cuda_ranks(const Topology& topology, Milliseconds deadline,
                    const std::function<void(Communicator&)>& body) {
  run_ranks(topology, deadline, body);
}

}  // namespace flex::testing
