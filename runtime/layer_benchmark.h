#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/moe_layer.h"

namespace flex {

/// How tokens spread over experts.
enum class Imbalance : std::uint8_t {
  kNone,       ///< as random tokens fall
  kHotExpert,  ///< expert 0 gets eight times the mean, at most every token
  kHalfEmpty,  ///< the upper half of the experts gets nothing
};
/// none, hot_expert, half_empty.
[[nodiscard]] std::optional<Imbalance> parse_imbalance(std::string_view text);

/// What is timed: one layer on random tokens.
struct LayerBenchmark {
  MoeConfig config;
  std::int64_t num_tokens = 0;  ///< T, on every rank
  std::int64_t top_k = 2;
  double capacity_factor = 1.0;
  std::vector<PlanPair> plans;  ///< empty: every legal plan, forward and backward alike
  PlanChooser choose;           ///< if any, picks the one pair to time, once the load is known
  bool training = true;         ///< forward and backward; otherwise forward alone
  int warmup = 2;
  int repeats = 10;
  std::uint64_t seed = 1;  ///< of the tokens
  Imbalance imbalance = Imbalance::kNone;
  bool check_output = true;   ///< one rank: compare sampled tokens with double on the host
  bool graphs = false;        ///< CUDA: replay passes as graphs where they can be
  bool tune_products = true;  ///< CUDA: search for the matrix products' algorithms while warming up
};

/// What the operations of one kind took in one pass, on this rank. On two streams their times overlap.
struct OperationTime {
  std::string name;
  int count = 0;
  double us = 0;     ///< median over the passes
  double flops = 0;  ///< of matrix products
  double bytes = 0;  ///< least bytes read and written, or payload of a collective
};

/// One plan's result, equal on all ranks.
struct PlanMeasurement {
  PlanPair plans;
  std::string illegal;             ///< why it could not run; the rest is then empty
  double median_us = 0;            ///< of a pass, each the maximum over ranks
  double quartile_us[2] = {0, 0};  ///< spread: first and third
  /// Per pass by the busiest rank, by the communicator's counters, agreement left out.
  std::int64_t moved_bytes = 0;
  std::int64_t expected_bytes = 0;  ///< by the formulas, expected_traffic()
  std::int64_t capacity = 0;
  std::int64_t dropped = 0;               ///< choices, all ranks
  double max_over_mean = 0;               ///< choices of the fullest expert over the mean, on this rank
  std::int64_t routed = 0;                ///< choices, all ranks: W * T * k
  double loss = 0;                        ///< auxiliary loss
  double output_error = 0;                ///< of sampled tokens' outputs, see sampled_output_error()
  std::int64_t activation_bytes = 0;      ///< held beside parameters, on this rank
  std::vector<OperationTime> operations;  ///< in the order of the schedules, on this rank
  double flops = 0;                       ///< of the experts' products on kept choices, per pass, all ranks
};

/// Times every plan in turn. Collective: every rank of the context calls it alike. `progress`, if any, is
/// called with (done, total) after each pass on rank 0's thread.
[[nodiscard]] std::vector<PlanMeasurement> benchmark_layer(
    const LayerBenchmark& benchmark, RankContext& context,
    const std::function<void(int, int)>& progress = {});

}  // namespace flex
