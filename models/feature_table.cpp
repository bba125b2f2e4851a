#include "models/feature_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <utility>

#include "base/philox.h"
#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {

FeatureTable::FeatureTable(std::int64_t num_features) : num_features_(num_features) {
  require(num_features >= 1, "FeatureTable: {} features; there is at least 1", num_features);
}

void FeatureTable::add(ConstTensorView features, ConstTensorView labels,
                       std::span<const std::int64_t> samples) {
  require(features.shape.rank() == 2 && features.size(1) == num_features_ && features.contiguous() &&
              features.device.is_cpu(),
          "FeatureTable: features are {} on {}, expected (B, {}) in host memory", to_string(features.shape),
          to_string(features.device), num_features_);
  require(labels.shape == Shape{features.size(0)} && labels.dtype == DType::kI32 && labels.device.is_cpu(),
          "FeatureTable: labels are {} {} on {}, expected i32 ({}) in host memory", name(labels.dtype),
          to_string(labels.shape), to_string(labels.device), features.size(0));
  const auto count = static_cast<std::int64_t>(samples.size());
  require(count <= features.size(0), "FeatureTable: {} samples of a batch of {}", count, features.size(0));
  for (std::int64_t i = 0; i < count * num_features_; ++i) features_.push_back(host_element(features, i));
  const auto* label = labels.as<std::int32_t>();
  labels_.insert(labels_.end(), label, label + count);
  samples_.insert(samples_.end(), samples.begin(), samples.end());
}

std::span<const double> FeatureTable::row(std::int64_t index) const {
  return std::span(features_).subspan(static_cast<std::size_t>(index * num_features_),
                                      static_cast<std::size_t>(num_features_));
}

FeatureTable FeatureTable::rows(std::span<const std::int64_t> indices) const {
  FeatureTable part(num_features_);
  for (const std::int64_t index : indices) {
    require(index >= 0 && index < num_rows(), "FeatureTable: row {} of {}", index, num_rows());
    const std::span<const double> features = row(index);
    part.features_.insert(part.features_.end(), features.begin(), features.end());
    part.labels_.push_back(labels_[static_cast<std::size_t>(index)]);
    part.samples_.push_back(samples_[static_cast<std::size_t>(index)]);
  }
  return part;
}

void FeatureTable::gather_over_ranks_blocking(RankContext& context) {
  const auto ranks = static_cast<std::size_t>(context.size());
  std::vector<std::int64_t> counts(ranks);
  const std::array<std::int64_t, 1> count{num_rows()};
  context.control().gather_host_blocking(count, counts);
  const std::int64_t most = std::ranges::max(counts);
  const std::int64_t words = num_features_ + 2;  // number, label, features
  std::vector<std::int64_t> mine(static_cast<std::size_t>(most * words));
  for (std::int64_t i = 0; i < num_rows(); ++i) {
    auto* to = mine.data() + i * words;
    to[0] = samples_[static_cast<std::size_t>(i)];
    to[1] = labels_[static_cast<std::size_t>(i)];
    std::ranges::transform(row(i), to + 2, [](double value) { return std::bit_cast<std::int64_t>(value); });
  }
  std::vector<std::int64_t> all(ranks * mine.size());
  context.control().gather_host_blocking(mine, all);
  std::vector<const std::int64_t*> rows;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (std::int64_t i = 0; i < counts[rank]; ++i)
      rows.push_back(all.data() + rank * mine.size() + i * words);
  }
  std::ranges::sort(rows, {}, [](const std::int64_t* row) { return std::pair(row[0], row); });
  const auto same_sample = [](const std::int64_t* a, const std::int64_t* b) { return a[0] == b[0]; };
  rows.erase(std::unique(rows.begin(), rows.end(), same_sample), rows.end());  // what fills a last batch up
  FeatureTable table(num_features_);
  for (const std::int64_t* row : rows) {
    table.samples_.push_back(row[0]);
    table.labels_.push_back(static_cast<std::int32_t>(row[1]));
    std::transform(row + 2, row + words, std::back_inserter(table.features_),
                   [](std::int64_t bits) { return std::bit_cast<double>(bits); });
  }
  *this = std::move(table);
}

std::vector<std::int64_t> pick_few_shots(std::span<const std::int32_t> labels, std::int64_t num_classes,
                                         std::int64_t shots, std::uint64_t seed) {
  require(shots >= 1, "{} shots; a class needs at least 1", shots);
  std::vector<std::vector<std::int64_t>> of_class(static_cast<std::size_t>(num_classes));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    require(labels[i] >= 0 && labels[i] < num_classes, "sample {} has label {}; classes are 0 to {}", i,
            labels[i], num_classes - 1);
    of_class[static_cast<std::size_t>(labels[i])].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::int64_t> picked;
  for (std::size_t label = 0; label < of_class.size(); ++label) {
    std::vector<std::int64_t>& candidates = of_class[label];
    const auto count = static_cast<std::int64_t>(candidates.size());
    require(count >= shots, "class {} has {} samples, fewer than the {} shots", label, count, shots);
    PhiloxStream random(seed, label);
    for (std::int64_t i = 0; i < shots; ++i) {  // the first steps of Fisher and Yates' shuffle
      std::swap(candidates[static_cast<std::size_t>(i)],
                candidates[static_cast<std::size_t>(i + random.below(count - i))]);
      picked.push_back(candidates[static_cast<std::size_t>(i)]);
    }
  }
  return picked;
}

}  // namespace flex
