#pragma once

#include <memory>
#include <vector>

#include "costmodel/cluster.h"
#include "kernels/gemm_algorithms.h"
#include "runtime/all_to_all.h"
#include "runtime/communicator.h"
#include "runtime/executor.h"

namespace flex {

/// What all layers of one rank share: the groups of ranks that plans use, and the executor with its
/// communication stream. Made once per rank; making it is collective. `world` must outlive it.
class RankContext {
 public:
  RankContext(Communicator& world, Device device, const GemmOptions& gemm = {});
  /// Leaving by an exception aborts the world first: peers must not wait for a rank that unwinds.
  ~RankContext();
  RankContext(const RankContext&) = delete;
  RankContext& operator=(const RankContext&) = delete;

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] int rank() const { return world_.rank(); }
  [[nodiscard]] int size() const { return world_.size(); }
  [[nodiscard]] const Cluster& cluster() const { return cluster_; }
  [[nodiscard]] TrafficCounters& counters() { return world_.counters(); }
  [[nodiscard]] Executor& executor() { return *executor_; }
  /// Algorithms of matrix products on CUDA; null on the CPU.
  [[nodiscard]] GemmAlgorithms* gemm() { return gemm_.get(); }

  /// Everyone, for tensors on the communication stream.
  [[nodiscard]] Communicator& data() { return *data_; }
  /// Everyone, for agreement on the host.
  [[nodiscard]] Communicator& control() { return *control_; }
  /// The ranks of this node, and those of the same local rank on every node.
  [[nodiscard]] NodeGroups& node_groups() { return *node_groups_; }
  /// The contiguous group of `size` ranks that this rank gathers weights in; made by prepare_weight_groups().
  [[nodiscard]] Communicator& weight_group(std::int64_t size);
  /// Makes the groups for experts shared by `shards` ranks. Collective; groups that exist are kept.
  void prepare_weight_groups(std::int64_t shards);

  void abort(const std::string& reason) noexcept { world_.abort(reason); }

 private:
  Communicator& world_;
  Device device_;
  Cluster cluster_;
  int exceptions_at_start_;
  std::unique_ptr<Communicator> data_;
  std::unique_ptr<Communicator> control_;
  std::unique_ptr<NodeGroups> node_groups_;
  std::vector<std::unique_ptr<Communicator>> weight_groups_;
  std::unique_ptr<GemmAlgorithms> gemm_;
  std::unique_ptr<Executor> executor_;  // last: its stream ends before the groups that it uses
};

}  // namespace flex
