#include "runtime/routed_tokens.h"

#include <vector>

#include "kernels/host_element.h"

namespace flex {
namespace {

/// What makes up for one row being longer than another: the mean of the rows' squared lengths over each one's
/// own. A token that is a row times its entry then gets the same logit from every expert.
std::vector<double> equalizers(ConstTensorView weight) {
  const std::int64_t m = weight.size(1);
  std::vector<double> squares;
  double mean = 0;
  for (std::int64_t expert = 0; expert < weight.size(0); ++expert) {
    double square = 0;
    for (std::int64_t c = 0; c < m; ++c) {
      const double value = host_element(weight, expert * m + c);
      square += value * value;
    }
    squares.push_back(square);
    mean += square / static_cast<double>(weight.size(0));
  }
  for (double& square : squares) square = mean / square;
  return squares;
}

}  // namespace

Tensor routed_tokens(std::span<const std::int64_t> choices, std::int64_t top_k, ConstTensorView gate_weight,
                     DType dtype, PhiloxStream& noise) {
  constexpr double kNoise = 0.1;
  constexpr double kFirstScale = 12;  // far above what another row's direction gives by chance
  constexpr double kNextScale = 0.9;  // of each choice over that of the one before
  Tensor weight(gate_weight.dtype, gate_weight.shape);
  copy_blocking(weight, gate_weight);
  const std::vector<double> equalizer = equalizers(weight);
  const std::int64_t m = gate_weight.size(1);
  const std::int64_t num_tokens = static_cast<std::int64_t>(choices.size()) / top_k;
  std::vector<double> token(static_cast<std::size_t>(m));
  Tensor tokens(dtype, {num_tokens, m});
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    for (double& value : token) value = kNoise * (2 * noise.uniform() - 1);
    double scale = kFirstScale;
    for (const std::int64_t expert : choices.subspan(t * top_k, top_k)) {
      const double factor = scale * equalizer[static_cast<std::size_t>(expert)];
      for (std::int64_t c = 0; c < m; ++c) {
        token[static_cast<std::size_t>(c)] += factor * host_element(weight, expert * m + c);
      }
      scale *= kNextScale;
    }
    for (std::int64_t c = 0; c < m; ++c) {
      set_host_element(tokens, t * m + c, token[static_cast<std::size_t>(c)]);
    }
  }
  return tokens;
}

}  // namespace flex
