#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/plan.h"
#include "costmodel/workload.h"

namespace flex {

/// What an operation does. The same list drives the executor, the simulator and the profiler.
enum class OperationKind : std::uint8_t {
  // Route, forward
  kAgreeTokens,     ///< host: ranks exchange token counts and compare what they were called with
  kGate,            ///< logits
  kGateNoise,       ///< noise on the logits
  kRoute,           ///< softmax, top-k, locations, counts
  kGateLossSums,    ///< sums of the auxiliary loss over this rank's tokens
  kReduceGateLoss,  ///< all-reduce of these sums
  kGateLossValue,   ///< the loss
  kAgreeCapacity,   ///< host: the counts come to the host, ranks agree on the capacity (dropless)
  // Experts, forward
  kGatherWeights,  ///< all-gather of expert weights in weight groups (r = 0: over all ranks)
  kEncode,         ///< tokens into slots
  kDecode,         ///< slots into tokens
  kExpertFfn,      ///< the experts on one chunk
  // Exchange of one chunk, either direction
  kAllToAll,         ///< linear: one phase over all ranks
  kNodeCopy,         ///< 2dh 1: strided copy by local rank
  kNodeAllToAll,     ///< 2dh 2: phase inside the node
  kRailCopy,         ///< 2dh 3: strided copy by node
  kRailAllToAll,     ///< 2dh 4: phase between nodes
  kRowsToExperts,    ///< received rows into the experts' order
  kRowsFromExperts,  ///< experts' rows into exchange order
  kSumCopies,        ///< r partial sums added
  // Backward
  kDecodeBackward,
  kExpertFfnBackwardData,
  kExpertFfnBackwardFc1,  ///< weight gradients of the first layer (and of the gated up projection)
  kExpertFfnBackwardFc2,  ///< weight gradients of the second layer
  kScatterGradients,      ///< reduce-scatter of expert gradients, mirror of kGatherWeights
  kEncodeBackward,
  kGateBackward,         ///< route, loss and gate backward
  kReduceGateGradients,  ///< all-reduce of the gate's gradients
  // After the layers of a model
  kReduceSharedGradients,  ///< all-reduce of the gradients that every rank has a copy of
};
inline constexpr int kNumOperationKinds = static_cast<int>(OperationKind::kReduceSharedGradients) + 1;
/// e.g. `expert_ffn`.
[[nodiscard]] std::string_view name(OperationKind kind);
/// Inverse of name(); nothing for an unknown name.
[[nodiscard]] std::optional<OperationKind> parse_operation_kind(std::string_view text);
/// All names in the order of the kinds, for messages.
[[nodiscard]] std::vector<std::string> operation_kind_names();

/// Where an operation is queued. Operations of one stream run in the order of the schedule.
enum class StreamKind : std::uint8_t { kHost, kCompute, kCommunication };
[[nodiscard]] std::string_view name(StreamKind stream);

/// Which way a chunk travels.
enum class Direction : std::uint8_t { kNone, kDispatch, kCombine };

/// Sizes of an operation on one rank; what does not apply is zero.
struct OperationSize {
  std::int64_t slot_begin = 0;  ///< first slot of the chunk in its part
  std::int64_t slots = 0;       ///< slots of the chunk in its part (one source rank, one expert)
  std::int64_t batch = 0;       ///< matrix products: number, (rows x model_dim) by (model_dim x columns)
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t peers = 0;           ///< ranks of the collective, the own included
  std::int64_t bytes_per_peer = 0;  ///< of a collective
  std::int64_t bytes =
      0;             ///< of a collective: payload with the own chunk; else: least bytes read plus written
  double flops = 0;  ///< multiplications plus additions of matrix products

  friend bool operator==(const OperationSize&, const OperationSize&) = default;
};

/// One node of the DAG.
struct Operation {
  static constexpr int kMaxWaits = 3;

  OperationKind kind = OperationKind::kGate;
  StreamKind stream = StreamKind::kCompute;
  Direction direction = Direction::kNone;
  std::int32_t chunk = 0;
  std::int32_t num_chunks = 1;
  /// Operations on other streams that must be done first, as indices into the schedule; each is smaller than
  /// the own.
  std::array<std::int16_t, kMaxWaits> waits{};
  std::int32_t num_waits = 0;
  OperationSize size;

  [[nodiscard]] std::span<const std::int16_t> waits_for() const {
    return {waits.data(), static_cast<std::size_t>(num_waits)};
  }
  friend bool operator==(const Operation&, const Operation&) = default;
};

/// Stable over runs, e.g. `dispatch/rail_all_to_all#1of4`.
[[nodiscard]] std::string label(const Operation& operation);

/// The two halves of a layer's pass: what is known before the agreement, and what follows from it.
enum class Part : std::uint8_t { kRoute, kExpert };

/// A DAG of operations in issue order: the whole description of what runs where, after what.
struct Schedule {
  Part part = Part::kExpert;
  Workload workload;
  Plan plan;
  std::vector<Operation> operations;
};

}  // namespace flex
