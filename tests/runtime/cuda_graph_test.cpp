#include <gtest/gtest.h>

#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/random_tensor.h"
#include "tests/support/cuda.h"
#include "tests/support/kernel_test.h"

/// Passes that repeat are captured and replayed. That a pass can be captured at all shows besides that it
/// neither allocates device memory nor waits for the device: a capture forbids both.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const Device kGpu = Device::cuda(0);
constexpr Shape kTokens = {512, 64};

class Passes {
 public:
  Passes(MoeLayer& layer, DType dtype)
      : layer_(layer), y_(dtype, kTokens, kGpu), dx_(dtype, kTokens, kGpu), stream_(kGpu) {
    for (std::uint64_t i = 0; i < 2; ++i) {
      x_.push_back(random_normal_tensor(dtype, kTokens, kGpu, 5, i));
      dy_.push_back(random_normal_tensor(dtype, kTokens, kGpu, 6, i));
    }
  }
  void run(std::size_t tokens, const ForwardCall& call) {
    static_cast<void>(layer_.forward(x_[tokens], y_, call, stream_));
    if (call.training) layer_.backward(dy_[tokens], dx_, 0.1, stream_);
    stream_.synchronize_blocking();
  }
  [[nodiscard]] std::vector<std::vector<double>> results() {
    std::vector<std::vector<double>> all = {values_of(y_), values_of(dx_)};
    for (const Parameter& parameter : layer_.parameters().all()) all.push_back(values_of(parameter.gradient));
    return all;
  }
  [[nodiscard]] Tensor& x(std::size_t i) { return x_[i]; }

 private:
  MoeLayer& layer_;
  std::vector<Tensor> x_, dy_;
  Tensor y_, dx_;
  Stream stream_;
};

ForwardCall call_with(const char* plan) {
  return {.top_k = 2, .capacity_factor = 1.25, .plans = {parse_plan(plan), parse_plan(plan)}};
}

template <class F>
void with_layer(const MoeConfig& config, F body) {
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, kGpu);
    MoeLayer layer(config, context);
    Passes passes(layer, config.dtype);
    body(layer, passes);
  });
}

constexpr MoeConfig kConfig{.model_dim = 64, .hidden_dim = 128, .num_experts = 4};

TEST(CudaGraphs, ReplayedPassesGiveTheSameBits) {
  FLEX_SKIP_WITHOUT_CUDA();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Activation activation : {Activation::kRelu, Activation::kGelu}) {
      MoeConfig config = kConfig;
      config.dtype = dtype;
      config.activation = activation;
      with_layer(config, [](MoeLayer& layer, Passes& passes) {
        std::vector<std::vector<std::vector<double>>> expected;
        layer.set_graph_policy({.repeats = 0});
        for (std::size_t tokens = 0; tokens < 2; ++tokens) {
          passes.run(tokens, call_with("r1 d1 linear"));
          expected.push_back(passes.results());
        }
        EXPECT_EQ(layer.graph_counts().replayed, 0);
        layer.set_graph_policy({.repeats = 2, .kept = 8});
        for (int round = 0; round < 6; ++round) {
          for (std::size_t tokens = 0; tokens < 2; ++tokens) {
            passes.run(tokens, call_with("r1 d1 linear"));
            EXPECT_EQ(passes.results(), expected[tokens]) << "round " << round;
          }
        }
        EXPECT_EQ(layer.graph_counts().captured, 4) << "forward and backward on two sets of tokens";
        EXPECT_EQ(layer.graph_counts().replayed, 4 * 4);
      });
    }
  }
}

TEST(CudaGraphs, ReadWhatTheTensorsHoldNow) {
  FLEX_SKIP_WITHOUT_CUDA();
  with_layer(kConfig, [](MoeLayer& layer, Passes& passes) {
    layer.set_graph_policy({.repeats = 1});
    for (int round = 0; round < 4; ++round) passes.run(0, call_with("r1 d2 linear"));
    const GraphCounts before = layer.graph_counts();
    copy_blocking(passes.x(0), passes.x(1));
    passes.run(0, call_with("r1 d2 linear"));
    EXPECT_EQ(layer.graph_counts().replayed, before.replayed + 2);
    const auto replayed = passes.results();
    layer.set_graph_policy({.repeats = 0});
    passes.run(0, call_with("r1 d2 linear"));
    EXPECT_EQ(replayed, passes.results());
  });
}

TEST(CudaGraphs, EveryPlanCanBeCapturedAndSwitchedTo) {
  FLEX_SKIP_WITHOUT_CUDA();
  with_layer(kConfig, [](MoeLayer& layer, Passes& passes) {
    const std::vector<const char*> plans = {"r0 d1 linear", "r1 d1 linear", "r1 d2 linear", "r1 d4 linear",
                                            "r1 d8 2dh"};
    std::vector<std::vector<std::vector<double>>> expected;
    layer.set_graph_policy({.repeats = 0});
    for (const char* plan : plans) {
      passes.run(0, call_with(plan));
      expected.push_back(passes.results());
    }
    layer.set_graph_policy({.repeats = 1});
    for (int round = 0; round < 4; ++round) {
      for (std::size_t i = 0; i < plans.size(); ++i) {
        passes.run(0, call_with(plans[i]));
        EXPECT_EQ(passes.results(), expected[i]) << plans[i];
      }
    }
    EXPECT_EQ(layer.graph_counts().captured, 2 * static_cast<std::int64_t>(plans.size()));
  });
}

TEST(CudaGraphs, KeptOnesAreNotCapturedAwayByOthers) {
  FLEX_SKIP_WITHOUT_CUDA();
  with_layer(kConfig, [](MoeLayer& layer, Passes& passes) {
    layer.set_graph_policy({.repeats = 1, .kept = 1});
    ForwardCall call = call_with("r1 d1 linear");
    call.training = false;
    for (int round = 0; round < 5; ++round) {
      for (std::size_t tokens = 0; tokens < 2; ++tokens) passes.run(tokens, call);
    }
    EXPECT_EQ(layer.graph_counts().captured, 1);
    EXPECT_EQ(layer.graph_counts().replayed, 4);
  });
}

TEST(CudaGraphs, DroplessPassesAndNoiseAreNotCaptured) {
  FLEX_SKIP_WITHOUT_CUDA();
  MoeConfig config = kConfig;
  config.gate_noise = 1.0;
  with_layer(config, [](MoeLayer& layer, Passes& passes) {
    layer.set_graph_policy({.repeats = 1});
    ForwardCall dropless = call_with("r1 d1 linear");
    dropless.capacity_factor = 0;
    ForwardCall noisy = call_with("r1 d1 linear");
    noisy.add_noise = true;
    dropless.training = noisy.training = false;
    for (int round = 0; round < 4; ++round) {
      passes.run(0, dropless);
      passes.run(0, noisy);
    }
    EXPECT_EQ(layer.graph_counts().captured, 0);
  });
}

}  // namespace
}  // namespace flex::testing
