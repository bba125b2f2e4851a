#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "costmodel/plan_space.h"
#include "kernels/cuda_check.h"
#include "kernels/host_element.h"
#include "runtime/launch.h"
#include "runtime/verify_layer.h"
#include "tests/support/cuda.h"
#include "tests/support/layer_world.h"

/// The layer on one GPU: golden files, every plan with in-process ranks, narrow types, borrowed streams and
/// memory.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const Device kGpu = Device::cuda(0);
constexpr double kLossGradient = 0.3;
// fp32 with sums of some hundred terms of magnitude 1: 1e-5 of the tensor's largest magnitude, as for the
// golden files.
constexpr double kTolerance = 1e-5;

std::string golden(const std::string& name) { return std::string(FLEX_SOURCE_DIR) + "/tests/golden/" + name; }

TEST(CudaLayer, GoldenFilesPass) {
  FLEX_SKIP_WITHOUT_CUDA();
  for (const char* name :
       {"moe_layer.safetensors", "moe_train_top1_aux.safetensors", "moe_train_top2.safetensors"}) {
    for (const VerifiedCase& one : verify_layer_file(golden(name), kGpu)) {
      for (const VerifiedOutput& output : one.outputs) {
        EXPECT_TRUE(output.passed()) << one.name << "/" << output.name << ": " << output.error;
      }
    }
  }
}

struct World {
  int ranks;
  std::int64_t experts;
};

std::ostream& operator<<(std::ostream& out, const World& w) {
  return out << "W" << w.ranks << "_E" << w.experts;
}

class CudaPlans : public ::testing::TestWithParam<World> {};

