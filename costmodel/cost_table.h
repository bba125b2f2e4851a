#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "costmodel/cost_sample.h"
#include "costmodel/operation_roofline.h"

namespace flex {

/// Measured durations, looked up by the sizes of an operation. Kept as ratios to the roofline, which are
/// interpolated over the logarithms of the sizes, so that what lies between samples has the roofline's shape.
class CostTable {
 public:
  /// Samples taken beside other work are left out; of several of one size the median counts.
  CostTable(std::span<const CostSample> samples, const OperationRoofline& roofline);

  /// What the table says of an operation.
  struct Ratio {
    double value = 1;  ///< measured / roofline
    /// kMeasured: these sizes were timed. kInterpolated: inside the convex hull of sizes that were.
    /// kRoofline: outside of it, the ratio of the nearest size; or there is no sample to compare with, and 1.
    CostOrigin origin = CostOrigin::kRoofline;
  };
  /// Of operations of the same kind, element type, ranks and peers.
  [[nodiscard]] Ratio ratio(const OperationWork& work) const;

  [[nodiscard]] bool empty() const { return groups_.empty(); }

 private:
  static constexpr int kNumSizes = 4;
  using Sizes = std::array<double, kNumSizes>;  // log2
  using Key = std::tuple<OperationKind, DType, int, std::int64_t>;
  struct Entry {
    Sizes sizes;
    double log_ratio;
  };
  struct Neighbour {
    double distance;  // squared
    const Entry* entry;
  };

  [[nodiscard]] static Key key_of(const OperationWork& work);
  [[nodiscard]] static Sizes sizes_of(const OperationWork& work);
  [[nodiscard]] static std::vector<Neighbour> nearest(const std::vector<Entry>& entries, const Sizes& sizes);

  std::map<Key, std::vector<Entry>> groups_;
};

}  // namespace flex
