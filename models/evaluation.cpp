#include "models/evaluation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <tuple>

#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {
namespace {

// Classes whose logits come before the label's.
std::int64_t rank_of(std::span<const double> logits, std::int64_t label) {
  const double own = logits[static_cast<std::size_t>(label)];
  std::int64_t before = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > own || (logits[i] == own && static_cast<std::int64_t>(i) < label)) ++before;
  }
  return before;
}

double cross_entropy_of(std::span<const double> logits, std::int64_t label) {
  const double largest = std::ranges::max(logits);
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - logits[static_cast<std::size_t>(label)];
}

// Every rank's numbers, one rank after the other. Ranks may have different amounts of them.
std::vector<std::vector<std::int64_t>> gather_ragged_blocking(const std::vector<std::int64_t>& mine,
                                                              RankContext& context) {
  const auto ranks = static_cast<std::size_t>(context.size());
  std::vector<std::int64_t> sizes(ranks);
  const std::array<std::int64_t, 1> size{static_cast<std::int64_t>(mine.size())};
  context.control().gather_host_blocking(size, sizes);
  const auto most = static_cast<std::size_t>(std::ranges::max(sizes));
  std::vector<std::int64_t> padded = mine;
  padded.resize(most);
  std::vector<std::int64_t> all(ranks * most);
  context.control().gather_host_blocking(padded, all);
  std::vector<std::vector<std::int64_t>> by_rank;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rank * most);
    by_rank.emplace_back(begin, begin + sizes[rank]);
  }
  return by_rank;
}

}  // namespace

ClassifierEvaluation::ClassifierEvaluation(std::int64_t num_classes) : num_classes_(num_classes) {
  require(num_classes >= 1, "Evaluation: {} classes; there is at least 1", num_classes);
  class_samples_.resize(static_cast<std::size_t>(num_classes));
}

void ClassifierEvaluation::check(ConstTensorView logits, ConstTensorView labels,
                                 std::int64_t num_valid) const {
  require(logits.shape.rank() == 2 && logits.size(1) == num_classes_ && logits.contiguous() &&
              logits.device.is_cpu(),
          "Evaluation: logits are {} on {}, expected (B, {}) in host memory", to_string(logits.shape),
          to_string(logits.device), num_classes_);
  require(labels.shape == Shape{logits.size(0)} && labels.dtype == DType::kI32 && labels.device.is_cpu(),
          "Evaluation: labels are {} {} on {}, expected i32 ({}) in host memory", name(labels.dtype),
          to_string(labels.shape), to_string(labels.device), logits.size(0));
  require(num_valid >= 0 && num_valid <= logits.size(0), "Evaluation: {} of {} rows are valid", num_valid,
          logits.size(0));
  for (std::int64_t i = 0; i < num_valid; ++i) {
    const std::int32_t label = labels.as<std::int32_t>()[i];
    require(label >= 0 && label < num_classes_, "Evaluation: sample {} has label {}; classes are 0 to {}", i,
            label, num_classes_ - 1);
  }
}

void ClassifierEvaluation::add(ConstTensorView logits, ConstTensorView labels, std::int64_t num_valid) {
  check(logits, labels, num_valid);
  std::vector<double> row(static_cast<std::size_t>(num_classes_));
  for (std::int64_t i = 0; i < num_valid; ++i) {
    for (std::int64_t c = 0; c < num_classes_; ++c)
      row[static_cast<std::size_t>(c)] = host_element(logits, i * num_classes_ + c);
    add_row(row, labels.as<std::int32_t>()[i]);
  }
}

void ClassifierEvaluation::add_row(std::span<const double> logits, std::int64_t label) {
  ++num_samples_;
  ++class_samples_[static_cast<std::size_t>(label)];
  sum_cross_entropy_ += cross_entropy_of(logits, label);
  if (std::ranges::any_of(logits, [](double logit) { return std::isnan(logit); })) {
    sum_cross_entropy_ = std::nan("");  // the largest of a row may have passed the NaN over
    return;
  }
  const std::int64_t rank = rank_of(logits, label);
  if (rank == 0) ++num_top1_;
  if (rank < kTopFive) ++num_top5_;
  const auto predicted = std::ranges::max_element(logits) - logits.begin();
  ++confusion_[label * num_classes_ + predicted];
}

