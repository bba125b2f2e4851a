#include "kernels/nn/trained_tensors.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/check.h"
#include "kernels/nn/trained_tensor_entry.h"

namespace flex {
namespace {

void check_tensor(const TrainedTensor& tensor, std::size_t index, DType dtype, Device device) {
  const std::string kernel = "TrainedTensors: tensor " + std::to_string(index);
  const ArgumentCheck check(kernel, device);
  const Shape& shape = tensor.parameter.shape;
  check.require_gate_dtype("parameter", dtype);
  check.tensor("parameter", tensor.parameter, dtype, shape);
  check.require_compute_dtype("gradient", tensor.gradient.dtype);
  check.tensor("gradient", tensor.gradient, device.is_cpu() ? dtype : tensor.gradient.dtype, shape);
  check.tensor("first_moment", tensor.first_moment, dtype, shape);
  check.tensor("second_moment", tensor.second_moment, dtype, shape);
  if (tensor.average.present()) check.tensor("average", tensor.average, dtype, shape);
  if (tensor.narrow.present()) {
    require(device.is_cuda(), "{}: narrow is given, but has no use on the CPU", kernel);
    const DType narrow = tensor.narrow.dtype;
    require(narrow == DType::kF16 || narrow == DType::kBF16, "{}: narrow is {}, expected fp16 or bf16",
            kernel, name(narrow));
    check.tensor("narrow", tensor.narrow, narrow, shape);
  }
  require(tensor.norm_group >= TrainedTensor::kNoGroup, "{}: norm_group is {}, expected {} or more", kernel,
          tensor.norm_group, TrainedTensor::kNoGroup);
}

std::int64_t chunks_of(const TrainedTensor& tensor) {
  return (tensor.parameter.num_elements() + TrainedTensors::kChunk - 1) / TrainedTensors::kChunk;
}

TrainedTensorEntry entry_of(const TrainedTensor& tensor) {
  return {.gradient = tensor.gradient.data,
          .parameter = tensor.parameter.as<float>(),
          .first_moment = tensor.first_moment.as<float>(),
          .second_moment = tensor.second_moment.as<float>(),
          .narrow = tensor.narrow.data,
          .average = tensor.average.as<float>(),
          .num_elements = tensor.parameter.num_elements(),
          .gradient_dtype = tensor.gradient.dtype,
          .narrow_dtype = tensor.narrow.dtype,
          .decays = tensor.decays};
}

// `values` on the device, as elements of `dtype`.
template <class T>
Tensor uploaded(const std::vector<T>& values, DType dtype, Device device) {
  const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(T));
  Tensor host(dtype, {bytes / size_bytes(dtype)});
  if (bytes > 0) std::memcpy(host.as<char>(), values.data(), static_cast<std::size_t>(bytes));
  Tensor result(dtype, host.shape(), device);
  copy_blocking(result, host);
  return result;
}

}  // namespace

TrainedTensors::TrainedTensors(std::vector<TrainedTensor> tensors, Device device)
    : tensors_(std::move(tensors)), device_(device) {
  if (!tensors_.empty()) dtype_ = tensors_.front().parameter.dtype;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    check_tensor(tensors_[i], i, dtype_, device);
    num_groups_ = std::max(num_groups_, tensors_[i].norm_group + 1);
    num_chunks_ += chunks_of(tensors_[i]);
  }
  if (device.is_cuda()) upload();
}

void TrainedTensors::upload() {
  std::vector<TrainedTensorEntry> entries(tensors_.size());
  std::transform(tensors_.begin(), tensors_.end(), entries.begin(), entry_of);
  std::vector<TrainedTensorChunk> chunks;
  std::vector<std::int64_t> limits = {0};
  const auto append_group = [&](int group) {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].norm_group != group) continue;
      for (std::int64_t chunk = 0; chunk < chunks_of(tensors_[i]); ++chunk) {
        chunks.push_back({static_cast<std::int32_t>(i), static_cast<std::int32_t>(chunk)});
      }
    }
  };
  for (int group = 0; group < num_groups_; ++group) {
    append_group(group);
    limits.push_back(static_cast<std::int64_t>(chunks.size()));
  }
  append_group(TrainedTensor::kNoGroup);
  entries_ = uploaded(entries, DType::kU8, device_);
  chunks_ = uploaded(chunks, DType::kU8, device_);
  group_limits_ = uploaded(limits, DType::kI64, device_);
}

}  // namespace flex
