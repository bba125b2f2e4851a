#include "tests/support/layer_world.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/tensors.h"

namespace flex::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The layer's name of a member of ReferenceParameters.
std::string layer_name(const std::string& member) {
  static const std::vector<std::pair<std::string, std::string>> kNames = {
      {"gate_weight", "gate.wg.weight"},
      {"projector_weight", "gate.cosine_projector.weight"},
      {"projector_bias", "gate.cosine_projector.bias"},
      {"sim_matrix", "gate.sim_matrix"},
      {"temperature", "gate.temperature"},
      {"fc1_w", "experts.batched_fc1_w"},
      {"fc1_bias", "experts.batched_fc1_bias"},
      {"fc2_w", "experts.batched_fc2_w"},
      {"fc2_bias", "experts.batched_fc2_bias"},
      {"w1", "experts.w1"},
      {"w2", "experts.w2"},
      {"w3", "experts.w3"}};
  for (const auto& [reference, layer] : kNames) {
    if (reference == member) return layer;
  }
  return member;
}

std::vector<std::int32_t> integers_of(ConstTensorView view) {
  Tensor host(view.dtype, view.shape);
  copy_blocking(host, view);
  return {host.as<std::int32_t>(), host.as<std::int32_t>() + host.num_elements()};
}

class Comparison {
 public:
  // NaN in `actual` is another rank's part when `partial`.
  void tensor(const std::string& name, const std::vector<double>& expected, const std::vector<double>& actual,
              bool partial = false) {
    if (expected.size() != actual.size()) return note(kInfinity, name + ": wrong size");
    double scale = 0;
    double error = 0;
    for (const double value : expected) scale = std::max(scale, std::abs(value));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (partial && std::isnan(actual[i])) continue;
      const double difference = std::abs(actual[i] - expected[i]);
      error = std::max(error, std::isnan(difference) ? kInfinity : difference);
    }
    note(error == 0 ? 0 : error / (scale == 0 ? 1 : scale), name);
  }
  template <class T>
  void equal(const std::string& name, const T& expected, const T& actual) {
    if (expected != actual) note(kInfinity, name);
  }
  [[nodiscard]] Difference worst() const { return worst_; }

 private:
  void note(double error, const std::string& where) {
    if (error > worst_.error) worst_ = {error, where};
  }
  Difference worst_;
};

// True if every element of every gradient is some rank's.
bool covered(ReferenceParameters& expected, const std::vector<RankOutput>& ranks) {
  std::vector<ReferenceParameters> parts;
  for (const RankOutput& rank : ranks) parts.push_back(rank.gradients);
  const auto wanted = list_parameters(expected);
  for (std::size_t p = 0; p < wanted.size(); ++p) {
    std::vector<bool> owned(wanted[p].second->size(), false);
    for (ReferenceParameters& part : parts) {
      const std::vector<double>& values = *list_parameters(part)[p].second;
      for (std::size_t i = 0; i < owned.size(); ++i) owned[i] = owned[i] || !std::isnan(values[i]);
    }
    if (std::ranges::count(owned, false) > 0) return false;
  }
  return true;
}

}  // namespace

ReferenceConfig reference_config(const MoeConfig& c) {
  return {.model_dim = c.model_dim,
          .hidden_dim = c.hidden_dim,
          .num_experts = c.num_experts,
          .activation = static_cast<ReferenceActivation>(c.activation),
          .gated = c.ffn == FfnKind::kGated,
          .has_fc2_bias = c.fc2_bias != Fc2Bias::kNone,
          .gate = static_cast<ReferenceGate>(c.gate),
          .proj_dim = c.projection_dim,
          .normalize_gate = c.normalize_gate,
          .batch_prioritized = c.batch_prioritized_routing,
          .is_postscore = c.is_postscore,
          .loss = static_cast<ReferenceLoss>(c.gate_loss),
          .gate_noise = c.gate_noise,
          .z_loss_weight = c.z_loss_weight,
          .local_loss_scope = c.loss_scope == LossScope::kLocal};
}

ReferenceCall reference_call(const MoeConfig& config, const ForwardCall& call, double loss_gradient) {
  return {.top_k = call.top_k,
          .capacity_factor = call.capacity_factor,
          .add_noise = call.add_noise,
          .seed = config.seed,
          .iteration = call.iteration,
          .layer = config.layer,
          .aux_weight = loss_gradient};
}

void load_reference(MoeLayer& layer, ReferenceParameters parameters) {
  for (const auto& [member, values] : list_parameters(parameters)) {
    if (values->empty()) continue;
    Parameter& parameter = layer.parameters().at(layer_name(member));
    load_parameter(parameter, make_tensor(parameter.full_shape, *values, parameter.value.dtype()).view());
  }
}

