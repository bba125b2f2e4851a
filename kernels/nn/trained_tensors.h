#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace flex {

/// One trained tensor and what the optimizer keeps of it: contiguous views of as many elements, on one
/// device.
struct TrainedTensor {
  static constexpr int kNoGroup = -1;

  ConstTensorView gradient;  ///< in a type that the device computes in, which may differ between tensors
  TensorView parameter;      ///< what is trained: fp32, or fp64 on the CPU, alike in all tensors of a list
  TensorView first_moment;   ///< in parameter's type: running mean of the gradient, zero at first
  TensorView second_moment;  ///< in parameter's type: running mean of its square, zero at first
  TensorView narrow{};       ///< fp16 or bf16, optional: copy of `parameter` that the layers read
  TensorView average{};      ///< in parameter's type, optional: exponential moving average of `parameter`
  bool decays = true;        ///< weight decay applies
  int norm_group = 0;        ///< sum of squared_norms that the gradient counts in, or kNoGroup
};

/// The tensors of an optimizer, listed once: a step passes over all of them with one launch, and allocates
/// nothing. Views must stay valid while this lives, and this must live while queued work reads it.
class TrainedTensors {
 public:
  /// Elements that one block of threads works on.
  static constexpr std::int64_t kChunk = 16384;

  /// Blocks until the list is on the device. @throws InputError for views that disagree.
  TrainedTensors(std::vector<TrainedTensor> tensors, Device device);

  [[nodiscard]] std::span<const TrainedTensor> tensors() const { return tensors_; }
  [[nodiscard]] Device device() const { return device_; }
  /// The type of parameters and moments.
  [[nodiscard]] DType dtype() const { return dtype_; }
  /// 1 + the largest norm_group.
  [[nodiscard]] int num_groups() const { return num_groups_; }
  /// Pieces of at most kChunk elements of one tensor each, those of a group neighbours.
  [[nodiscard]] std::int64_t num_chunks() const { return num_chunks_; }

  /// For the kernels: the tensors, the chunks, and the chunks' group limits (trained_tensor_entry.h). Absent
  /// on the CPU.
  [[nodiscard]] ConstTensorView entries() const { return entries_; }
  [[nodiscard]] ConstTensorView chunks() const { return chunks_; }
  [[nodiscard]] ConstTensorView group_limits() const { return group_limits_; }

 private:
  void upload();

  std::vector<TrainedTensor> tensors_;
  Device device_;
  DType dtype_ = DType::kF32;
  int num_groups_ = 1;
  std::int64_t num_chunks_ = 0;
  Tensor entries_;
  Tensor chunks_;
  Tensor group_limits_;
};

}  // namespace flex
