#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "base/require.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// What every kernel's front door checks before it queues work. Host code only.
namespace flex {

/// Checks the arguments of one call of the kernel `kernel` on the device of its stream. Every message is one
/// line that begins with the kernel's name.
class ArgumentCheck {
 public:
  ArgumentCheck(std::string_view kernel, Device device) : kernel_(kernel), device_(device) {}

  /// @throws InputError unless the device's kernels compute in `dtype`: fp32 and fp64 on the CPU, fp32, fp16
  /// and bf16 on CUDA.
  void require_compute_dtype(std::string_view argument, DType dtype) const {
    const bool computes =
        dtype == DType::kF32 ||
        (device_.is_cpu() ? dtype == DType::kF64 : dtype == DType::kF16 || dtype == DType::kBF16);
    require(computes, "{}: {} is {}; {} computes in {}", kernel_, argument, name(dtype), to_string(device_),
            device_.is_cpu() ? "fp32 and fp64" : "fp32, fp16 and bf16");
  }

  /// @throws InputError unless gates, logits and losses may be `dtype` on the device: fp32, and fp64 on the
  /// CPU.
  void require_gate_dtype(std::string_view argument, DType dtype) const {
    const bool computes = dtype == DType::kF32 || (device_.is_cpu() && dtype == DType::kF64);
    require(computes, "{}: {} is {}; on {} the gate computes in {}", kernel_, argument, name(dtype),
            to_string(device_), device_.is_cpu() ? "fp32 and fp64" : "fp32");
  }

  void require_dtype(std::string_view argument, const ConstTensorView& view, DType dtype) const {
    require(view.dtype == dtype, "{}: {} is {}, expected {}", kernel_, argument, name(view.dtype),
            name(dtype));
  }
  void require_shape(std::string_view argument, const ConstTensorView& view, const Shape& shape) const {
    require(view.present(), "{}: {} is missing, expected {}", kernel_, argument, to_string(shape));
    require(view.shape == shape, "{}: {} is {}, expected {}", kernel_, argument, to_string(view.shape),
            to_string(shape));
  }
  void require_device(std::string_view argument, const ConstTensorView& view) const {
    require(view.device == device_, "{}: {} lies on {}, the stream runs on {}", kernel_, argument,
            to_string(view.device), to_string(device_));
  }
  void require_contiguous(std::string_view argument, const ConstTensorView& view) const {
    require(view.contiguous() || view.size(0) <= 1, "{}: {} has a stride of {}, expected a contiguous {}",
            kernel_, argument, view.outer_stride, to_string(view.shape));
  }
  void require_absent(std::string_view argument, const ConstTensorView& view, std::string_view when) const {
    require(!view.present(), "{}: {} is given, but has no use {}", kernel_, argument, when);
  }

  /// An argument that must be there; slices of axis 0 may lie a stride apart.
  void strided(std::string_view argument, const ConstTensorView& view, DType dtype,
               const Shape& shape) const {
    require_shape(argument, view, shape);
    require_dtype(argument, view, dtype);
    require_device(argument, view);
  }
  /// An argument that must be there, without gaps.
  void tensor(std::string_view argument, const ConstTensorView& view, DType dtype, const Shape& shape) const {
    strided(argument, view, dtype, shape);
    require_contiguous(argument, view);
  }
  /// Scratch of at least `bytes`, in contiguous elements of u8.
  void workspace(const ConstTensorView& view, std::int64_t bytes) const {
    if (bytes == 0 && !view.present()) return;
    tensor("workspace", view, DType::kU8, {view.size(0)});
    require(view.size(0) >= bytes, "{}: workspace has {} bytes, expected at least {}", kernel_, view.size(0),
            bytes);
  }

  [[nodiscard]] std::string_view kernel() const { return kernel_; }

 private:
  std::string_view kernel_;
  Device device_;
};

/// Queues `function.operator()<T>()` on a CPU stream, T being the C++ type of `dtype`, which the door has
/// checked.
template <class Function>
void enqueue_as(DType dtype, Stream& stream, Function&& function) {
  if (dtype == DType::kF64) {
    stream.enqueue([run = std::forward<Function>(function)]() mutable { run.template operator()<double>(); });
  } else {
    stream.enqueue([run = std::forward<Function>(function)]() mutable { run.template operator()<float>(); });
  }
}

}  // namespace flex
