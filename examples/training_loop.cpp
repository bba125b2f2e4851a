// The layer in a training loop of your own: two ranks fit a layer's output to targets by plain gradient
// descent, under another plan in every step. Switching moves no parameters, so the losses do not see it.
#include <fmt/format.h>

#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/random_tensor.h"

namespace {

constexpr std::int64_t kTokens = 64;  // of each rank
constexpr std::int64_t kModelDim = 16;
constexpr float kRate = 20;

/// Squared error of this rank's share, over the elements of all ranks, and its gradient by y.
double squared_error(const flex::Tensor& y, const flex::Tensor& target, flex::Tensor& dy, int world) {
  const auto count = static_cast<float>(y.num_elements() * world);
  double loss = 0;
  for (std::int64_t i = 0; i < y.num_elements(); ++i) {
    const float difference = y.as<float>()[i] - target.as<float>()[i];
    loss += static_cast<double>(difference * difference / count);
    dy.as<float>()[i] = 2 * difference / count;
  }
  return loss;
}

void train(flex::Communicator& world) {
  flex::RankContext context(world, flex::Device::cpu());
  flex::MoeLayer layer({.model_dim = kModelDim, .hidden_dim = 32, .num_experts = 4}, context);
  const flex::Shape shape = {kTokens, kModelDim};
  const auto rank = static_cast<std::uint64_t>(world.rank());
  const flex::Tensor x = flex::random_normal_tensor(flex::DType::kF32, shape, flex::Device::cpu(), 1, rank);
  const flex::Tensor target =
      flex::random_normal_tensor(flex::DType::kF32, shape, flex::Device::cpu(), 2, rank);
  flex::Tensor y(flex::DType::kF32, shape), dy(flex::DType::kF32, shape), dx(flex::DType::kF32, shape);
  flex::Stream stream(flex::Device::cpu());  // after the tensors that its work uses

  for (const char* text : {"r1 d1 linear", "r1 d2 linear", "r1 d4 2dh", "r0 d1 linear", "r1 d1 linear"}) {
    const flex::Plan plan = flex::parse_plan(text);
    layer.forward(x, y, {.top_k = 2, .capacity_factor = 0, .plans = {plan, plan}}, stream);
    stream.synchronize_blocking();
    const double loss = squared_error(y, target, dy, world.size());
    layer.backward(dy, dx, 0.01, stream);  // gradients of parameters are summed over the ranks in it
    stream.synchronize_blocking();
    for (flex::Parameter& parameter : layer.parameters().all()) {
      for (std::int64_t i = 0; i < parameter.value.num_elements(); ++i) {
        parameter.value.as<float>()[i] -= kRate * parameter.gradient.as<float>()[i];
      }
    }
    if (world.rank() == 0) fmt::print("{:13} squared error of rank 0: {:.5f}\n", text, loss);
  }
}

}  // namespace

int main() { flex::run_ranks({.world = 2, .ranks_per_node = 1}, std::chrono::seconds(60), train); }
