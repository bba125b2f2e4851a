#include "runtime/moe_parameters.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/philox.h"
#include "base/require.h"
#include "kernels/host_element.h"
#include "runtime/parallel_blocks.h"

namespace flex {
namespace {

// FNV-1a, so that a parameter's initial values depend on its name and not on the order of parameters.
std::uint64_t hash_name(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

double uniform_at(std::uint64_t key, std::int64_t index) {
  const auto i = static_cast<std::uint64_t>(index);
  const PhiloxBlock block =
      philox4x32({{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0}},
                 {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}});
  return (static_cast<double>(block.words[0]) + 0.5) / 4294967296.0 * 2.0 - 1.0;
}

struct Spec {
  std::string name;
  Shape full_shape;
  bool replicated;
  bool trained;
  DType dtype;
  double bound;     // uniform in +-bound
  double constant;  // added
  Shard shard;
};

Shape local_shape(const Spec& spec) {
  if (spec.replicated) return spec.full_shape;
  return spec.full_shape.rank() == 3 ? Shape{spec.shard.experts, spec.shard.rows, spec.shard.inner}
                                     : Shape{spec.shard.experts, spec.shard.rows};
}

Parameter make_parameter(const Spec& spec, std::uint64_t seed, Device device) {
  Parameter result{.name = spec.name,
                   .full_shape = spec.full_shape,
                   .replicated = spec.replicated,
                   .trained = spec.trained,
                   .shard = spec.shard};
  if (spec.replicated) {
    result.shard = {.full_rows = spec.full_shape.num_elements(), .inner = 1};
    result.shard.rows = result.shard.full_rows;
  }
  const Shape shape = local_shape(spec);
  Tensor host = Tensor::zeros(spec.dtype, shape);
  const std::uint64_t key = splitmix64(seed) ^ hash_name(spec.name);
  for (const ShardRun& run : runs_of(result.shard)) {
    constexpr std::int64_t kBlock = std::int64_t{1} << 18;
    for_each_block(run.count, kBlock, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double value = spec.bound == 0 ? 0 : spec.bound * uniform_at(key, run.whole + i);
        set_host_element(host, run.local + i, spec.constant + value);
      }
    });
  }
  result.value = Tensor(spec.dtype, shape, device);
  copy_blocking(result.value, host);
  result.gradient = Tensor::zeros(spec.dtype, shape, device);
  return result;
}

std::vector<Spec> gate_specs(const MoeConfig& c) {
  const DType dtype = gate_dtype(c.dtype);
  const double by_model = 1.0 / std::sqrt(static_cast<double>(c.model_dim));
  if (c.gate == GateKind::kLinear) {
    return {{"gate.wg.weight", {c.num_experts, c.model_dim}, true, true, dtype, by_model, 0, {}}};
  }
  constexpr double kSimBound = 0.01;  // small, so that training starts near uniform routing
  return {
      {"gate.cosine_projector.weight", {c.projection_dim, c.model_dim}, true, true, dtype, by_model, 0, {}},
      {"gate.cosine_projector.bias", {c.projection_dim}, true, true, dtype, by_model, 0, {}},
      {"gate.sim_matrix", {c.projection_dim, c.num_experts}, true, true, dtype, kSimBound, 0, {}},
      {"gate.temperature", {1}, true, true, dtype, 0, std::log(1.0 / c.initial_temperature), {}}};
}

std::vector<Spec> expert_specs(const MoeConfig& c, const Workload& w, int rank) {
  const std::int64_t s = w.shards();
  Shard hidden{.expert_begin = s > 1 ? rank / s : rank * w.local_experts(),
               .experts = w.local_experts(),
               .row_begin = (rank % s) * (c.hidden_dim / s),
               .rows = c.hidden_dim / s,
               .full_rows = c.hidden_dim,
               .inner = c.model_dim};
  Shard fc1_bias = hidden;
  fc1_bias.inner = 1;
  Shard fc2_bias = fc1_bias;
  fc2_bias.row_begin = (rank % s) * w.fc2_bias_slice();
  fc2_bias.rows = w.fc2_bias_slice();
  fc2_bias.full_rows = c.model_dim;

  const double by_model = 1.0 / std::sqrt(static_cast<double>(c.model_dim));
  const double by_hidden = 1.0 / std::sqrt(static_cast<double>(c.hidden_dim));
  const Shape matrix = {c.num_experts, c.hidden_dim, c.model_dim};
  if (c.ffn == FfnKind::kGated) {
    return {{"experts.w1", matrix, false, true, c.dtype, by_model, 0, hidden},
            {"experts.w2", matrix, false, true, c.dtype, by_model, 0, hidden},
            {"experts.w3", matrix, false, true, c.dtype, by_hidden, 0, hidden}};
  }
  std::vector<Spec> specs = {{"experts.batched_fc1_w", matrix, false, true, c.dtype, by_model, 0, hidden},
                             {"experts.batched_fc2_w", matrix, false, true, c.dtype, by_hidden, 0, hidden},
                             {"experts.batched_fc1_bias",
                              {c.num_experts, c.hidden_dim},
                              false,
                              true,
                              c.dtype,
                              by_model,
                              0,
                              fc1_bias}};
  if (c.fc2_bias != Fc2Bias::kNone) {
    const bool trained = c.fc2_bias == Fc2Bias::kTrained;
    specs.push_back({"experts.batched_fc2_bias",
                     {c.num_experts, c.model_dim},
                     false,
                     trained,
                     c.dtype,
                     trained ? by_hidden : 0.0,
                     0,
                     fc2_bias});
  }
  return specs;
}

}  // namespace

