#include "runtime/layer_check.h"

#include <gtest/gtest.h>

#include "runtime/launch.h"
#include "runtime/random_tensor.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

struct LayerRun {
  MoeConfig config;
  ForwardCall call;
};

// The error of a right output, and of one with `spoil` added to one element of the first token.
std::pair<double, double> errors_of(const LayerRun& run, double spoil) {
  std::pair<double, double> result;
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(run.config, context);
    const Tensor x = random_normal_tensor(DType::kF64, {19, run.config.model_dim}, Device::cpu(), 3, 0);
    Tensor y(DType::kF64, x.shape());
    Stream stream(Device::cpu());
    const ForwardResult forward = layer.forward(x, y, run.call, stream);
    stream.synchronize_blocking();
    result.first = sampled_output_error(layer, x, y, forward.capacity, 19);
    y.as<double>()[1] += spoil;
    result.second = sampled_output_error(layer, x, y, forward.capacity, 4);
  });
  return result;
}

TEST(LayerCheck, RightOutputsPassAndAWrongElementIsSeen) {
  std::vector<LayerRun> runs;
  for (const Activation activation : {Activation::kGelu, Activation::kRelu, Activation::kSilu}) {
    for (const FfnKind kind : {FfnKind::kStandard, FfnKind::kGated}) {
      for (const bool postscore : {true, false}) {
        MoeConfig config{.model_dim = 6, .hidden_dim = 10, .num_experts = 3, .dtype = DType::kF64};
        config.activation = activation;
        config.ffn = kind;
        config.is_postscore = postscore;
        runs.push_back({config, {.top_k = 2, .capacity_factor = 0.6}});  // drops some choices
      }
    }
  }
  runs.push_back(
      {{.model_dim = 6, .hidden_dim = 10, .num_experts = 3, .dtype = DType::kF64, .fc2_bias = Fc2Bias::kNone},
       {.top_k = 1, .capacity_factor = 0}});
  for (const LayerRun& run : runs) {
    const auto [right, wrong] = errors_of(run, 1e-3);
    EXPECT_LT(right, 1e-13);
    EXPECT_GT(wrong, 1e-5);
  }
}

}  // namespace
}  // namespace flex::testing
