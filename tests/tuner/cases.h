#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <utility>

#include "costmodel/cluster_description.h"
#include "costmodel/plan_space.h"
#include "tuner/search.h"

namespace flex {

/// So that GoogleTest prints pairs in words.
inline void PrintTo(const TimedPlanPair& pair, std::ostream* out) {
  *out << to_string(pair.forward) << " / " << to_string(pair.backward) << ": " << pair.total_us << " us";
}

}  // namespace flex

/// Problems and landscapes that the tests of the tuner share.
namespace flex::testing {

inline constexpr double kCannotRun = std::numeric_limits<double>::infinity();

/// Durations by a test's word: kCannotRun for a plan that does not run. Each evaluation costs its duration.
class HandEvaluator final : public Evaluator {
 public:
  explicit HandEvaluator(std::function<double(const Plan&, Pass)> duration_us)
      : duration_us_(std::move(duration_us)) {}

  [[nodiscard]] double elapsed_s() const override { return elapsed_s_; }

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override {
    const double us = duration_us_(plan, pass);
    if (std::isinf(us)) return {.why_not = to_string(plan) + " is out of order"};
    elapsed_s_ += us * 1e-6;
    return {.duration_us = us, .samples_ns = {std::llround(us * 1e3)}};
  }

  std::function<double(const Plan&, Pass)> duration_us_;
  double elapsed_s_ = 0;
};

/// s ranks share the only expert, in nodes of one rank.
inline SearchProblem shared_expert(int shards, Passes passes = Passes::kBoth) {
  const Workload workload{.world = shards,
                          .num_tokens = std::int64_t{64} * shards,
                          .capacity = std::int64_t{64} * shards,
                          .hidden_dim = shards};
  return search_problem(workload, {.nodes = shards, .ranks_per_node = 1}, passes);
}

/// A layer on NDv4 nodes of 8 GPUs.
inline SearchProblem on_ndv4(int nodes, std::int64_t experts, Passes passes = Passes::kBoth,
                             bool dropless = false) {
  const Cluster cluster = load_cluster("azure_ndv4_a100", nodes);
  const Workload workload{.world = cluster.world(),
                          .num_experts = experts,
                          .num_tokens = 4096,
                          .capacity = 4096 * 2 / experts,
                          .top_k = 2,
                          .model_dim = 1024,
                          .hidden_dim = 4096,
                          .dropless = dropless};
  return search_problem(workload, cluster, passes);
}

}  // namespace flex::testing
