#include "tuner/plan_region.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "costmodel/plan_space.h"
#include "tuner/fastest_pair.h"
#include "tuner/pass_simulator.h"

namespace flex {
namespace {

/// Slopes below this, in logarithms to one sigma, do not matter.
constexpr double kNoSlope = 0.01;

}  // namespace

PlanRegion::PlanRegion(const LayerLoad& first, const CapacitySpan& span, Cluster cluster, Passes passes)
    : first_(first), span_(span), cluster_(std::move(cluster)), passes_(passes) {}

Workload PlanRegion::workload_at(std::int64_t capacity) const {
  Workload workload = first_.workload;
  workload.capacity = capacity;
  return workload;
}

std::vector<Plan> PlanRegion::select_plans(const CostModel& costs) const {
  const Workload workload = workload_at(span_.high);
  const std::vector<Plan> all = PlanSpace(workload, cluster_).plans();
  PassSimulator simulator(workload, cluster_);
  std::vector<double> total_us(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const Pass pass : passes_of(passes_)) {
      simulator.prepare(all[i], pass);
      total_us[i] += simulator.duration_us(costs);
    }
  }
  const double limit_us = kFarBehind * *std::ranges::min_element(total_us);
  std::vector<Plan> kept;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto known = place_of(all[i]);
    const auto is_observed = [&](Pass pass) { return record(pass, *known).slot >= 0; };
    const bool keep = (known && (is_observed(Pass::kForward) || is_observed(Pass::kBackward))) ||
                      std::ranges::count(pinned_, all[i]) > 0;
    if (keep || all[i] == kDefaultPlan || total_us[i] <= limit_us) kept.push_back(all[i]);
  }
  return kept;
}

void PlanRegion::build(const CostModel& costs, const ModelErrors& errors, const Eigen::VectorXd& offsets) {
  const ModelNeighbourhood neighbourhood(cluster_, costs, errors, offsets);
  std::vector<Plan> kept = select_plans(neighbourhood.centre());
  std::array<std::vector<Record>, 2> records;
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    for (const Plan& plan : kept) {
      const auto known = place_of(plan);
      records[static_cast<std::size_t>(pass)].push_back(known ? record(pass, *known) : Record{});
    }
  }
  plans_ = std::move(kept);
  offsets_ = offsets;
  groups_.clear();
  std::map<std::pair<std::int32_t, ExpertKernel>, std::int32_t> numbers;
  for (const Plan& plan : plans_) {
    const auto next = static_cast<std::int32_t>(numbers.size());
    groups_.push_back(numbers.try_emplace({plan.parallel_degree, plan.expert_kernel}, next).first->second);
  }
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    table(pass).records = std::move(records[static_cast<std::size_t>(pass)]);
  }
  for (const Pass pass : passes_of(passes_)) fill(table(pass), pass, neighbourhood);
  ++version_;
  visits_at_build_ = visits_;
}

void PlanRegion::fill(Table& table, Pass pass, const ModelNeighbourhood& neighbourhood) {
  const auto count = static_cast<Eigen::Index>(plans_.size());
  table.low_us.resize(count);
  table.high_us.resize(count);
  table.own_variances.resize(count);
  table.slopes.resize(count, neighbourhood.num_parameters());
  PassSimulator low(workload_at(span_.low), cluster_);
  PassSimulator middle(workload_at(span_.middle()), cluster_);
  PassSimulator high(workload_at(span_.high), cluster_);
  for (Eigen::Index i = 0; i < count; ++i) {
    const Plan& plan = plans_[static_cast<std::size_t>(i)];
    const auto runs_in = [&](const PassSimulator& simulator) {
      return is_legal(plan, simulator.workload(), cluster_);
    };
    high.prepare(plan, pass);
    table.low_us[i] = table.high_us[i] = high.duration_us(neighbourhood.centre());
    if (runs_in(low)) {
      low.prepare(plan, pass);
      table.low_us[i] = low.duration_us(neighbourhood.centre());
    }
    PassSimulator& simulator = runs_in(middle) ? middle : high;
    simulator.prepare(plan, pass);
    const double duration_us = simulator.duration_us(neighbourhood.centre());
    const ModelNeighbourhood::Slopes slopes = neighbourhood.slopes(simulator, duration_us);
    table.slopes.row(i) = slopes.per_sigma;
    table.own_variances[i] = slopes.own_variance;
  }
  table.constants = table.slopes * offsets_;
}

double PlanRegion::distance(const ParameterBelief& belief) const {
  double largest = 0;
  for (const Pass pass : passes_of(passes_)) {
    for (Eigen::Index i = 0; i < offsets_.size(); ++i) {
      if (table(pass).slopes.col(i).cwiseAbs().maxCoeff() < kNoSlope) continue;
      largest = std::max(largest, std::abs(belief.parameters()[i] - offsets_[i]));
    }
  }
  return largest;
}

std::optional<std::int32_t> PlanRegion::place_of(const Plan& plan) const {
  const auto found = std::ranges::lower_bound(plans_, plan);
  if (found == plans_.end() || *found != plan) return std::nullopt;
  return static_cast<std::int32_t>(found - plans_.begin());
}

double PlanRegion::fraction_at(std::int64_t capacity) const {
  // A layer keeps its bucket a little beyond its ends; far beyond, a line says nothing.
  constexpr double kBeyond = 0.25;
  if (span_.high == span_.low) return 0;
  const double fraction =
      static_cast<double>(capacity - span_.low) / static_cast<double>(span_.high - span_.low);
  return std::clamp(fraction, -kBeyond, 1 + kBeyond);
}

double PlanRegion::model_us(Pass pass, std::int32_t place, std::int64_t capacity) const {
  const Table& one = table(pass);
  return one.low_us[place] + (one.high_us[place] - one.low_us[place]) * fraction_at(capacity);
}

void PlanRegion::add_to(BeliefForm& form, Pass pass, std::int32_t place, double factor) const {
  const Table& one = table(pass);
  form.slopes += factor * one.slopes.row(place).transpose();
  const std::int32_t slot = one.records[at(place)].slot;
  if (slot >= 0) {
    form.residuals[static_cast<std::size_t>(form.num_residuals++)] = {slot, factor};
  } else {
    form.own_variance += factor * factor * one.own_variances[place];
  }
}

void PlanRegion::expect(const ParameterBelief& belief, Pass pass, std::int64_t capacity,
                        Eigen::VectorXd& us) const {
  const auto count = static_cast<Eigen::Index>(plans_.size());
  auto out = us.head(count);
  if (passes_ != Passes::kBoth && pass != passes_of(passes_).front()) {
    out.setZero();
    return;
  }
  const Table& one = table(pass);
  out = -one.constants;
  for (Eigen::Index i = 0; i < offsets_.size(); ++i) out += one.slopes.col(i) * belief.parameters()[i];
  for (Eigen::Index i = 0; i < count; ++i) {
    const std::int32_t slot = one.records[static_cast<std::size_t>(i)].slot;
    if (slot >= 0) out[i] += belief.residual(slot);
  }
  const double fraction = fraction_at(capacity);
  out = out.array().exp() * (one.low_us + (one.high_us - one.low_us) * fraction).array();
}

}  // namespace flex
