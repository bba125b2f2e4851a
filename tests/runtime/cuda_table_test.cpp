#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "kernels/host_element.h"
#include "runtime/launch.h"
#include "runtime/layer_suite.h"
#include "runtime/random_tensor.h"
#include "tests/support/cuda.h"
#include "tests/support/double_layer_cuda.h"
#include "tests/support/layer_world.h"

/// The layer at the sizes of the benchmark table against double, every element.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const Device kGpu = Device::cuda(0);

struct Sizes {
  std::int64_t tokens, model_dim, hidden_dim, experts, top_k;
  double capacity_factor;
};

Tensor random_on_gpu(DType dtype, Shape shape, std::uint64_t seed, std::uint64_t stream) {
  return random_normal_tensor(dtype, shape, kGpu, seed, stream);
}

DoubleLayerOutputs outputs_of(MoeLayer& layer, const Tensor& y, const Tensor& dx) {
  MoeParameters& p = layer.parameters();
  return {.y = y,
          .dx = dx,
          .gate_weight = p.at("gate.wg.weight").gradient,
          .fc1_w = p.at("experts.batched_fc1_w").gradient,
          .fc2_w = p.at("experts.batched_fc2_w").gradient,
          .fc1_bias = p.at("experts.batched_fc1_bias").gradient,
          .fc2_bias = p.at("experts.batched_fc2_bias").gradient};
}

DoubleLayerInputs inputs_of(MoeLayer& layer, const Tensor& x, const Tensor& dy, std::int64_t capacity,
                            double loss_gradient) {
  MoeParameters& p = layer.parameters();
  return {.x = x,
          .dy = dy,
          .gate_weight = p.at("gate.wg.weight").value,
          .fc1_w = p.at("experts.batched_fc1_w").value,
          .fc2_w = p.at("experts.batched_fc2_w").value,
          .fc1_bias = p.at("experts.batched_fc1_bias").value,
          .fc2_bias = p.at("experts.batched_fc2_bias").value,
          .indices = layer.routing().indices,
          .locations = layer.routing().locations,
          .capacity = capacity,
          .loss_gradient = loss_gradient};
}

DoubleLayerComparison compare_layer(const Sizes& sizes, DType dtype, const Plan& plan, std::uint64_t seed) {
  constexpr double kLossGradient = 0.3;
  DoubleLayerComparison result;
  run_ranks({}, 120s, [&](Communicator& world) {
    RankContext context(world, kGpu);
    const MoeConfig config{.model_dim = sizes.model_dim,
                           .hidden_dim = sizes.hidden_dim,
                           .num_experts = sizes.experts,
                           .dtype = dtype,
                           .activation = Activation::kRelu,
                           .seed = seed};
    MoeLayer layer(config, context);
    const Shape shape = {sizes.tokens, sizes.model_dim};
    const Tensor x = random_on_gpu(dtype, shape, seed, 1);
    const Tensor dy = random_on_gpu(dtype, shape, seed, 2);
    Tensor y(dtype, shape, kGpu);
    Tensor dx(dtype, shape, kGpu);
    Stream stream(kGpu);
    const ForwardResult forward = layer.forward(
        x, y, {.top_k = sizes.top_k, .capacity_factor = sizes.capacity_factor, .plans = {plan, plan}},
        stream);
    layer.backward(dy, dx, kLossGradient, stream);
    stream.synchronize_blocking();
    result = compare_with_double_layer(inputs_of(layer, x, dy, forward.capacity, kLossGradient),
                                       outputs_of(layer, y, dx));
  });
  return result;
}

void expect_close(const DoubleLayerComparison& comparison, double tolerance, double gradient_tolerance) {
  for (const RelativeNorm& norm : comparison.norms) {
    EXPECT_LE(norm.value, norm.name == "y" ? tolerance : gradient_tolerance) << norm.name;
  }
  constexpr double kClosestScores = 1e-5;
  EXPECT_LE(comparison.widest_gap, kClosestScores)
      << comparison.other_choices << " choices are not those of the exact scores";
}

