#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/device_ceilings.h"
#include "runtime/layer_benchmark.h"

namespace flex {

/// One shape of a suite, with what others were measured to take on the same kind of card.
struct SuiteShape {
  std::int64_t tokens, model_dim, hidden_dim, experts, top_k;
  double capacity_factor;
  double peer_forward_ms;   ///< Tutel 0.3, fp16, one H200
  double peer_training_ms;  ///< the same, forward and backward
  std::optional<double>
      grouped_forward_ms;  ///< a dropless PyTorch layer with grouped products, bf16, one H200
};

/// The shapes of a named suite: `h200`, one layer on one GPU, relu, linear gate; memory_suite.h has another
/// one. @throws InputError for another name.
/// @source measured with PyTorch 2.11 on one H200, driver 580, CUDA 13.0; see docs/benchmarks.md
[[nodiscard]] const std::vector<SuiteShape>& suite_shapes(std::string_view name);

struct SuiteRow {
  SuiteShape shape;
  double products_us = 0;  ///< the two batched products of the experts alone, at this capacity
  double forward_us = 0;
  double training_us = 0;
  double forward_floor_us = 0;   ///< products + 4 T k M elements moved at the copy rate
  double training_floor_us = 0;  ///< 3 products + 12 T k M elements
  double forward_graph_us = 0;   ///< replayed as a CUDA graph
  double training_graph_us = 0;
  double output_error = 0;                ///< of sampled tokens, see sampled_output_error()
  std::vector<OperationTime> operations;  ///< of the training pass
};

struct SuiteResult {
  DType dtype;
  DeviceCeilings ceilings;
  std::vector<SuiteRow> rows;
};

/// Largest output_error of a row that is right: rounding of `dtype` (TF32 for fp32) through both products.
[[nodiscard]] double output_error_limit(DType dtype);

/// Runs the suite on one rank of a CUDA device. Blocking. @throws InputError on the CPU, DeviceError
/// for a row whose output is wrong.
[[nodiscard]] SuiteResult run_suite(std::string_view name, DType dtype, RankContext& context,
                                    const std::function<void(int, int)>& progress = {});

}  // namespace flex
