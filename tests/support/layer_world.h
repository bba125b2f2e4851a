#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/adaptive_layer.h"
#include "runtime/moe_layer.h"
#include "tests/support/reference_layer.h"

/// The layer on in-process ranks beside its reference: the same configuration, parameters and tokens for
/// both.
namespace flex::testing {

/// The reference's description of `config`.
[[nodiscard]] ReferenceConfig reference_config(const MoeConfig& config);
/// The reference's description of `call`; `loss_gradient` is its aux_weight.
[[nodiscard]] ReferenceCall reference_call(const MoeConfig& config, const ForwardCall& call,
                                           double loss_gradient);

/// Puts `parameters` into the layer's shards. The layer is fp64 or fp32.
void load_reference(MoeLayer& layer, ReferenceParameters parameters);

/// Random tokens and output gradients for each rank.
[[nodiscard]] std::vector<ReferenceTokens> random_tokens(const std::vector<std::int64_t>& tokens_per_rank,
                                                         std::int64_t model_dim, std::uint64_t seed);

/// What one rank's layer computed, as doubles in the reference's shapes. Gradients are whole parameters in
/// which only this rank's part is set (all of it for the gate); the rest is NaN.
struct RankOutput {
  std::vector<double> y, dx, loss, scores, gates;
  std::vector<std::int32_t> indices, locations;
  std::int64_t dropped = 0;
  ForwardResult result;
  ReferenceParameters gradients;
};

/// One forward and backward pass of `layer` on this rank, waited for. Outputs start as NaN.
[[nodiscard]] RankOutput run_layer(MoeLayer& layer, const ReferenceTokens& tokens, const ForwardCall& call,
                                   double loss_gradient, Stream& stream);

/// The same through an adaptive layer, whose policy chooses the plans.
[[nodiscard]] RankOutput run_layer(AdaptiveLayer& adaptive, const ReferenceTokens& tokens,
                                   const ForwardCall& call, double loss_gradient, Stream& stream);

/// Largest difference over the largest magnitude of the tensor that is off the most, and which one it is;
/// infinite where an index, location, count or capacity differs, or an element was not written.
struct Difference {
  double error = 0.0;
  std::string where;
};
/// The same for one rank's output alone.
[[nodiscard]] Difference compare_rank(const ReferenceResult& expected, std::size_t rank,
                                      const RankOutput& output);
/// All ranks' outputs; every element of every gradient must be some rank's.
[[nodiscard]] Difference compare(const ReferenceResult& expected, const std::vector<RankOutput>& ranks);

}  // namespace flex::testing
