#include "models/patch_layers.h"

#include "kernels/nn/patches.h"
#include "kernels/nn/pooling.h"

namespace flex {
namespace {

constexpr std::int64_t kLastStage = ModelConfig::kNumStages - 1;

// A convolution's weight (N, channels, rows, columns), or its gradient, as that of a linear layer.
TensorView as_matrix(const TensorView& weight) {
  return weight.present() ? weight.reshaped({weight.size(0), weight.shape.inner()}) : TensorView{};
}

}  // namespace

PatchEmbedding::PatchEmbedding(const ModelParameters& parameters)
    : projection_(parameters, "patch_embed.proj.weight", "patch_embed.proj.bias"),
      norm_(parameters, "patch_embed.norm.") {
  projection_.weight = as_matrix(projection_.weight);
  projection_.dweight = as_matrix(projection_.dweight);
}

void PatchEmbedding::forward(const ModelPass& pass, ConstTensorView images, TensorView y) {
  patches_ = pass.take({y.size(0), projection_.weight.size(1)});
  embedded_ = pass.take(y.shape);
  pass.launch("patch_rows", patch_rows,
              {.images = images, .patch = ModelConfig::kPatchSize, .rows = patches_});
  projection_.forward(pass, {.x = patches_, .y = embedded_});
  norm_.forward(pass, embedded_, {}, {}, y);
}

void PatchEmbedding::backward(const ModelPass& pass, TensorView gradient) {
  norm_.backward(pass, gradient, embedded_, {}, gradient, false);
  projection_.backward(pass, {.dy = gradient, .x = patches_});
}

PatchMerging::PatchMerging(const ModelConfig& config, const ModelParameters& parameters,
                           const std::string& prefix, Extent map)
    : is_pre_norm_(config.is_pre_norm()),
      map_(map),
      reduction_(parameters, prefix + "reduction.weight"),
      norm_(parameters, prefix + "norm.") {}

void PatchMerging::forward(const ModelPass& pass, ConstTensorView x, TensorView y) {
  joined_ = pass.take({y.size(0), reduction_.weight.size(1)});
  inner_ = pass.take(is_pre_norm_ ? joined_.shape : y.shape);
  pass.launch("merge_patches", merge_patches, {.map = map_, .x = x, .rows = joined_});
  if (is_pre_norm_) {
    norm_.forward(pass, joined_, {}, {}, inner_);
    reduction_.forward(pass, {.x = inner_, .y = y});
  } else {
    reduction_.forward(pass, {.x = joined_, .y = inner_});
    norm_.forward(pass, inner_, {}, {}, y);
  }
}

void PatchMerging::backward(const ModelPass& pass, ConstTensorView dy, TensorView dx) {
  const ActivationScope scope(pass.stack);
  const TensorView djoined = pass.take(joined_.shape);
  const TensorView dinner = pass.take(inner_.shape);
  if (is_pre_norm_) {
    reduction_.backward(pass, {.dy = dy, .x = inner_, .dx = dinner});
    norm_.backward(pass, dinner, joined_, {}, djoined, false);
  } else {
    norm_.backward(pass, dy, inner_, {}, dinner, false);
    reduction_.backward(pass, {.dy = dinner, .x = joined_, .dx = djoined});
  }
  pass.launch("merge_patches_backward", merge_patches_backward, {.map = map_, .drows = djoined, .dx = dx});
}

ClassifierHead::ClassifierHead(const ModelConfig& config, const ModelParameters& parameters)
    : norm_(parameters, "norm."),
      linear_(parameters, head_prefix(config.block) + "weight", head_prefix(config.block) + "bias"),
      positions_(config.map(kLastStage).area()) {}

void ClassifierHead::forward(const ModelPass& pass, ConstTensorView x, TensorView logits) {
  pooled_ = pass.take({x.size(0) / positions_, x.size(1)});
  const TensorView normed = pass.take(x.shape);
  norm_.forward(pass, x, {}, {}, normed);
  pass.launch("mean_pool", mean_pool, {.x = normed, .y = pooled_});
  linear_.forward(pass, {.x = pooled_, .y = logits});
}

void ClassifierHead::backward(const ModelPass& pass, ConstTensorView dlogits, ConstTensorView x,
                              TensorView dx) {
  const ActivationScope scope(pass.stack);
  const TensorView dpooled = pass.take(pooled_.shape);
  linear_.backward(pass, {.dy = dlogits, .x = pooled_, .dx = dpooled});
  pass.launch("mean_pool_backward", mean_pool_backward, {.dy = dpooled, .dx = dx});
  norm_.backward(pass, dx, x, {}, dx, false);
}

}  // namespace flex
