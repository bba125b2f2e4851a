#include "costmodel/baseline.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/units.h"

namespace flex {
namespace {

/// Sizes of the mask of tokens by experts by slots.
struct Mask {
  double elements;
  double element_bytes;

  Mask(const Workload& w, double tokens)
      : elements(tokens * static_cast<double>(w.num_experts * w.padded_capacity())),
        element_bytes(static_cast<double>(size_bytes(w.dtype))) {}
  [[nodiscard]] double bytes() const { return elements * element_bytes; }
  /// Read and written while it is made: each of the k choices written, k - 1 additions (two read, one
  /// written), then a mask of booleans of one byte made and turned back into the tokens' type.
  [[nodiscard]] double bytes_made(double top_k) const {
    return elements * ((top_k + 3 * (top_k - 1) + 2) * element_bytes + 2);
  }
};

// Kernels beside the products: one-hots, their products, sums and conversions; and of their gradients.
constexpr double kMaskLaunches = 13;
constexpr double kMaskBackwardLaunches = 5;

bool is_einsum(OperationKind kind) {
  return kind == OperationKind::kEncode || kind == OperationKind::kDecode ||
         kind == OperationKind::kDecodeBackward || kind == OperationKind::kEncodeBackward;
}

}  // namespace

double einsum_us(const OperationRoofline& roofline, OperationKind kind, const Workload& w,
                 std::int64_t num_tokens) {
  const ComputeRates& rates = roofline.rates();
  const auto tokens = static_cast<double>(num_tokens);
  const Mask mask(w, tokens);
  const auto model_dim = static_cast<double>(w.model_dim);
  const auto slots = static_cast<double>(w.num_experts * w.padded_capacity());
  const double product_bytes = mask.bytes() + (slots + tokens) * model_dim * mask.element_bytes;
  const double flops_per_us = rates.flops_per_us[static_cast<std::size_t>(w.dtype)];
  const double product =
      product_us(2 * mask.elements * model_dim, product_bytes, tokens, flops_per_us, rates);
  switch (kind) {
    case OperationKind::kEncode:
      return mask.bytes_made(static_cast<double>(w.top_k)) / rates.bytes_per_us + product +
             (kMaskLaunches + 1) * rates.launch_us;
    case OperationKind::kDecodeBackward:  // by slots and by mask, whose gradient the outer products read
      return 2 * mask.bytes() / rates.bytes_per_us + 2 * product +
             (kMaskBackwardLaunches + 2) * rates.launch_us;
    default:
      return product + rates.launch_us;
  }
}

OperationCost BaselineCosts::cost(const Schedule& schedule, std::size_t index, const RankLoad& load) const {
  const Operation& operation = schedule.operations[index];
  OperationCost cost = costs_.cost(schedule, index, load);
  if (formulation_.einsum && is_einsum(operation.kind)) {
    cost.duration_us = einsum_us(costs_.roofline(), operation.kind, schedule.workload, load.num_tokens);
    cost.origin = CostOrigin::kRoofline;
  } else if (!formulation_.flexible_layout && is_expert_product(operation.kind)) {
    const PlanShape shape = plan_shape(schedule.workload, schedule.plan);
    const double group_rows = static_cast<double>(operation.size.rows) / static_cast<double>(shape.sources);
    cost.duration_us = costs_.roofline().grouped_product_us(work_of(schedule, operation, load), group_rows);
    cost.origin = CostOrigin::kRoofline;
  }
  return cost;
}

Schedule in_one_stream(const Schedule& schedule) {
  Schedule single = schedule;
  for (Operation& operation : single.operations) {
    if (operation.stream != StreamKind::kHost) operation.stream = StreamKind::kCommunication;
  }
  return single;
}

Simulation simulate_formulation(const LayerStack& stack, const Formulation& formulation,
                                const CostModel& costs) {
  PassSequence sequence;
  sequence.build(stack);
  std::vector<SimulatedPass> passes(sequence.passes().begin(), sequence.passes().end());
  std::vector<Schedule> schedules;
  if (formulation.one_stream) {
    schedules.reserve(passes.size());
    for (SimulatedPass& pass : passes) {
      schedules.push_back(in_one_stream(*pass.schedule));
      pass.schedule = &schedules.back();
    }
  }
  return simulate(passes, BaselineCosts(costs, formulation));
}

FrameworkMemory framework_memory(const Workload& w, const Formulation& formulation, double base_GiB) {
  constexpr std::int64_t kOneHotBytes = 8;  // int64, as the frameworks' one_hot() makes them
  constexpr std::int64_t kStates = 4;       // parameters, gradients, two moments
  const std::int64_t element = size_bytes(w.dtype);
  const std::int64_t slots = w.num_experts * w.padded_capacity();
  const std::int64_t tokens_bytes = w.num_tokens * w.model_dim * element;
  const std::int64_t matrices = w.ffn == FfnKind::kGated ? 3 : 2;
  FrameworkMemory memory{
      .state_bytes =
          kStates * element * w.local_experts() * matrices * w.model_dim * (w.hidden_dim / w.shards()),
      .activation_bytes = 2 * tokens_bytes + slots * element * (2 * w.model_dim + w.hidden_dim),
      .base_bytes = static_cast<std::int64_t>(base_GiB * kBytesPerGiB)};
  if (!formulation.einsum) return memory;
  // One-hots of slots by token, one for each choice, in int64 and converted; then masks over experts too.
  const std::int64_t one_hot = w.num_tokens * w.padded_capacity();
  const std::int64_t mask = w.num_tokens * slots;
  const std::int64_t making =
      w.top_k * (kOneHotBytes + element) * one_hot + ((w.top_k + 1) * element + 1) * mask;
  const std::int64_t kept = w.top_k * element * one_hot + (w.top_k * element + 1) * mask;
  // Two moments: masks are made while only tokens are there; later what the backward pass needs is kept.
  if (tokens_bytes + making > memory.activation_bytes + kept) {
    memory.activation_bytes = tokens_bytes;
    memory.mask_bytes = making;
  } else {
    memory.mask_bytes = kept;
  }
  return memory;
}

}  // namespace flex
