#include "models/branch_bodies.h"

#include "kernels/nn/dropout.h"
#include "kernels/nn/position_bias.h"
#include "kernels/nn/residual.h"

namespace flex {
namespace {

LinearLayer qkv_layer(BlockKind kind, const ModelParameters& parameters, const std::string& prefix) {
  if (kind == BlockKind::kSwinMoe) return {parameters, prefix + "qkv.weight", prefix + "qkv.bias"};
  LinearLayer layer(parameters, prefix + "qkv.weight");
  layer.bias = parameters.joined_values(prefix + "q_bias", prefix + "v_bias");
  layer.dbias = parameters.joined_gradients(prefix + "q_bias", prefix + "v_bias");
  return layer;
}

void add_work(const ModelPass& pass, const Schedule& schedule) {
  if (pass.clock == nullptr) return;
  for (const Operation& operation : schedule.operations) pass.clock->add(work_of(operation));
}

std::size_t stage_of(BlockPlace place) { return static_cast<std::size_t>(place.stage); }

}  // namespace

AttentionBody::AttentionBody(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters,
                             const WindowMap& map)
    : kind_(config.block == BlockKind::kSwinV2 ? AttentionKind::kCosine : AttentionKind::kScaledDot),
      num_heads_(config.num_heads[stage_of(place)]),
      map_(map),
      pretrained_window_{config.pretrained_windows[stage_of(place)],
                         config.pretrained_windows[stage_of(place)]},
      bounded_(config.block == BlockKind::kSwinV2),
      qkv_(qkv_layer(config.block, parameters, block_prefix(place) + "attn.")),
      projection_(parameters, block_prefix(place) + "attn.proj.weight",
                  block_prefix(place) + "attn.proj.bias"),
      position_fc1_(parameters, block_prefix(place) + "attn.cpb_mlp.0.weight",
                    block_prefix(place) + "attn.cpb_mlp.0.bias"),
      position_fc2_(parameters, block_prefix(place) + "attn.cpb_mlp.2.weight") {
  if (kind_ != AttentionKind::kCosine) return;
  const ModelParameter& scale = parameters.at(block_prefix(place) + "attn.logit_scale");
  scale_ = scale.value.reshaped({num_heads_});
  if (scale.gradient.present()) dscale_ = scale.gradient.reshaped({num_heads_});
}

void AttentionBody::forward(const ModelPass& pass, ConstTensorView x, TensorView y) {
  const WindowLayout& layout = map_.layout();
  const std::int64_t rows = x.size(0);
  const std::int64_t images = rows / layout.map.area();
  x_ = x;
  table_ = pass.take_wide({num_heads_, num_offsets(layout.window)});
  rows_ = pass.take({rows, 3 * x.size(1)});
  attended_ = pass.take(x.shape);
  logsumexp_ = {};
  if (pass.training) {
    const std::int64_t windows = images * layout.num_windows().area();
    logsumexp_ = pass.take_wide({windows, num_heads_, layout.window_size()});
  }
  pass.launch("position_bias", position_bias,
              {.window = layout.window,
               .pretrained_window = pretrained_window_,
               .fc1_weight = position_fc1_.weight,
               .fc1_bias = position_fc1_.bias,
               .fc2_weight = position_fc2_.weight,
               .bounded = bounded_,
               .table = table_});
  qkv_.forward(pass, {.x = x, .y = rows_});
  pass.launch("window_attention", window_attention,
              {.kind = kind_,
               .num_heads = num_heads_,
               .map = &map_,
               .qkv = rows_,
               .scale = scale_,
               .bias_table = table_,
               .out = attended_,
               .logsumexp = logsumexp_});
  projection_.forward(pass, {.x = attended_, .y = y});
}

void AttentionBody::backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) {
  const ActivationScope scope(pass.stack);
  const TensorView dout = pass.take(x_.shape);
  const TensorView dqkv = pass.take(rows_.shape);
  projection_.backward(pass, {.dy = dy, .x = attended_, .dx = dout});
  backward_attention(pass, dout, dqkv);
  qkv_.backward(pass, {.dy = dqkv, .x = x_, .dx = dx, .accumulate_dx = accumulate_dx});
}

