#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
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
    /// Of what was measured: the spread of its repeats. Between: how well the table predicts its own samples,
    /// each left out in turn. Nothing outside, or where neither is known.
    std::optional<double> relative_error{};
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
    double log_ratio = 0;
    std::optional<double> spread{};  // of its repeats
  };
  struct Group {
    std::vector<Entry> entries;
    std::optional<double> error{};  // of entries that were left out
  };
  /// What lies between entries: nothing outside of their hull.
  [[nodiscard]] static std::optional<double> interpolate(std::span<const Entry* const> near,
                                                         const Sizes& sizes);
  [[nodiscard]] static std::vector<const Entry*> nearest(const Group& group, const Sizes& sizes,
                                                         const Entry* left_out = nullptr);
  [[nodiscard]] static Key key_of(const OperationWork& work);
  [[nodiscard]] static Sizes sizes_of(const OperationWork& work);
  static void find_error(Group& group);

  std::map<Key, Group> groups_;
};

}  // namespace flex
