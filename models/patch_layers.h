#pragma once

#include "models/residual_branch.h"

namespace flex {

/// Images to rows: a convolution whose stride is its size, and LN.
class PatchEmbedding {
 public:
  explicit PatchEmbedding(const ModelParameters& parameters);
  /// images (B, 3, S, S) in the gate's type; y (B positions, C).
  void forward(const ModelPass& pass, ConstTensorView images, TensorView y);
  /// The gradients of its parameters; `gradient`, by y, is overwritten.
  void backward(const ModelPass& pass, TensorView gradient);

 private:
  LinearLayer projection_;
  NormLayer norm_;
  TensorView patches_, embedded_;  // of the last forward pass
};

/// Joins four neighbours into one row of twice the channels; LN before or after the product.
class PatchMerging {
 public:
  /// `prefix` of its parameters; `map` of its input.
  PatchMerging(const ModelConfig& config, const ModelParameters& parameters, const std::string& prefix,
               Extent map);
  /// x (B map.area(), C), y (B merged_map(map).area(), 2 C).
  void forward(const ModelPass& pass, ConstTensorView x, TensorView y);
  void backward(const ModelPass& pass, ConstTensorView dy, TensorView dx);

 private:
  bool is_pre_norm_;
  Extent map_;
  LinearLayer reduction_;
  NormLayer norm_;
  TensorView joined_, inner_;  // of the last forward pass; inner_: between norm and product
};

/// LN, mean over the positions, and a linear layer to the classes.
class ClassifierHead {
 public:
  ClassifierHead(const ModelConfig& config, const ModelParameters& parameters);
  /// x (B positions, C), logits (B, classes).
  void forward(const ModelPass& pass, ConstTensorView x, TensorView logits);
  void backward(const ModelPass& pass, ConstTensorView dlogits, ConstTensorView x, TensorView dx);

  /// (B, C): what entered the linear layer in the last forward pass.
  [[nodiscard]] ConstTensorView pooled() const { return pooled_; }

 private:
  NormLayer norm_;
  LinearLayer linear_;
  std::int64_t positions_;
  TensorView pooled_;  // of the last forward pass
};

}  // namespace flex
