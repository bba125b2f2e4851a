#include "models/swin_block.h"

namespace flex {
namespace {

std::unique_ptr<BranchBody> feed_forward_body(const ModelConfig& config, BlockPlace place,
                                              const ModelParameters& parameters, PlannedLayer* layer) {
  if (layer == nullptr) return std::make_unique<MlpBody>(config, place, parameters);
  return std::make_unique<MoeBody>(config.moe, *layer);
}

// The same pass without anything kept for its backward pass.
ModelPass keeping_nothing(const ModelPass& pass) {
  ModelPass result = pass;
  result.training = false;
  return result;
}

}  // namespace

SwinBlock::SwinBlock(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters,
                     const WindowMap& map, PlannedLayer* layer)
    : is_checkpointed_(config.is_checkpointed(place)),
      attention_(parameters, block_prefix(place) + "norm1.", config.is_pre_norm(),
                 std::make_unique<AttentionBody>(config, place, parameters, map)),
      feed_forward_(parameters, block_prefix(place) + "norm2.", config.is_pre_norm(),
                    feed_forward_body(config, place, parameters, layer)) {}

void SwinBlock::forward(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors,
                        TensorView y) {
  if (!pass.training || !is_checkpointed_) {
    middle_ = pass.take(x.shape);
    attention_.forward(pass, x, factors.attention, middle_);
    feed_forward_.forward(pass, middle_, factors.feed_forward, y);
    return;
  }
  if (!feed_forward_.runs_once()) {
    const ActivationScope scope(pass.stack);
    middle_ = pass.take(x.shape);
    attention_.forward(keeping_nothing(pass), x, factors.attention, middle_);
    feed_forward_.forward(keeping_nothing(pass), middle_, factors.feed_forward, y);
    return;
  }
  middle_ = pass.take(x.shape);
  {
    const ActivationScope scope(pass.stack);
    attention_.forward(keeping_nothing(pass), x, factors.attention, middle_);
  }
  feed_forward_.forward(pass, middle_, factors.feed_forward, y);
}

void SwinBlock::backward(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors,
                         TensorView gradient) {
  const ActivationScope scope(pass.stack);
  if (is_checkpointed_) compute_again(pass, x, factors);
  feed_forward_.backward(pass, middle_, factors.feed_forward, gradient);
  attention_.backward(pass, x, factors.attention, gradient);
}

// Kernels give equal bits on repeat, so that a MoE layer's input may be written once more where it is.
void SwinBlock::compute_again(const ModelPass& pass, ConstTensorView x, const BranchFactors& factors) {
  if (!feed_forward_.runs_once()) middle_ = pass.take(x.shape);
  attention_.forward(pass, x, factors.attention, middle_);
  if (feed_forward_.runs_once()) return;
  const TensorView y = pass.take(x.shape);
  feed_forward_.forward(pass, middle_, factors.feed_forward, y);
}

}  // namespace flex
