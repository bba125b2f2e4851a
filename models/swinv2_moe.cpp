#include "models/swinv2_moe.h"

#include <algorithm>
#include <array>
#include <ranges>

#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {

SwinV2Moe::SwinV2Moe(const ModelConfig& config, const ModelOptions& options, RankContext& context)
    : config_((validate(config), config)),
      options_(options),
      rank_(context.rank()),
      gemm_(context.gemm()),
      stack_(context.device()),
      drop_path_(config, options.dtype, context.device(), options.batch, context.rank() * options.batch,
                 options.seed),
      host_loss_(gate_dtype(options.dtype), {1}) {
  require(options.batch >= 1, "a batch of {} images on each rank; it is at least 1", options.batch);
  make_moe_layers(context);
  std::vector<MoeLayer*> layers;
  for (PlannedLayer& layer : moe_layers_) layers.push_back(&layer.layer());
  parameters_ = std::make_unique<ModelParameters>(config_, options.dtype, context.device(), options.seed,
                                                  layers, options.trains);
  embedding_ = std::make_unique<PatchEmbedding>(*parameters_);
  make_steps(context.device());
  head_ = std::make_unique<ClassifierHead>(config_, *parameters_);
  plan(context);
}

void SwinV2Moe::make_moe_layers(RankContext& context) {
  for (const BlockPlace place : config_.moe.blocks) {
    const auto index = static_cast<std::uint32_t>(moe_layers_.size());
    moe_layers_.emplace_back(moe_layer_config(config_, place, options_.dtype, index, options_.seed), index,
                             options_.plans, context);
    if (options_.trains) continue;
    // Layer by layer, so that those of one at a time are there.
    for (Parameter& parameter : moe_layers_.back().layer().parameters().all()) parameter.gradient = Tensor();
  }
}

void SwinV2Moe::make_steps(Device device) {
  // Layouts repeat from block to block: each is made once.
  const auto map_of = [&](const WindowLayout& layout) -> const WindowMap& {
    const auto found =
        std::ranges::find_if(maps_, [&](const WindowMap& map) { return map.layout() == layout; });
    return found != maps_.end() ? *found : maps_.emplace_back(layout, device);
  };
  std::size_t block_index = 0;
  std::size_t moe_index = 0;
  for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
    if (config_.merges_before(stage)) add_merging(stage, stage - 1);
    for (std::int64_t i = 0; i < config_.depths[static_cast<std::size_t>(stage)]; ++i) {
      const BlockPlace place{stage, i};
      PlannedLayer* layer = config_.is_moe(place) ? &moe_layers_[moe_index++] : nullptr;
      Step step{.stage = stage, .block_index = block_index++};
      step.block =
          std::make_unique<SwinBlock>(config_, place, *parameters_, map_of(config_.window(place)), layer);
      steps_.push_back(std::move(step));
    }
    if (config_.merges_after(stage)) add_merging(stage, stage);
  }
}

// The merging that `stage` names, from the map of stage `from` to the next.
void SwinV2Moe::add_merging(std::int64_t stage, std::int64_t from) {
  Step step{.stage = from + 1};
  step.merging =
      std::make_unique<PatchMerging>(config_, *parameters_, merging_prefix(stage), config_.map(from));
  steps_.push_back(std::move(step));
}

void SwinV2Moe::plan(RankContext& context) {
  Stream stream(context.device());  // nothing is queued on it
  const Shape images = {options_.batch, ModelConfig::kImageChannels, config_.image_size, config_.image_size};
  const DType wide = gate_dtype(options_.dtype);
  const ConstTensorView nowhere(nullptr, wide, images, context.device());
  stack_.begin_plan();
  static_cast<void>(run_forward(pass_of(false, 0, stream), nowhere));
  if (options_.trains) {
    const Shape logits = {options_.batch, config_.num_classes};
    static_cast<void>(run_forward(pass_of(true, 0, stream), nowhere));
    run_backward(pass_of(true, 0, stream),
                 ConstTensorView(nullptr, options_.dtype, logits, context.device()));
  }
  stack_.end_plan();
}

ModelPass SwinV2Moe::pass_of(bool training, std::uint64_t iteration, Stream& stream) {
  return {.stack = stack_,
          .stream = stream,
          .gemm = gemm_,
          .dtype = options_.dtype,
          .training = training,
          .rank = rank_,
          .iteration = iteration,
          .clock = clock_};
}

Shape SwinV2Moe::rows_of(std::int64_t stage) const {
  return {options_.batch * config_.map(stage).area(), config_.dim(stage)};
}

