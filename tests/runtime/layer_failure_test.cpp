#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

#include "base/error.h"
#include "runtime/launch.h"
#include "tests/support/layer_world.h"

/// What goes wrong ends soon, everywhere, and says why.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

MoeConfig config_of(std::int64_t experts = 4) {
  return {.model_dim = 6, .hidden_dim = 8, .num_experts = experts, .dtype = DType::kF64};
}

/// A rank with a layer and tokens, ready to run. The layer goes first: it waits for its work, which uses the
/// rest.
struct Rank {
  Tensor x = Tensor::zeros(DType::kF64, {16, 6});
  Tensor y{DType::kF64, {16, 6}};
  Tensor dx{DType::kF64, {16, 6}};
  Stream stream{Device::cpu()};
  RankContext context;
  MoeLayer layer;

  Rank(Communicator& world, const MoeConfig& config) : context(world, Device::cpu()), layer(config, context) {
    for (std::int64_t i = 0; i < x.num_elements(); ++i) x.as<double>()[i] = static_cast<double>(i % 7) - 3;
  }
  void step(const ForwardCall& call = {}) {
    static_cast<void>(layer.forward(x, y, call, stream));
    layer.backward(x, dx, 0.1, stream);
    stream.synchronize_blocking();
  }
};

template <class E, class F>
std::string message_of(F function) {
  try {
    function();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "nothing was thrown";
}

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST(LayerFailure, RankThatThrowsEndsTheOthersWithItsReason) {
  std::atomic<int> named{0};
  const auto start = std::chrono::steady_clock::now();
  const std::string message = message_of<Failure>([&] {
    run_ranks({4, 2}, 5s, [&](Communicator& world) {
      Rank rank(world, config_of());
      rank.step();
      if (world.rank() == 2) throw Failure("out of coffee");
      try {
        for (int i = 0; i < 100; ++i) rank.step();
      } catch (const CommError& error) {
        if (std::string(error.what()).find("rank 2") != std::string::npos) ++named;
        throw;
      }
    });
  });
  EXPECT_EQ(message, "out of coffee");
  EXPECT_EQ(named, 3);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 6s);
}

TEST(LayerFailure, RankThatSleepsIsNamedWithinTheDeadline) {
  std::atomic<int> named{0};
  std::atomic<std::int64_t> slowest_ms{0};
  const std::string message = message_of<CommError>([&] {
    run_ranks({4, 2}, 500ms, [&](Communicator& world) {
      Rank rank(world, config_of(2));
      rank.step({.plans = {parse_plan("r2 d2 2dh"), parse_plan("r2 d1 linear")}});
      if (world.rank() == 1) std::this_thread::sleep_for(2500ms);
      const auto start = std::chrono::steady_clock::now();
      try {
        rank.step({.plans = {parse_plan("r1 d4 2dh"), parse_plan("r1 d2 linear")}});
      } catch (const CommError& error) {
        const auto waited = std::chrono::steady_clock::now() - start;
        if (world.rank() != 1) {
          if (std::string(error.what()).find("rank 1") != std::string::npos) ++named;
          const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(waited).count();
          std::int64_t seen = slowest_ms;
          while (ms > seen && !slowest_ms.compare_exchange_weak(seen, ms)) {
          }
        }
        throw;
      }
    });
  });
  EXPECT_EQ(named, 3) << message;
  EXPECT_LT(slowest_ms, 1500);
}

TEST(LayerFailure, NanTokenIsAnInputErrorThatNamesItAndEndsThePeers) {
  for (const char* plan : {"r1 d2 linear", "r0 d1 linear"}) {
    const std::string message = message_of<InputError>([&] {
      run_ranks({4, 2}, 5s, [&](Communicator& world) {
        Rank rank(world, config_of(2));
        if (world.rank() == 3) rank.x.as<double>()[5 * 6 + 1] = std::numeric_limits<double>::quiet_NaN();
        const ForwardCall call{.plans = {parse_plan(plan), parse_plan(plan)}};
        for (int i = 0; i < 3; ++i) rank.step(call);
      });
    });
    EXPECT_THAT(message, HasSubstr("token 5"));
    EXPECT_THAT(message, HasSubstr("nan"));
  }
}

