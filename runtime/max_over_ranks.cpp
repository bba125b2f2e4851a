#include "runtime/max_over_ranks.h"

#include <algorithm>
#include <array>
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

bool any_rank_blocking(bool mine, Communicator& communicator) {
  std::array<std::int64_t, 1> word = {mine ? 1 : 0};
  max_over_ranks_blocking(word, communicator);
  return word[0] != 0;
}

}  // namespace flex
