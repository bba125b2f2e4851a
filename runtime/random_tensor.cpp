#include "runtime/random_tensor.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "base/philox.h"
#include "kernels/host_element.h"

namespace flex {

Tensor random_normal_tensor(DType dtype, Shape shape, Device device, std::uint64_t seed,
                            std::uint64_t stream) {
  // Blocks with a generator each, so that threads may share the work and the values do not depend on how many
  // there are.
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;
  constexpr std::uint64_t kBlocksPerStream = std::uint64_t{1} << 32;
  Tensor host(dtype, shape);
  const std::int64_t count = host.num_elements();
  const std::int64_t num_blocks = (count + kBlock - 1) / kBlock;
  std::atomic<std::int64_t> next{0};
  const auto fill = [&] {
    for (std::int64_t block = next++; block < num_blocks; block = next++) {
      PhiloxStream random(seed, stream * kBlocksPerStream + static_cast<std::uint64_t>(block));
      const std::int64_t end = std::min(count, (block + 1) * kBlock);
      for (std::int64_t i = block * kBlock; i < end; ++i) set_host_element(host, i, random.normal());
    }
  };
  std::vector<std::thread> threads;
  const std::int64_t helpers = std::min<std::int64_t>(std::thread::hardware_concurrency(), num_blocks) - 1;
  for (std::int64_t i = 0; i < helpers; ++i) threads.emplace_back(fill);
  fill();
  for (std::thread& thread : threads) thread.join();
  if (device.is_cpu()) return host;
  Tensor tensor(dtype, shape, device);
  copy_blocking(tensor, host);
  return tensor;
}

}  // namespace flex
