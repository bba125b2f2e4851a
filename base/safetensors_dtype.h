#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace flex {

/// Element types of the safetensors format. Those that no kernel computes with can be listed and copied as
/// bytes.
enum class SafetensorsDType {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
};

/// The name in files: "F32".
[[nodiscard]] std::string_view name_of(SafetensorsDType dtype);

/// The type of a name in a file; nothing if there is no such name.
[[nodiscard]] std::optional<SafetensorsDType> parse_safetensors_dtype(std::string_view name);

[[nodiscard]] std::int64_t element_bytes(SafetensorsDType dtype);

/// The element type that holds a C++ type.
template <class T>
[[nodiscard]] constexpr SafetensorsDType safetensors_dtype_of() {
  if constexpr (std::is_same_v<T, double>) {
    return SafetensorsDType::kF64;
  } else if constexpr (std::is_same_v<T, float>) {
    return SafetensorsDType::kF32;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return SafetensorsDType::kI64;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return SafetensorsDType::kI32;
  } else {
    static_assert(std::is_same_v<T, std::uint8_t>,
                  "double, float, std::int64_t, std::int32_t or std::uint8_t");
    return SafetensorsDType::kU8;
  }
}

}  // namespace flex
