#include <list>

#include "kernels/nn/adamw.h"
#include "kernels/nn/gradient_norm.h"
#include "tests/kernels/nn/parity.h"

namespace flex::testing {
namespace {

class SquaredNorms : public KernelTest {};
class Adamw : public KernelTest {};
class OptimizerParity : public Parity {};

// A trained tensor with all that belongs to it, gradients in the backend's type.
struct Trained {
  Tensor gradient, parameter, first, second, average, narrow;

  Trained(const Side& side, const std::vector<double>& gradients, const std::vector<double>& parameters)
      : gradient(side.real({std::ssize(gradients)}, gradients)),
        parameter(side.gate({std::ssize(gradients)}, parameters)),
        first(side.gate(gradient.shape(), std::vector<double>(gradients.size(), 0.0))),
        second(side.gate(gradient.shape(), std::vector<double>(gradients.size(), 0.0))),
        average(side.gate(gradient.shape(), parameters)) {
    if (side.real_type() == DType::kF16 || side.real_type() == DType::kBF16)
      narrow = side.real_output(gradient.shape());
  }
  [[nodiscard]] TrainedTensor views(bool decays = true, int group = 0) {
    TrainedTensor tensor = {.gradient = gradient,
                            .parameter = parameter,
                            .first_moment = first,
                            .second_moment = second,
                            .average = average,
                            .decays = decays,
                            .norm_group = group};
    if (narrow.shape().rank() > 0) tensor.narrow = narrow;
    return tensor;
  }
};

// Squares of 3, 4 and of 2; the last tensor is in no group.
TEST_P(SquaredNorms, MatchHandWorkedExample) {
  const Side side(device(), dtype());
  Trained a(side, {3, 4}, {0, 0});
  Trained b(side, {2}, {0});
  Trained c(side, {100}, {0});
  const TrainedTensors tensors({a.views(true, 1), b.views(true, 0), c.views(true, TrainedTensor::kNoGroup)},
                               device());
  Tensor sums = poisoned_tensor({2}, DType::kF64, device());
  Tensor norm = poisoned_tensor({1}, DType::kF64, device());
  Tensor scale = poisoned_tensor({1}, DType::kF64, device());
  Tensor workspace = bytes(squared_norms_workspace_bytes(tensors));
  const auto run = [&](double max_norm, double loss_scale) {
    squared_norms({.tensors = &tensors, .sums = sums, .workspace = workspace}, stream());
    gradient_scale(
        {.sums = sums, .max_norm = max_norm, .loss_scale = loss_scale, .norm = norm, .scale = scale},
        stream());
    wait();
  };
  run(1.0, 1.0);
  const double root = std::sqrt(29.0);
  EXPECT_EQ(values_of(sums), (std::vector<double>{4, 25}));
  EXPECT_TRUE(close(values_of(norm), {root}, 1e-15));
  EXPECT_TRUE(close(values_of(scale), {1.0 / (root + 1e-6)}, 1e-15));
  run(0.0, 4.0);
  EXPECT_TRUE(close(values_of(norm), {root / 4.0}, 1e-15));
  EXPECT_TRUE(close(values_of(scale), {0.25}, 1e-15));
  run(100.0, 4.0);
  EXPECT_TRUE(close(values_of(scale), {0.25}, 1e-15));

  assign(a.gradient, {3, std::numeric_limits<double>::infinity()});
  run(1.0, 1.0);
  EXPECT_TRUE(std::isnan(values_of(scale)[0]));
}

TEST_P(SquaredNorms, SayWhatIsWrong) {
  const Side side(device(), dtype());
  Trained trained(side, {3, 4}, {0, 0});
  const TrainedTensors tensors({trained.views()}, device());
  Tensor two = poisoned_tensor({2}, DType::kF64, device());
  Tensor one = poisoned_tensor({1}, DType::kF64, device());
  EXPECT_EQ(error_text([&] { squared_norms({.sums = one}, stream()); }), "squared_norms: tensors is missing");
  EXPECT_EQ(error_text([&] { squared_norms({.tensors = &tensors, .sums = two}, stream()); }),
            "squared_norms: sums is (2), expected (1)");
  const GradientScaleArgs good = {.sums = two, .norm = one, .scale = one};
  const auto text = [&](auto change) {
    GradientScaleArgs args = good;
    change(args);
    return error_text([&] { gradient_scale(args, stream()); });
  };
  EXPECT_EQ(text([](GradientScaleArgs& a) { a.max_norm = -1.0; }),
            "gradient_scale: max_norm is -1, expected 0 or more");
  EXPECT_EQ(text([](GradientScaleArgs& a) { a.loss_scale = 0.0; }),
            "gradient_scale: loss_scale is 0, expected more than 0");
  EXPECT_EQ(text([&](GradientScaleArgs& a) { a.norm = two; }), "gradient_scale: norm is (2), expected (1)");
  if (device().is_cpu()) return;
  EXPECT_EQ(error_text([&] { squared_norms({.tensors = &tensors, .sums = one}, stream()); }),
            "squared_norms: workspace is missing, expected (0)");
}

// First step: both corrections undo the decays, so that the step is lr * sign of the gradient. With a decay
// of 0.5 and a rate of 0.25, a parameter of 1 keeps 0.875 of itself.
TEST_P(Adamw, MatchesHandWorkedExample) {
  const Side side(device(), dtype());
  Trained decayed(side, {2, -4}, {1, 1});
  Trained free(side, {8}, {1});
  const TrainedTensors tensors({decayed.views(true), free.views(false)}, device());
  const Tensor scale = make_tensor({1}, {0.5}, DType::kF64, device());
  Tensor step = make_tensor({1}, {0}, DType::kI64, device());
  adamw({.tensors = &tensors,
         .learning_rate = 0.25,
         .weight_decay = 0.5,
         .epsilon = 0.0,
         .average_decay = 0.5,
         .scale = scale,
         .step = step},
        stream());
  wait();
  const double tolerance = 16.0 * unit_roundoff(gate_type());
  EXPECT_TRUE(close(values_of(decayed.parameter), {0.625, 1.125}, tolerance));
  EXPECT_TRUE(close(values_of(free.parameter), {0.75}, tolerance));
  EXPECT_TRUE(close(values_of(decayed.first), {0.1, -0.2}, tolerance));
  EXPECT_TRUE(close(values_of(decayed.second), {0.001, 0.004}, tolerance));
  EXPECT_TRUE(close(values_of(free.average), {0.875}, tolerance));
  EXPECT_EQ(values_of(step), (std::vector<double>{1}));
}

TEST_P(Adamw, ChangesNothingWhereAGradientIsNotFinite) {
  const Side side(device(), dtype());
  Trained trained(side, {2, -4}, {1, 1});
  const TrainedTensors tensors({trained.views()}, device());
  const Tensor scale = make_tensor({1}, {std::numeric_limits<double>::quiet_NaN()}, DType::kF64, device());
  Tensor step = make_tensor({1}, {5}, DType::kI64, device());
  adamw({.tensors = &tensors, .learning_rate = 0.25, .weight_decay = 0.5, .scale = scale, .step = step},
        stream());
  wait();
  EXPECT_EQ(values_of(trained.parameter), (std::vector<double>{1, 1}));
  EXPECT_EQ(values_of(trained.first), (std::vector<double>{0, 0}));
  EXPECT_EQ(values_of(step), (std::vector<double>{5}));
}

// Three steps over tensors of one element, of whole chunks, and of a chunk and a bit.
TEST_P(OptimizerParity, MatchesTheTwin) {
  const std::vector<std::int64_t> counts = {1, 0, 7, TrainedTensors::kChunk, 2 * TrainedTensors::kChunk + 13};
  expect_parity_of("AdamW", [&](Side& side) {
    std::list<Trained> trained;
    std::vector<TrainedTensor> views;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      trained.emplace_back(side, exact(counts[i], i + 1), exact_gate(counts[i], i + 11));
      views.push_back(trained.back().views(i % 2 == 0, static_cast<int>(i % 3)));
    }
    const TrainedTensors tensors(views, side.device());
    Tensor sums = poisoned_tensor({tensors.num_groups()}, DType::kF64, side.device());
    Tensor norm = poisoned_tensor({1}, DType::kF64, side.device());
    Tensor scale = poisoned_tensor({1}, DType::kF64, side.device());
    Tensor step = make_tensor({1}, {0}, DType::kI64, side.device());
    Tensor workspace = side.bytes(squared_norms_workspace_bytes(tensors));
    for (int i = 0; i < 3; ++i) {
      squared_norms({.tensors = &tensors, .sums = sums, .workspace = workspace}, side.stream());
      gradient_scale({.sums = sums, .max_norm = 3.0, .norm = norm, .scale = scale}, side.stream());
      adamw({.tensors = &tensors,
             .learning_rate = 0.01,
             .weight_decay = 0.1,
             .average_decay = 0.9,
             .scale = scale,
             .step = step},
            side.stream());
    }
    side.stream().synchronize_blocking();
    // Some roundings a step of values of order 1. Sums are in double, of at most 5e4 terms of one sign.
    const double tolerance = 64.0 * unit_roundoff(DType::kF32);
    Outputs outputs = {{"sums", values_of(sums), 1e-11}, {"scale", values_of(scale), 1e-11}};
    for (const Trained& t : trained) {
      outputs.push_back({"parameter", values_of(t.parameter), tolerance});
      outputs.push_back({"first moment", values_of(t.first), tolerance});
      outputs.push_back({"second moment", values_of(t.second), tolerance});
      outputs.push_back({"average", values_of(t.average), tolerance});
      // The twin has no narrow copy: its parameter stands for it.
      const bool has_narrow = t.narrow.shape().rank() > 0;
      outputs.push_back({"narrow", values_of(has_narrow ? t.narrow : t.parameter),
                         tolerance + (has_narrow ? unit_roundoff(dtype()) : 0.0)});
    }
    return outputs;
  });
}

TEST_P(Adamw, SaysWhatIsWrong) {
  const Side side(device(), dtype());
  Trained trained(side, {2, -4}, {1, 1});
  const auto list_text = [&](auto change) {
    TrainedTensor tensor = trained.views();
    change(tensor);
    return error_text([&] { const TrainedTensors tensors({tensor}, device()); });
  };
  EXPECT_EQ(list_text([](TrainedTensor& t) { t.first_moment.shape = {3}; }),
            "TrainedTensors: tensor 0: first_moment is (3), expected (2)");
  EXPECT_EQ(list_text([](TrainedTensor& t) { t.norm_group = -2; }),
            "TrainedTensors: tensor 0: norm_group is -2, expected -1 or more");
  EXPECT_EQ(list_text([](TrainedTensor& t) { t.gradient.dtype = DType::kI32; }),
            "TrainedTensors: tensor 0: gradient is i32; " + to_string(device()) + " computes in " +
                (device().is_cpu() ? "fp32 and fp64" : "fp32, fp16 and bf16"));
  if (device().is_cpu()) {
    EXPECT_EQ(list_text([](TrainedTensor& t) { t.narrow = t.parameter; }),
              "TrainedTensors: tensor 0: narrow is given, but has no use on the CPU");
  }
  const TrainedTensors tensors({trained.views()}, device());
  const Tensor scale = make_tensor({1}, {1}, DType::kF64, device());
  Tensor step = make_tensor({1}, {0}, DType::kI64, device());
  EXPECT_EQ(error_text([&] { adamw({.scale = scale, .step = step}, stream()); }),
            "adamw: tensors is missing");
  EXPECT_EQ(
      error_text([&] { adamw({.tensors = &tensors, .beta1 = 1.0, .scale = scale, .step = step}, stream()); }),
      "adamw: betas are 1 and 0.999, expected 0 to less than 1");
  EXPECT_EQ(error_text([&] {
              adamw({.tensors = &tensors, .average_decay = 2.0, .scale = scale, .step = step}, stream());
            }),
            "adamw: average_decay is 2, expected 0 to 1");
  EXPECT_EQ(error_text([&] { adamw({.tensors = &tensors, .scale = step, .step = step}, stream()); }),
            "adamw: scale is i64, expected fp64");
}

INSTANTIATE_TEST_SUITE_P(Backends, SquaredNorms, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, Adamw, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, OptimizerParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
