#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace flex {

/// Element types of tensors. CPU kernels compute in kF32 and kF64; CUDA kernels in kF32, kF16 and kBF16.
enum class DType : std::uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kU8 };

/// Bytes of one element.
[[nodiscard]] constexpr std::int64_t size_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

/// True for the types that hold real numbers.
[[nodiscard]] constexpr bool is_floating(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

/// Name as written on the command line and in JSON: fp64, fp32, fp16, bf16, i64, i32, u8.
[[nodiscard]] constexpr std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "fp64";
    case DType::kF32:
      return "fp32";
    case DType::kF16:
      return "fp16";
    case DType::kBF16:
      return "bf16";
    case DType::kI64:
      return "i64";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

/// Inverse of name(); nothing for an unknown name.
[[nodiscard]] constexpr std::optional<DType> parse_dtype(std::string_view text) {
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64, DType::kI32, DType::kU8}) {
    if (name(dtype) == text) return dtype;
  }
  return std::nullopt;
}

/// The type in which gate, scores and losses are kept beside tensors of `dtype`: double for double, fp32 for
/// fp32 and everything narrower.
[[nodiscard]] constexpr DType gate_dtype(DType dtype) {
  return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

/// DType of a C++ type that the CPU computes with.
template <class T>
inline constexpr DType kDTypeOf = DType::kU8;
template <>
inline constexpr DType kDTypeOf<double> = DType::kF64;
template <>
inline constexpr DType kDTypeOf<float> = DType::kF32;
template <>
inline constexpr DType kDTypeOf<std::int64_t> = DType::kI64;
template <>
inline constexpr DType kDTypeOf<std::int32_t> = DType::kI32;

}  // namespace flex
