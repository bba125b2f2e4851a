#include "kernels/nn/cross_entropy.h"

#include "tests/kernels/nn/parity.h"
#include "tests/support/finite_difference.h"

namespace flex::testing {
namespace {

class CrossEntropy : public KernelTest {};
class CrossEntropyGradient : public KernelTest {};
class CrossEntropyParity : public Parity {};

// Logits of (0, ln 3): probabilities 1/4 and 3/4; the second sample's are halves.
TEST_P(CrossEntropy, MatchesHandWorkedExample) {
  const Tensor logits = real({2, 2}, {0, std::log(3.0), 5, 5});
  const Tensor labels = ints({2}, {0, 1});
  Tensor losses = gate_output({2});
  Tensor loss = gate_output({1});
  Tensor dlogits = real_output({2, 2});
  CrossEntropyArgs args = {
      .logits = logits, .labels = labels, .losses = losses, .loss = loss, .dlogits = dlogits};
  // ln 3 is rounded to the type: an error of u of its size in the loss.
  const double tolerance = 8.0 * unit_roundoff(dtype());
  cross_entropy(args, stream());
  wait();
  EXPECT_TRUE(close(values_of(losses), {std::log(4.0), std::log(2.0)}, tolerance));
  EXPECT_TRUE(close(values_of(loss), {std::log(8.0) / 2.0}, tolerance));
  EXPECT_TRUE(close(values_of(dlogits), {-0.375, 0.375, 0.25, -0.25}, tolerance));
  args.batch = 4;
  args.dloss = 8.0;
  cross_entropy(args, stream());
  wait();
  EXPECT_TRUE(close(values_of(loss), {std::log(8.0) / 4.0}, tolerance));
  EXPECT_TRUE(close(values_of(dlogits), {-1.5, 1.5, 1, -1}, tolerance));
}

// A smoothing of 1/2 makes targets of (3/4, 1/4), which are also given as such.
TEST_P(CrossEntropy, SmoothsTargets) {
  const Tensor logits = real({1, 2}, {0, std::log(3.0)});
  const Tensor labels = ints({1}, {0});
  const Tensor targets = gate_real({1, 2}, {0.75, 0.25});
  Tensor losses = gate_output({1});
  Tensor loss = gate_output({1});
  Tensor dlogits = real_output({1, 2});
  CrossEntropyArgs args = {.logits = logits,
                           .labels = labels,
                           .label_smoothing = 0.5,
                           .losses = losses,
                           .loss = loss,
                           .dlogits = dlogits};
  const double expected = 0.75 * std::log(4.0) + 0.25 * std::log(4.0 / 3.0);
  const double tolerance = 8.0 * unit_roundoff(dtype());
  cross_entropy(args, stream());
  wait();
  EXPECT_TRUE(close(values_of(loss), {expected}, tolerance));
  EXPECT_TRUE(close(values_of(dlogits), {-0.5, 0.5}, tolerance));
  args.labels = {};
  args.targets = targets;
  args.label_smoothing = 0.0;
  cross_entropy(args, stream());
  wait();
  EXPECT_TRUE(close(values_of(loss), {expected}, tolerance));
  EXPECT_TRUE(close(values_of(dlogits), {-0.5, 0.5}, tolerance));
}

TEST_P(CrossEntropyGradient, MatchesFiniteDifferences) {
  Tensor logits = random_real({3, 5}, 1);
  const Tensor targets = random_tensor({3, 5}, 2, dtype(), device(), 0.0, 1.0);  // of any sum
  Tensor losses = real_output({3});
  Tensor loss = real_output({1});
  Tensor dlogits = real_output({3, 5});
  const auto run = [&] {
    cross_entropy({.logits = logits,
                   .targets = targets,
                   .label_smoothing = 0.1,
                   .losses = losses,
                   .loss = loss,
                   .dlogits = dlogits,
                   .dloss = 2.0},
                  stream());
    wait();
    return 2.0 * values_of(loss)[0];
  };
  run();
  const auto gradient = values_of(dlogits);
  EXPECT_TRUE(close(gradient, numeric_gradient(logits, run), kFiniteDifferenceTolerance));
}

struct Sizes {
  std::int64_t samples, classes;
};
const std::vector<Sizes> kSizes = {{1, 1}, {0, 5}, {3, 7}, {5, 1000}, {4, 1003}, {2, 21841}};

TEST_P(CrossEntropyParity, MatchesTheTwin) {
  for (const Sizes& s : kSizes) {
    for (const bool soft : {false, true}) {
      expect_parity_of(to_string(Shape{s.samples, s.classes}), [&](Side& side) {
        const Shape shape = {s.samples, s.classes};
        std::vector<double> labels(static_cast<std::size_t>(s.samples));
        for (std::size_t i = 0; i < labels.size(); ++i)
          labels[i] = static_cast<double>((7919 * static_cast<std::int64_t>(i + 1)) % s.classes);
        const Tensor logits = side.real(shape, exact(s.samples * s.classes, 1, -8.0, 8.0));
        const double weight = 2.0 / static_cast<double>(s.classes);  // targets that sum up to about 1
        const Tensor targets = side.gate(shape, exact_gate(s.samples * s.classes, 2, 0.0, weight));
        const Tensor label_tensor = side.ints({s.samples}, labels);
        Tensor losses = side.gate_output({s.samples});
        Tensor loss = side.gate_output({1});
        Tensor dlogits = side.real_output(shape);
        CrossEntropyArgs args = {.logits = logits,
                                 .label_smoothing = 0.1,
                                 .batch = s.samples + 2,
                                 .losses = losses,
                                 .loss = loss,
                                 .dlogits = dlogits};
        if (soft) {
          args.targets = targets;
        } else {
          args.labels = label_tensor;
        }
        cross_entropy(args, side.stream());
        side.stream().synchronize_blocking();
        // Sums of K terms of one sign; logits of 8 are off by 8 u of 1 when they are subtracted.
        const double sums = static_cast<double>(s.classes + 32) * unit_roundoff(DType::kF32);
        return Outputs{{"losses", values_of(losses), sums, 8.0},
                       {"loss", values_of(loss), sums, 8.0},
                       {"dlogits", values_of(dlogits), 2.0 * sums + 2.0 * unit_roundoff(dtype())}};
      });
    }
  }
}

TEST_P(CrossEntropy, SaysWhatIsWrong) {
  const Tensor logits = real({2, 2}, {0, 1, 2, 3});
  const Tensor labels = ints({2}, {0, 1});
  Tensor losses = gate_output({2});
  Tensor loss = gate_output({1});
  const CrossEntropyArgs good = {.logits = logits, .labels = labels, .losses = losses, .loss = loss};
  const auto text = [&](auto change) {
    CrossEntropyArgs args = good;
    change(args);
    return error_text([&] { cross_entropy(args, stream()); });
  };
  EXPECT_EQ(text([](CrossEntropyArgs& a) { a.labels = {}; }),
            "cross_entropy: expected either labels or targets");
  EXPECT_EQ(text([&](CrossEntropyArgs& a) { a.targets = logits; }),
            "cross_entropy: expected either labels or targets");
  EXPECT_EQ(text([](CrossEntropyArgs& a) { a.label_smoothing = 1.5; }),
            "cross_entropy: label_smoothing is 1.5, expected 0 to 1");
  EXPECT_EQ(text([](CrossEntropyArgs& a) { a.batch = 1; }),
            "cross_entropy: a batch of 1 does not hold 2 samples");
  EXPECT_EQ(text([](CrossEntropyArgs& a) { a.labels.dtype = DType::kI64; }),
            "cross_entropy: labels is i64, expected i32");
  EXPECT_EQ(text([](CrossEntropyArgs& a) {
              a.logits = a.logits.reshaped({2, 0});
            }),
            "cross_entropy: logits is (2, 0), expected classes");
}

INSTANTIATE_TEST_SUITE_P(Backends, CrossEntropy, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, CrossEntropyGradient, ::testing::ValuesIn(double_backend()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, CrossEntropyParity, ::testing::ValuesIn(compared_backends()),
                         backend_name);

}  // namespace
}  // namespace flex::testing
