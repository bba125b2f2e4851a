#include "models/model_parameters.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "base/nearest_name.h"
#include "base/philox.h"
#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {
namespace {

constexpr double kInitialDeviation = 0.02;

std::int64_t elements_to_boundary(std::int64_t offset, DType dtype) {
  const std::int64_t step = kAlignmentBytes / size_bytes(dtype);
  return (step - offset % step) % step;
}

TensorView part_of(Tensor& buffer, std::int64_t offset, const Shape& shape) {
  return {buffer.as<char>() + offset * size_bytes(buffer.dtype()), buffer.dtype(), shape, buffer.device()};
}

TensorView joined(const TensorView& first, const TensorView& last) {
  if (!first.present()) return {};
  const auto bytes =
      static_cast<const char*>(last.data) - static_cast<const char*>(first.data) + last.bytes();
  return {first.data, first.dtype, {bytes / size_bytes(first.dtype)}, first.device};
}

// Whole parameters may be of other rank than a layer's view (a scale of (heads, 1, 1)).
void require_fits(const ModelParameter& parameter, const ConstTensorView& whole) {
  require(
      whole.shape == parameter.spec.shape && whole.dtype == parameter.value.dtype && whole.device.is_cpu(),
      "{}: expected a {} {} in host memory, got {} {} on {}", parameter.spec.name,
      name(parameter.value.dtype), to_string(parameter.spec.shape), name(whole.dtype), to_string(whole.shape),
      to_string(whole.device));
}

// What stands between the points of names, each once.
std::vector<std::string> pieces_of_names(const std::vector<ModelParameter>& parameters) {
  std::set<std::string> pieces;
  for (const ModelParameter& parameter : parameters) {
    std::istringstream name(parameter.spec.name);
    for (std::string piece; std::getline(name, piece, '.');) pieces.insert(piece);
  }
  return {pieces.begin(), pieces.end()};
}

}  // namespace

ModelParameters::ModelParameters(const ModelConfig& config, DType dtype, Device device, std::uint64_t seed,
                                 const std::vector<MoeLayer*>& layers, bool trains) {
  for (ParameterSpec& spec : parameter_list(config)) {
    Parameter* held = nullptr;
    if (spec.place) {
      const auto found = std::ranges::find(config.moe.blocks, *spec.place);
      held = &layers[static_cast<std::size_t>(found - config.moe.blocks.begin())]->parameters().at(
          spec.layer_name);
    }
    index_.emplace(spec.name, parameters_.size());
    parameters_.push_back({.spec = std::move(spec), .held_by_layer = held});
  }
  lay_out(dtype, device, trains);
  initialize(seed);
}

void ModelParameters::lay_out(DType dtype, Device device, bool trains) {
  std::vector<std::int64_t> offsets(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterSpec& spec = parameters_[i].spec;
    if (spec.home != ParameterHome::kShared) continue;
    std::int64_t& size = buffers_of(spec).size;
    const DType own = spec.is_wide ? gate_dtype(dtype) : dtype;
    size += spec.zeros_before > 0 ? spec.zeros_before : elements_to_boundary(size, own);
    offsets[i] = size;
    size += spec.num_elements();
  }
  for (Buffers* buffers : {&narrow_, &wide_}) {
    const DType own = buffers == &wide_ ? gate_dtype(dtype) : dtype;
    buffers->values = Tensor::zeros(own, {buffers->size}, device);
    if (trains) buffers->gradients = Tensor::zeros(own, {buffers->size}, device);
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    ModelParameter& parameter = parameters_[i];
    if (Parameter* held = parameter.held_by_layer) {
      parameter.value = held->value;
      if (trains) parameter.gradient = held->gradient;
      continue;
    }
    Buffers& buffers = buffers_of(parameter.spec);
    parameter.value = part_of(buffers.values, offsets[i], parameter.spec.shape);
    if (trains) parameter.gradient = part_of(buffers.gradients, offsets[i], parameter.spec.shape);
  }
}

void ModelParameters::initialize(std::uint64_t seed) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ModelParameter& parameter = parameters_[i];
    if (parameter.spec.start == ParameterStart::kZero || parameter.spec.start == ParameterStart::kMoeLayer)
      continue;
    PhiloxStream random(seed, i);
    Tensor host(parameter.value.dtype, parameter.value.shape);
    for (std::int64_t e = 0; e < host.num_elements(); ++e) {
      double value = 1;
      if (parameter.spec.start == ParameterStart::kNormal) value = kInitialDeviation * random.normal();
      if (parameter.spec.start == ParameterStart::kLogTen) value = std::log(10.0);
      set_host_element(host, e, value);
    }
    copy_blocking(parameter.value, host);
  }
}

const ModelParameter& ModelParameters::at(std::string_view name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return parameters_[found->second];
  std::vector<std::string> names;
  for (const auto& [known, index] : index_) names.push_back(known);
  const auto nearest = nearest_name(name, names);
  fail("the model has no parameter '{}'{}", name,
       nearest ? fmt::format("; did you mean '{}'?", *nearest) : "");
}

TensorView ModelParameters::joined_values(std::string_view first, std::string_view last) const {
  return joined(at(first).value, at(last).value);
}

TensorView ModelParameters::joined_gradients(std::string_view first, std::string_view last) const {
  return joined(at(first).gradient, at(last).gradient);
}

void ModelParameters::freeze(const std::vector<std::string>& parts) {
  const auto holds = [](const ModelParameter& parameter, const std::string& part) {
    return parameter.spec.name.find(part) != std::string::npos;
  };
  for (const std::string& part : parts) {
    if (std::ranges::any_of(parameters_, [&](const auto& parameter) { return holds(parameter, part); }))
      continue;
    const auto nearest = nearest_name(part, pieces_of_names(parameters_));
    fail("training.frozen: no parameter's name holds '{}'{}", part,
         nearest ? fmt::format("; did you mean '{}'?", *nearest) : "");
  }
  for (ModelParameter& parameter : parameters_) {
    if (std::ranges::any_of(parts, [&](const std::string& part) { return holds(parameter, part); }))
      parameter.spec.trained = false;
  }
}

std::vector<TensorView> ModelParameters::shared_gradients() {
  return {narrow_.gradients.view(), wide_.gradients.view()};
}

void ModelParameters::load(std::string_view name, ConstTensorView whole) {
  const ModelParameter& parameter = at(name);
  require_fits(parameter, whole);
  if (parameter.held_by_layer != nullptr) return load_parameter(*parameter.held_by_layer, whole);
  copy_blocking(parameter.value, whole);
}

void ModelParameters::store_value(std::string_view name, TensorView whole) const {
  store(at(name), false, whole);
}

void ModelParameters::store_gradient(std::string_view name, TensorView whole) const {
  store(at(name), true, whole);
}

void ModelParameters::store(const ModelParameter& parameter, bool gradient, TensorView whole) const {
  require_fits(parameter, whole);
  require(!gradient || parameter.gradient.present(), "{}: there is no gradient: the model only infers",
          parameter.spec.name);
  if (const Parameter* held = parameter.held_by_layer)
    return store_shard(*held, gradient ? held->gradient : held->value, whole);
  copy_blocking(whole, gradient ? parameter.gradient : parameter.value);
}

}  // namespace flex
