#include "costmodel/cost_table.h"

#include <algorithm>
#include <cmath>

#include "costmodel/error_band.h"
#include "costmodel/nnls.h"

namespace flex {
namespace {

/// Entries that an interpolation looks at: enough for the corners around a point in four dimensions.
constexpr std::size_t kMaxNear = 32;
/// Sizes this close, in units of log2, are the same.
constexpr double kSameSize = 1e-9;
/// How far, in units of log2, the weighted mean of the corners may miss a point that is inside.
constexpr double kInside = 1e-3;

double log2_size(double size) { return std::log2(std::max(size, 1.0)); }

template <class A>
double squared_distance(const A& a, const A& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

}  // namespace

CostTable::CostTable(std::span<const CostSample> samples, const OperationRoofline& roofline) {
  std::map<Key, std::map<Sizes, std::vector<double>>> ratios;
  for (const CostSample& sample : samples) {
    const OperationWork work = work_of(sample);
    const double roofline_us = roofline.duration_us(work);
    if (sample.beside != Beside::kNothing || sample.duration_ns <= 0 || roofline_us <= 0) continue;
    ratios[key_of(work)][sizes_of(work)].push_back(static_cast<double>(sample.duration_ns) / 1e3 /
                                                   roofline_us);
  }
  for (auto& [key, by_sizes] : ratios) {
    Group& group = groups_[key];
    for (auto& [sizes, values] : by_sizes) {
      const double median = quantile(values, 0.5);
      Entry entry{.sizes = sizes, .log_ratio = std::log(median)};
      if (values.size() > 2) {
        for (double& value : values) value = std::abs(value / median - 1);
        entry.spread = quantile(values, kBandQuantile);
      }
      group.entries.push_back(entry);
    }
    find_error(group);
  }
}

CostTable::Key CostTable::key_of(const OperationWork& work) {
  return {work.kind, work.dtype, work.world, work.peers};
}

CostTable::Sizes CostTable::sizes_of(const OperationWork& work) {
  if (!is_expert_product(work.kind) && !is_gate_product(work.kind)) return {log2_size(work.bytes), 0, 0, 0};
  return {log2_size(static_cast<double>(work.batch)), log2_size(static_cast<double>(work.rows)),
          log2_size(static_cast<double>(work.columns)), log2_size(static_cast<double>(work.model_dim))};
}

std::vector<const CostTable::Entry*> CostTable::nearest(const Group& group, const Sizes& sizes,
                                                        const Entry* left_out) {
  std::vector<const Entry*> near;
  near.reserve(group.entries.size());
  for (const Entry& entry : group.entries) {
    if (&entry != left_out) near.push_back(&entry);
  }
  const auto closer = [&](const Entry* a, const Entry* b) {
    const double to_a = squared_distance(a->sizes, sizes);
    const double to_b = squared_distance(b->sizes, sizes);
    return to_a != to_b ? to_a < to_b : a->sizes < b->sizes;
  };
  const std::size_t kept = std::min(kMaxNear, near.size());
  std::partial_sort(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(kept), near.end(), closer);
  near.resize(kept);
  return near;
}

// A point inside the hull is a mean of entries. Of all such means the one with the least weighted squared
// distance has the corners of the Delaunay cell around the point as its entries: linear interpolation.
std::optional<double> CostTable::interpolate(std::span<const Entry* const> near, const Sizes& sizes) {
  constexpr double kExact = 1e4;  // how much more the mean's place counts than distances
  const auto count = static_cast<Eigen::Index>(near.size());
  Eigen::MatrixXd matrix(kNumSizes + 2, count);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(kNumSizes + 2);
  right[kNumSizes] = kExact;
  for (Eigen::Index i = 0; i < count; ++i) {
    const Sizes& corner = near[static_cast<std::size_t>(i)]->sizes;
    for (int size = 0; size < kNumSizes; ++size) {
      const auto s = static_cast<std::size_t>(size);
      matrix(size, i) = kExact * (corner[s] - sizes[s]);
    }
    matrix(kNumSizes, i) = kExact;
    matrix(kNumSizes + 1, i) = squared_distance(corner, sizes);
  }
  const Eigen::VectorXd weights = solve_nnls(matrix, right);
  const double sum = weights.sum();
  const Eigen::VectorXd miss = matrix.topRows(kNumSizes) * weights / kExact;
  if (sum <= 0 || miss.norm() / sum > kInside) return std::nullopt;
  double log_ratio = 0;
  for (Eigen::Index i = 0; i < count; ++i) {
    log_ratio += weights[i] / sum * near[static_cast<std::size_t>(i)]->log_ratio;
  }
  return log_ratio;
}

void CostTable::find_error(Group& group) {
  std::vector<double> errors;
  for (const Entry& entry : group.entries) {
    const std::vector<const Entry*> near = nearest(group, entry.sizes, &entry);
    if (near.empty()) continue;
    if (const std::optional<double> between = interpolate(near, entry.sizes)) {
      errors.push_back(std::abs(std::exp(*between - entry.log_ratio) - 1));
    }
  }
  if (!errors.empty()) group.error = quantile(errors, kBandQuantile);
}

CostTable::Ratio CostTable::ratio(const OperationWork& work) const {
  const auto found = groups_.find(key_of(work));
  if (found == groups_.end()) return {};
  const Group& group = found->second;
  const Sizes sizes = sizes_of(work);
  const std::vector<const Entry*> near = nearest(group, sizes);
  const Entry& first = *near.front();
  if (squared_distance(first.sizes, sizes) < kSameSize * kSameSize) {
    return {.value = std::exp(first.log_ratio),
            .origin = CostOrigin::kMeasured,
            .relative_error = first.spread ? first.spread : group.error};
  }
  if (const std::optional<double> between = interpolate(near, sizes)) {
    return {.value = std::exp(*between), .origin = CostOrigin::kInterpolated, .relative_error = group.error};
  }
  return {.value = std::exp(first.log_ratio)};
}

}  // namespace flex
