#include "costmodel/prediction.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/require.h"
#include "base/units.h"
#include "costmodel/baseline.h"
#include "costmodel/plan_pair.h"
#include "costmodel/plan_space.h"

namespace flex {
namespace {

/// One rank's bytes: the layers' parameters, gradients and activations, and tokens with their outputs and
/// gradients at the borders of layers.
std::int64_t stack_bytes(const LayerStack& stack, const CostModel& costs) {
  const bool training = stack.passes != Passes::kForward;
  const LayerMemory layer =
      layer_memory(stack.workload, stack.forward, stack.backward, {.training = training});
  const std::int64_t tokens =
      stack.workload.num_tokens * stack.workload.model_dim * size_bytes(stack.workload.dtype);
  const std::int64_t borders = stack.num_layers + 1;  // inputs and outputs, shared between neighbours
  const auto base = static_cast<std::int64_t>(costs.parameters().base_memory_GiB * kBytesPerGiB);
  return stack.num_layers * layer.total_bytes() + borders * tokens * (training ? 2 : 1) + base;
}

bool fits_device(std::int64_t bytes, const Cluster& cluster) {
  const double memory_GiB = cluster.device.memory_GiB / std::max(cluster.ranks_per_device, 1);
  return memory_GiB <= 0 || static_cast<double>(bytes) <= memory_GiB * kBytesPerGiB;
}

bool comes_before(const PlanPrediction& a, const PlanPrediction& b) {
  if (a.fits != b.fits) return a.fits;
  if (a.total_us != b.total_us) return a.total_us < b.total_us;
  return a.forward < b.forward;
}

}  // namespace

std::string_view name(OperationClass operation_class) {
  switch (operation_class) {
    case OperationClass::kGating:
      return "gating";
    case OperationClass::kMoving:
      return "moving";
    case OperationClass::kExperts:
      return "experts";
    case OperationClass::kExchange:
      return "exchange";
    case OperationClass::kWeights:
      return "weights";
    case OperationClass::kHost:
      return "host";
  }
  return "?";
}

OperationClass class_of(OperationKind kind) {
  using enum OperationKind;
  switch (kind) {
    case kAgreeTokens:
    case kAgreeCapacity:
      return OperationClass::kHost;
    case kGate:
    case kGateNoise:
    case kRoute:
    case kGateLossSums:
    case kReduceGateLoss:
    case kGateLossValue:
    case kGateBackward:
      return OperationClass::kGating;
    case kEncode:
    case kDecode:
    case kRowsToExperts:
    case kRowsFromExperts:
    case kSumCopies:
    case kDecodeBackward:
    case kEncodeBackward:
      return OperationClass::kMoving;
    case kExpertFfn:
    case kExpertFfnBackwardData:
    case kExpertFfnBackwardFc1:
    case kExpertFfnBackwardFc2:
      return OperationClass::kExperts;
    case kAllToAll:
    case kNodeCopy:
    case kNodeAllToAll:
    case kRailCopy:
    case kRailAllToAll:
      return OperationClass::kExchange;
    case kGatherWeights:
    case kScatterGradients:
    case kReduceGateGradients:
    case kReduceSharedGradients:
      return OperationClass::kWeights;
  }
  return OperationClass::kHost;
}

PlanPredictor::PlanPredictor(LayerStack stack, const CostModel& costs)
    : stack_(std::move(stack)), costs_(costs) {}

LayerStack PlanPredictor::with(const Plan& forward, const Plan& backward) const {
  LayerStack stack = stack_;
  stack.forward = forward;
  stack.backward = backward;
  return stack;
}

PlanPrediction PlanPredictor::predict(const Plan& forward, const Plan& backward) {
  for (const Plan& plan : {forward, backward}) {
    require(plan.expert_kernel == ExpertKernel::kPadded,
            "plan '{}' cannot be predicted: what counted experts save depends on token counts, which are not "
            "given",
            to_string(plan));
  }
  const LayerStack stack = with(forward, backward);
  sequence_.build(stack);
  const Simulation& simulation = simulator_.run(sequence_.passes(), costs_);
  find_critical_path_into(path_, simulation);
  PlanPrediction result{.forward = forward,
                        .backward = backward,
                        .total_us = simulation.total_us,
                        .error_us = path_.error_us,
                        .origin_us = path_.origin_us,
                        .memory_bytes = stack_bytes(stack, costs_)};
  for (int kind = 0; kind < kNumOperationKinds; ++kind) {
    const auto operation_kind = static_cast<OperationKind>(kind);
    result.class_us[static_cast<std::size_t>(class_of(operation_kind))] += path_.of(operation_kind);
  }
  result.class_us[static_cast<std::size_t>(OperationClass::kHost)] += path_.issue_us;
  result.fits = fits_device(result.memory_bytes, stack.cluster);
  return result;
}

std::vector<PlanPrediction> PlanPredictor::all() {
  std::vector<PlanPrediction> result;
  for (const Plan& plan : padded_plans()) result.push_back(predict(plan, plan));
  std::ranges::sort(result, comes_before);
  return result;
}

double PlanPredictor::total_us(Passes passes, const Plan& plan) {
  LayerStack stack = with(plan, plan);
  stack.passes = passes;
  sequence_.build(stack);
  return simulator_.run(sequence_.passes(), costs_).total_us;
}

std::vector<Plan> PlanPredictor::padded_plans() const {
  std::vector<Plan> plans = PlanSpace(stack_.workload, stack_.cluster).plans();
  std::erase_if(plans, [](const Plan& plan) { return plan.expert_kernel == ExpertKernel::kCounted; });
  return plans;
}

PlanPrediction PlanPredictor::best() {
  const std::vector<Plan> plans = padded_plans();
  const auto times = [&](Passes passes) {
    std::vector<double> result(plans.size(), 0.0);
    if (stack_.passes != Passes::kBoth && stack_.passes != passes) return result;
    for (std::size_t i = 0; i < plans.size(); ++i) result[i] = total_us(passes, plans[i]);
    return result;
  };
  const std::vector<double> forward_us = times(Passes::kForward);
  const std::vector<double> backward_us = times(Passes::kBackward);
  struct Pair {
    double us;
    std::size_t forward, backward;
  };
  std::vector<Pair> pairs;
  for (std::size_t f = 0; f < plans.size(); ++f) {
    for (std::size_t b = 0; b < plans.size(); ++b) {
      if (!can_pair(plans[f], plans[b])) continue;
      if (stack_.passes != Passes::kBoth && f != b) continue;
      pairs.push_back({forward_us[f] + backward_us[b], f, b});
    }
  }
  std::ranges::sort(pairs, {},
                    [](const Pair& pair) { return std::tuple(pair.us, pair.forward, pair.backward); });
  // Passes that follow each other may take a little less than their sum, so that the fastest plan in both may
  // still be the better one.
  PlanPrediction best = all().front();
  for (const Pair& pair : pairs) {
    const PlanPrediction one = predict(plans[pair.forward], plans[pair.backward]);
    if (comes_before(one, best)) best = one;
    if (one.fits || !best.fits) break;
  }
  return best;
}

Simulation PlanPredictor::timeline(const Plan& forward, const Plan& backward) {
  sequence_.build(with(forward, backward));
  return simulator_.run(sequence_.passes(), costs_);
}

BaselinePrediction predict_fairseq(const LayerStack& stack, const CostModel& costs) {
  LayerStack baseline = stack;
  baseline.forward = baseline.backward = kDefaultPlan;
  const FrameworkMemory memory =
      framework_memory(stack.workload, kFairseq, costs.parameters().base_memory_GiB);
  return {
      .total_us = simulate_formulation(baseline, kFairseq, costs).total_us,
      .memory_bytes = stack.num_layers * (memory.total_bytes() - memory.base_bytes) + memory.base_bytes,
      .fits = fits_device(stack.num_layers * (memory.total_bytes() - memory.base_bytes) + memory.base_bytes,
                          stack.cluster)};
}

}  // namespace flex
