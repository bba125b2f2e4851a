#pragma once

#include <span>

#include "base/safetensors_stream.h"
#include "models/checkpoint/stored_tensor.h"
#include "runtime/rank_context.h"

namespace flex {

/// A tensor of the size of a parameter, as this rank holds it: the parameter, or what an optimizer keeps of
/// it.
struct HeldTensor {
  std::string name;  ///< in a file
  const ModelParameter* parameter = nullptr;
  TensorView local;            ///< this rank's part, on its device
  DType stored = DType::kF32;  ///< the type in files
};

/// The entry of a file for the whole tensor.
[[nodiscard]] SafetensorsEntry entry_of(const HeldTensor& tensor);

/// Collects whole tensors on rank 0, one after the other, so that it needs room for the largest alone.
class ParameterGatherer {
 public:
  /// Makes that room. Not collective. `tensors` are all that will be gathered.
  ParameterGatherer(std::span<const HeldTensor> tensors, RankContext& context);

  /// The whole tensor in the type of files, valid until the next call; nothing on other ranks. Collective.
  /// The device's work on the tensor must be done.
  std::span<const std::byte> gather_blocking(const HeldTensor& tensor);

 private:
  [[nodiscard]] bool is_spread(const HeldTensor& tensor) const;
  void collect_blocking(const HeldTensor& tensor);

  RankContext& context_;
  Stream stream_;
  Tensor pieces_;       // on the device: what all ranks sent
  Tensor host_pieces_;  // the same for the host; absent where pieces_ lies there
  Tensor whole_;
};

}  // namespace flex
