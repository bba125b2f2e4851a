#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "runtime/rank_context.h"

namespace flex {

/// How often samples of one class were taken for another.
struct ConfusedPair {
  std::int64_t label = 0;
  std::int64_t predicted = 0;
  std::int64_t count = 0;

  friend bool operator==(const ConfusedPair&, const ConfusedPair&) = default;
};

/// How well a classifier does on labelled samples, as counts and sums: parts of a data set add up to the
/// whole. Of equal logits those of the lower class come first. A row of logits that holds a NaN is wrong, has
/// no prediction, and makes the cross entropy NaN.
class ClassifierEvaluation {
 public:
  /// Ranks that top5() looks at; where there are fewer classes, all.
  static constexpr std::int64_t kTopFive = 5;

  /// @throws InputError for less than one class.
  explicit ClassifierEvaluation(std::int64_t num_classes);

  /// Adds the first `num_valid` rows of logits (B, K) of any floating type, in host memory, with labels (B)
  /// i32. @throws InputError for shapes or types that disagree, and for a label that is no class; then
  /// nothing was added.
  void add(ConstTensorView logits, ConstTensorView labels, std::int64_t num_valid);
  /// @throws InputError for another number of classes.
  void merge(const ClassifierEvaluation& other);
  /// Makes this, on every rank, what all ranks' evaluations are together, with equal bits. Collective.
  /// @throws InputError on all ranks if they differ in the number of classes; CommError.
  void sum_over_ranks_blocking(RankContext& context);

  [[nodiscard]] std::int64_t num_classes() const { return num_classes_; }
  [[nodiscard]] std::int64_t num_samples() const { return num_samples_; }
  /// Shares of the samples whose label is the highest logit, or among the five highest; 0 without samples.
  [[nodiscard]] double top1() const { return share(num_top1_); }
  [[nodiscard]] double top5() const { return share(num_top5_); }
  /// Mean over the samples of logsumexp(logits) - logit of the label, computed in fp64; 0 without samples.
  [[nodiscard]] double cross_entropy() const;
  /// Samples of a class, and those of them that were recognized.
  [[nodiscard]] std::int64_t num_of_class(std::int64_t label) const;
  [[nodiscard]] std::int64_t num_right(std::int64_t label) const { return confusion(label, label); }
  /// Samples of class `label` that were taken for `predicted`.
  [[nodiscard]] std::int64_t confusion(std::int64_t label, std::int64_t predicted) const;
  /// At most `most` pairs of different classes, the most frequent first; of equal ones the lower classes.
  [[nodiscard]] std::vector<ConfusedPair> most_confused(std::size_t most) const;

 private:
  [[nodiscard]] double share(std::int64_t count) const;
  void add_row(std::span<const double> logits, std::int64_t label);
  void check(ConstTensorView logits, ConstTensorView labels, std::int64_t num_valid) const;

  std::int64_t num_classes_;
  std::int64_t num_samples_ = 0;
  std::int64_t num_top1_ = 0;
  std::int64_t num_top5_ = 0;
  double sum_cross_entropy_ = 0;
  std::vector<std::int64_t> class_samples_;
  // By label * classes + prediction: never more entries than samples, however many classes there are.
  std::map<std::int64_t, std::int64_t> confusion_;
};

/// Classes up to which to_json() has the whole confusion; with more, the most confused pairs.
inline constexpr std::int64_t kMaxConfusionClasses = 32;

/// Samples, top-1, top-5, cross entropy (null if it is not finite), and by class: samples and the share that
/// was recognized (null without samples). Then `confusion`, a list of rows by label, or `most_confused`.
/// `class_names` by class, or empty. @throws InputError for another number of names than classes.
[[nodiscard]] nlohmann::ordered_json to_json(const ClassifierEvaluation& evaluation,
                                             std::span<const std::string> class_names = {});

}  // namespace flex
