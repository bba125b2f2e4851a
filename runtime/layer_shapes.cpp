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

template <class T>
T pick(std::span<const T> values, PhiloxStream& random) {
  return values[static_cast<std::size_t>(random.below(std::ssize(values)))];
}

LayerShape draw_shape(int world, const WorkRange& range, PhiloxStream& random) {
  static constexpr std::array<double, 4> kHiddenRatios = {0.5, 1, 2, 4};
  // By rank: one expert that all share, or whole experts.
  static constexpr std::array<std::int64_t, 4> kExpertsPerRank = {0, 1, 2, 4};
  static constexpr std::array<double, 2> kCapacityFactors = {1, 1.25};

  LayerShape shape;
  shape.model_dim = pick(range.model_dims, random);
  const auto hidden = range.hidden_dims.empty()
                          ? static_cast<std::int64_t>(static_cast<double>(shape.model_dim) *
                                                      pick(std::span<const double>(kHiddenRatios), random))
                          : pick(range.hidden_dims, random);
  shape.hidden_dim = (hidden + world - 1) / world * world;  // divides among the ranks of a shared expert
  shape.num_experts =
      std::max<std::int64_t>(pick(std::span<const std::int64_t>(kExpertsPerRank), random) * world, 1);
  shape.top_k = std::min<std::int64_t>(1 + random.below(2), shape.num_experts);
  shape.capacity_factor = pick(std::span<const double>(kCapacityFactors), random);
  const double flops = range.min_flops * std::pow(range.max_flops / range.min_flops, random.uniform());
  const double flops_per_token = 4.0 * static_cast<double>(shape.top_k) * shape.capacity_factor *
                                 static_cast<double>(shape.model_dim * shape.hidden_dim);
  const auto step = static_cast<double>(range.token_step);
  const auto steps = static_cast<std::int64_t>(std::llround(flops / flops_per_token / step));
  shape.num_tokens = std::clamp(steps * range.token_step, range.min_tokens, range.max_tokens);
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

WorkRange gpu_work_range(int world) {
  static constexpr std::array<std::int64_t, 5> kDims = {1024, 1536, 2048, 3072, 4096};
  constexpr double kMinFlops = 1e11;  // a tenth of a millisecond
  constexpr double kMaxFlops = 2e12;  // of all ranks together
  return {.min_flops = std::min(kMinFlops, kMaxFlops / world),
          .max_flops = kMaxFlops / world,
          .model_dims = kDims,
          .hidden_dims = kDims,
          .min_tokens = 4096,
          .max_tokens = 32768,
          .token_step = 256};
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