// The comparison itself against the reference on the CPU.
TEST(DoubleLayer, EqualsTheReference) {
  FLEX_SKIP_WITHOUT_CUDA();
  for (const std::int64_t top_k : {1, 2, 3}) {
    const MoeConfig config{
        .model_dim = 24, .hidden_dim = 40, .num_experts = 5, .activation = Activation::kRelu};
    const ReferenceConfig reference = reference_config(config);
    const ForwardCall call{.top_k = top_k, .capacity_factor = 1.0};
    ReferenceParameters parameters = random_parameters(reference, 21);
    for (const auto& [name, values] : list_parameters(parameters)) {
      for (double& value : *values) value = static_cast<float>(value);
    }
    auto tokens = random_tokens({67}, config.model_dim, 22);
    for (auto* values : {&tokens[0].x, &tokens[0].dy}) {
      for (double& value : *values) value = static_cast<float>(value);
    }
    ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, call, 0.3), tokens);
    const auto on_gpu = [](const std::vector<double>& values, Shape shape) {
      Tensor host(DType::kF32, shape);
      for (std::int64_t i = 0; i < host.num_elements(); ++i)
        set_host_element(host, i, values[static_cast<std::size_t>(i)]);
      Tensor result(DType::kF32, shape, kGpu);
      copy_blocking(result, host);
      return result;
    };
    const auto integers = [](const std::vector<std::int32_t>& values, Shape shape) {
      Tensor result(DType::kI32, shape, kGpu);
      copy_blocking(result, ConstTensorView(values.data(), DType::kI32, shape, Device::cpu()));
      return result;
    };
    const Shape rows = {67, 24}, choices = {67, top_k}, matrix = {5, 40, 24}, gate = {5, 24};
    const ReferenceRank& rank = expected.ranks[0];
    const Tensor x = on_gpu(tokens[0].x, rows), dy = on_gpu(tokens[0].dy, rows), y = on_gpu(rank.y, rows),
                 dx = on_gpu(rank.dx, rows), wg = on_gpu(parameters.gate_weight, gate),
                 dwg = on_gpu(expected.gradients.gate_weight, gate), w1 = on_gpu(parameters.fc1_w, matrix),
                 dw1 = on_gpu(expected.gradients.fc1_w, matrix), w2 = on_gpu(parameters.fc2_w, matrix),
                 dw2 = on_gpu(expected.gradients.fc2_w, matrix), b1 = on_gpu(parameters.fc1_bias, {5, 40}),
                 db1 = on_gpu(expected.gradients.fc1_bias, {5, 40}), b2 = on_gpu(parameters.fc2_bias, gate),
                 db2 = on_gpu(expected.gradients.fc2_bias, gate);
    const Tensor indices = integers(rank.indices, choices), locations = integers(rank.locations, choices);
    const DoubleLayerComparison comparison = compare_with_double_layer(
        {.x = x,
         .dy = dy,
         .gate_weight = wg,
         .fc1_w = w1,
         .fc2_w = w2,
         .fc1_bias = b1,
         .fc2_bias = b2,
         .indices = indices,
         .locations = locations,
         .capacity = expected.capacity,
         .loss_gradient = 0.3},
        {.y = y, .dx = dx, .gate_weight = dwg, .fc1_w = dw1, .fc2_w = dw2, .fc1_bias = db1, .fc2_bias = db2});
    EXPECT_EQ(comparison.other_choices, 0);
    // What is compared is rounded to fp32.
    for (const RelativeNorm& norm : comparison.norms) EXPECT_LE(norm.value, 1e-7) << norm.name;
  }
}

class CudaTable : public ::testing::TestWithParam<std::tuple<int, DType>> {};

TEST_P(CudaTable, IsCloseToTheDoubleResult) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto [row, dtype] = GetParam();
  const SuiteShape& s = suite_shapes("h200")[static_cast<std::size_t>(row)];
  const std::uint64_t seed = std::random_device{}();  // fresh inputs in every run
  SCOPED_TRACE("seed " + std::to_string(seed));
  const DoubleLayerComparison comparison =
      compare_layer({s.tokens, s.model_dim, s.hidden_dim, s.experts, s.top_k, s.capacity_factor}, dtype,
                    kDefaultPlan, seed);
  if (dtype == DType::kF32) {
    // Errors of some 1e-6 of a hidden value of magnitude 1 put that share of them on the other side of relu's
    // kink, where the slope jumps by 1: the square root of it is the norm of what the gradients are off.
    expect_close(comparison, 2e-5, 1e-3);
  } else {
    const double tolerance = dtype == DType::kF16 ? 5e-3 : 2e-2;
    expect_close(comparison, tolerance, 2 * tolerance);
  }
  RecordProperty("other_choices", std::to_string(comparison.other_choices));
}

INSTANTIATE_TEST_SUITE_P(Rows, CudaTable,
                         ::testing::Combine(::testing::Range(0, 9),
                                            ::testing::Values(DType::kF16, DType::kBF16, DType::kF32)),
                         [](const auto& test) {
                           const SuiteShape& s =
                               suite_shapes("h200")[static_cast<std::size_t>(std::get<0>(test.param))];
                           return fmt::format("T{}_M{}_H{}_E{}_{}", s.tokens, s.model_dim, s.hidden_dim,
                                              s.experts, name(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace flex::testing
