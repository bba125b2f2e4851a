#pragma once

#include <string>

#include "costmodel/topology.h"
#include "kernels/device.h"
#include "kernels/dtype.h"

namespace flex {

/// What ranks compute with: a GPU, or the processor of a host. Figures are what a datasheet promises; what a
/// program reaches of them is a matter of calibration. Zero: not known.
struct DeviceFacts {
  std::string name;
  DeviceKind kind = DeviceKind::kCpu;
  /// Dense matrix products at most, without sparsity; zero for a type that it does not compute in.
  double peak_fp64_TFLOPs = 0;
  double peak_fp32_TFLOPs = 0;
  double peak_tf32_TFLOPs = 0;  ///< fp32 operands rounded to TF32
  double peak_fp16_TFLOPs = 0;
  double peak_bf16_TFLOPs = 0;
  double memory_bandwidth_GBps = 0;  ///< reads and writes together
  double copy_bandwidth_GBps = 0;    ///< bytes copied inside its memory, each counted once
  double memory_GiB = 0;
  int processors = 0;           ///< SMs of a GPU, cores of a CPU
  double kernel_launch_us = 0;  ///< from start to start of empty kernels queued one after another

  /// Of matrix products on operands of `dtype`; `allow_tf32` matters for fp32 only, and only where there is
  /// TF32. Zero for types that it does not compute in.
  [[nodiscard]] double peak_TFLOPs(DType dtype, bool allow_tf32 = false) const;
};

/// The way of a message between two ranks.
struct LinkFacts {
  std::string name;
  double latency_us = 0;      ///< of a message without content
  double bandwidth_GBps = 0;  ///< of one device in one direction, both at a time
};

/// The machines that a schedule is built for, and, for a cost model, what they are made of. A schedule needs
/// only nodes and ranks_per_node; a cluster that says no more, such as that of a running job, has no name.
struct Cluster {
  int nodes = 1;
  int ranks_per_node = 1;
  int ranks_per_device = 1;  ///< they share its compute, its memory and its links
  int host_cores = 0;        ///< of one node, shared by its ranks
  int nics_per_node = 0;     ///< of inter_node's bandwidth each; shared by the devices if they are more
  std::string name = {};
  DeviceFacts device = {};
  LinkFacts intra_node = {};
  LinkFacts inter_node = {};  ///< zero bandwidth where there can be one node only

  [[nodiscard]] bool is_described() const { return !name.empty(); }
  [[nodiscard]] int world() const { return nodes * ranks_per_node; }
  [[nodiscard]] int devices_per_node() const { return ranks_per_node / ranks_per_device; }
  /// That share one NIC; needs NICs.
  [[nodiscard]] int ranks_per_nic() const { return ranks_per_node / nics_per_node; }
  [[nodiscard]] Topology topology() const { return {world(), ranks_per_node}; }
};

/// The cluster of a running job. @throws InputError if the ranks do not fill whole nodes.
[[nodiscard]] Cluster cluster_of(const Topology& topology);

}  // namespace flex
