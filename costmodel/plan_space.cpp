#include "costmodel/plan_space.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

enum class Verdict : std::uint8_t {
  kLegal,
  kParallelDegree,
  kDataParallel,
  kNotDropless,
  kPipelineDegree,
  kTooManyParts,
  kNodes
};

// The one place that decides; why_illegal() only puts it into words.
Verdict judge(const Plan& plan, const Workload& w, const Cluster& cluster) {
  const std::int64_t r = plan.parallel_degree;
  if (r < 0 || (r > 0 && w.shards() % r != 0)) return Verdict::kParallelDegree;
  if (plan.expert_kernel == ExpertKernel::kCounted && !w.dropless) return Verdict::kNotDropless;
  if (r == 0) {
    const bool plain = plan.pipeline_degree == 1 && plan.all_to_all == AllToAllAlgorithm::kLinear;
    return plain ? Verdict::kLegal : Verdict::kDataParallel;
  }
  if (!std::ranges::count(kPipelineDegrees, plan.pipeline_degree)) return Verdict::kPipelineDegree;
  const std::int64_t part_slots = w.padded_capacity() * r / w.shards();
  if (plan.pipeline_degree > 1 && plan.pipeline_degree > part_slots) return Verdict::kTooManyParts;
  if (plan.all_to_all == AllToAllAlgorithm::kHierarchical2d &&
      (cluster.ranks_per_node < 1 || w.world % cluster.ranks_per_node != 0)) {
    return Verdict::kNodes;
  }
  return Verdict::kLegal;
}

std::string listed(const std::vector<std::int32_t>& values) {
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : (i + 1 == values.size() ? " or " : ", "), values[i]);
  }
  return text;
}

}  // namespace

std::vector<std::int32_t> PlanSpace::parallel_degrees(const Workload& workload) {
  std::vector<std::int32_t> degrees = {0};
  for (std::int64_t r = 1; r <= workload.shards(); ++r) {
    if (workload.shards() % r == 0) degrees.push_back(static_cast<std::int32_t>(r));
  }
  return degrees;
}

PlanSpace::PlanSpace(const Workload& workload, const Cluster& cluster) {
  for (const std::int32_t r : parallel_degrees(workload)) {
    for (const std::int32_t d : kPipelineDegrees) {
      for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
        for (const auto kernel : {ExpertKernel::kPadded, ExpertKernel::kCounted}) {
          const Plan plan{
              .parallel_degree = r, .pipeline_degree = d, .all_to_all = algorithm, .expert_kernel = kernel};
          if (is_legal(plan, workload, cluster)) plans_.push_back(plan);
        }
      }
    }
  }
  std::ranges::sort(plans_);
}

bool is_legal(const Plan& plan, const Workload& workload, const Cluster& cluster) {
  return judge(plan, workload, cluster) == Verdict::kLegal;
}

std::optional<std::string> why_illegal(const Plan& plan, const Workload& w, const Cluster& cluster) {
  switch (judge(plan, w, cluster)) {
    case Verdict::kLegal:
      return std::nullopt;
    case Verdict::kParallelDegree:
      return fmt::format("r{} does not divide the {} rank(s) that share an expert; use r {}",
                         plan.parallel_degree, w.shards(), listed(PlanSpace::parallel_degrees(w)));
    case Verdict::kDataParallel:
      return "r0 exchanges no tokens, so there is nothing to pipeline and no All-to-All to choose; use r0 d1 "
             "linear";
    case Verdict::kNotDropless:
      return "counted experts need the counts on the host, which they reach only with dropless routing (f <= "
             "0); use padded";
    case Verdict::kPipelineDegree:
      return fmt::format("pipeline degree {} is not 1, 2, 4 or 8", plan.pipeline_degree);
    case Verdict::kTooManyParts:
      return fmt::format(
          "{} pipeline parts are more than the {} slot(s) that a rank gets from each source; use d1{}",
          plan.pipeline_degree, w.padded_capacity() * plan.parallel_degree / w.shards(),
          w.padded_capacity() * plan.parallel_degree / w.shards() >= 2 ? " or a smaller d" : "");
    case Verdict::kNodes:
      return fmt::format("2dh needs whole nodes, and {} ranks do not fill nodes of {}; use linear", w.world,
                         cluster.ranks_per_node);
  }
  return std::nullopt;
}

}  // namespace flex
