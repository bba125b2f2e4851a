#include "runtime/layer_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/philox.h"
#include "base/require.h"
#include "kernels/moe/route.h"

namespace flex {
namespace {

template <class T, std::size_t N>
T pick(const std::array<T, N>& values, PhiloxStream& random) {
  return values[static_cast<std::size_t>(random.below(N))];
}

LayerShape draw_shape(int world, const WorkRange& range, PhiloxStream& random) {
  constexpr std::array<std::int64_t, 6> kModelDims = {64, 96, 128, 192, 256, 384};
  constexpr std::array<double, 4> kHiddenRatios = {0.5, 1, 2, 4};
  // By rank: one expert that all share, or whole experts.
  constexpr std::array<std::int64_t, 4> kExpertsPerRank = {0, 1, 2, 4};
  constexpr std::array<double, 2> kCapacityFactors = {1, 1.25};
  constexpr std::int64_t kTokenStep = 32;
  constexpr std::int64_t kMinTokens = 64;
  constexpr std::int64_t kMaxTokens = 4096;

  LayerShape shape;
  shape.model_dim = pick(kModelDims, random);
  const auto hidden =
      static_cast<std::int64_t>(static_cast<double>(shape.model_dim) * pick(kHiddenRatios, random));
  shape.hidden_dim = (hidden + world - 1) / world * world;  // divides among the ranks of a shared expert
  shape.num_experts = std::max<std::int64_t>(pick(kExpertsPerRank, random) * world, 1);
  shape.top_k = std::min<std::int64_t>(1 + random.below(2), shape.num_experts);
  shape.capacity_factor = pick(kCapacityFactors, random);
  const double flops = range.min_flops * std::pow(range.max_flops / range.min_flops, random.uniform());
  const double flops_per_token = 4.0 * static_cast<double>(shape.top_k) * shape.capacity_factor *
                                 static_cast<double>(shape.model_dim * shape.hidden_dim);
  const auto steps = static_cast<std::int64_t>(std::llround(flops / flops_per_token / kTokenStep));
  shape.num_tokens = std::clamp(steps * kTokenStep, kMinTokens, kMaxTokens);
  return shape;
}

}  // namespace

std::string to_string(const LayerShape& shape) {
  return fmt::format("T{} M{} H{} E{} k{} f{:g}", shape.num_tokens, shape.model_dim, shape.hidden_dim,
                     shape.num_experts, shape.top_k, shape.capacity_factor);
}

MoeConfig config_of(const LayerShape& shape, DType dtype) {
  return {.model_dim = shape.model_dim,
          .hidden_dim = shape.hidden_dim,
          .num_experts = shape.num_experts,
          .dtype = dtype,
          .activation = Activation::kRelu};
}

Workload workload_of(const LayerShape& shape, DType dtype, int world) {
  Workload workload = workload_of(config_of(shape, dtype), world);
  workload.num_tokens = shape.num_tokens;
  workload.top_k = shape.top_k;
  workload.capacity =
      expert_capacity(shape.top_k, shape.capacity_factor, shape.num_tokens, shape.num_experts, 0);
  workload.agree_on_tokens = false;
  return workload;
}

std::vector<LayerShape> draw_shapes(int count, int world, const WorkRange& range, std::uint64_t seed,
                                    std::span<const LayerShape> taken) {
  require(count >= 0 && world >= 1, "{} shapes for {} ranks; there are zero or more for at least one", count,
          world);
  require(range.min_flops > 0 && range.min_flops <= range.max_flops,
          "work from {} to {} operations; the first is above 0 and the second no less", range.min_flops,
          range.max_flops);
  PhiloxStream random(seed, 0);
  std::vector<LayerShape> shapes;
  while (static_cast<int>(shapes.size()) < count) {
    const LayerShape shape = draw_shape(world, range, random);
    const bool seen =
        std::ranges::find(shapes, shape) != shapes.end() || std::ranges::find(taken, shape) != taken.end();
    if (!seen) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace flex
