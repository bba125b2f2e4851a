#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/tensor.h"

/// The layer in double on a GPU by plain kernels and cuBLAS: fast enough to check every element at the sizes
/// of benchmarks, where the reference on the CPU would take hours. It is itself checked against that one.
/// Linear gate, gshard loss, relu, postscore, one rank.
namespace flex::testing {

/// T tokens, M model dim, H hidden dim, E experts, k choices, C capacity.
struct DoubleLayerInputs {
  ConstTensorView x, dy;               ///< (T, M)
  ConstTensorView gate_weight;         ///< (E, M)
  ConstTensorView fc1_w, fc2_w;        ///< (E, H, M)
  ConstTensorView fc1_bias;            ///< (E, H)
  ConstTensorView fc2_bias;            ///< (E, M)
  ConstTensorView indices, locations;  ///< (T, k) i32: the routing to compute with
  std::int64_t capacity = 0;
  double loss_gradient = 0;
};

/// A tensor by name, and how far the layer's is from the exact one.
struct RelativeNorm {
  std::string name;
  double value = 0;  ///< |actual - exact| / |exact|, Euclidean
};

struct DoubleLayerOutputs {
  ConstTensorView y, dx, gate_weight, fc1_w, fc2_w, fc1_bias, fc2_bias;  ///< of the layer that is checked
};

struct DoubleLayerComparison {
  std::vector<RelativeNorm> norms;
  std::int64_t other_choices = 0;  ///< choices that are not those of the exact scores
  double widest_gap = 0;           ///< largest difference of exact scores over such choices
};

/// All views on cuda:0. Waits for its work.
[[nodiscard]] DoubleLayerComparison compare_with_double_layer(const DoubleLayerInputs& inputs,
                                                              const DoubleLayerOutputs& outputs);

}  // namespace flex::testing
