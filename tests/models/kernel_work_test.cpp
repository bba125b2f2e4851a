#include "models/kernel_work.h"

#include <gtest/gtest.h>

#include "costmodel/schedule.h"
#include "models/model_benchmark.h"
#include "models/operation_clock.h"
#include "tests/models/configs.h"

namespace flex::testing {
namespace {

constexpr double kFloatBytes = 4;

TensorView floats(const Shape& shape) {
  // Where it lies does not matter: only shapes are read.
  static float somewhere = 0;
  return {&somewhere, DType::kF32, shape, Device::cpu()};
}

TEST(KernelWork, TakesTheLongerOfProductsAndBytes) {
  const DeviceCeilings ceilings{.copy_GBps = 4000, .matrix_TFLOPs = 500};
  // 1e9 multiply-accumulates: 2e9 / 500e12 s; 8e9 bytes: 8e9 / 4e12 s.
  EXPECT_DOUBLE_EQ(floor_us({.multiply_accumulates = 1e9}, ceilings), 4);
  EXPECT_DOUBLE_EQ(floor_us({.multiply_accumulates = 1e9, .bytes = 8e9}, ceilings), 2000);
  EXPECT_DOUBLE_EQ(floor_us({.multiply_accumulates = 1e12, .bytes = 8e9}, ceilings), 4000);
}

// 6 rows of 4 columns to 3.
TEST(KernelWork, OfLinearLayers) {
  EXPECT_EQ(work_of(LinearArgs{
                .x = floats({6, 4}), .weight = floats({3, 4}), .bias = floats({3}), .y = floats({6, 3})}),
            (KernelWork{.multiply_accumulates = 6 * 4 * 3, .bytes = kFloatBytes * (24 + 12 + 3 + 18)}));
  LinearBackwardArgs backward{.dy = floats({6, 3}), .x = floats({6, 4}), .dweight = floats({3, 4})};
  EXPECT_EQ(work_of(backward),
            (KernelWork{.multiply_accumulates = 6 * 4 * 3, .bytes = kFloatBytes * (18 + 24 + 12)}));
  backward.weight = floats({3, 4});
  backward.dx = floats({6, 4});
  backward.accumulate_dx = true;
  EXPECT_EQ(work_of(backward), (KernelWork{.multiply_accumulates = 2 * 6 * 4 * 3,
                                           .bytes = kFloatBytes * (18 + 24 + 12 + 12 + 2 * 24)}));
}

// Two images of 4 x 4 in windows of 2 x 2, 6 channels: 32 queries, each with 4 keys of 6 channels.
TEST(KernelWork, OfAttention) {
  const WindowMap map(WindowLayout::fit({4, 4}, 2, false), Device::cpu());
  const KernelWork forward = work_of(WindowAttentionArgs{.num_heads = 2,
                                                         .map = &map,
                                                         .qkv = floats({32, 18}),
                                                         .bias_table = floats({2, 9}),
                                                         .out = floats({32, 6})});
  EXPECT_EQ(forward, (KernelWork{.multiply_accumulates = 2 * 32 * 4 * 6,
                                 .bytes = kFloatBytes * (32 * 18 + 18 + 32 * 6)}));
  const KernelWork backward = work_of(WindowAttentionBackwardArgs{.num_heads = 2,
                                                                  .map = &map,
                                                                  .qkv = floats({32, 18}),
                                                                  .bias_table = floats({2, 9}),
                                                                  .out = floats({32, 6}),
                                                                  .logsumexp = floats({8, 2, 4}),
                                                                  .dout = floats({32, 6}),
                                                                  .dqkv = floats({32, 18}),
                                                                  .dbias_table = floats({2, 9})});
  EXPECT_EQ(backward, (KernelWork{.multiply_accumulates = 5 * 32 * 4 * 6,
                                  .bytes = kFloatBytes * (2 * 32 * 18 + 2 * 18 + 2 * 32 * 6 + 64)}));
}

TEST(KernelWork, OfTheOptimizer) {
  const Tensor gradient = Tensor::zeros(DType::kF32, {10}, Device::cpu());
  std::vector<Tensor> state;
  for (int i = 0; i < 3; ++i) state.push_back(Tensor::zeros(DType::kF32, {10}, Device::cpu()));
  const TrainedTensors tensors({{.gradient = gradient,
                                 .parameter = state[0].view(),
                                 .first_moment = state[1].view(),
                                 .second_moment = state[2].view()}},
                               Device::cpu());
  EXPECT_EQ(optimizer_work(tensors), (KernelWork{.bytes = kFloatBytes * 10 * (2 + 3 * 2)}));
}

TEST(KernelWork, OfALayersOperationLeavesExchangesOut) {
  Operation operation{.kind = OperationKind::kExpertFfn};
  operation.size.flops = 100;
  operation.size.bytes = 7;
  EXPECT_EQ(work_of(operation), (KernelWork{.multiply_accumulates = 50, .bytes = 7}));
  operation.kind = OperationKind::kAllToAll;
  operation.stream = StreamKind::kCommunication;
  EXPECT_EQ(work_of(operation), KernelWork{});
}

TEST(OperationClock, AddsTheWorkOfOneName) {
  Stream stream(Device::cpu());
  OperationClock clock(Device::cpu());
  clock.start_blocking(stream);
  const auto run = [&](std::string_view name, double bytes) {
    clock.begin(name, stream);
    clock.add({.bytes = bytes});
    clock.add({.multiply_accumulates = 10 * bytes});
    clock.end(stream);
  };
  run("a", 1000);
  run("b", 2000);
  run("a", 4000);
  stream.synchronize_blocking();
  for (const OperationShare& share : clock.shares()) {
    const double bytes = share.name == "a" ? 5000 : 2000;
    EXPECT_EQ(share.total_work(), (KernelWork{.multiply_accumulates = 10 * bytes, .bytes = bytes}));
    // Part after part: what has no products has its bytes, and the other way round.
    EXPECT_DOUBLE_EQ(floor_us(share, {.copy_GBps = 1, .matrix_TFLOPs = 1}),
                     bytes / 1e3 + 2 * 10 * bytes / 1e6);
  }
}

TEST(ModelBenchmark, KnowsItsShareOfTheMatrixCeiling) {
  ModelBenchmark benchmark{.model =
                               model_of(R"({"block": "swin_moe", "size": "base", "num_classes": 21841})")};
  const DeviceCeilings ceilings{.copy_GBps = 4000, .matrix_TFLOPs = 500};
  // 11.78 GMAC: 1000 images are 23.56 TFLOP a second forward.
  EXPECT_NEAR(matrix_share(benchmark, 1000, ceilings), 3 * 23.56 / 500, 1e-3);
  benchmark.trains = false;
  EXPECT_NEAR(matrix_share(benchmark, 1000, ceilings), 23.56 / 500, 1e-3);
}

}  // namespace
}  // namespace flex::testing
