#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model_config.h"

namespace flex {

/// One part of a model: the patch embedding, a patch merging, a block, the head.
struct LayerFigures {
  std::string name;  ///< `layers.2.blocks.1`
  Extent map;        ///< positions of its output
  std::int64_t dim = 0;
  bool is_moe = false;
  std::int64_t parameters = 0;         ///< trained ones, all experts
  std::int64_t active_parameters = 0;  ///< those that one token meets: k of the E experts, without the gate
  double multiply_accumulates = 0;     ///< of one image
};

/// What a model is made of.
struct ModelSummary {
  std::vector<LayerFigures> layers;  ///< in the order in which they run

  [[nodiscard]] std::int64_t parameters() const;
  [[nodiscard]] std::int64_t active_parameters() const;
  [[nodiscard]] double multiply_accumulates() const;
};

/// Sizes under `routing`. Multiply-accumulates are counted as the published tables are:
/// - the convolution and every linear layer: rows x inputs x outputs;
/// - the two products of attention: 2 x windows x N^2 x dim, padded positions of a window included;
/// - experts: as the MLP that they replace, times k f (times k without a fixed capacity), and no gate;
/// - each LayerNorm: one for every element that it reads.
/// Biases, softmax, activations, pooling and the position bias' net do not count. The norms do: without them
/// the small model would have 6.75 and the base one with f = 1.25 12.53 GMAC; published are 6.76 and 12.54.
/// Parameters that are frozen do not count either.
/// @source the tables of Hwang et al., "Tutel", and the counting of the public Swin code, which they follow
[[nodiscard]] ModelSummary summarize(const ModelConfig& config, const Routing& routing);

}  // namespace flex