std::vector<ShardRun> runs_of(const Shard& shard) {
  const std::int64_t kept = std::clamp<std::int64_t>(shard.full_rows - shard.row_begin, 0, shard.rows);
  std::vector<ShardRun> runs;
  for (std::int64_t e = 0; e < shard.experts; ++e) {
    runs.push_back({.local = e * shard.rows * shard.inner,
                    .whole = ((shard.expert_begin + e) * shard.full_rows + shard.row_begin) * shard.inner,
                    .count = kept * shard.inner});
  }
  return runs;
}

MoeParameters::MoeParameters(const MoeConfig& config, int world, int rank, Device device) {
  validate(config, world);
  const std::uint64_t seed = splitmix64(config.seed) + config.layer;
  for (const Spec& spec : gate_specs(config)) parameters_.push_back(make_parameter(spec, seed, device));
  for (const Spec& spec : expert_specs(config, workload_of(config, world), rank)) {
    parameters_.push_back(make_parameter(spec, seed, device));
  }
}

Parameter* MoeParameters::find(std::string_view name) {
  const auto found = std::ranges::find(parameters_, name, &Parameter::name);
  return found == parameters_.end() ? nullptr : &*found;
}

Parameter& MoeParameters::at(std::string_view name) {
  if (Parameter* found = find(name)) return *found;
  std::string names;
  for (const Parameter& parameter : parameters_) names += (names.empty() ? "" : ", ") + parameter.name;
  fail("the layer has no parameter '{}'; it has {}", name, names);
}

namespace {

// `part` of the parameters that there are, by their places in an expert.
template <class View, class Part>
ExpertParameters<View> expert_parts(MoeParameters& parameters, const Part& part) {
  const auto view = [&](std::string_view name) {
    Parameter* found = parameters.find(name);
    return found == nullptr ? View{} : part(*found);
  };
  if (parameters.find("experts.w1") != nullptr)
    return {.fc1_w = view("experts.w1"), .up_w = view("experts.w2"), .fc2_w = view("experts.w3")};
  return {.fc1_w = view("experts.batched_fc1_w"),
          .fc2_w = view("experts.batched_fc2_w"),
          .fc1_bias = view("experts.batched_fc1_bias"),
          .fc2_bias = view("experts.batched_fc2_bias")};
}

}  // namespace

ExpertParameters<TensorView> expert_values(MoeParameters& parameters) {
  return expert_parts<TensorView>(parameters, [](Parameter& parameter) { return parameter.value.view(); });
}

ExpertParameters<TensorView> expert_gradients(MoeParameters& parameters) {
  return expert_parts<TensorView>(parameters, [](Parameter& parameter) {
    return parameter.trained ? parameter.gradient.view() : TensorView{};
  });
}

ExpertParameters<ConstTensorView> as_const(const ExpertParameters<TensorView>& views) {
  const auto optional = [](const TensorView& view) {
    return view.present() ? ConstTensorView(view) : ConstTensorView{};
  };
  return {.fc1_w = optional(views.fc1_w),
          .up_w = optional(views.up_w),
          .fc2_w = optional(views.fc2_w),
          .fc1_bias = optional(views.fc1_bias),
          .fc2_bias = optional(views.fc2_bias)};
}

Shard shard_of_rank(const Parameter& parameter, int world, int rank) {
  Shard shard = parameter.shard;
  if (parameter.replicated) return shard;
  const std::int64_t sharing = std::max<std::int64_t>(1, world * shard.experts / parameter.full_shape[0]);
  shard.expert_begin = sharing > 1 ? rank / sharing : rank * shard.experts;
  shard.row_begin = rank % sharing * shard.rows;
  return shard;
}

void load_parameter(Parameter& parameter, ConstTensorView whole) {
  require(
      whole.shape == parameter.full_shape && whole.dtype == parameter.value.dtype() && whole.device.is_cpu(),
      "{}: expected a {} {} in host memory, got {} {} on {}", parameter.name, name(parameter.value.dtype()),
      to_string(parameter.full_shape), name(whole.dtype), to_string(whole.shape), to_string(whole.device));
  Tensor host = Tensor::zeros(parameter.value.dtype(), parameter.value.shape());
  const std::int64_t element = size_bytes(whole.dtype);
  for (const ShardRun& run : runs_of(parameter.shard)) {
    std::memcpy(host.as<char>() + run.local * element, whole.as<char>() + run.whole * element,
                static_cast<std::size_t>(run.count * element));
  }
  copy_blocking(parameter.value, host);
}

void store_shard(const Parameter& parameter, const Tensor& value_or_gradient, TensorView whole) {
  require(whole.shape == parameter.full_shape && whole.dtype == value_or_gradient.dtype() &&
              whole.device.is_cpu(),
          "{}: expected a {} {} in host memory, got {} {} on {}", parameter.name,
          name(value_or_gradient.dtype()), to_string(parameter.full_shape), name(whole.dtype),
          to_string(whole.shape), to_string(whole.device));
  Tensor host(value_or_gradient.dtype(), value_or_gradient.shape());
  copy_blocking(host, value_or_gradient);
  const std::int64_t element = size_bytes(whole.dtype);
  for (const ShardRun& run : runs_of(parameter.shard)) {
    std::memcpy(whole.as<char>() + run.whole * element, host.as<char>() + run.local * element,
                static_cast<std::size_t>(run.count * element));
  }
}

}  // namespace flex
