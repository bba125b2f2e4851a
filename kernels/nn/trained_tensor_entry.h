#pragma once

#include <cstdint>

#include "kernels/dtype.h"

/// TrainedTensors as the CUDA kernels read it. Private to this folder.
namespace flex {

struct TrainedTensorEntry {
  const void* gradient;
  float* parameter;
  float* first_moment;
  float* second_moment;
  void* narrow;    ///< null without one
  float* average;  ///< null without one
  std::int64_t num_elements;
  DType gradient_dtype;
  DType narrow_dtype;
  bool decays;
};

/// Elements [index * TrainedTensors::kChunk, + kChunk) of a tensor, as far as it goes. The chunks of group g
/// are [group_limits[g], group_limits[g + 1]) (i64); those of no group come last.
struct TrainedTensorChunk {
  std::int32_t tensor;
  std::int32_t index;
};

}  // namespace flex
