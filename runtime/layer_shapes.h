#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/moe_config.h"

namespace flex {

/// Sizes of a layer that is measured.
struct LayerShape {
  std::int64_t num_tokens = 0;  ///< T, on every rank
  std::int64_t model_dim = 0;
  std::int64_t hidden_dim = 0;
  std::int64_t num_experts = 0;
  std::int64_t top_k = 1;
  double capacity_factor = 1;  ///< f; above 0 for what must know the capacity beforehand

  friend bool operator==(const LayerShape&, const LayerShape&) = default;
};
/// e.g. `T512 M128 H256 E4 k2 f1`.
[[nodiscard]] std::string to_string(const LayerShape& shape);

/// A layer with the defaults of MoeConfig, and relu, beside these sizes.
[[nodiscard]] MoeConfig config_of(const LayerShape& shape, DType dtype);

/// Of the forward pass, as ranks with equal token counts agree on it.
[[nodiscard]] Workload workload_of(const LayerShape& shape, DType dtype, int world);

/// What shapes are drawn from. The usual one suits the cores of a host.
struct WorkRange {
  static constexpr std::array<std::int64_t, 6> kHostModelDims = {64, 96, 128, 192, 256, 384};

  /// Multiplications plus additions of the experts' products in one rank's forward pass.
  double min_flops = 2e7;
  double max_flops = 2e8;
  std::span<const std::int64_t> model_dims = kHostModelDims;
  std::span<const std::int64_t> hidden_dims = {};  ///< empty: 1/2, 1, 2 or 4 times the model dimension
  std::int64_t min_tokens = 64;
  std::int64_t max_tokens = 4096;
  std::int64_t token_step = 32;
};
/// M and H of 1,024 to 4,096, T of 4,096 to 32,768, for `world` ranks that share a GPU.
[[nodiscard]] WorkRange gpu_work_range(int world);

/// `count` different shapes that `world` ranks can run: widths, experts and ratios from short lists, tokens
/// so that the work, uniform on a logarithmic scale, lies in `range` as far as its bounds of tokens allow.
/// None is one of `taken`. Equal arguments give equal shapes everywhere.
[[nodiscard]] std::vector<LayerShape> draw_shapes(int count, int world, const WorkRange& range,
                                                  std::uint64_t seed, std::span<const LayerShape> taken = {});

}  // namespace flex
