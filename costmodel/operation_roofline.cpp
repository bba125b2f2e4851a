#include "costmodel/operation_roofline.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/require.h"

namespace flex {
namespace {

/// Which formula an operation's duration follows.
enum class Form : std::uint8_t {
  kMemory,
  kStridedCopy,
  kGateProduct,
  kExpertProduct,
  kLinearExchange,
  kNodePhase,
  kRailPhase,
  kGather,
  kAllReduce,
  kHost,
};

Form form_of(OperationKind kind) {
  using enum OperationKind;
  switch (kind) {
    case kGate:
    case kGateBackward:
      return Form::kGateProduct;
    case kExpertFfn:
    case kExpertFfnBackwardData:
    case kExpertFfnBackwardFc1:
    case kExpertFfnBackwardFc2:
      return Form::kExpertProduct;
    case kNodeCopy:
    case kRailCopy:
      return Form::kStridedCopy;
    case kAllToAll:
      return Form::kLinearExchange;
    case kNodeAllToAll:
      return Form::kNodePhase;
    case kRailAllToAll:
      return Form::kRailPhase;
    case kGatherWeights:
    case kScatterGradients:
      return Form::kGather;
    case kReduceGateLoss:
    case kReduceGateGradients:
    case kReduceSharedGradients:
      return Form::kAllReduce;
    case kAgreeTokens:
    case kAgreeCapacity:
      return Form::kHost;
    case kGateNoise:
    case kRoute:
    case kGateLossSums:
    case kGateLossValue:
    case kEncode:
    case kDecode:
    case kRowsToExperts:
    case kRowsFromExperts:
    case kSumCopies:
    case kDecodeBackward:
    case kEncodeBackward:
      break;
  }
  return Form::kMemory;
}

/// Matrices that one expert's rows are multiplied with in this operation.
double num_matrices(const OperationWork& work) {
  const double one =
      2.0 * static_cast<double>(work.batch * work.rows) * static_cast<double>(work.columns * work.model_dim);
  return one > 0 ? std::max(1.0, std::round(work.flops / one)) : 1.0;
}

double gate_launches(OperationKind kind) {
  // Backward: both products, and the gradient of softmax and loss.
  return kind == OperationKind::kGateBackward ? 3 : 1;
}

}  // namespace

OperationRoofline::OperationRoofline(const Cluster& cluster, const CostParameters& parameters)
    : rates_(compute_rates(cluster, parameters.compute)),
      network_(network_rates(cluster, parameters)),
      host_synchronize_us_(parameters.host_synchronize_us),
      kinds_(parameters.kinds),
      device_name_(cluster.device.name) {}

double OperationRoofline::collective_us(double members) const {
  const double intra_us = network_.intra_node.collective_us;
  return members > network_.ranks_per_node ? std::max(intra_us, network_.inter_node.collective_us) : intra_us;
}

double OperationRoofline::fixed_us(const OperationWork& work) const {
  switch (form_of(work.kind)) {
    case Form::kMemory:
    case Form::kStridedCopy:
      return rates_.launch_us;
    case Form::kGateProduct:
      return gate_launches(work.kind) * rates_.launch_us;
    case Form::kExpertProduct:
      return 2 * num_matrices(work) * rates_.launch_us;
    case Form::kLinearExchange:
    case Form::kAllReduce:
      return collective_us(work.world);
    case Form::kGather:
      return collective_us(static_cast<double>(work.peers));
    case Form::kNodePhase:
      return network_.intra_node.collective_us;
    case Form::kRailPhase:
      return work.peers > 1 ? network_.inter_node.collective_us : network_.intra_node.collective_us;
    case Form::kHost:
      return host_synchronize_us_;
  }
  return 0;
}

double OperationRoofline::variable_us(const OperationWork& work) const {
  const auto peers = static_cast<double>(work.peers);
  const auto bytes_per_peer = static_cast<double>(work.bytes_per_peer);
  const Form form = form_of(work.kind);
  const bool exchange = form == Form::kLinearExchange || form == Form::kNodePhase || form == Form::kRailPhase;
  if (exchange && work.peers <= 1) return 2 * work.bytes / rates_.bytes_per_us;
  switch (form) {
    case Form::kMemory:
      return work.bytes / rates_.bytes_per_us;
    case Form::kStridedCopy:
      return work.bytes / rates_.strided_bytes_per_us;
    case Form::kGateProduct:
      return gate_product_us(work);
    case Form::kExpertProduct:
      return expert_product_us(work, std::numeric_limits<double>::infinity());
    case Form::kLinearExchange:
      return linear_exchange_us(peers, bytes_per_peer, network_);
    case Form::kNodePhase:
      return messages_us(peers - 1, bytes_per_peer, network_.intra_node);
    case Form::kRailPhase:
      return messages_us(peers - 1, bytes_per_peer, network_.inter_node);
    case Form::kGather:
      return ring_gather_us(peers, bytes_per_peer, network_);
    case Form::kAllReduce:
      return all_reduce_us(work.world, bytes_per_peer, network_);
    case Form::kHost:
      return host_agreement_us(work.world, network_);
  }
  return 0;
}

double OperationRoofline::gate_product_us(const OperationWork& work) const {
  const double flops_per_us = rates_.gate_flops_per_us[static_cast<std::size_t>(work.dtype)];
  if (flops_per_us <= 0) fail("{} does not compute in {}", device_name_, name(work.dtype));
  const double us = product_us(work.flops, work.bytes, static_cast<double>(work.rows), flops_per_us, rates_);
  if (work.kind != OperationKind::kGateBackward) return us;
  // The gradient of scores becomes that of logits: read and written once.
  const auto score_bytes = static_cast<double>(work.rows * work.columns * size_bytes(work.dtype));
  return us + 2 * score_bytes / rates_.bytes_per_us;
}

double OperationRoofline::expert_product_us(const OperationWork& work, double group_rows) const {
  const double flops_per_us = rates_.flops_per_us[static_cast<std::size_t>(work.dtype)];
  if (flops_per_us <= 0) fail("{} does not compute in {}", device_name_, name(work.dtype));
  const auto rows = static_cast<double>(work.rows);
  if (work.expert_rows.empty() || work.rows == 0) {
    return product_us(work.flops, work.bytes, std::min(rows, group_rows), flops_per_us, rates_);
  }
  // Experts that got nothing read no weights.
  const double all_rows = rows * static_cast<double>(work.batch);
  const double weight_bytes = num_matrices(work) * static_cast<double>(work.model_dim * work.columns) *
                              static_cast<double>(size_bytes(work.dtype));
  const double row_bytes = (work.bytes - static_cast<double>(work.batch) * weight_bytes) / all_rows;
  double arithmetic_rows = 0;  // as many of full efficiency take as long
  double bytes = 0;
  for (const std::int64_t counted : work.expert_rows) {
    if (counted == 0) continue;
    const auto own = static_cast<double>(counted);
    arithmetic_rows += own / row_efficiency(std::min(own, group_rows), rates_.half_efficiency_rows);
    bytes += weight_bytes + own * row_bytes;
  }
  return std::max(work.flops / all_rows * arithmetic_rows / flops_per_us, bytes / rates_.bytes_per_us);
}

double OperationRoofline::finish_us(const OperationWork& work, double variable_us) const {
  const std::optional<KindParameters>& kind = kinds_[static_cast<std::size_t>(work.kind)];
  return kind ? kind->fixed_us + kind->time_factor * variable_us : fixed_us(work) + variable_us;
}

double OperationRoofline::duration_us(const OperationWork& work) const {
  return finish_us(work, variable_us(work));
}

double OperationRoofline::grouped_product_us(const OperationWork& work, double group_rows) const {
  return finish_us(work, expert_product_us(work, group_rows));
}

}  // namespace flex
