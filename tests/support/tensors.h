#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "base/philox.h"
#include "base/require.h"
#include "kernels/tensor.h"
#include "tests/support/narrow_float.h"

/// Tensors of any type on any device, made from doubles and read back as doubles.
namespace flex::testing {

/// Writes element `index` of host memory of `dtype`, rounded to that type.
inline void store_value(void* data, std::int64_t index, DType dtype, double value) {
  switch (dtype) {
    case DType::kF64:
      static_cast<double*>(data)[index] = value;
      return;
    case DType::kF32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      return;
    case DType::kF16:
      static_cast<std::uint16_t*>(data)[index] = Fp16::from_double(value);
      return;
    case DType::kBF16:
      static_cast<std::uint16_t*>(data)[index] = Bf16::from_double(value);
      return;
    case DType::kI64:
      static_cast<std::int64_t*>(data)[index] = static_cast<std::int64_t>(value);
      return;
    case DType::kI32:
      static_cast<std::int32_t*>(data)[index] = static_cast<std::int32_t>(value);
      return;
    case DType::kU8:
      static_cast<std::uint8_t*>(data)[index] = static_cast<std::uint8_t>(value);
      return;
  }
}

/// Reads element `index` of host memory of `dtype`.
[[nodiscard]] inline double load_value(const void* data, std::int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return static_cast<const double*>(data)[index];
    case DType::kF32:
      return static_cast<double>(static_cast<const float*>(data)[index]);
    case DType::kF16:
      return Fp16::to_double(static_cast<const std::uint16_t*>(data)[index]);
    case DType::kBF16:
      return Bf16::to_double(static_cast<const std::uint16_t*>(data)[index]);
    case DType::kI64:
      return static_cast<double>(static_cast<const std::int64_t*>(data)[index]);
    case DType::kI32:
      return static_cast<const std::int32_t*>(data)[index];
    case DType::kU8:
      return static_cast<const std::uint8_t*>(data)[index];
  }
  return std::numeric_limits<double>::quiet_NaN();
}

/// Overwrites a contiguous tensor on any device. @throws InputError if there are more or fewer values than
/// elements.
inline void assign(const TensorView& to, const std::vector<double>& values) {
  require(std::ssize(values) == to.num_elements(), "assign: {} values for a tensor of {}", values.size(),
          to_string(to.shape));
  Tensor host(to.dtype, to.shape);
  for (std::int64_t i = 0; i < to.num_elements(); ++i) {
    store_value(host.view().data, i, to.dtype, values[static_cast<std::size_t>(i)]);
  }
  copy_blocking(to, host);
}

/// The elements of a contiguous tensor on any device, whose work has been waited for.
[[nodiscard]] inline std::vector<double> values_of(const ConstTensorView& from) {
  Tensor host(from.dtype, from.shape);
  copy_blocking(host, from);
  std::vector<double> values(static_cast<std::size_t>(from.num_elements()));
  for (std::int64_t i = 0; i < from.num_elements(); ++i) {
    values[static_cast<std::size_t>(i)] = load_value(host.view().data, i, from.dtype);
  }
  return values;
}

/// A tensor of `values`, rounded to `dtype`.
[[nodiscard]] inline Tensor make_tensor(Shape shape, const std::vector<double>& values,
                                        DType dtype = DType::kF64, Device device = Device::cpu()) {
  Tensor tensor(dtype, shape, device);
  assign(tensor, values);
  return tensor;
}

/// Uniform values in [low, high): the same for equal seeds on every device and, but for rounding, in every
/// type.
[[nodiscard]] inline std::vector<double> random_uniform(std::int64_t count, std::uint64_t seed,
                                                        double low = -1.0, double high = 1.0) {
  PhiloxStream random(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = low + (high - low) * random.uniform();
  return values;
}

/// A tensor of random_uniform values.
[[nodiscard]] inline Tensor random_tensor(Shape shape, std::uint64_t seed, DType dtype = DType::kF64,
                                          Device device = Device::cpu(), double low = -1.0,
                                          double high = 1.0) {
  return make_tensor(shape, random_uniform(shape.num_elements(), seed, low, high), dtype, device);
}

/// What an output holds before a kernel writes it: a NaN, or an integer that no result takes.
[[nodiscard]] inline double poison(DType dtype) {
  if (dtype == DType::kU8) return 0xAB;
  return is_floating(dtype) ? std::numeric_limits<double>::quiet_NaN() : -987654321.0;
}

/// A tensor full of poison.
[[nodiscard]] inline Tensor poisoned_tensor(Shape shape, DType dtype = DType::kF64,
                                            Device device = Device::cpu()) {
  return make_tensor(shape,
                     std::vector<double>(static_cast<std::size_t>(shape.num_elements()), poison(dtype)),
                     dtype, device);
}

}  // namespace flex::testing
