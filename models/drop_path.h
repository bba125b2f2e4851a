#pragma once

#include <cstdint>
#include <vector>

#include "models/swin_block.h"

namespace flex {

/// Drop path of one sample in one branch: 0, or 1 / (1 - rate) with probability 1 - rate. A function of its
/// arguments alone, so that the number of ranks changes nothing. `branch` counts the model's branches,
/// `sample` those of the global batch. @source Huang et al., "Deep Networks with Stochastic Depth"
[[nodiscard]] double drop_path_factor(std::uint64_t seed, std::uint64_t iteration, std::int64_t branch,
                                      std::int64_t sample, double rate);

/// The factors of all branches of one training pass, on the model's device.
class DropPath {
 public:
  /// For `batch` samples, from `first_sample` of the global batch on.
  DropPath(const ModelConfig& config, DType dtype, Device device, std::int64_t batch,
           std::int64_t first_sample, std::uint64_t seed);

  /// Draws the factors of `iteration`. What used the last ones must have run.
  void draw(std::uint64_t iteration, Stream& stream);
  /// Of block `index`; absent for a rate of 0.
  [[nodiscard]] BranchFactors factors(std::size_t index) const;

 private:
  static constexpr std::int64_t kBranches = 2;  // of a block

  std::vector<double> rates_;  // of each block
  std::int64_t first_sample_;
  std::uint64_t seed_;
  Tensor host_, factors_;  // (blocks, 2, B)
};

}  // namespace flex
