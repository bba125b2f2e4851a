#include "costmodel/operation_work.h"

namespace flex {
namespace {

/// How many of an operation's bytes belong to slots, which every rank has alike.
double slot_bytes(const Workload& w, OperationKind kind) {
  if (kind != OperationKind::kEncode && kind != OperationKind::kDecodeBackward) return 0;
  return static_cast<double>(w.num_experts * w.padded_capacity() * w.model_dim * size_bytes(w.dtype));
}

bool is_over_tokens(OperationKind kind) {
  switch (kind) {
    case OperationKind::kGate:
    case OperationKind::kGateNoise:
    case OperationKind::kRoute:
    case OperationKind::kGateLossSums:
    case OperationKind::kGateBackward:
    case OperationKind::kEncode:
    case OperationKind::kDecode:
    case OperationKind::kDecodeBackward:
    case OperationKind::kEncodeBackward:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool is_gate_product(OperationKind kind) {
  return kind == OperationKind::kGate || kind == OperationKind::kGateBackward;
}

bool is_expert_product(OperationKind kind) {
  return kind == OperationKind::kExpertFfn || kind == OperationKind::kExpertFfnBackwardData ||
         kind == OperationKind::kExpertFfnBackwardFc1 || kind == OperationKind::kExpertFfnBackwardFc2;
}

OperationWork work_of(const Schedule& schedule, const Operation& operation, const RankLoad& load) {
  const Workload& w = schedule.workload;
  const OperationSize& size = operation.size;
  const bool gate = is_gate_product(operation.kind);
  OperationWork work{.kind = operation.kind,
                     .dtype = gate ? gate_dtype(w.dtype) : w.dtype,
                     .world = w.world,
                     .batch = size.batch,
                     .rows = size.rows,
                     .columns = size.columns,
                     .model_dim = w.model_dim,
                     .peers = size.peers,
                     .bytes_per_peer = size.bytes_per_peer,
                     .bytes = static_cast<double>(size.bytes),
                     .flops = size.flops,
                     .expert_rows = load.expert_rows};
  if (load.num_tokens == w.num_tokens || !is_over_tokens(operation.kind)) return work;
  const double part = static_cast<double>(load.num_tokens) / static_cast<double>(w.num_tokens);
  const double slots = slot_bytes(w, operation.kind);
  work.bytes = slots + (work.bytes - slots) * part;
  work.flops *= part;
  if (gate) work.rows = load.num_tokens;
  return work;
}

OperationWork work_of(const CostSample& sample) {
  return {.kind = sample.kind,
          .dtype = is_gate_product(sample.kind) ? gate_dtype(sample.dtype) : sample.dtype,
          .world = sample.world,
          .batch = sample.batch,
          .rows = sample.rows,
          .columns = sample.columns,
          .model_dim = sample.model_dim,
          .peers = sample.peers,
          .bytes_per_peer = sample.bytes_per_peer,
          .bytes = static_cast<double>(sample.bytes),
          .flops = sample.flops};
}

}  // namespace flex