TensorView SwinV2Moe::forward(ConstTensorView images, bool training, std::uint64_t iteration,
                              Stream& stream) {
  const Shape expected = {options_.batch, ModelConfig::kImageChannels, config_.image_size,
                          config_.image_size};
  require(images.shape == expected && images.dtype == gate_dtype(options_.dtype),
          "SwinV2Moe::forward: images are {} {}, expected {} {}", name(images.dtype), to_string(images.shape),
          name(gate_dtype(options_.dtype)), to_string(expected));
  require(!training || options_.trains, "SwinV2Moe::forward: the model was made without `trains`");
  kept_ = false;
  iteration_ = iteration;
  if (training) drop_path_.draw(iteration, stream);
  const TensorView logits = run_forward(pass_of(training, iteration, stream), images);
  kept_ = training;
  return logits;
}

TensorView SwinV2Moe::run_forward(const ModelPass& pass, ConstTensorView images) {
  stack_.reset();
  const TensorView logits = pass.take({options_.batch, config_.num_classes});
  // Without a backward pass two buffers take turns; with one, what a step made stays.
  std::array<TensorView, 2> turns;
  if (!pass.training) {
    std::int64_t largest = 0;
    for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage)
      largest = std::max(largest, rows_of(stage).num_elements());
    for (TensorView& turn : turns) turn = pass.take({largest});
  }
  std::size_t turn = 0;
  const auto output_of = [&](std::int64_t stage) {
    if (pass.training) return pass.take(rows_of(stage));
    return TensorView(turns[turn++ % 2].data, pass.dtype, rows_of(stage), stack_.device());
  };
  const auto run = [&](const auto& work) {
    const std::int64_t mark = stack_.mark();
    work();
    if (!pass.training) stack_.rewind(mark);
  };
  embedded_ = output_of(0);
  run([&] { embedding_->forward(pass, images, embedded_); });
  TensorView x = embedded_;
  for (Step& step : steps_) {
    step.input = x;
    step.output = output_of(step.stage);
    run([&] { run_step(pass, step); });
    x = step.output;
  }
  head_->forward(pass, x, logits);
  return logits;
}

void SwinV2Moe::run_step(const ModelPass& pass, Step& step) {
  if (step.merging) return step.merging->forward(pass, step.input, step.output);
  const BranchFactors factors = pass.training ? drop_path_.factors(step.block_index) : BranchFactors{};
  step.block->forward(pass, step.input, factors, step.output);
}

void SwinV2Moe::backward(ConstTensorView dlogits, double loss_gradient, Stream& stream) {
  require(kept_, "SwinV2Moe::backward: no forward pass with training = true came before");
  kept_ = false;
  ModelPass pass = pass_of(true, iteration_, stream);
  pass.loss_gradient = loss_gradient;
  run_backward(pass, dlogits);
}

void SwinV2Moe::run_backward(const ModelPass& pass, ConstTensorView dlogits) {
  const ActivationScope scope(stack_);
  const TensorView& last = steps_.back().output;
  TensorView gradient = pass.take(last.shape);
  head_->backward(pass, dlogits, last, gradient);
  for (const Step& step : std::views::reverse(steps_)) gradient = step_backward(pass, step, gradient);
  embedding_->backward(pass, gradient);
}

TensorView SwinV2Moe::step_backward(const ModelPass& pass, const Step& step, TensorView gradient) {
  if (step.block) {
    step.block->backward(pass, step.input, drop_path_.factors(step.block_index), gradient);
    return gradient;
  }
  const TensorView before = pass.take(step.input.shape);
  step.merging->backward(pass, gradient, before);
  return before;
}

ConstTensorView SwinV2Moe::stage_output(std::int64_t stage) const {
  const auto is_last = [&](const Step& step) { return step.block && step.stage == stage; };
  const auto found = std::ranges::find_if(std::views::reverse(steps_), is_last);
  require(found != steps_.rend(), "stage {}; stages are 0 to {}", stage, ModelConfig::kNumStages - 1);
  return found->output;
}

double SwinV2Moe::auxiliary_loss_blocking() {
  double sum = 0;
  for (const PlannedLayer& layer : moe_layers_) {
    const ConstTensorView loss = layer.layer().routing().loss;
    if (!loss.present()) continue;
    copy_blocking(host_loss_, loss);
    sum += host_element(host_loss_, 0);
  }
  return sum;
}

ConstTensorView infer_blocking(SwinV2Moe& model, ConstTensorView images, TensorView device_images,
                               TensorView host_logits, Stream& stream) {
  copy(device_images, images, stream);
  copy(host_logits, model.forward(device_images, false, 0, stream), stream);
  stream.synchronize_blocking();
  return host_logits;
}

std::int64_t SwinV2Moe::activation_bytes() const {
  std::int64_t bytes = stack_.peak_bytes();
  for (const PlannedLayer& layer : moe_layers_) bytes += layer.layer().activation_bytes();
  return bytes;
}

}  // namespace flex
