#include "runtime/layer_suite.h"

#include "base/require.h"
#include "kernels/moe/route.h"
#include "runtime/device_ceilings.h"
#include "runtime/memory_suite.h"

namespace flex {

const std::vector<SuiteShape>& suite_shapes(std::string_view name) {
  static const std::vector<SuiteShape> kH200 = {{4096, 4096, 4096, 2, 2, 1.0, 2.767, 6.021, {}},
                                                {16384, 4096, 4096, 2, 2, 1.0, 6.898, 16.083, {}},
                                                {16384, 2048, 2048, 8, 2, 1.0, 3.583, 7.258, 2.044},
                                                {16384, 2048, 8192, 8, 2, 1.0, 6.432, 15.704, 4.350},
                                                {8192, 2048, 2048, 64, 2, 1.0, 2.544, 6.995, 1.398},
                                                {65536, 1024, 4096, 32, 1, 1.25, 5.900, 13.578, 3.165},
                                                {12544, 512, 2048, 32, 1, 1.25, 1.579, 3.209, {}},
                                                {50176, 512, 2048, 32, 1, 1.25, 2.709, 5.381, 1.191},
                                                {4096, 4096, 14336, 8, 2, 1.0, 4.388, 14.972, 3.611}};
  require(name == "h200", "suite '{}' is unknown; there are h200, {}, switching and profiling", name,
          kMemorySuite);
  return kH200;
}

double output_error_limit(DType dtype) {
  constexpr double kF16Limit = 5e-3;  // TF32 has as many bits as fp16
  constexpr double kBf16Limit = 2e-2;
  return dtype == DType::kBF16 ? kBf16Limit : kF16Limit;
}

SuiteResult run_suite(std::string_view name, DType dtype, RankContext& context,
                      const std::function<void(int, int)>& progress) {
  const std::vector<SuiteShape>& shapes = suite_shapes(name);
  require(context.gemm() != nullptr, "a suite runs on a CUDA device; use --device cuda:0");
  Stream stream(context.device());
  SuiteResult result{.dtype = dtype, .ceilings = measure_ceilings(dtype, *context.gemm(), stream)};
  for (const SuiteShape& shape : shapes) {
    LayerBenchmark benchmark{.config = {.model_dim = shape.model_dim,
                                        .hidden_dim = shape.hidden_dim,
                                        .num_experts = shape.experts,
                                        .dtype = dtype,
                                        .activation = Activation::kRelu},
                             .num_tokens = shape.tokens,
                             .top_k = shape.top_k,
                             .capacity_factor = shape.capacity_factor,
                             .plans = {PlanPair{}},
                             .warmup = 5,
                             .repeats = 21};
    SuiteRow row{.shape = shape};
    const PlanMeasurement training = benchmark_layer(benchmark, context).front();
    row.training_us = training.median_us;
    row.operations = training.operations;
    row.output_error = training.output_error;
    require<DeviceError>(
        row.output_error <= output_error_limit(dtype),
        "suite {}: the output of T {}, M {}, H {}, E {} is off by {:.1e} of its norm, allowed are {:.1e}",
        name, shape.tokens, shape.model_dim, shape.hidden_dim, shape.experts, row.output_error,
        output_error_limit(dtype));
    benchmark.check_output = false;  // copies all weights to the host: once for a shape
    benchmark.training = false;
    row.forward_us = benchmark_layer(benchmark, context).front().median_us;
    benchmark.graphs = true;
    row.forward_graph_us = benchmark_layer(benchmark, context).front().median_us;
    benchmark.training = true;
    row.training_graph_us = benchmark_layer(benchmark, context).front().median_us;
    row.products_us = measure_expert_products_us(dtype, shape.experts, training.capacity, shape.model_dim,
                                                 shape.hidden_dim, *context.gemm(), stream);
    const double moved_us =
        4.0 * static_cast<double>(shape.tokens * shape.top_k * shape.model_dim * size_bytes(dtype)) /
        result.ceilings.copy_GBps * 1e-3;
    row.forward_floor_us = row.products_us + moved_us;
    row.training_floor_us = 3 * (row.products_us + moved_us);
    result.rows.push_back(std::move(row));
    if (progress) progress(static_cast<int>(result.rows.size()), static_cast<int>(shapes.size()));
  }
  return result;
}

}  // namespace flex
