#include "runtime/max_over_ranks.h"

#include <algorithm>
#include <vector>

namespace flex {

void max_over_ranks_blocking(std::span<std::int64_t> numbers, Communicator& communicator) {
  std::vector<std::int64_t> all(numbers.size() * static_cast<std::size_t>(communicator.size()));
  communicator.gather_host_blocking(numbers, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::int64_t& number = numbers[i % numbers.size()];
    number = std::max(number, all[i]);
  }
}

}  // namespace flex
