#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/philox.h"
#include "runtime/policy_benchmark.h"
#include "traces/generate.h"

namespace flex {

/// Which experts one rank's tokens take in each iteration of a policy benchmark.
class RoutingChoices {
 public:
  /// @throws InputError for a top_k, a drift or an imbalance that cannot be.
  RoutingChoices(const PolicyBenchmark& benchmark, int rank, int world);

  /// (t, k) choices, t tokens of this rank; of each token k different experts, the first choice first. A
  /// named imbalance gives each expert exactly its generated count, whichever tokens `random` deals to it.
  [[nodiscard]] std::vector<std::int64_t> draw(int iteration, PhiloxStream& random) const;
  /// The first iteration of those with the largest needed capacity, for warming up.
  [[nodiscard]] int fullest_iteration() const;

 private:
  [[nodiscard]] std::vector<std::int64_t> draw_named(int iteration, PhiloxStream& random) const;
  [[nodiscard]] std::vector<std::int64_t> draw_drifting(int iteration, PhiloxStream& random) const;
  [[nodiscard]] double hot_share(int iteration) const;

  const PolicyBenchmark& benchmark_;
  int rank_;
  GenerateOptions named_;
};

}  // namespace flex
