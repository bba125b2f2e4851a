#pragma once

#include <cstdint>
#include <span>

#include "costmodel/cost_sample.h"
#include "costmodel/operation_cost.h"
#include "costmodel/schedule.h"

namespace flex {

/// One operation on one rank as formulas see it: what an operation of a schedule and a sample both say.
struct OperationWork {
  OperationKind kind = OperationKind::kGate;
  DType dtype = DType::kF32;  ///< of products
  int world = 1;
  std::int64_t batch = 0;  ///< matrix products, as in OperationSize
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t model_dim = 0;
  std::int64_t peers = 0;
  std::int64_t bytes_per_peer = 0;
  double bytes = 0;
  double flops = 0;
  /// Rows of each product of the batch where they differ from `rows`; empty otherwise. Not owned.
  std::span<const std::int64_t> expert_rows{};
};

/// Bytes that belong to tokens rather than slots are those of the load's tokens.
[[nodiscard]] OperationWork work_of(const Schedule& schedule, const Operation& operation,
                                    const RankLoad& load);
[[nodiscard]] OperationWork work_of(const CostSample& sample);

/// Operations of the experts: products whose rows may be counted.
[[nodiscard]] bool is_expert_product(OperationKind kind);
/// Of the gate: in gate_dtype(), over tokens.
[[nodiscard]] bool is_gate_product(OperationKind kind);

}  // namespace flex
