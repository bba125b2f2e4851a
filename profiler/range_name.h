#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flex {

/// What a range of a MoE layer is called, in parts. Texts that do not apply are empty.
struct RangeNameParts {
  std::int32_t layer = -1;      ///< -1: outside of a layer
  std::string_view direction;   ///< `dispatch`, `combine`
  std::string_view operation;   ///< e.g. `rail_all_to_all`
  std::int32_t chunk = 0;       ///< counted from 0
  std::int32_t num_chunks = 1;  ///< 1: not split
  std::string_view all_to_all;  ///< its algorithm, e.g. `2dh`
};

/// A name that is stable over runs, so that tools can compare them: `moe/L03/dispatch#1of4[2dh]`, or
/// `moe/L03/dispatch/rail_all_to_all#1of4[2dh]`, or `moe/gate`. Held in place: making one allocates nothing.
/// A name that is too long is cut at the end.
class RangeName {
 public:
  static constexpr std::size_t kMaxLength = 95;

  explicit RangeName(const RangeNameParts& parts);

  [[nodiscard]] const char* c_str() const { return text_.data(); }
  [[nodiscard]] std::string_view view() const { return {text_.data(), length_}; }

 private:
  std::array<char, kMaxLength + 1> text_{};
  std::size_t length_ = 0;
};

}  // namespace flex
