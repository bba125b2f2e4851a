#pragma once

#include "models/branch_bodies.h"

namespace flex {

/// Factors of drop path for a block's two branches, (B) each, or absent.
struct BranchFactors {
  ConstTensorView attention{};
  ConstTensorView feed_forward{};
};

/// One block: attention, then an MLP or a MoE layer. Its configuration decides all that tells the published
/// kinds apart. R = B x positions rows, C channels.
///
/// A checkpointed block keeps nothing of a training pass but x, and computes the rest again; of one with
/// experts that is true of its attention, since what the experts keep is the MoE layer's.
class SwinBlock {
 public:
  /// `map` and `layer` (null: an MLP) must outlive it.
  SwinBlock(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters,
            const WindowMap& map, PlannedLayer* layer);

  /// y (R, C), which does not alias x; x stays as it is until backward() has run.
  void forward(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors, TensorView y);
  /// Turns `gradient`, by y, into that by x, in place. x and factors as in the forward pass.
  void backward(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors, TensorView gradient);

 private:
  void compute_again(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors);

  bool is_checkpointed_;
  ResidualBranch attention_;
  ResidualBranch feed_forward_;
  TensorView middle_;  // of the last forward pass: what the second branch begins with
};

}  // namespace flex
