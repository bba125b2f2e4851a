#include "profiler/range_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace flex {

RangeName::RangeName(const RangeNameParts& parts) {
  const auto append = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    const std::size_t room = kMaxLength - length_;
    const auto written =
        fmt::format_to_n(text_.data() + length_, room, format, std::forward<Args>(args)...).size;
    length_ += std::min(room, written);
  };
  append("moe");
  if (parts.layer >= 0) append("/L{:02}", parts.layer);
  if (!parts.direction.empty()) append("/{}", parts.direction);
  if (!parts.operation.empty()) append("/{}", parts.operation);
  if (parts.num_chunks > 1) append("#{}of{}", parts.chunk + 1, parts.num_chunks);
  if (!parts.all_to_all.empty()) append("[{}]", parts.all_to_all);
}

}  // namespace flex
