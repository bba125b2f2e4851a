#include "runtime/gather_texts.h"

#include <algorithm>
#include <cstring>

namespace flex {

std::vector<std::string> gather_texts_blocking(std::string_view text, Communicator& communicator) {
  constexpr std::size_t kWordBytes = sizeof(std::int64_t);
  const auto num_ranks = static_cast<std::size_t>(communicator.size());
  const auto own_bytes = static_cast<std::int64_t>(text.size());
  std::vector<std::int64_t> sizes(num_ranks);
  communicator.gather_host_blocking({&own_bytes, 1}, sizes);

  // All bring as many words as the longest text needs.
  const auto longest = static_cast<std::size_t>(*std::ranges::max_element(sizes));
  const std::size_t words = (longest + kWordBytes - 1) / kWordBytes;
  std::vector<std::string> texts(num_ranks);
  if (words == 0) return texts;
  std::vector<std::int64_t> mine(words);
  std::vector<std::int64_t> all(words * num_ranks);
  std::memcpy(mine.data(), text.data(), text.size());
  communicator.gather_host_blocking(mine, all);
  for (std::size_t rank = 0; rank < num_ranks; ++rank) {
    texts[rank].resize(static_cast<std::size_t>(sizes[rank]));
    std::memcpy(texts[rank].data(), all.data() + rank * words, texts[rank].size());
  }
  return texts;
}

}  // namespace flex