std::vector<ReferenceTokens> random_tokens(const std::vector<std::int64_t>& tokens_per_rank,
                                           std::int64_t model_dim, std::uint64_t seed) {
  std::vector<ReferenceTokens> tokens;
  for (std::size_t rank = 0; rank < tokens_per_rank.size(); ++rank) {
    const std::int64_t count = tokens_per_rank[rank] * model_dim;
    tokens.push_back(
        {random_values(count, seed * 1000 + 2 * rank), random_values(count, seed * 1000 + 2 * rank + 1)});
  }
  return tokens;
}

namespace {

// `runner` is the layer, or what runs it.
template <class Runner>
RankOutput run_passes(MoeLayer& layer, Runner& runner, const ReferenceTokens& tokens, const ForwardCall& call,
                      double loss_gradient, Stream& stream) {
  const DType dtype = layer.config().dtype;
  const Device device = stream.device();
  const std::int64_t m = layer.config().model_dim;
  const Shape shape = {static_cast<std::int64_t>(tokens.x.size()) / m, m};
  const Tensor x = make_tensor(shape, tokens.x, dtype, device);
  const Tensor dy = make_tensor(shape, tokens.dy, dtype, device);
  Tensor y = poisoned_tensor(shape, dtype, device);
  Tensor dx = poisoned_tensor(shape, dtype, device);
  for (Parameter& parameter : layer.parameters().all()) {
    if (!parameter.trained) continue;
    copy_blocking(parameter.gradient,
                  poisoned_tensor(parameter.gradient.shape(), parameter.gradient.dtype(), device));
  }
  RankOutput output;
  output.result = runner.forward(x, y, call, stream);
  if (call.training) runner.backward(dy, dx, loss_gradient, stream);
  stream.synchronize_blocking();

  output.y = values_of(y);
  output.dx = values_of(dx);
  const RoutingViews routing = layer.routing();
  if (routing.loss.present()) output.loss = values_of(routing.loss);
  output.scores = values_of(routing.scores);
  output.gates = values_of(routing.gates);
  output.indices = integers_of(routing.indices);
  output.locations = integers_of(routing.locations);
  output.dropped = layer.num_dropped_blocking();
  for (const auto& [member, values] : list_parameters(output.gradients)) {
    const Parameter* parameter = layer.parameters().find(layer_name(member));
    if (parameter == nullptr) continue;
    Tensor whole = poisoned_tensor(parameter->full_shape, parameter->gradient.dtype());
    store_shard(*parameter, parameter->gradient, whole);
    *values = values_of(whole);
  }
  return output;
}

}  // namespace

RankOutput run_layer(MoeLayer& layer, const ReferenceTokens& tokens, const ForwardCall& call,
                     double loss_gradient, Stream& stream) {
  return run_passes(layer, layer, tokens, call, loss_gradient, stream);
}

RankOutput run_layer(AdaptiveLayer& adaptive, const ReferenceTokens& tokens, const ForwardCall& call,
                     double loss_gradient, Stream& stream) {
  return run_passes(adaptive.layer(), adaptive, tokens, call, loss_gradient, stream);
}

Difference compare_rank(const ReferenceResult& expected, std::size_t rank, const RankOutput& output) {
  Comparison comparison;
  const ReferenceRank& e = expected.ranks[rank];
  const std::string at = "rank " + std::to_string(rank) + ": ";
  comparison.equal(at + "capacity", expected.capacity, output.result.capacity);
  comparison.equal(at + "indices", e.indices, output.indices);
  comparison.equal(at + "locations", e.locations, output.locations);
  comparison.equal(at + "dropped", e.num_dropped, output.dropped);
  comparison.tensor(at + "scores", e.scores, output.scores);
  comparison.tensor(at + "gates", e.gates, output.gates);
  comparison.tensor(at + "y", e.y, output.y);
  comparison.tensor(at + "dx", e.dx, output.dx);
  if (!output.loss.empty()) comparison.tensor(at + "loss", {expected.l_aux[rank]}, output.loss);
  ReferenceParameters wanted_gradients = expected.gradients;
  ReferenceParameters actual_gradients = output.gradients;
  const auto wanted = list_parameters(wanted_gradients);
  const auto actual = list_parameters(actual_gradients);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].second->empty()) continue;
    comparison.tensor(at + "gradient of " + wanted[i].first, *wanted[i].second, *actual[i].second, true);
  }
  return comparison.worst();
}

Difference compare(const ReferenceResult& expected, const std::vector<RankOutput>& ranks) {
  ReferenceParameters gradients = expected.gradients;
  Difference worst;
  if (!covered(gradients, ranks)) worst = {kInfinity, "a gradient has an element that is no rank's"};
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const Difference difference = compare_rank(expected, rank, ranks[rank]);
    if (difference.error > worst.error) worst = difference;
  }
  return worst;
}

}  // namespace flex::testing
