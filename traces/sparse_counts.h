#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flex {

/// How many choices (token, j) of one source rank want one expert, before any are dropped.
struct ExpertCount {
  std::int32_t expert = 0;
  std::int32_t choices = 0;

  friend constexpr bool operator==(const ExpertCount&, const ExpertCount&) = default;
};

/// Choices by source rank and expert, zeros left out: rows of source ranks, experts within a row, both in
/// ascending order. A rank without a row has no tokens.
///
/// 8 bytes for each entry and 16 for each row. Reusable: clear() keeps the memory.
class SparseCounts {
 public:
  struct Row {
    std::int32_t source = 0;
    std::span<const ExpertCount> experts;
  };

  void clear();
  /// What add() adds belongs to `source` from now on. Order and values are the caller's: TraceCheck looks at
  /// both.
  void begin_row(std::int32_t source);
  void add(std::int32_t expert, std::int32_t choices) { entries_.push_back({expert, choices}); }

  [[nodiscard]] std::size_t num_rows() const { return sources_.size(); }
  [[nodiscard]] std::size_t num_entries() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return sources_.empty(); }
  [[nodiscard]] Row row(std::size_t index) const;
  /// Memory held, used or not.
  [[nodiscard]] std::size_t allocated_bytes() const;

  /// `counts`: (W, E), W * E of them, zero or more. @throws InputError for others, or one beyond 31 bits.
  [[nodiscard]] static SparseCounts from_dense(std::span<const std::int64_t> counts,
                                               std::int64_t num_experts);
  /// (W, E), as SimulatedPass::counts takes them. @throws InputError if a rank or an expert lies outside.
  [[nodiscard]] std::vector<std::int64_t> dense(std::int64_t world, std::int64_t num_experts) const;

  friend bool operator==(const SparseCounts&, const SparseCounts&) = default;

 private:
  std::vector<std::int32_t> sources_;
  std::vector<std::size_t> begins_;  // of each row in entries_
  std::vector<ExpertCount> entries_;
};

/// What the layer derives from counts.
struct CountSummary {
  std::int64_t num_choices = 0;      ///< all of them
  std::int64_t needed_capacity = 0;  ///< the largest count of any expert on any source rank
  std::int64_t max_choices = 0;      ///< of one source rank
  std::int64_t fullest_expert = 0;   ///< choices of the expert that has most, over all source ranks
  double max_over_mean = 1;          ///< fullest_expert over the mean expert; 1 without choices
};
/// @throws InputError if an expert lies outside.
[[nodiscard]] CountSummary summarize(const SparseCounts& counts, std::int64_t num_experts);

/// CountSummary::max_over_mean of what is left where each source rank gives an expert `capacity` choices at
/// most: with f < 0 the rest is dropped, and the layer does not count it. The experts lie inside.
[[nodiscard]] double max_over_mean_within(const SparseCounts& counts, std::int64_t capacity,
                                          std::int64_t num_experts);

}  // namespace flex
