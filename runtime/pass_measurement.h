#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "costmodel/plan.h"
#include "costmodel/schedule.h"
#include "runtime/layer_shapes.h"
#include "runtime/measured_operations.h"
#include "runtime/rank_context.h"

namespace flex {

/// One plan of one layer, forward and backward alike.
struct MeasuredPair {
  LayerShape shape;
  Plan plan;

  friend bool operator==(const MeasuredPair&, const MeasuredPair&) = default;
};

/// How long one pass of one pair took.
struct MeasuredPass {
  MeasuredPair pair;
  Pass pass = Pass::kForward;   ///< forward: the route part too
  double median_us = 0;         ///< over the repeats, each the longest of the ranks
  double spread_us = 0;         ///< median absolute deviation of the repeats
  std::vector<KindTime> kinds;  ///< in the order of OperationKind; may be empty: not measured

  friend bool operator==(const MeasuredPass&, const MeasuredPass&) = default;
};

/// Median and spread of repeats, without kinds. @throws InputError for no repeats.
[[nodiscard]] MeasuredPass measured_pass(const MeasuredPair& pair, Pass pass,
                                         std::span<const double> repeats_us);

/// `count` pairs: all plans of a shape after the other, or `plans_per_shape` of them; where not all are
/// taken, as for the last shape, they are drawn by the seed. Shapes are drawn as draw_shapes() does.
[[nodiscard]] std::vector<MeasuredPair> draw_pairs(int count, const Cluster& cluster, DType dtype,
                                                   const WorkRange& range, std::uint64_t seed,
                                                   std::span<const LayerShape> taken = {},
                                                   std::optional<int> plans_per_shape = {});

struct PassMeasurementSettings {
  DType dtype = DType::kF32;
  std::uint64_t seed = 1;  ///< of tokens
  OperationSettings operations;
};

/// Measures whole passes on the ranks of this host, round after round like ProfileSweep. Collective.
class PassMeasurement {
 public:
  /// Pairs of one shape share a layer if they follow each other. @throws InputError for a plan that cannot
  /// run.
  PassMeasurement(std::span<const MeasuredPair> pairs, const PassMeasurementSettings& settings,
                  RankContext& context, Stream& stream);
  ~PassMeasurement();
  PassMeasurement(const PassMeasurement&) = delete;
  PassMeasurement& operator=(const PassMeasurement&) = delete;

  void run_round_blocking();
  /// Forward and backward of each pair; equal on all ranks. Needs a round.
  [[nodiscard]] std::vector<MeasuredPass> passes() const;
  /// Of their operations alone; equal on all ranks. Needs a round.
  [[nodiscard]] std::vector<CostSample> samples() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flex
