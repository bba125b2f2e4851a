#include "runtime/random_tensor.h"

#include "base/philox.h"
#include "kernels/host_element.h"
#include "runtime/parallel_blocks.h"

namespace flex {

Tensor random_normal_tensor(DType dtype, Shape shape, Device device, std::uint64_t seed,
                            std::uint64_t stream) {
  // Blocks with a generator each, so that threads may share the work and the values do not depend on how many
  // there are.
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;
  constexpr std::uint64_t kBlocksPerStream = std::uint64_t{1} << 32;
  Tensor host(dtype, shape);
  for_each_block(host.num_elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
    PhiloxStream random(seed, stream * kBlocksPerStream + static_cast<std::uint64_t>(begin / kBlock));
    for (std::int64_t i = begin; i < end; ++i) set_host_element(host, i, random.normal());
  });
  if (device.is_cpu()) return host;
  Tensor tensor(dtype, shape, device);
  copy_blocking(tensor, host);
  return tensor;
}

}  // namespace flex