TEST(LayerFailure, WrongCallsAreRefusedAndTheLayerGoesOn) {
  run_ranks({2, 2}, 5s, [&](Communicator& world) {
    Rank rank(world, config_of());
    const auto refused = [&](const ForwardCall& call) {
      return message_of<InputError>(
          [&] { static_cast<void>(rank.layer.forward(rank.x, rank.y, call, rank.stream)); });
    };
    EXPECT_THAT(refused({.top_k = 5}), HasSubstr("top_k is 5; with 4 experts it is from 1 to 4"));
    EXPECT_THAT(refused({.top_k = 0}), HasSubstr("top_k is 0"));
    EXPECT_THAT(refused({.capacity_factor = std::numeric_limits<double>::quiet_NaN()}),
                HasSubstr("capacity_factor is nan"));
    EXPECT_THAT(refused({.plans = {parse_plan("r2"), parse_plan("r2")}}), HasSubstr("r2 does not divide"));
    EXPECT_THAT(refused({.capacity_factor = 0.5, .plans = {parse_plan("r1 d8"), parse_plan("r1")}}),
                HasSubstr("8 pipeline parts are more than the 4 slot(s)"));
    EXPECT_THAT(refused({.plans = {parse_plan("r1"), parse_plan("r0")}}),
                HasSubstr("must use the forward plan's r1"));
    Tensor narrow(DType::kF64, {16, 5});
    EXPECT_THAT(message_of<InputError>(
                    [&] { static_cast<void>(rank.layer.forward(narrow, rank.y, {}, rank.stream)); }),
                HasSubstr("x has shape (16, 5), expected (T, 6)"));
    EXPECT_THAT(message_of<InputError>([&] { rank.layer.backward(rank.x, rank.dx, 0, rank.stream); }),
                HasSubstr("no forward pass with training = true came before"));
    rank.step();  // none of it has harmed the layer
  });
}

TEST(LayerFailure, ConfigurationsThatCannotBeAreRefused) {
  const auto refused = [](const MoeConfig& config, int world) {
    return message_of<InputError>([&] { validate(config, world); });
  };
  MoeConfig config = config_of(1);
  config.hidden_dim = 6;
  EXPECT_THAT(refused(config, 4),
              HasSubstr("hidden_dim 6 is not divisible by the 4 ranks that share an expert"));
  EXPECT_THAT(refused(config_of(3), 2), HasSubstr("3 experts do not spread over 2 ranks"));
  EXPECT_THAT(refused(config_of(0), 1), HasSubstr("num_experts is 0"));
  config = config_of();
  config.gate_loss = GateLossKind::kLoadImportance;
  EXPECT_THAT(refused(config, 1), HasSubstr("load_importance loss needs gate_noise above 0"));
}

TEST(LayerFailure, CallsThatDifferBetweenRanksAreNamed) {
  run_ranks({2, 2}, 5s, [&](Communicator& world) {
    Rank rank(world, config_of());
    const ForwardCall call{.top_k = world.rank() == 1 ? 1 : 2};
    EXPECT_THAT(message_of<InputError>([&] { rank.step(call); }),
                HasSubstr("top_k differs between rank 0 and rank 1"));
  });
}

TEST(LayerFailure, PlansThatDisagreeFallBackToTheDefaultOnAllRanks) {
  run_ranks({4, 2}, 5s, [&](Communicator& world) {
    Rank rank(world, config_of(2));
    const Plan odd = parse_plan(world.rank() == 3 ? "r2 d2 linear" : "r1 d2 2dh");
    const ForwardResult result = rank.layer.forward(rank.x, rank.y, {.plans = {odd, odd}}, rank.stream);
    rank.stream.synchronize_blocking();
    EXPECT_TRUE(result.plans_disagreed);
    EXPECT_EQ(result.plans, PlanPair{});
    const Plan same = parse_plan("r2 d2 linear");
    const ForwardResult next = rank.layer.forward(rank.x, rank.y, {.plans = {same, same}}, rank.stream);
    rank.stream.synchronize_blocking();
    EXPECT_FALSE(next.plans_disagreed);
    EXPECT_EQ(next.plans.forward, same);
  });
}

TEST(LayerFailure, ChoosersWhoseStatesDifferFallBackToTheDefaultOnAllRanks) {
  run_ranks({4, 2}, 5s, [&](Communicator& world) {
    Rank rank(world, config_of(2));
    const Plan chosen = parse_plan("r2 d2 linear");
    int asked = 0;
    const PlanChooser choose = [&](const LayerLoad&) {
      ++asked;
      return PlanPair{chosen, chosen};
    };
    for (const double factor : {1.0, 0.0}) {
      ForwardCall call{.capacity_factor = factor, .choose = &choose, .chooser_state = 7};
      if (world.rank() == 2) call.chooser_state = 8;
      asked = 0;
      const ForwardResult result = rank.layer.forward(rank.x, rank.y, call, rank.stream);
      EXPECT_TRUE(result.plans_disagreed);
      EXPECT_EQ(result.plans, PlanPair{});
      EXPECT_EQ(asked, 0);
      call.chooser_state = 9;
      const ForwardResult next = rank.layer.forward(rank.x, rank.y, call, rank.stream);
      rank.stream.synchronize_blocking();
      EXPECT_FALSE(next.plans_disagreed);
      EXPECT_EQ(next.plans.forward, chosen);
      EXPECT_EQ(asked, 1);
    }
  });
}

TEST(LayerFailure, LayerIsDestroyedWithWorkUnderWay) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    run_ranks({4, 2}, 5s, [&](Communicator& world) {
      Rank rank(world, config_of(2));
      static_cast<void>(rank.layer.forward(
          rank.x, rank.y, {.plans = {parse_plan("r2 d4 2dh"), parse_plan("r2")}}, rank.stream));
      rank.layer.backward(rank.x, rank.dx, 0.1, rank.stream);
    });
  }
}

}  // namespace
}  // namespace flex::testing
