#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "costmodel/cost_model.h"
#include "costmodel/layer_load.h"
#include "costmodel/plan_pair.h"

/// What plan policies are compared on: simulated machines whose links change, and layers whose loads do.
namespace flex::bench {

/// One layer on one simulated cluster, a link of which changes its speed in the middle of a run.
struct OnlineSetting {
  Cluster cluster;
  Workload workload;       ///< at the least capacity of a run
  double link_factor = 1;  ///< on the bandwidth between nodes; of one node, inside it

  /// e.g. `dgx_h100 W64 E16 T4096 M2048 H8192 C512 inter x0.5`.
  [[nodiscard]] std::string text() const;
};

/// `shapes_per_world` layers on each of NDv4 and DGX H100 with 8, 32, 128, 256, 512 and 2,048 GPUs; the links
/// of every other one become half as fast, of the rest twice as fast. Drawn by the seed from: E/W of 1/2, 1,
/// 2, or E = 16; M of 1,024 to 4,096; H of 1,024 to 32,768; T of 4,096, 16,384, 65,536; k = 2; least
/// capacities of 16 to 4,096. fp32 on NDv4 (in TF32), bf16 on H100.
[[nodiscard]] std::vector<OnlineSetting> draw_online_settings(int shapes_per_world, std::uint64_t seed);

/// The most that the needed capacity grows to, over the least.
/// @source Hwang et al. (arXiv 2206.03382): the workload of a layer changed by up to 4.38x in one training
inline constexpr double kLargestGrowth = 4.4;

/// Needed capacities of a run: a smooth way between the least and kLargestGrowth times it, with 3% of jitter,
/// rounded to 1/32 of the least.
[[nodiscard]] std::vector<std::int64_t> draw_capacities(std::int64_t least, int num_iterations,
                                                        std::uint64_t seed);

/// The truth of a setting without noise; what was asked for is remembered.
class OnlineMachine {
 public:
  explicit OnlineMachine(const OnlineSetting& setting);

  [[nodiscard]] const CostModel& before() const { return before_; }
  [[nodiscard]] LayerLoad load(std::int64_t capacity) const;

  /// All legal plans at a capacity, before or after the change.
  struct Table {
    std::vector<Plan> plans;         ///< ascending
    std::vector<double> forward_us;  ///< by plan
    std::vector<double> backward_us;
    double best_us = 0;  ///< of the fastest pair
  };
  [[nodiscard]] const Table& table(std::int64_t capacity, bool has_changed);
  /// Of one pass. @throws std::out_of_range for a plan that is illegal at this capacity.
  [[nodiscard]] double duration_us(std::int64_t capacity, bool has_changed, const Plan& plan, Pass pass);
  [[nodiscard]] double total_us(std::int64_t capacity, bool has_changed, const PlanPair& plans) {
    return duration_us(capacity, has_changed, plans.forward, Pass::kForward) +
           duration_us(capacity, has_changed, plans.backward, Pass::kBackward);
  }

 private:
  OnlineSetting setting_;
  CostModel before_, after_;
  std::map<std::pair<std::int64_t, bool>, Table> tables_;
};

}  // namespace flex::bench