void ClassifierEvaluation::merge(const ClassifierEvaluation& other) {
  require(other.num_classes_ == num_classes_, "Evaluation: {} classes cannot be merged with {}", num_classes_,
          other.num_classes_);
  num_samples_ += other.num_samples_;
  num_top1_ += other.num_top1_;
  num_top5_ += other.num_top5_;
  sum_cross_entropy_ += other.sum_cross_entropy_;
  for (std::size_t c = 0; c < class_samples_.size(); ++c) class_samples_[c] += other.class_samples_[c];
  for (const auto& [place, count] : other.confusion_) confusion_[place] += count;
}

void ClassifierEvaluation::sum_over_ranks_blocking(RankContext& context) {
  constexpr std::size_t kSums = 5;
  std::vector<std::int64_t> mine = {num_classes_, num_samples_, num_top1_, num_top5_,
                                    std::bit_cast<std::int64_t>(sum_cross_entropy_)};
  mine.insert(mine.end(), class_samples_.begin(), class_samples_.end());
  for (const auto& [place, count] : confusion_) mine.insert(mine.end(), {place, count});
  const std::vector<std::vector<std::int64_t>> all = gather_ragged_blocking(mine, context);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    require(all[rank].front() == all.front().front(), "Evaluation: rank {} has {} classes, rank 0 has {}",
            rank, all[rank].front(), all.front().front());
  }
  ClassifierEvaluation sum(num_classes_);
  for (const std::vector<std::int64_t>& numbers : all) {
    ClassifierEvaluation part(num_classes_);
    part.num_samples_ = numbers[1];
    part.num_top1_ = numbers[2];
    part.num_top5_ = numbers[3];
    part.sum_cross_entropy_ = std::bit_cast<double>(numbers[4]);
    const std::size_t pairs = kSums + class_samples_.size();
    std::copy(numbers.begin() + kSums, numbers.begin() + static_cast<std::ptrdiff_t>(pairs),
              part.class_samples_.begin());
    for (std::size_t i = pairs; i < numbers.size(); i += 2) part.confusion_[numbers[i]] = numbers[i + 1];
    sum.merge(part);
  }
  *this = std::move(sum);
}

double ClassifierEvaluation::share(std::int64_t count) const {
  return num_samples_ == 0 ? 0 : static_cast<double>(count) / static_cast<double>(num_samples_);
}

double ClassifierEvaluation::cross_entropy() const {
  return num_samples_ == 0 ? 0 : sum_cross_entropy_ / static_cast<double>(num_samples_);
}

std::int64_t ClassifierEvaluation::num_of_class(std::int64_t label) const {
  return class_samples_.at(static_cast<std::size_t>(label));
}

std::int64_t ClassifierEvaluation::confusion(std::int64_t label, std::int64_t predicted) const {
  const auto found = confusion_.find(label * num_classes_ + predicted);
  return found == confusion_.end() ? 0 : found->second;
}

std::vector<ConfusedPair> ClassifierEvaluation::most_confused(std::size_t most) const {
  std::vector<ConfusedPair> pairs;
  for (const auto& [place, count] : confusion_) {
    const ConfusedPair pair{place / num_classes_, place % num_classes_, count};
    if (pair.label != pair.predicted) pairs.push_back(pair);
  }
  std::ranges::sort(pairs, [](const ConfusedPair& a, const ConfusedPair& b) {
    return std::tuple(-a.count, a.label, a.predicted) < std::tuple(-b.count, b.label, b.predicted);
  });
  pairs.resize(std::min(pairs.size(), most));
  return pairs;
}

}  // namespace flex
