#include "base/require.h"
#include "kernels/moe/permute_chunks.h"
#include "runtime/moe_layer_impl.h"

/// The operations by which a chunk travels between ranks, in either direction and pass.
namespace flex {
namespace {

// Rows [begin, begin + count) of a buffer of rows.
TensorView rows_at(const TensorView& buffer, std::int64_t begin, std::int64_t count) {
  TensorView view = buffer;
  view.data = static_cast<char*>(buffer.data) + begin * buffer.size(1) * size_bytes(buffer.dtype);
  view.shape = {count, buffer.size(1)};
  return view;
}

}  // namespace

void MoeLayer::Impl::run_exchange(const Operation& operation, Stream& stream) {
  using enum OperationKind;
  const bool forward = pass_ == Pass::kForward;
  const bool dispatch = operation.direction == Direction::kDispatch;
  const std::int64_t world = workload_.world;
  const std::int64_t experts = workload_.local_experts();
  const std::int64_t slots = operation.size.slots;
  const std::int64_t chunk_rows = world * experts * slots;
  const std::int64_t chunk_begin = world * experts * operation.size.slot_begin;
  const std::int64_t piece_begin = exchange_.layout.chunk_row(operation.chunk);
  const std::int64_t piece_rows = exchange_.layout.num_experts * exchange_.layout.parts * slots;

  const TensorView encoded = forward ? encoded_ : dcombined_;  // what leaves on dispatch
  const TensorView summed = forward ? combined_ : dencoded_;   // where the way back ends
  const TensorView send = dispatch ? rows_at(encoded, piece_begin, piece_rows)
                                   : rows_at(exchange_.outgoing, chunk_begin, chunk_rows);
  const TensorView receive =
      rows_at(dispatch ? exchange_.received : exchange_.returned, chunk_begin, chunk_rows);
  // On dispatch one piece of memory goes to all ranks that hold a copy of its slots.
  const std::int64_t group = dispatch ? workload_.shards() : 1;
  const std::int64_t parts = dispatch ? shape_.parts : 1;
  const std::int64_t piece_bytes = experts * slots * config_.model_dim * size_bytes(config_.dtype);
  NodeGroups& groups = context_.node_groups();
  const TensorView node_staging = rows_at(exchange_.node_staging, 0, chunk_rows);
  const TensorView rail_staging = rows_at(exchange_.rail_staging, 0, chunk_rows);

  switch (operation.kind) {
    case kAllToAll:
      return context_.data().all_to_all({.send = send.data,
                                         .recv = receive.data,
                                         .bytes_per_peer = piece_bytes,
                                         .group = group,
                                         .parts = parts,
                                         .traffic = dispatch ? Traffic::kDispatch : Traffic::kCombine},
                                        stream);
    case kNodeCopy:
      return hierarchical_node_copy(
          groups,
          {.from = send, .to = node_staging, .chunk_bytes = piece_bytes, .group = group, .parts = parts},
          stream);
    case kNodeAllToAll:
      return hierarchical_node_all_to_all(
          groups,
          {.from = node_staging,
           .to = rail_staging,
           .chunk_bytes = piece_bytes,
           .traffic = dispatch ? Traffic::kDispatchIntra : Traffic::kCombineIntra},
          stream);
    case kRailCopy:
      return hierarchical_rail_copy(
          groups, {.from = rail_staging, .to = node_staging, .chunk_bytes = piece_bytes}, stream);
    case kRailAllToAll:
      return hierarchical_rail_all_to_all(groups,
                                          {.from = node_staging,
                                           .to = receive,
                                           .chunk_bytes = piece_bytes,
                                           .traffic = dispatch ? Traffic::kDispatch : Traffic::kCombine},
                                          stream);
    case kRowsToExperts:
    case kRowsFromExperts: {
      const bool to_experts = operation.kind == kRowsToExperts;
      const TensorView rows =
          to_experts ? (forward ? expert_in_ : dexpert_out_) : (forward ? expert_out_ : dexpert_in_);
      const PermuteRowsArgs args{.from = to_experts ? receive : rows,
                                 .to = to_experts ? rows : send,
                                 .world = world,
                                 .local_experts = experts,
                                 .slots = slots,
                                 .slot_begin = operation.size.slot_begin,
                                 .slot_capacity = shape_.part_slots};
      return to_experts ? rows_to_experts(args, stream) : rows_from_experts(args, stream);
    }
    case kSumCopies: {
      const std::int64_t row_elements = shape_.parts * slots * config_.model_dim;
      return sum_copies(
          {.from = receive.reshaped({config_.num_experts, shape_.copies, row_elements}),
           .to = rows_at(summed, piece_begin, piece_rows).reshaped({config_.num_experts, row_elements})},
          stream);
    }
    default:
      fail("operation {} does not belong to an exchange", name(operation.kind));
  }
}

}  // namespace flex
