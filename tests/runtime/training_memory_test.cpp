#include "runtime/training_memory.h"

#include <gtest/gtest.h>

#include "runtime/device_memory_peak.h"
#include "runtime/memory_suite.h"
#include "tests/support/compare.h"
#include "tests/support/cuda.h"

namespace flex::testing {
namespace {

const Device kGpu = Device::cuda(0);
constexpr std::int64_t kTokens = 4096;
constexpr std::int64_t kModelDim = 256;

LayerTraining small_layer() {
  return {.config = {.model_dim = kModelDim,
                     .hidden_dim = kModelDim,
                     .num_experts = 2,
                     .activation = Activation::kRelu},
          .num_tokens = kTokens};
}

TEST(TrainingMemory, IsOfACudaDeviceOnly) {
  const std::string text =
      "the memory of a layer is measured on a CUDA device, not on cpu; use --device cuda:0";
  for (const LayerFormulation formulation : {LayerFormulation::kFlex, LayerFormulation::kEinsum}) {
    EXPECT_EQ(error_text([&] {
                static_cast<void>(measure_training_memory(small_layer(), formulation, Device::cpu()));
              }),
              text);
  }
  EXPECT_EQ(error_text([&] { static_cast<void>(run_memory_suite(DType::kF32, false, Device::cpu())); }),
            text);
}

TEST(CudaTrainingMemory, CountsTokensParametersAndMasks) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto flex = measure_training_memory(small_layer(), LayerFormulation::kFlex, kGpu);
  const auto einsum = measure_training_memory(small_layer(), LayerFormulation::kEinsum, kGpu);
  ASSERT_TRUE(flex && einsum);
  constexpr std::int64_t kFloat = 4;
  // x, dy, y, dx; slots, hidden rows and what the experts return, E C = 2 T of each.
  const std::int64_t tokens_bytes = (4 + 3 * 2) * kTokens * kModelDim * kFloat;
  const std::int64_t parameters_bytes = 2 * 2 * 2 * kModelDim * kModelDim * kFloat;
  const std::int64_t mask_bytes = kTokens * 2 * kTokens * kFloat;
  EXPECT_GE(flex->peak_bytes, tokens_bytes + parameters_bytes);
  EXPECT_GE(einsum->peak_bytes, tokens_bytes + parameters_bytes + 3 * mask_bytes);
  EXPECT_GE(einsum->peak_bytes - flex->peak_bytes, 2 * mask_bytes) << "the growth that the suite shows";
  EXPECT_GT(flex->forward_us, 0);
  EXPECT_GT(flex->training_us, flex->forward_us);
  EXPECT_GT(einsum->training_us, einsum->forward_us);
  // fp32 sums of some hundred terms of magnitude 1.
  EXPECT_TRUE(close(flex->outputs, einsum->outputs, 1e-5));
}

TEST(CudaTrainingMemory, IsNothingWhereTheDeviceHasTooLittle) {
  FLEX_SKIP_WITHOUT_CUDA();
  LayerTraining training = small_layer();
  training.config.model_dim = 4;
  training.config.hidden_dim = 4;
  training.num_tokens = std::int64_t{1} << 20;  // masks of 2^41 elements
  EXPECT_FALSE(measure_training_memory(training, LayerFormulation::kEinsum, kGpu));
  EXPECT_TRUE(measure_training_memory(training, LayerFormulation::kFlex, kGpu)) << "the device goes on";
}

TEST(CudaDeviceMemoryPeak, RemembersTheMost) {
  FLEX_SKIP_WITHOUT_CUDA();
  constexpr std::int64_t kBytes = std::int64_t{256} << 20;
  DeviceMemoryPeak peak(kGpu);
  {
    const Tensor held(DType::kU8, {kBytes}, kGpu);
    peak.sample();
  }
  EXPECT_GE(peak.bytes(), kBytes);
  const std::int64_t most = peak.bytes();
  peak.sample();
  EXPECT_EQ(peak.bytes(), most);
}

}  // namespace
}  // namespace flex::testing
