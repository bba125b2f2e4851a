#pragma once

#include "kernels/nn/window_attention.h"
#include "kernels/nn/window_map.h"
#include "models/planned_layer.h"
#include "models/residual_branch.h"

namespace flex {

/// Multi-head attention inside windows with a continuous position bias.
class AttentionBody final : public BranchBody {
 public:
  /// `map`, of the block's layout, must outlive it.
  AttentionBody(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters,
                const WindowMap& map);
  void forward(const ModelPass& pass, ConstTensorView x, TensorView y) override;
  void backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) override;

 private:
  void backward_attention(const ModelPass& pass, ConstTensorView dout, TensorView dqkv);

  AttentionKind kind_;
  std::int64_t num_heads_;
  const WindowMap& map_;
  Extent pretrained_window_;
  bool bounded_;
  LinearLayer qkv_, projection_, position_fc1_, position_fc2_;
  TensorView scale_, dscale_;  // (heads), cosine only
  // Of the last forward pass:
  ConstTensorView x_;
  TensorView table_, rows_, attended_, logsumexp_;
};

/// Two linear layers with an activation between them.
class MlpBody final : public BranchBody {
 public:
  MlpBody(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters);
  void forward(const ModelPass& pass, ConstTensorView x, TensorView y) override;
  void backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) override;

 private:
  Activation activation_;
  LinearLayer fc1_, fc2_;
  // Of the last forward pass:
  ConstTensorView x_;
  TensorView hidden_, activated_;  // hidden_ absent with relu
};

/// A MoE layer in the place of an MLP, in training with dropout of its output.
class MoeBody final : public BranchBody {
 public:
  /// `layer` must outlive it.
  MoeBody(const ModelMoe& moe, PlannedLayer& layer) : moe_(moe), layer_(layer) {}
  void forward(const ModelPass& pass, ConstTensorView x, TensorView y) override;
  void backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) override;
  [[nodiscard]] bool runs_once() const override { return true; }

 private:
  /// y = dropout of x, the same in both passes. May be in place.
  void drop(const ModelPass& pass, ConstTensorView x, TensorView y);

  const ModelMoe& moe_;
  PlannedLayer& layer_;
};

}  // namespace flex
