#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/safetensors_parse.h"
#include "kernels/tensor.h"
#include "models/model_parameters.h"

namespace flex {

/// A whole tensor as files hold it: in one piece, or in several of one shape, one behind the other, as ranks
/// that hold a part each have written it. Pieces lie in files that must outlive it.
struct StoredTensor {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<std::int64_t> shape;  ///< of one piece; empty for a scalar
  std::vector<std::span<const std::byte>> pieces;

  /// Of all pieces.
  [[nodiscard]] std::int64_t num_elements() const;
};

[[nodiscard]] StoredTensor stored_tensor(const SafetensorsTensor& tensor);

/// The type that kernels compute in of a file's; nothing for those that hold no real numbers, or 8-bit ones.
[[nodiscard]] std::optional<DType> floating_dtype(SafetensorsDType dtype);
[[nodiscard]] SafetensorsDType safetensors_dtype(DType dtype);
[[nodiscard]] std::vector<std::int64_t> extents_of(const Shape& shape);

/// Copies elements [begin, begin + count) of a tensor of floating type to `to`, of host memory, rounded to
/// its type if that is another.
void read_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count, TensorView to,
                   std::int64_t to_begin);

/// This rank's part of `parameter` out of a whole tensor of as many elements, in `dtype`, in host memory;
/// reads nothing else of the file.
[[nodiscard]] Tensor read_part(const StoredTensor& tensor, const ModelParameter& parameter, DType dtype);

/// What a rank's shard of `parameter` has in common with the whole; all of it if ranks hold it whole.
[[nodiscard]] std::vector<ShardRun> runs_of(const ModelParameter& parameter);

}  // namespace flex
