#include "costmodel/prediction.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "costmodel/baseline.h"
#include "costmodel/plan_space.h"

namespace flex {
namespace {

constexpr double kBytesPerGiB = 1024.0 * 1024.0 * 1024.0;

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
  const double memory_GiB = stack.cluster.device.memory_GiB;
  result.fits = memory_GiB <= 0 || static_cast<double>(result.memory_bytes) <= memory_GiB * kBytesPerGiB;
  return result;
}

std::vector<PlanPrediction> PlanPredictor::all() {
  std::vector<PlanPrediction> result;
  for (const Plan& plan : PlanSpace(stack_.workload, stack_.cluster).plans()) {
    result.push_back(predict(plan, plan));
  }
  std::ranges::sort(result, comes_before);
  return result;
}

double PlanPredictor::total_us(Passes passes, const Plan& plan) {
  LayerStack stack = with(plan, plan);
  stack.passes = passes;
  sequence_.build(stack);
  return simulator_.run(sequence_.passes(), costs_).total_us;
}

PlanPrediction PlanPredictor::best() {
  struct Choice {
    Plan plan;
    double us = std::numeric_limits<double>::infinity();
    void take(const Plan& candidate, double candidate_us) {
      if (candidate_us < us) *this = {candidate, candidate_us};
    }
  };
  struct Pair {
    Choice forward, backward;
  };
  // The passes of one r are independent but for the agreement that a counted forward pass needs a counted
  // backward pass: so the expert kernel is common to both as well.
  std::map<std::pair<std::int32_t, ExpertKernel>, Pair> pairs;
  for (const Plan& plan : PlanSpace(stack_.workload, stack_.cluster).plans()) {
    Pair& pair = pairs[{plan.parallel_degree, plan.expert_kernel}];
    if (stack_.passes != Passes::kBackward) pair.forward.take(plan, total_us(Passes::kForward, plan));
    if (stack_.passes != Passes::kForward) pair.backward.take(plan, total_us(Passes::kBackward, plan));
    if (stack_.passes == Passes::kBackward) pair.forward = pair.backward;
    if (stack_.passes == Passes::kForward) pair.backward = pair.forward;
  }
  std::optional<PlanPrediction> best;
  for (const auto& [key, pair] : pairs) {
    const PlanPrediction one = predict(pair.forward.plan, pair.backward.plan);
    if (!best || comes_before(one, *best)) best = one;
  }
  return *best;
}

Simulation PlanPredictor::timeline(const Plan& forward, const Plan& backward) {
  sequence_.build(with(forward, backward));
  return simulator_.run(sequence_.passes(), costs_);
}

double fairseq_us(const LayerStack& stack, const CostModel& costs) {
  LayerStack baseline = stack;
  baseline.forward = baseline.backward = kDefaultPlan;
  return simulate_formulation(baseline, kFairseq, costs).total_us;
}

}  // namespace flex
