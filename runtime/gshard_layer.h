#pragma once

#include <cstdint>

#include "kernels/arena.h"
#include "kernels/event.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"
#include "runtime/moe_config.h"
#include "runtime/moe_parameters.h"

namespace flex {

class GemmAlgorithms;

/// A baseline to compare MoeLayer with, which nothing else in Flex uses: the same layer in the dense
/// formulation of GShard and Fairseq, on one rank. Gate, routing, loss and experts are the same kernels;
/// tokens reach their slots, and come back, by products with masks of T x E x C.
///
/// Two masks are held from the forward pass on, as Fairseq does: the dispatch mask and the combine weights,
/// both in the tokens' type; the backward pass adds the gradient of the combine weights. Fairseq makes
/// further arrays of this size on the way (one-hot locations, products of them), so that what this layer
/// holds grows like Fairseq's and stays below it. All arrays of a pass are held at once.
///
/// Calls queue work and return. Failures of queued work are the stream's, as for MoeLayer.
/// @source Lepikhin et al., "GShard", algorithm 2 (the forward pass as einsums)
class GshardLayer {
 public:
  /// `gemm` may be null on the CPU. It must outlive the layer.
  /// @throws InputError for a configuration that cannot be on one rank, and for what the formulation is not
  /// used with: the cosine gate, and gate weights applied before the experts.
  GshardLayer(const MoeConfig& config, Device device, GemmAlgorithms* gemm);
  /// Waits for the layer's queued work.
  ~GshardLayer();
  GshardLayer(const GshardLayer&) = delete;
  GshardLayer& operator=(const GshardLayer&) = delete;

  /// y = layer(x), without noise. x, y (T, M); x must stay as it is until backward() has run.
  /// @throws InputError for k outside [1, E], shapes that disagree, or f that is not above 0: the masks need
  /// a capacity that is known beforehand.
  void forward(ConstTensorView x, TensorView y, std::int64_t top_k, double capacity_factor, Stream& stream);

  /// dx and the gradients of all parameters, which it overwrites, for `dy` the gradient of the loss by y and
  /// `loss_gradient` that by the auxiliary loss.
  /// @throws InputError if no forward pass came before.
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);

  [[nodiscard]] MoeParameters& parameters() { return parameters_; }
  /// C of the last forward pass.
  [[nodiscard]] std::int64_t capacity() const { return capacity_; }
  /// (1) auxiliary loss of the last forward pass in the gate's type; not present without a loss.
  [[nodiscard]] ConstTensorView loss() const { return route_.loss; }
  /// Bytes of activations and scratch held, beside parameters.
  [[nodiscard]] std::int64_t activation_bytes() const { return arena_.capacity_bytes(); }

 private:
  struct RouteViews {
    TensorView logits, scores, indices, gates, locations, counts, needed, workspace;
    TensorView loss_sums, loss, loss_workspace;  // auxiliary loss
  };

  void wait_for_queued() noexcept;
  void take_route_buffers(std::int64_t top_k);
  void take_forward_buffers();
  void take_backward_buffers();
  void route_tokens(Stream& stream);
  void run_experts(Stream& stream);
  void run_experts_backward(Stream& stream);
  void run_gate_backward(double loss_gradient, TensorView dx, Stream& stream);

  MoeConfig config_;
  Device device_;
  GemmAlgorithms* gemm_;
  MoeParameters parameters_;
  Arena arena_;
  Event finished_;

  // Of the last forward pass, kept for backward().
  bool kept_ = false;
  std::int64_t capacity_ = 0;
  ConstTensorView x_;
  RouteViews route_;
  TensorView dispatch_mask_, combine_weights_;  // (T, E, C)
  TensorView encoded_, expert_out_;             // (E * C, M)
  TensorView hidden_, up_, activated_;          // (E, C, H)
  // Backward
  TensorView dcombine_weights_;  // (T, E, C)
  TensorView dslots_;            // (E * C, M): gradient of expert_out_, then of encoded_
  TensorView dhidden_;           // (E, C, H)
  TensorView dgates_, dlogits_, gate_workspace_;
};

}  // namespace flex
