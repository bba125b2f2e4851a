#include "kernels/host_element.h"

#include <bit>

#include "base/require.h"

namespace flex {
namespace {

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  constexpr std::uint32_t kInfinity = 0x7F800000U;
  if ((bits & ~0x80000000U) > kInfinity) return 0x7FC0;  // rounding a NaN up could make it infinite
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

}  // namespace

void set_host_element(const TensorView& view, std::int64_t index, double value) {
  switch (view.dtype) {
    case DType::kF64:
      view.as<double>()[index] = value;
      return;
    case DType::kF32:
      view.as<float>()[index] = static_cast<float>(value);
      return;
    case DType::kF16:
      view.as<_Float16>()[index] = static_cast<_Float16>(value);
      return;
    case DType::kBF16:
      view.as<std::uint16_t>()[index] = to_bf16(static_cast<float>(value));
      return;
    default:
      fail("an element of type {} is no real number", name(view.dtype));
  }
}

double host_element(const ConstTensorView& view, std::int64_t index) {
  switch (view.dtype) {
    case DType::kF64:
      return view.as<double>()[index];
    case DType::kF32:
      return static_cast<double>(view.as<float>()[index]);
    case DType::kF16:
      return static_cast<double>(view.as<_Float16>()[index]);
    case DType::kBF16:
      return static_cast<double>(
          std::bit_cast<float>(static_cast<std::uint32_t>(view.as<std::uint16_t>()[index]) << 16U));
    default:
      fail("an element of type {} is no real number", name(view.dtype));
  }
}

}  // namespace flex