TEST_P(CudaPlans, EqualTheOneRankResultAndRepeatToTheBit) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto [ranks, experts] = GetParam();
  const MoeConfig config{.model_dim = 24, .hidden_dim = 32, .num_experts = experts, .gate_noise = 1.0};
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 11);
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(64 - 5 * (rank % 3));
  const auto tokens = random_tokens(counts, config.model_dim, 7);
  const Topology topology{.world = ranks, .ranks_per_node = std::min(ranks, 2)};
  for (const double factor : {1.25, 0.0}) {
    ForwardCall call{
        .top_k = std::min<std::int64_t>(2, experts), .capacity_factor = factor, .add_noise = true};
    const ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
    Workload workload = workload_of(config, ranks);
    workload.capacity = expected.capacity;
    workload.dropless = factor <= 0;
    const std::vector<Plan> plans = PlanSpace(workload, cluster_of(topology)).plans();
    std::vector<std::vector<RankOutput>> outputs(2 * plans.size(),
                                                 std::vector<RankOutput>(static_cast<std::size_t>(ranks)));
    run_ranks(topology, 60s, [&](Communicator& world) {
      RankContext context(world, kGpu);
      MoeLayer layer(config, context);
      load_reference(layer, parameters);
      Stream stream(kGpu);
      const auto rank = static_cast<std::size_t>(world.rank());
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        ForwardCall now = call;
        now.plans = {plans[i % plans.size()], plans[i % plans.size()]};
        outputs[i][rank] = run_layer(layer, tokens[rank], now, kLossGradient, stream);
      }
    });
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const Difference difference = compare(expected, outputs[i]);
      EXPECT_LE(difference.error, kTolerance)
          << difference.where << ", plan " << to_string(plans[i]) << ", f " << factor;
      for (std::size_t rank = 0; rank < outputs[i].size(); ++rank) {
        EXPECT_EQ(outputs[i][rank].y, outputs[i + plans.size()][rank].y) << to_string(plans[i]);
        EXPECT_EQ(outputs[i][rank].dx, outputs[i + plans.size()][rank].dx) << to_string(plans[i]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, CudaPlans,
                         ::testing::Values(World{1, 4}, World{2, 1}, World{2, 4}, World{4, 1}, World{4, 2},
                                           World{4, 8}, World{8, 2}, World{8, 8}),
                         ::testing::PrintToStringParamName());

double relative_norm(const std::vector<double>& expected, const std::vector<double>& actual) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

// What `dtype` makes of the values.
void round_to(DType dtype, std::vector<double>& values) {
  Tensor one(dtype, {1});
  for (double& value : values) {
    set_host_element(one, 0, value);
    value = host_element(one, 0);
  }
}

class CudaNarrow : public ::testing::TestWithParam<DType> {};

TEST_P(CudaNarrow, IsCloseToTheDoubleResult) {
  FLEX_SKIP_WITHOUT_CUDA();
  const DType dtype = GetParam();
  const double tolerance = dtype == DType::kF16 ? 5e-3 : 2e-2;
  for (const Activation activation : {Activation::kRelu, Activation::kGelu}) {
    const MoeConfig config{
        .model_dim = 128, .hidden_dim = 256, .num_experts = 8, .dtype = dtype, .activation = activation};
    const ReferenceConfig reference = reference_config(config);
    ReferenceParameters parameters = random_parameters(reference, 5);
    for (const auto& [name, values] : list_parameters(parameters)) {
      if (name != "gate_weight") round_to(dtype, *values);
    }
    auto tokens = random_tokens({256}, config.model_dim, 9);
    round_to(dtype, tokens[0].x);
    round_to(dtype, tokens[0].dy);
    const ForwardCall call{.top_k = 2, .capacity_factor = 1.25};
    const ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
    run_ranks({}, 60s, [&](Communicator& world) {
      RankContext context(world, kGpu);
      MoeLayer layer(config, context);
      load_reference(layer, parameters);
      Stream stream(kGpu);
      RankOutput output = run_layer(layer, tokens[0], call, kLossGradient, stream);
      ASSERT_EQ(output.indices, expected.ranks[0].indices)
          << "no two scores of these inputs are closer than 1e-5";
      EXPECT_LE(relative_norm(expected.ranks[0].y, output.y), tolerance);
      EXPECT_LE(relative_norm(expected.ranks[0].dx, output.dx), 2 * tolerance);
      ReferenceParameters gradients = expected.gradients;
      const auto wanted = list_parameters(gradients);
      const auto actual = list_parameters(output.gradients);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (wanted[i].second->empty()) continue;
        EXPECT_LE(relative_norm(*wanted[i].second, *actual[i].second), 2 * tolerance) << wanted[i].first;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaNarrow, ::testing::Values(DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(CudaLayer, RunsOnABorrowedStreamAndBorrowedMemory) {
  FLEX_SKIP_WITHOUT_CUDA();
  const MoeConfig config{.model_dim = 64, .hidden_dim = 64, .num_experts = 4};
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, kGpu);
    MoeLayer layer(config, context);
    cudaStream_t native = nullptr;
    FLEX_CUDA_CHECK(cudaStreamCreate(&native));
    void* memory = nullptr;
    const Shape shape = {128, 64};
    const std::int64_t bytes = shape.num_elements() * 4;
    FLEX_CUDA_CHECK(cudaMalloc(&memory, static_cast<std::size_t>(4 * bytes)));
    FLEX_CUDA_CHECK(cudaMemset(memory, 1, static_cast<std::size_t>(4 * bytes)));  // small equal numbers
    FLEX_CUDA_CHECK(cudaDeviceSynchronize());
    const auto piece = [&](int i) {
      return TensorView(static_cast<char*>(memory) + i * bytes, DType::kF32, shape, kGpu);
    };
    {
      Stream stream = Stream::borrow(kGpu, native);
      static_cast<void>(layer.forward(piece(0), piece(1), {.top_k = 2, .capacity_factor = 0}, stream));
      layer.backward(piece(2), piece(3), 0.1, stream);
      stream.synchronize_blocking();
    }
    Tensor y(DType::kF32, shape);
    copy_blocking(y, piece(1));
    for (std::int64_t i = 0; i < y.num_elements(); ++i) EXPECT_TRUE(std::isfinite(y.as<float>()[i]));
    FLEX_CUDA_CHECK(cudaStreamDestroy(native));  // the stream object did not take it away
    FLEX_CUDA_CHECK(cudaFree(memory));
  });
}

TEST(CudaLayer, TellsOfANanTokenWhenAsked) {
  FLEX_SKIP_WITHOUT_CUDA();
  const MoeConfig config{.model_dim = 16, .hidden_dim = 16, .num_experts = 4};
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, kGpu);
    MoeLayer layer(config, context);
    Stream stream(kGpu);
    Tensor host = Tensor::zeros(DType::kF32, {8, 16});
    host.as<float>()[5 * 16 + 3] = std::nanf("");
    Tensor x(DType::kF32, {8, 16}, kGpu);
    Tensor y(DType::kF32, {8, 16}, kGpu);
    copy_blocking(x, host);
    static_cast<void>(layer.forward(x, y, {.top_k = 2}, stream));
    EXPECT_THROW(layer.check_routed_blocking(stream), InputError);
    EXPECT_THROW(static_cast<void>(layer.forward(x, y, {.top_k = 2, .capacity_factor = 0}, stream)),
                 InputError);
  });
}

}  // namespace
}  // namespace flex::testing
