#include "costmodel/cluster.h"

#include "base/require.h"

namespace flex {

double DeviceFacts::peak_TFLOPs(DType dtype, bool allow_tf32) const {
  switch (dtype) {
    case DType::kF64:
      return peak_fp64_TFLOPs;
    case DType::kF32:
      return allow_tf32 && peak_tf32_TFLOPs > 0 ? peak_tf32_TFLOPs : peak_fp32_TFLOPs;
    case DType::kF16:
      return peak_fp16_TFLOPs;
    case DType::kBF16:
      return peak_bf16_TFLOPs;
    default:
      return 0;
  }
}

Cluster cluster_of(const Topology& topology) {
  require(
      topology.world >= 1 && topology.ranks_per_node >= 1 && topology.world % topology.ranks_per_node == 0,
      "{} ranks do not fill nodes of {}; use a number of ranks per node that divides them", topology.world,
      topology.ranks_per_node);
  return {.nodes = topology.world / topology.ranks_per_node, .ranks_per_node = topology.ranks_per_node};
}

}  // namespace flex
