#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"
#include "models/feature_table.h"

namespace flex {

/// A linear classifier on features that stay as they are: ridge regression onto targets of 1 for a sample's
/// class and -1 for the others, in closed form, after each feature was shifted and scaled to mean 0 and
/// deviation 1 over the samples that it is fitted on. The intercept is not penalized. Nothing is random;
/// fp64.
///
/// With X (N, C) the standardized features and Y (N, K) the targets less their means, the weights are
/// (X^T X + ridge I)^-1 X^T Y = X^T (X X^T + ridge I)^-1 Y; whichever matrix is smaller is factored.
/// @source The few-shot evaluation of Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, 4
/// (regularized least squares to targets in {-1, 1}^K); Hoerl, Kennard, "Ridge Regression", 1970
class LinearProbe {
 public:
  /// @throws InputError without rows, for a label that is no class, features that are not finite, or a ridge
  /// that is not above 0.
  LinearProbe(const FeatureTable& samples, std::int64_t num_classes, double ridge);
  ~LinearProbe();
  LinearProbe(LinearProbe&&) noexcept;
  LinearProbe& operator=(LinearProbe&&) noexcept;

  /// Scores (N, K) in fp64: the highest one is the predicted class. They are no logits.
  /// @throws InputError for another number of features.
  [[nodiscard]] Tensor scores(const FeatureTable& samples) const;
  /// Share of the samples whose label has the highest score, of equal scores the lower class's.
  [[nodiscard]] double accuracy(const FeatureTable& samples) const;

 private:
  struct Weights;  // matrices, which this header need not know
  std::unique_ptr<Weights> weights_;
};

/// A k-shot linear evaluation.
struct FewShotOptions {
  std::int64_t shots = 5;  ///< samples of each class that the probe is fitted on
  double ridge = 1;
  std::uint64_t seed = 0;  ///< of the choice of samples
};

/// Accuracy on `test` of a probe that was fitted on `options.shots` samples of each class of `train`.
/// @throws InputError as pick_few_shots() and LinearProbe.
[[nodiscard]] double few_shot_accuracy(const FeatureTable& train, const FeatureTable& test,
                                       std::int64_t num_classes, const FewShotOptions& options);

}  // namespace flex
