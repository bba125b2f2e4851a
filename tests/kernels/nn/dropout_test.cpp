#include "kernels/nn/dropout.h"

#include <cmath>
#include <iterator>

#include "kernels/nn/dropout_words.h"
#include "tests/kernels/nn/parity.h"

namespace flex::testing {
namespace {

class Dropout : public KernelTest {};
class DropoutParity : public Parity {};

constexpr double kRate = 0.25;

// Computed by a separate program in Python from the mapping that the header states. A change here changes
// every training run with dropout.
TEST(DropoutWords, MappingIsPinned) {
  const auto words = [](const PhiloxBlock& block) {
    return std::vector<std::uint32_t>(std::begin(block.words), std::end(block.words));
  };
  EXPECT_EQ(words(dropout_words(0, 0, 0, 0, 0)),
            (std::vector<std::uint32_t>{0xfaadd8fd, 0xefa8ade3, 0xec257c5c, 0xce6bda56}));
  EXPECT_EQ(words(dropout_words(42, (std::uint64_t{5} << 32) + 7, 3, (std::int64_t{1} << 40) + 1000, 5)),
            (std::vector<std::uint32_t>{0x95725a7b, 0x0841e706, 0x406b45ab, 0x0c647338}));
}

// x of ones: each element is 0 or 1 / (1 - p), some of both, and p of them 0.
TEST_P(Dropout, KeepsTheMean) {
  constexpr std::int64_t kRows = 100;
  constexpr std::int64_t kChannels = 48;
  constexpr double kCount = kRows * kChannels;
  const Tensor x = real({kRows, kChannels}, std::vector<double>(kRows * kChannels, 3.0));
  Tensor y = real_output({kRows, kChannels});
  dropout({.x = x, .y = y, .rate = kRate, .seed = 1, .iteration = 2, .layer = 3}, stream());
  wait();
  int dropped = 0;
  for (const double value : values_of(y)) {
    EXPECT_TRUE(value == 0 || value == 4) << value;
    dropped += value == 0 ? 1 : 0;
  }
  // Four standard deviations.
  EXPECT_NEAR(dropped, kCount * kRate, 4 * std::sqrt(kCount * kRate * (1 - kRate)));
}

// What a rank drops of its rows is what one rank drops of all.
TEST_P(Dropout, DependsOnTheGlobalRowAlone) {
  for (const std::int64_t channels : {5, 16}) {
    const Tensor ones = real({6, channels}, std::vector<double>(static_cast<std::size_t>(6 * channels), 1.0));
    Tensor all = real_output({6, channels});
    Tensor part = real_output({2, channels});
    DropoutArgs args{.x = ones, .y = all, .rate = 0.5, .seed = 1, .iteration = 2, .layer = 3};
    dropout(args, stream());
    args.x = ConstTensorView(ones.view().data, dtype(), {2, channels}, device());
    args.y = part;
    args.first_row = 4;
    dropout(args, stream());
    wait();
    const std::vector<double> expected = values_of(all);
    EXPECT_EQ(values_of(part), std::vector<double>(expected.end() - 2 * channels, expected.end()));
  }
}

TEST_P(Dropout, DrawsAnewForEachSeedIterationAndLayer) {
  const Tensor ones = real({4, 16}, std::vector<double>(64, 1.0));
  const DropoutArgs first{.x = ones, .rate = 0.5, .seed = 1, .iteration = 2, .layer = 3};
  const auto drawn = [&](DropoutArgs args) {
    Tensor y = real_output({4, 16});
    args.y = y;
    dropout(args, stream());
    wait();
    return values_of(y);
  };
  DropoutArgs seed = first;
  seed.seed = 2;
  DropoutArgs iteration = first;
  iteration.iteration = 3;
  DropoutArgs layer = first;
  layer.layer = 4;
  EXPECT_EQ(drawn(first), drawn(first));
  for (const DropoutArgs& other : {seed, iteration, layer}) EXPECT_NE(drawn(first), drawn(other));
}

TEST_P(Dropout, WithoutARateCopies) {
  const Tensor x = real({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor y = real_output({2, 3});
  dropout({.x = x, .y = y}, stream());
  wait();
  EXPECT_EQ(values_of(y), values_of(x));
}

TEST_P(DropoutParity, MatchesTheTwin) {
  for (const Shape& shape : {Shape{0, 5}, Shape{1, 1}, Shape{6, 7}, Shape{30, 96}, Shape{577, 512}}) {
    for (const double rate : {0.1, 0.9}) {
      expect_parity_of(to_string(shape), [&](Side& side) {
        const Tensor x = side.real(shape, exact(shape.num_elements(), 1));
        Tensor y = side.real_output(shape);
        dropout({.x = x, .y = y, .rate = rate, .seed = 7, .iteration = std::uint64_t{5} << 32, .layer = 2},
                side.stream());
        side.stream().synchronize_blocking();
        // The factor and the product are rounded in fp32, and the result to the type.
        return Outputs{{"y", values_of(y), unit_roundoff(dtype()) + 2.0 * unit_roundoff(DType::kF32)}};
      });
    }
  }
}

TEST_P(Dropout, SaysWhatIsWrong) {
  const Tensor x = real({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor y = real_output({2, 3});
  Tensor small = real_output({2, 2});
  EXPECT_EQ(error_text([&] { dropout({.x = x, .y = small}, stream()); }),
            "dropout: y is (2, 2), expected (2, 3)");
  EXPECT_EQ(error_text([&] { dropout({.x = x, .y = y, .rate = 1}, stream()); }),
            "dropout: rate is 1, expected at least 0 and below 1");
  EXPECT_EQ(error_text([&] { dropout({.x = x, .y = y, .first_row = -1}, stream()); }),
            "dropout: first_row is -1, expected at least 0");
}

INSTANTIATE_TEST_SUITE_P(Backends, Dropout, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, DropoutParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
