#pragma once

#include <cstdint>
#include <memory>

#include "runtime/communicator.h"

/// The 2D hierarchical All-to-All over any communicator: n ranks in nodes of m exchange equal chunks in a
/// phase inside the node and one between nodes, so that a rank sends n/m large messages over the slow links
/// instead of n - m small ones. (Linear is Communicator::all_to_all.) The result is the same for every n and
/// m.
/// @source Tutel: Adaptive Mixture-of-Experts at Scale (arXiv 2206.03382), section 4.3, with the index of its
/// strided copy corrected for grids that are not square.
namespace flex {

/// The groups of the two phases: the m ranks of this node, and the n/m ranks that have this rank's place in
/// their nodes.
class NodeGroups {
 public:
  /// Splits `world`; collective and blocking. Nodes are those of the topology of its counters.
  /// @throws InputError unless `world` holds all ranks of the topology in order, in whole nodes.
  explicit NodeGroups(Communicator& world);

  [[nodiscard]] Communicator& node() { return *node_; }  ///< ordered by place in the node
  [[nodiscard]] Communicator& rail() { return *rail_; }  ///< ordered by node
  [[nodiscard]] int world_size() const { return ranks_per_node() * num_nodes(); }
  [[nodiscard]] int ranks_per_node() const { return node_->size(); }  ///< m
  [[nodiscard]] int num_nodes() const { return rail_->size(); }       ///< n/m

 private:
  std::unique_ptr<Communicator> node_;
  std::unique_ptr<Communicator> rail_;
};

/// One step of an exchange of n chunks: from and to, contiguous, of any element type, hold n * chunk_bytes
/// each and do not overlap.
struct ExchangeStepArgs {
  ConstTensorView from;
  TensorView to;
  std::int64_t chunk_bytes = 0;
  Traffic traffic = Traffic::kOther;  ///< of the two phases
  /// First step only: the chunk for rank p is read at place shared_place(p, group, parts), and `from` holds
  /// n / group * parts chunks. Equal values: place p.
  std::int64_t group = 1;
  std::int64_t parts = 1;
};

/// Step 1: sorts chunks by the place of their receiver in its node. to: (m, n/m) chunks by (place, node).
void hierarchical_node_copy(const NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream);
/// Step 2: exchange inside the node, n/m chunks for each of m peers. to: (m, n/m) chunks by (sender's place,
/// receiver's node).
void hierarchical_node_all_to_all(NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream);
/// Step 3: sorts chunks by the node of their receiver. to: (n/m, m) chunks by (node, sender's place).
void hierarchical_rail_copy(const NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream);
/// Step 4: exchange between nodes, m chunks for each of n/m peers. to: n chunks by source rank.
void hierarchical_rail_all_to_all(NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream);

struct HierarchicalAllToAllArgs {
  ConstTensorView send;  ///< n chunks by destination rank, or fewer with group and parts
  TensorView recv;       ///< n chunks by source rank; overwritten by a step in between, too
  TensorView scratch;    ///< n chunks
  std::int64_t chunk_bytes = 0;
  Traffic node_traffic = Traffic::kOther;
  Traffic rail_traffic = Traffic::kOther;
  std::int64_t group = 1;  ///< as in ExchangeStepArgs
  std::int64_t parts = 1;
};

/// The four steps on one stream. The views must be three pieces of memory that do not overlap.
/// @throws InputError for views that are too small or not contiguous; CommError as the communicator does.
void hierarchical_2d_all_to_all(NodeGroups& groups, const HierarchicalAllToAllArgs& args, Stream& stream);

}  // namespace flex
