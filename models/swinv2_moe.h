#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "models/drop_path.h"
#include "models/patch_layers.h"
#include "models/swin_block.h"

namespace flex {

/// How a model runs on this rank.
struct ModelOptions {
  DType dtype = DType::kF32;
  std::int64_t batch = 1;  ///< B, images of each pass on this rank; the same on all ranks
  bool trains = true;      ///< make room for training passes and gradients
  std::uint64_t seed = 0;  ///< of initial parameters, noise and drop path
  PlanSource plans{};      ///< of the MoE layers
};

/// SwinV2-MoE on this rank: its share of the images, all shared parameters, its experts.
///
/// Passes are collective if there are MoE layers, as MoeLayer says; rank p has images [p B, (p + 1) B) of the
/// global batch. They queue work on `stream` and return. The activations of a pass live until the next
/// forward(), which the stream must have come to the end of them for if there is drop path. After warm-up
/// nothing is allocated. @source numerics.md "SwinV2-MoE"
class SwinV2Moe {
 public:
  /// Collective. @throws InputError for a configuration that cannot be, or not on this many ranks.
  SwinV2Moe(const ModelConfig& config, const ModelOptions& options, RankContext& context);
  SwinV2Moe(const SwinV2Moe&) = delete;
  SwinV2Moe& operator=(const SwinV2Moe&) = delete;

  /// images (B, 3, S, S) in the gate's type, which stay as they are until backward() has run. Returns logits
  /// (B, classes). With `training`, backward() may follow; `iteration` tells what is drawn at random.
  /// @throws InputError for another shape or type; what MoeLayer::forward() throws.
  TensorView forward(ConstTensorView images, bool training, std::uint64_t iteration, Stream& stream);
  /// Gradients of all parameters, for `dlogits` (B, classes) the gradient of the global loss by the logits,
  /// and `loss_gradient` that by the sum of the auxiliary losses. Experts' and gates' are summed over the
  /// ranks; those of shared parameters are this rank's alone, for the caller to reduce.
  /// @throws InputError if no forward pass with `training` came before.
  void backward(ConstTensorView dlogits, double loss_gradient, Stream& stream);

  /// Times the operations of passes from now on; null: nobody does. Must outlive the passes.
  void set_clock(OperationClock* clock) { clock_ = clock; }

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const ModelOptions& options() const { return options_; }
  [[nodiscard]] ModelParameters& parameters() { return *parameters_; }
  [[nodiscard]] std::deque<PlannedLayer>& moe_layers() { return moe_layers_; }
  /// (B positions, C): what the blocks of a stage made in the last training pass; valid until the next pass.
  [[nodiscard]] ConstTensorView stage_output(std::int64_t stage) const;
  /// (B, C of the last stage): what entered the linear head in the last forward pass; valid until the next.
  [[nodiscard]] ConstTensorView pooled_features() const { return head_->pooled(); }
  /// Sum of the MoE layers' auxiliary losses in the last forward pass, which the stream must have run.
  [[nodiscard]] double auxiliary_loss_blocking();
  /// Bytes of activations, those of the MoE layers included.
  [[nodiscard]] std::int64_t activation_bytes() const;

 private:
  /// One thing between two activations: a block or a merging.
  struct Step {
    std::int64_t stage = 0;  ///< of its output
    std::unique_ptr<SwinBlock> block{};
    std::unique_ptr<PatchMerging> merging{};
    std::size_t block_index = 0;
    TensorView input{}, output{};  ///< of the last forward pass
  };

  void make_moe_layers(RankContext& context);
  void make_steps(Device device);
  void add_merging(std::int64_t stage, std::int64_t from);
  void plan(RankContext& context);
  [[nodiscard]] ModelPass pass_of(bool training, std::uint64_t iteration, Stream& stream);
  [[nodiscard]] Shape rows_of(std::int64_t stage) const;
  TensorView run_forward(const ModelPass& pass, ConstTensorView images);
  void run_step(const ModelPass& pass, Step& step);
  void run_backward(const ModelPass& pass, ConstTensorView dlogits);
  [[nodiscard]] TensorView step_backward(const ModelPass& pass, const Step& step, TensorView gradient);

  ModelConfig config_;
  ModelOptions options_;
  int rank_;
  GemmAlgorithms* gemm_;
  OperationClock* clock_ = nullptr;
  ActivationStack stack_;
  std::deque<PlannedLayer> moe_layers_;
  std::unique_ptr<ModelParameters> parameters_;
  std::deque<WindowMap> maps_;
  std::unique_ptr<PatchEmbedding> embedding_;
  std::vector<Step> steps_;
  std::unique_ptr<ClassifierHead> head_;
  DropPath drop_path_;
  Tensor host_loss_;
  TensorView embedded_;
  bool kept_ = false;
  std::uint64_t iteration_ = 0;
};

/// One pass without training, from images (B, 3, S, S) to logits (B, classes), both in host memory:
/// `device_images` and `host_logits`, which is returned, are the caller's buffers, so that nothing is
/// allocated.
[[nodiscard]] ConstTensorView infer_blocking(SwinV2Moe& model, ConstTensorView images,
                                             TensorView device_images, TensorView host_logits,
                                             Stream& stream);

}  // namespace flex
