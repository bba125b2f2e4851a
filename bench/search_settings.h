#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/philox.h"
#include "costmodel/cluster.h"
#include "costmodel/workload.h"

/// What searches are compared on.
namespace flex::bench {

/// One layer on one simulated cluster.
struct SearchSetting {
  Cluster cluster;
  Workload workload;
  double capacity_factor = 1;  ///< f

  /// e.g. `dgx_h100 W64 E16 T4096 M2048 H32768 f0.5`.
  [[nodiscard]] std::string text() const;
};

/// A layer on `cluster`, but for its capacity, drawn from: E/W of 1/2, 1, 2, or E = 16; M of 1,024 to 4,096;
/// H of 1,024 to 32,768; T of 4,096, 16,384, 65,536; k = 2. fp32 on NDv4 (in TF32), bf16 elsewhere.
[[nodiscard]] Workload draw_workload(const Cluster& cluster, PhiloxStream& random);

/// `shapes_per_world` layers on each of NDv4 and DGX H100 with 8 to 2,048 GPUs, drawn by the seed from: E/W
/// of 1/2, 1, 2, or E = 16; M of 1,024 to 4,096; H of 1,024 to 32,768; T of 4,096, 16,384, 65,536; f of 0.5
/// to 8; k = 2. fp32 on NDv4 (in TF32), bf16 on H100. Layers without a single slot are drawn again.
/// @source the grid on which Hwang et al. (arXiv 2206.03382) average the gain of adaptive pipelining, with
/// the H, f and the fixed E of their study of r
[[nodiscard]] std::vector<SearchSetting> draw_search_settings(int shapes_per_world, std::uint64_t seed);

}  // namespace flex::bench
