#include "runtime/verify_layer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/require.h"
#include "runtime/curve_trainer.h"
#include "runtime/launch.h"
#include "runtime/layer_file.h"

namespace flex {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::chrono::milliseconds kDeadline{60000};

template <class T>
std::vector<T> host_values(ConstTensorView view) {
  Tensor host(view.dtype, view.shape);
  copy_blocking(host, view);
  return {host.as<T>(), host.as<T>() + host.num_elements()};
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return kInfinity;
  double scale = 0;
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    error = std::max(error, std::isnan(difference) ? kInfinity : difference);
    scale = std::max(scale, std::abs(static_cast<double>(expected[i])));
  }
  return error == 0 ? 0 : error / std::max(scale, std::numeric_limits<double>::min());
}

float norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return static_cast<float>(std::sqrt(sum));
}

VerifiedOutput compare_floats(const std::string& name, std::vector<float> actual,
                              const SafetensorsTensor& expected) {
  // A gradient may be given by its norm alone.
  if (expected.num_elements() == 1 && actual.size() > 1) actual = {norm_of(actual)};
  return {name, relative_error(actual, expected.values<float>()), kLayerTolerance};
}

VerifiedOutput compare_integers(const std::string& name, const std::vector<std::int32_t>& actual,
                                const SafetensorsTensor& expected) {
  return {name, actual == expected.values<std::int32_t>() ? 0 : kInfinity, 0};
}

/// A case's layer and what it computed.
struct CaseRun {
  MoeLayer& layer;
  ForwardResult result;
  Tensor y, dx;
};

// Nothing for a tensor that is no output of the layer.
std::optional<VerifiedOutput> compare_output(const CaseRun& run, const SafetensorsTensor& expected) {
  const RoutingViews routing = run.layer.routing();
  const std::string& name = expected.name;
  constexpr std::string_view kGradient = "grad.";
  if (name == "y") return compare_floats(name, host_values<float>(run.y), expected);
  if (name == "dx") return compare_floats(name, host_values<float>(run.dx), expected);
  if (name == "scores") return compare_floats(name, host_values<float>(routing.scores), expected);
  if (name == "gates") return compare_floats(name, host_values<float>(routing.gates), expected);
  if (name == "l_aux" && routing.loss.present())
    return compare_floats(name, host_values<float>(routing.loss), expected);
  if (name == "indices") return compare_integers(name, host_values<std::int32_t>(routing.indices), expected);
  if (name == "locations")
    return compare_integers(name, host_values<std::int32_t>(routing.locations), expected);
  if (!name.starts_with(kGradient)) return std::nullopt;
  const Parameter* parameter = run.layer.parameters().find(name.substr(kGradient.size()));
  if (parameter == nullptr) return std::nullopt;
  return compare_floats(name, host_values<float>(parameter->gradient), expected);
}

VerifiedCase verify_case(const LayerCase& layer_case, RankContext& context) {
  VerifiedCase verified{.name = layer_case.name};
  const auto input = [&](std::string_view name) {
    const auto& found = *std::ranges::find(layer_case.tensors, name, &SafetensorsTensor::name);
    const std::vector<float> values = found.values<float>();
    const Shape shape = {found.shape[0], found.shape[1]};
    Tensor tensor(DType::kF32, shape, context.device());
    copy_blocking(tensor, ConstTensorView(values.data(), DType::kF32, shape));
    return tensor;
  };
  const Tensor x = input("x");
  const Tensor dy = input("dy");
  Stream stream(context.device());
  MoeLayer layer(layer_case.layer.config, context);
  load_parameters(layer_case.layer, layer);
  CaseRun run{.layer = layer,
              .y = Tensor(DType::kF32, x.shape(), context.device()),
              .dx = Tensor(DType::kF32, x.shape(), context.device())};
  run.result = layer.forward(x, run.y, layer_case.layer.call, stream);
  layer.backward(dy, run.dx, layer_case.loss_gradient, stream);
  stream.synchronize_blocking();

  if (layer_case.capacity >= 0) {
    verified.outputs.push_back({"capacity", run.result.capacity == layer_case.capacity ? 0 : kInfinity, 0});
  }
  for (const SafetensorsTensor& expected : layer_case.tensors) {
    if (expected.name == "x" || expected.name == "dy" || expected.name == "expert_count") continue;
    if (const auto output = compare_output(run, expected)) {
      verified.outputs.push_back(*output);
    } else {
      verified.uncompared.push_back(expected.name);
    }
  }
  return verified;
}

VerifiedCase verify_curve(const TrainingCurve& curve, const std::string& name, RankContext& context) {
  VerifiedCase verified{.name = name};
  CurveTrainer trainer(curve, context);
  const auto steps = std::min<std::size_t>(curve.losses.size(), kLooseSteps);
  double tight = 0;
  double loose = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    const auto expected = static_cast<double>(curve.losses[step]);
    const double loss = trainer.step(trainer.call());
    const double error = std::isfinite(loss) ? std::abs(loss - expected) / std::abs(expected) : kInfinity;
    double& worst = step < kTightSteps ? tight : loose;
    worst = std::max(worst, error);
  }
  verified.outputs.push_back({fmt::format("losses, steps 1 to {}", std::min<std::size_t>(steps, kTightSteps)),
                              tight, kTightCurveTolerance});
  if (steps > kTightSteps) {
    verified.outputs.push_back(
        {fmt::format("losses, steps {} to {}", kTightSteps + 1, steps), loose, kLooseCurveTolerance});
  }
  for (const SafetensorsTensor& tensor : curve.uncompared) verified.uncompared.push_back(tensor.name);
  return verified;
}

}  // namespace

bool VerifiedCase::passed() const {
  return !outputs.empty() && uncompared.empty() && std::ranges::all_of(outputs, &VerifiedOutput::passed);
}

const VerifiedOutput* VerifiedCase::worst() const {
  const auto score = [](const VerifiedOutput& output) {
    return output.tolerance > 0 ? output.error / output.tolerance : output.error;
  };
  const auto found = std::ranges::max_element(outputs, {}, score);
  return found == outputs.end() ? nullptr : &*found;
}

std::vector<VerifiedCase> verify_layer_file(const std::filesystem::path& path, Device device) {
  require_usable(device);
  const SafetensorsFile file(path);
  std::vector<VerifiedCase> cases;
  run_ranks({}, kDeadline, [&](Communicator& world) {
    RankContext context(world, device);
    try {
      if (is_training_curve(file)) {
        cases.push_back(verify_curve(read_training_curve(file), path.filename().string(), context));
        return;
      }
      for (const LayerCase& layer_case : read_layer_cases(file))
        cases.push_back(verify_case(layer_case, context));
    } catch (const InputError& error) {
      throw InputError(path.string() + ": " + error.what());
    }
  });
  return cases;
}

}  // namespace flex
