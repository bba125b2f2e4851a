#include "traces/sparse_counts.h"

#include <algorithm>
#include <limits>

#include "base/require.h"

namespace flex {

void SparseCounts::clear() {
  sources_.clear();
  begins_.clear();
  entries_.clear();
}

void SparseCounts::begin_row(std::int32_t source) {
  sources_.push_back(source);
  begins_.push_back(entries_.size());
}

SparseCounts::Row SparseCounts::row(std::size_t index) const {
  const std::size_t begin = begins_[index];
  const std::size_t end = index + 1 < begins_.size() ? begins_[index + 1] : entries_.size();
  return {.source = sources_[index], .experts = std::span(entries_).subspan(begin, end - begin)};
}

std::size_t SparseCounts::allocated_bytes() const {
  return sources_.capacity() * sizeof(std::int32_t) + begins_.capacity() * sizeof(std::size_t) +
         entries_.capacity() * sizeof(ExpertCount);
}

SparseCounts SparseCounts::from_dense(std::span<const std::int64_t> counts, std::int64_t num_experts) {
  const auto size = static_cast<std::int64_t>(counts.size());
  require(num_experts >= 1 && size % num_experts == 0, "{} counts are not whole rows of {} experts", size,
          num_experts);
  SparseCounts sparse;
  for (std::int64_t at = 0; at < size; ++at) {
    const std::int64_t choices = counts[static_cast<std::size_t>(at)];
    if (choices == 0) continue;
    const auto source = static_cast<std::int32_t>(at / num_experts);
    const auto expert = static_cast<std::int32_t>(at % num_experts);
    require(choices > 0 && choices <= std::numeric_limits<std::int32_t>::max(),
            "counts of rank {}: expert {} has {}; a count is from 0 to 2147483647", source, expert, choices);
    if (sparse.empty() || sparse.sources_.back() != source) sparse.begin_row(source);
    sparse.add(expert, static_cast<std::int32_t>(choices));
  }
  return sparse;
}

std::vector<std::int64_t> SparseCounts::dense(std::int64_t world, std::int64_t num_experts) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world * num_experts));
  for (std::size_t i = 0; i < num_rows(); ++i) {
    const Row one = row(i);
    require(one.source >= 0 && one.source < world, "counts of rank {}: there are ranks 0 to {}", one.source,
            world - 1);
    for (const ExpertCount& entry : one.experts) {
      require(entry.expert >= 0 && entry.expert < num_experts,
              "counts of rank {}: expert {} is none of 0 to {}", one.source, entry.expert, num_experts - 1);
      counts[static_cast<std::size_t>(one.source * num_experts + entry.expert)] = entry.choices;
    }
  }
  return counts;
}

CountSummary summarize(const SparseCounts& counts, std::int64_t num_experts) {
  CountSummary summary;
  std::vector<std::int64_t> by_expert(static_cast<std::size_t>(num_experts));
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    std::int64_t choices = 0;
    for (const ExpertCount& entry : counts.row(i).experts) {
      require(entry.expert >= 0 && entry.expert < num_experts,
              "counts of rank {}: expert {} is none of 0 to {}", counts.row(i).source, entry.expert,
              num_experts - 1);
      by_expert[static_cast<std::size_t>(entry.expert)] += entry.choices;
      choices += entry.choices;
      summary.needed_capacity = std::max<std::int64_t>(summary.needed_capacity, entry.choices);
    }
    summary.num_choices += choices;
    summary.max_choices = std::max(summary.max_choices, choices);
  }
  if (summary.num_choices == 0) return summary;
  summary.fullest_expert = *std::ranges::max_element(by_expert);
  summary.max_over_mean = static_cast<double>(summary.fullest_expert) * static_cast<double>(num_experts) /
                          static_cast<double>(summary.num_choices);
  return summary;
}

double max_over_mean_within(const SparseCounts& counts, std::int64_t capacity, std::int64_t num_experts) {
  std::vector<std::int64_t> by_expert(static_cast<std::size_t>(num_experts));
  std::int64_t all = 0;
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    for (const ExpertCount& entry : counts.row(r).experts) {
      const std::int64_t kept = std::min<std::int64_t>(entry.choices, capacity);
      by_expert[static_cast<std::size_t>(entry.expert)] += kept;
      all += kept;
    }
  }
  if (all == 0) return 1;
  return static_cast<double>(*std::ranges::max_element(by_expert)) * static_cast<double>(num_experts) /
         static_cast<double>(all);
}

}  // namespace flex
