#pragma once

#include <cstdint>

#include "models/trainer.h"

namespace flex {

/// Images that are made instead of read: gratings whose direction and width tell the class, under noise. A
/// sample is a function of the seed and its number alone, so that ranks need not share anything.
class ProceduralImages {
 public:
  /// Batches of `batch` samples of this rank, for a model of `dtype` on `device`; see Trainer for which they
  /// are.
  ProceduralImages(const ModelConfig& config, DType dtype, std::int64_t batch, std::uint64_t seed,
                   Device device = Device::cpu());

  /// Makes samples [first, first + batch). Valid until the next call.
  [[nodiscard]] ImageBatch make(std::int64_t first);

 private:
  void draw(std::int64_t sample, std::int64_t place);

  std::uint64_t seed_;
  std::int64_t num_classes_;
  Tensor images_, labels_;  // host memory
};

}  // namespace flex
