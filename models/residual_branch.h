#pragma once

#include <memory>
#include <string>

#include "kernels/nn/linear.h"
#include "models/activation_stack.h"
#include "models/model_parameters.h"

namespace flex {

/// Weight and bias of one LayerNorm with their gradients, and what its backward pass needs. C channels.
class NormLayer {
 public:
  NormLayer(const ModelParameters& parameters, const std::string& prefix);

  /// y = LN(x), or residual + factors * LN(x). (R, C).
  void forward(const ModelPass& pass, ConstTensorView x, ConstTensorView residual, ConstTensorView factors,
               TensorView y);
  /// Overwrites dx, or adds to it; x as in the forward pass.
  void backward(const ModelPass& pass, ConstTensorView dy, ConstTensorView x, ConstTensorView factors,
                TensorView dx, bool accumulate_dx);

 private:
  TensorView weight_, bias_, dweight_, dbias_;
  TensorView mean_, rstd_;  // of the last forward pass
};

/// Weight and bias of one linear layer with their gradients.
struct LinearLayer {
  TensorView weight, bias{}, dweight, dbias{};  ///< bias may be absent

  /// `bias_name`: none if empty.
  LinearLayer(const ModelParameters& parameters, const std::string& weight_name,
              const std::string& bias_name = {});

  /// linear() of (R, K) to (R, N): `args` has x, y and what else it takes; parameters and pass are filled in.
  void forward(const ModelPass& pass, LinearArgs args) const;
  /// linear_backward() in the same way: `args` has dy and x, and dx if that is asked for.
  void backward(const ModelPass& pass, LinearBackwardArgs args) const;
};

/// What a branch computes between its norms: attention, an MLP, or a MoE layer. R rows, C channels.
class BranchBody {
 public:
  BranchBody() = default;
  virtual ~BranchBody() = default;
  BranchBody(const BranchBody&) = delete;
  BranchBody& operator=(const BranchBody&) = delete;

  /// y = body(x). What it takes from the stack for the backward pass stays taken.
  virtual void forward(const ModelPass& pass, ConstTensorView x, TensorView y) = 0;
  /// dx of the last forward pass's x; overwrites it or adds to it. dx does not alias dy.
  virtual void backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) = 0;
  /// True if forward() must run once for each backward(): it is collective, or keeps memory of its own.
  [[nodiscard]] virtual bool runs_once() const { return false; }
};

/// One residual branch of a block: x + factor * LN(body(x)) (res-post-norm), or x + factor * body(LN(x))
/// (pre-norm).
class ResidualBranch {
 public:
  ResidualBranch(const ModelParameters& parameters, const std::string& norm_prefix, bool is_pre_norm,
                 std::unique_ptr<BranchBody> body);

  /// y, which does not alias x. `factors` (B) as layer_norm's, or absent.
  void forward(const ModelPass& pass, ConstTensorView x, ConstTensorView factors, TensorView y);
  /// Turns `gradient`, by y, into that by x, in place. x as in the forward pass.
  void backward(const ModelPass& pass, ConstTensorView x, ConstTensorView factors, TensorView gradient);
  [[nodiscard]] bool runs_once() const { return body_->runs_once(); }

 private:
  NormLayer norm_;
  bool is_pre_norm_;
  std::unique_ptr<BranchBody> body_;
  TensorView inner_;  // of the last forward pass: LN(x) (pre-norm) or body(x)
};

}  // namespace flex
