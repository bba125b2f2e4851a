#pragma once

#include "costmodel/cost_model.h"

/// A cluster and parameters whose products are round numbers.
namespace flex::testing {

/// Two nodes of four ranks. In bytes and operations a microsecond and rank, with toy_parameters(): products
/// in fp32 5e6, memory 5e4, strided copies 1e4, within a node 5e3, between nodes 800.
[[nodiscard]] inline Cluster toy_cluster() {
  return {.nodes = 2,
          .ranks_per_node = 4,
          .nics_per_node = 4,
          .name = "toy",
          .device = {.name = "Toy",
                     .kind = DeviceKind::kCuda,
                     .peak_fp32_TFLOPs = 10,
                     .peak_tf32_TFLOPs = 40,
                     .peak_fp16_TFLOPs = 80,
                     .memory_bandwidth_GBps = 100},
          .intra_node = {.name = "short", .latency_us = 1, .bandwidth_GBps = 10},
          .inter_node = {.name = "long", .latency_us = 2, .bandwidth_GBps = 1}};
}

[[nodiscard]] inline CostParameters toy_parameters() {
  CostParameters p;
  p.compute = {.matrix_efficiency = 0.5,
               .half_efficiency_rows = 32,
               .memory_efficiency = 0.5,
               .strided_copy_efficiency = 0.1,
               .launch_us = 3};
  p.intra_node = {.bandwidth_efficiency = 0.5, .message_us = 2, .collective_us = 20};
  p.inter_node = {.bandwidth_efficiency = 0.8,
                  .message_us = 5,
                  .collective_us = 30,
                  .contention_peers = 8,
                  .contention_exponent = 2};
  p.host_synchronize_us = 40;
  p.linear = {.compute = 1.25, .communication = 1};
  p.hierarchical = {.compute = 1.5, .communication = 2};
  return p;
}

}  // namespace flex::testing
