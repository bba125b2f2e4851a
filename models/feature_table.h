#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "runtime/rank_context.h"

namespace flex {

/// Features of samples in host memory, a row each, with their labels and their numbers in the data set: what
/// a linear probe is fitted on. Rows that were gathered over the ranks are in the order of their numbers,
/// so that what is made of them does not depend on how samples were spread.
class FeatureTable {
 public:
  /// C features in a row. @throws InputError for less than one.
  explicit FeatureTable(std::int64_t num_features);

  /// Adds the first `samples.size()` rows of features (B, C), of any floating type, and labels (B) i32, both
  /// in host memory; `samples` are their numbers. @throws InputError for shapes or types that disagree.
  void add(ConstTensorView features, ConstTensorView labels, std::span<const std::int64_t> samples);
  /// Makes this, on every rank, all ranks' rows in the order of their numbers, each number once. Collective.
  /// @throws CommError.
  void gather_over_ranks_blocking(RankContext& context);

  [[nodiscard]] std::int64_t num_rows() const { return static_cast<std::int64_t>(labels_.size()); }
  [[nodiscard]] std::int64_t num_features() const { return num_features_; }
  /// (num_features): valid until the next change.
  [[nodiscard]] std::span<const double> row(std::int64_t index) const;
  [[nodiscard]] std::span<const std::int32_t> labels() const { return labels_; }
  [[nodiscard]] std::span<const std::int64_t> samples() const { return samples_; }

  /// The rows of these indices, in this order. @throws InputError for one that is not there.
  [[nodiscard]] FeatureTable rows(std::span<const std::int64_t> indices) const;

 private:
  std::int64_t num_features_;
  std::vector<double> features_;  // (rows, C)
  std::vector<std::int32_t> labels_;
  std::vector<std::int64_t> samples_;
};

/// Indices of `shots` samples of each of `num_classes` classes, class by class, picked at random by `seed`
/// alone. @throws InputError that names the first class with fewer samples, or a label that is no class.
[[nodiscard]] std::vector<std::int64_t> pick_few_shots(std::span<const std::int32_t> labels,
                                                       std::int64_t num_classes, std::int64_t shots,
                                                       std::uint64_t seed);

}  // namespace flex
