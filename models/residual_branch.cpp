#include "models/residual_branch.h"

#include "kernels/nn/layer_norm.h"
#include "kernels/nn/residual.h"

namespace flex {

NormLayer::NormLayer(const ModelParameters& parameters, const std::string& prefix)
    : weight_(parameters.at(prefix + "weight").value),
      bias_(parameters.at(prefix + "bias").value),
      dweight_(parameters.at(prefix + "weight").gradient),
      dbias_(parameters.at(prefix + "bias").gradient) {}

void NormLayer::forward(const ModelPass& pass, ConstTensorView x, ConstTensorView residual,
                        ConstTensorView factors, TensorView y) {
  mean_ = pass.training ? pass.take_wide({x.size(0)}) : TensorView{};
  rstd_ = pass.training ? pass.take_wide({x.size(0)}) : TensorView{};
  pass.launch("layer_norm", layer_norm,
              {.x = x,
               .weight = weight_,
               .bias = bias_,
               .residual = residual,
               .factors = factors,
               .y = y,
               .mean = mean_,
               .rstd = rstd_});
}

void NormLayer::backward(const ModelPass& pass, ConstTensorView dy, ConstTensorView x,
                         ConstTensorView factors, TensorView dx, bool accumulate_dx) {
  const ActivationScope scope(pass.stack);
  const std::int64_t bytes = layer_norm_backward_workspace_bytes(x.size(0), x.size(1), pass.stack.device());
  pass.launch("layer_norm_backward", layer_norm_backward,
              {.dy = dy,
               .x = x,
               .weight = weight_,
               .mean = mean_,
               .rstd = rstd_,
               .factors = factors,
               .dx = dx,
               .accumulate_dx = accumulate_dx,
               .dweight = dweight_,
               .dbias = dbias_,
               .workspace = pass.take_bytes(bytes)});
}

LinearLayer::LinearLayer(const ModelParameters& parameters, const std::string& weight_name,
                         const std::string& bias_name)
    : weight(parameters.at(weight_name).value), dweight(parameters.at(weight_name).gradient) {
  if (bias_name.empty()) return;
  bias = parameters.at(bias_name).value;
  dbias = parameters.at(bias_name).gradient;
}

void LinearLayer::forward(const ModelPass& pass, LinearArgs args) const {
  args.weight = weight;
  args.bias = bias;
  args.gemm = pass.gemm;
  pass.launch("linear", linear, args);
}

void LinearLayer::backward(const ModelPass& pass, LinearBackwardArgs args) const {
  if (args.dx.present()) args.weight = weight;
  args.dweight = dweight;
  args.dbias = dbias;
  args.gemm = pass.gemm;
  pass.launch("linear_backward", linear_backward, args);
}

ResidualBranch::ResidualBranch(const ModelParameters& parameters, const std::string& norm_prefix,
                               bool is_pre_norm, std::unique_ptr<BranchBody> body)
    : norm_(parameters, norm_prefix), is_pre_norm_(is_pre_norm), body_(std::move(body)) {}

void ResidualBranch::forward(const ModelPass& pass, ConstTensorView x, ConstTensorView factors,
                             TensorView y) {
  inner_ = pass.take(x.shape);
  if (is_pre_norm_) {
    norm_.forward(pass, x, {}, {}, inner_);
    body_->forward(pass, inner_, y);
    pass.launch("add_residual", add_residual, {.residual = x, .x = y, .factors = factors, .y = y});
    return;
  }
  body_->forward(pass, x, inner_);
  norm_.forward(pass, inner_, x, factors, y);
}

void ResidualBranch::backward(const ModelPass& pass, ConstTensorView x, ConstTensorView factors,
                              TensorView gradient) {
  const ActivationScope scope(pass.stack);
  const TensorView dbody = pass.take(x.shape);
  if (!is_pre_norm_) {
    norm_.backward(pass, gradient, inner_, factors, dbody, false);
    body_->backward(pass, dbody, gradient, true);
    return;
  }
  ConstTensorView dy = gradient;
  if (factors.present()) {
    const TensorView scaled = pass.take(x.shape);
    pass.launch("scale_rows", scale_rows, {.x = gradient, .factors = factors, .y = scaled});
    dy = scaled;
  }
  body_->backward(pass, dy, dbody, false);
  norm_.backward(pass, dbody, x, {}, gradient, true);
}

}  // namespace flex
