#include "runtime/training_memory.h"

#include <algorithm>
#include <chrono>

#include "base/require.h"
#include "costmodel/accuracy.h"
#include "kernels/gemm_algorithms.h"
#include "kernels/host_element.h"
#include "profiler/stream_timer.h"
#include "runtime/device_memory_peak.h"
#include "runtime/gshard_layer.h"
#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/random_tensor.h"

namespace flex {
namespace {

constexpr double kLossGradient = 0.01;
constexpr int kMeasuredSteps = 2;  // the first makes the memory, the second has it in one piece
constexpr int kTimedSteps = 5;
constexpr std::int64_t kComparedTokens = 64;

/// The tensors of a training step beside the layer's own.
struct Tokens {
  Tensor x, dy, y, dx;
};

Tokens make_tokens(const LayerTraining& training, Device device) {
  const DType dtype = training.config.dtype;
  const Shape shape = {training.num_tokens, training.config.model_dim};
  return {random_normal_tensor(dtype, shape, device, 1, 0), random_normal_tensor(dtype, shape, device, 1, 1),
          Tensor(dtype, shape, device), Tensor(dtype, shape, device)};
}

void append_first_tokens(const Tensor& from, std::vector<double>& to) {
  const ConstTensorView all = from.view();
  const Shape shape = {std::min(all.size(0), kComparedTokens), all.size(1)};
  Tensor host(from.dtype(), shape);
  copy_blocking(host, ConstTensorView(all.data, all.dtype, shape, all.device));
  for (std::int64_t i = 0; i < host.num_elements(); ++i) to.push_back(host_element(host, i));
}

// Runs the steps of a layer that `forward` and `backward` call.
template <class Forward, class Backward>
TrainingMemory run_steps(const LayerTraining& training, DeviceMemoryPeak& memory, Device device,
                         const Forward& forward, const Backward& backward) {
  Tokens tokens = make_tokens(training, device);
  Stream stream(device);
  for (int step = 0; step < kMeasuredSteps; ++step) {
    forward(tokens, stream);
    stream.synchronize_blocking();
    memory.sample();
    backward(tokens, stream);
    stream.synchronize_blocking();
    memory.sample();
  }
  StreamTimer forward_timer(device);
  StreamTimer step_timer(device);
  std::vector<double> forward_us;
  std::vector<double> step_us;
  for (int step = 0; step < kTimedSteps; ++step) {
    forward_timer.start(stream);
    step_timer.start(stream);
    forward(tokens, stream);
    forward_timer.stop(stream);
    backward(tokens, stream);
    step_timer.stop(stream);
    stream.synchronize_blocking();
    forward_us.push_back(forward_timer.elapsed_us_blocking());
    step_us.push_back(step_timer.elapsed_us_blocking());
  }
  TrainingMemory result{
      .peak_bytes = memory.bytes(), .forward_us = median(forward_us), .training_us = median(step_us)};
  append_first_tokens(tokens.y, result.outputs);
  append_first_tokens(tokens.dx, result.outputs);
  return result;
}

TrainingMemory measure_flex(const LayerTraining& training, DeviceMemoryPeak& memory, Device device) {
  // A world of its own, since a layer that leaves by an exception ends its world.
  constexpr std::chrono::seconds kDeadline(60);
  TrainingMemory result;
  run_ranks({}, kDeadline, [&](Communicator& world) {
    RankContext context(world, device, {.allow_tf32 = training.allow_tf32});
    MoeLayer layer(training.config, context);
    const ForwardCall call{
        .top_k = training.top_k, .capacity_factor = training.capacity_factor, .equal_tokens = true};
    result = run_steps(
        training, memory, device,
        [&](Tokens& t, Stream& stream) { static_cast<void>(layer.forward(t.x, t.y, call, stream)); },
        [&](Tokens& t, Stream& stream) { layer.backward(t.dy, t.dx, kLossGradient, stream); });
  });
  return result;
}

TrainingMemory measure_einsum(const LayerTraining& training, DeviceMemoryPeak& memory, Device device) {
  GemmAlgorithms gemm(device, {.allow_tf32 = training.allow_tf32});
  GshardLayer layer(training.config, device, &gemm);
  return run_steps(
      training, memory, device,
      [&](Tokens& t, Stream& stream) {
        layer.forward(t.x, t.y, training.top_k, training.capacity_factor, stream);
      },
      [&](Tokens& t, Stream& stream) { layer.backward(t.dy, t.dx, kLossGradient, stream); });
}

}  // namespace

std::optional<TrainingMemory> measure_training_memory(const LayerTraining& training,
                                                      LayerFormulation formulation, Device device) {
  require(device.is_cuda(),
          "the memory of a layer is measured on a CUDA device, not on {}; use --device cuda:0",
          to_string(device));
  DeviceMemoryPeak memory(device);
  try {
    return formulation == LayerFormulation::kFlex ? measure_flex(training, memory, device)
                                                  : measure_einsum(training, memory, device);
  } catch (const OutOfMemoryError&) {
    return std::nullopt;
  }
}

}  // namespace flex