void AttentionBody::backward_attention(const ModelPass& pass, ConstTensorView dout, TensorView dqkv) {
  const WindowLayout& layout = map_.layout();
  const ActivationScope scope(pass.stack);
  const TensorView dtable = pass.take_wide(table_.shape);
  const std::int64_t images = dout.size(0) / layout.map.area();
  const std::int64_t bytes =
      window_attention_backward_workspace_bytes(layout, images, num_heads_, pass.stack.device());
  pass.launch("window_attention_backward", window_attention_backward,
              {.kind = kind_,
               .num_heads = num_heads_,
               .map = &map_,
               .qkv = rows_,
               .scale = scale_,
               .bias_table = table_,
               .out = attended_,
               .logsumexp = logsumexp_,
               .dout = dout,
               .dqkv = dqkv,
               .dscale = dscale_,
               .dbias_table = dtable,
               .workspace = pass.take_bytes(bytes)});
  pass.launch("position_bias_backward", position_bias_backward,
              {.window = layout.window,
               .pretrained_window = pretrained_window_,
               .fc1_weight = position_fc1_.weight,
               .fc1_bias = position_fc1_.bias,
               .fc2_weight = position_fc2_.weight,
               .bounded = bounded_,
               .table = table_,
               .dtable = dtable,
               .dfc1_weight = position_fc1_.dweight,
               .dfc1_bias = position_fc1_.dbias,
               .dfc2_weight = position_fc2_.dweight});
}

MlpBody::MlpBody(const ModelConfig& config, BlockPlace place, const ModelParameters& parameters)
    : activation_(config.activation),
      fc1_(parameters, block_prefix(place) + "mlp.fc1.weight", block_prefix(place) + "mlp.fc1.bias"),
      fc2_(parameters, block_prefix(place) + "mlp.fc2.weight",
           config.has_fc2_bias() ? block_prefix(place) + "mlp.fc2.bias" : "") {}

void MlpBody::forward(const ModelPass& pass, ConstTensorView x, TensorView y) {
  const Shape hidden = {x.size(0), fc1_.weight.size(0)};
  x_ = x;
  hidden_ = pass.training && activation_ != Activation::kRelu ? pass.take(hidden) : TensorView{};
  activated_ = pass.take(hidden);
  fc1_.forward(pass, {.x = x, .activation = activation_, .preactivation = hidden_, .y = activated_});
  fc2_.forward(pass, {.x = activated_, .y = y});
}

void MlpBody::backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) {
  const ActivationScope scope(pass.stack);
  const TensorView dhidden = pass.take(activated_.shape);
  fc2_.backward(pass, {.dy = dy, .x = activated_, .dx = dhidden});
  fc1_.backward(pass, {.dy = dhidden,
                       .x = x_,
                       .activation = activation_,
                       .kept = hidden_.present() ? hidden_ : activated_,
                       .dpreactivation = dhidden,
                       .dx = dx,
                       .accumulate_dx = accumulate_dx});
}

void MoeBody::forward(const ModelPass& pass, ConstTensorView x, TensorView y) {
  const Routing& routing = pass.training ? moe_.training : moe_.inference;
  const ForwardCall call{.top_k = routing.top_k,
                         .capacity_factor = routing.capacity_factor,
                         .training = pass.training,
                         .add_noise = pass.training && moe_.add_noise,
                         .iteration = pass.iteration,
                         .equal_tokens = true};
  pass.queue("moe_layer", [&] {
    static_cast<void>(layer_.forward(x, y, call, pass.stream));
    add_work(pass, layer_.layer().route_schedule());
    add_work(pass, layer_.layer().forward_schedule());
  });
  if (pass.training && moe_.expert_dropout > 0) drop(pass, y, y);
}

void MoeBody::drop(const ModelPass& pass, ConstTensorView x, TensorView y) {
  const MoeConfig& config = layer_.layer().config();
  pass.launch("dropout", dropout,
              {.x = x,
               .y = y,
               .rate = moe_.expert_dropout,
               .seed = config.seed,
               .iteration = pass.iteration,
               .layer = config.layer,
               .first_row = pass.rank * x.size(0)});
}

void MoeBody::backward(const ModelPass& pass, ConstTensorView dy, TensorView dx, bool accumulate_dx) {
  const ActivationScope scope(pass.stack);
  const TensorView own = accumulate_dx ? pass.take(dx.shape) : dx;
  if (moe_.expert_dropout > 0) {
    const TensorView dropped = pass.take(dy.shape);
    drop(pass, dy, dropped);
    dy = dropped;
  }
  pass.queue("moe_layer_backward", [&] {
    layer_.backward(dy, own, pass.loss_gradient, pass.stream);
    add_work(pass, layer_.layer().backward_schedule());
  });
  if (accumulate_dx) pass.launch("add_residual", add_residual, {.residual = dx, .x = own, .y = dx});
}

}  // namespace flex
