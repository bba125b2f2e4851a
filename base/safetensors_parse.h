#pragma once

#include <bit>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/require.h"
#include "base/safetensors_dtype.h"

namespace flex {

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and used in place");

/// The longest header that is read or written, as in the reference implementation.
inline constexpr std::int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// The key of a header that holds metadata instead of a tensor.
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

/// One tensor of a file: row-major, little-endian.
struct SafetensorsTensor {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<std::int64_t> shape;   ///< empty for a scalar
  std::span<const std::byte> bytes;  ///< in place; of any alignment

  /// One for a scalar.
  [[nodiscard]] std::int64_t num_elements() const {
    return static_cast<std::int64_t>(bytes.size()) / element_bytes(dtype);
  }

  /// A copy of the elements.
  /// @throws InputError if the element type is another.
  template <class T>
  [[nodiscard]] std::vector<T> values() const {
    constexpr SafetensorsDType kExpected = safetensors_dtype_of<T>();
    require(dtype == kExpected, "tensor \"{}\" holds {}; expected {}", name, name_of(dtype),
            name_of(kExpected));
    std::vector<T> copy(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
    return copy;
  }
};

/// What a safetensors file holds.
struct SafetensorsContent {
  std::vector<SafetensorsTensor> tensors;  ///< by name, in alphabetical order
  std::map<std::string, std::string> metadata;
};

/// Elements of a tensor of this shape; nothing if a dimension is negative or the count (zero dimensions
/// counted as one) or its size in bytes exceeds 63 bits.
[[nodiscard]] std::optional<std::int64_t> num_elements(std::span<const std::int64_t> shape,
                                                       SafetensorsDType dtype);

/// Validates all of a file's bytes and describes its tensors, which point into `file`.
///
/// Checked: header length; JSON without duplicate keys; names and metadata; element types; shapes without
/// overflow; that each tensor's size is what its shape needs; that the tensors cover the data without
/// overlaps or holes.
/// @param where begins every message: the file's name.
/// @throws InputError
/// @source https://github.com/huggingface/safetensors#format
[[nodiscard]] SafetensorsContent parse_safetensors(std::span<const std::byte> file, std::string_view where);

}  // namespace flex
