#include <algorithm>
#include <cmath>

#include "kernels/moe/gate.h"
#include "tests/kernels/moe/cuda_parity.h"

// Both gates and their gradients at the sizes of real layers.
namespace flex::testing {
namespace {

class GateCuda : public CudaParity {};

struct Sizes {
  std::int64_t tokens, model_dim, experts;
};
const std::vector<Sizes> kSizes = {{0, 16, 4},      {1, 8, 1},       {3, 33, 2},      {65, 264, 8},
                                   {63, 255, 9},    {200, 1032, 16}, {129, 40, 17},   {4096, 512, 32},
                                   {700, 2048, 64}, {515, 96, 256},  {2048, 4096, 2}, {77, 136, 300},
                                   {33900, 72, 34}};

// Sums of 32 channels are added up; a warp adds up sums of 16 tokens, every fourth of a slice's.
double logit_tolerance(const Sizes& s) {
  return chain_tolerance(DType::kF32, s.model_dim, s.model_dim / 32 + 8);
}
double dweight_tolerance(const Sizes& s) { return chain_tolerance(DType::kF32, s.tokens, s.tokens / 8 + 64); }

TEST_P(GateCuda, LinearGateEqualsItsTwin) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.model_dim, s.experts}));
    const auto x_values = random_exact(s.tokens * s.model_dim, 1, dtype());
    const auto weight_values = random_exact(s.experts * s.model_dim, 2, DType::kF32);
    expect_parity(dtype(), [&](Side& side) -> Outputs {
      const Tensor x = side.real({s.tokens, s.model_dim}, x_values);
      const Tensor weight = side.gate({s.experts, s.model_dim}, weight_values);
      Tensor logits = side.gate_output({s.tokens, s.experts});
      linear_gate({.x = x, .weight = weight, .logits = logits}, side.stream());
      side.stream().synchronize_blocking();
      return {{"logits", values_of(logits), logit_tolerance(s)}};
    });
  }
}

TEST_P(GateCuda, LinearGateBackwardEqualsItsTwin) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.model_dim, s.experts}));
    const auto x_values = random_exact(s.tokens * s.model_dim, 1, dtype());
    const auto weight_values = random_exact(s.experts * s.model_dim, 2, DType::kF32);
    const auto dlogits_values = random_exact(s.tokens * s.experts, 3, DType::kF32);
    for (const bool accumulate : {false, true}) {
      expect_parity(dtype(), [&](Side& side) -> Outputs {
        const Tensor x = side.real({s.tokens, s.model_dim}, x_values);
        const Tensor weight = side.gate({s.experts, s.model_dim}, weight_values);
        const Tensor dlogits = side.gate({s.tokens, s.experts}, dlogits_values);
        Tensor dweight = side.gate_output({s.experts, s.model_dim});
        Tensor dx = accumulate ? side.real(x.shape(), x_values) : side.real_output(x.shape());
        Tensor workspace =
            side.bytes(linear_gate_backward_workspace_bytes(s.tokens, s.model_dim, s.experts, side.device()));
        linear_gate_backward({.x = x,
                              .weight = weight,
                              .dlogits = dlogits,
                              .dweight = dweight,
                              .dx = dx,
                              .accumulate_dx = accumulate,
                              .workspace = workspace},
                             side.stream());
        side.stream().synchronize_blocking();
        return {{"dweight", values_of(dweight), dweight_tolerance(s)},
                {"dx", values_of(dx), chain_tolerance(dtype(), s.experts, s.experts)}};
      });
    }
  }
}

// A large mean leaves the sums large and the rounding of their terms visible: products must be exact to fp32.
TEST_P(GateCuda, LinearGateKeepsItsPrecisionUnderALargeMean) {
  const Sizes s = {300, 1024, 8};
  const auto x_values = random_exact(s.tokens * s.model_dim, 1, dtype(), 7.0, 9.0);
  const auto weight_values = random_exact(s.experts * s.model_dim, 2, DType::kF32, 0.9, 1.1);
  expect_parity(dtype(), [&](Side& side) -> Outputs {
    const Tensor x = side.real({s.tokens, s.model_dim}, x_values);
    const Tensor weight = side.gate({s.experts, s.model_dim}, weight_values);
    Tensor logits = side.gate_output({s.tokens, s.experts});
    linear_gate({.x = x, .weight = weight, .logits = logits}, side.stream());
    side.stream().synchronize_blocking();
    // All terms have one sign: (additions) u of the sum; TF32, with u = 2^-11, would not pass.
    return {{"logits", values_of(logits), (1024.0 / 32 + 16) * unit_roundoff(DType::kF32)}};
  });
}

// Factors of 1 plus a few 2^-20 beside small integers of alternating sign, which leave the few 2^-20 only.
// All of it is exact in fp32, and none of the 2^-20 would be left by TF32 or by a single bf16 part.
TEST_P(GateCuda, LinearGateAndItsGradientSeeTheLastBitsOfTheirFactors) {
  const Sizes s = {96, 64, 40};
  const auto perturbed = [](std::int64_t count, std::uint64_t seed) {
    std::vector<double> values = random_uniform(count, seed, -15.0, 15.0);
    for (double& value : values) value = 1.0 + 0x1p-20 * std::round(value);
    return values;
  };
  // Integers of a (rows, columns) array whose neighbours along the columns, or the rows, add up to zero.
  const auto alternating = [](std::int64_t rows, std::int64_t columns, bool along_rows) {
    std::vector<double> values;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < columns; ++column) {
        const std::int64_t along = along_rows ? row : column;
        const std::int64_t across = along_rows ? column : row;
        const auto size = static_cast<double>(1 + (along / 2 * 5 + across * 3) % 4);
        values.push_back(along % 2 == 0 ? size : -size);
      }
    }
    return values;
  };
  expect_parity(dtype(), [&](Side& side) -> Outputs {
    const Tensor weight = side.gate({s.experts, s.model_dim}, perturbed(s.experts * s.model_dim, 1));
    const Tensor x = side.real({s.tokens, s.model_dim}, alternating(s.tokens, s.model_dim, false));
    Tensor logits = side.gate_output({s.tokens, s.experts});
    linear_gate({.x = x, .weight = weight, .logits = logits}, side.stream());

    const Tensor dlogits = side.gate(logits.shape(), perturbed(s.tokens * s.experts, 2));
    const Tensor other_weight = side.gate(weight.shape(), alternating(s.experts, s.model_dim, true));
    const Tensor other_x = side.real(x.shape(), alternating(s.tokens, s.model_dim, true));
    Tensor dweight = side.gate_output(weight.shape());
    Tensor dx = side.real_output(x.shape());
    Tensor workspace =
        side.bytes(linear_gate_backward_workspace_bytes(s.tokens, s.model_dim, s.experts, side.device()));
    linear_gate_backward({.x = other_x,
                          .weight = other_weight,
                          .dlogits = dlogits,
                          .dweight = dweight,
                          .dx = dx,
                          .workspace = workspace},
                         side.stream());
    side.stream().synchronize_blocking();
    return {{"logits", values_of(logits), unit_roundoff(DType::kF32)},
            {"dweight", values_of(dweight), unit_roundoff(DType::kF32)},
            {"dx", values_of(dx), 2.0 * unit_roundoff(dtype())}};
  });
}

// Single products: nothing averages a missing part of a factor out.
TEST_P(GateCuda, SingleProductsAreThoseOfFp32) {
  const double fp32 = 8.0 * unit_roundoff(DType::kF32);  // of which four are truncations on the way
  expect_parity(dtype(), [&](Side& side) -> Outputs {
    const Tensor x = side.real({40, 1}, random_exact(40, 1, dtype(), 1.0, 2.0));
    const Tensor weight = side.gate({8, 1}, random_exact(8, 2, DType::kF32, 1.0, 2.0));
    Tensor logits = side.gate_output({40, 8});
    linear_gate({.x = x, .weight = weight, .logits = logits}, side.stream());

    const Tensor row = side.real({1, 48}, random_exact(48, 3, dtype(), 1.0, 2.0));
    const Tensor row_weight = side.gate({1, 48}, random_exact(48, 4, DType::kF32, 1.0, 2.0));
    const Tensor dlogits = side.gate({1, 1}, random_exact(1, 5, DType::kF32, 1.0, 2.0));
    Tensor dweight = side.gate_output({1, 48});
    Tensor dx = side.real_output({1, 48});
    Tensor workspace = side.bytes(linear_gate_backward_workspace_bytes(1, 48, 1, side.device()));
    linear_gate_backward({.x = row,
                          .weight = row_weight,
                          .dlogits = dlogits,
                          .dweight = dweight,
                          .dx = dx,
                          .workspace = workspace},
                         side.stream());
    side.stream().synchronize_blocking();
    // A 16-bit gradient is taken to 3 * 2^-16 and rounded.
    const double narrow = unit_roundoff(dtype()) + 3.0 * 0x1p-16;
    return {{"logits", values_of(logits), fp32},
            {"dweight", values_of(dweight), fp32},
            {"dx", values_of(dx), dtype() == DType::kF32 ? fp32 : narrow}};
  });
}

struct CosineSizes {
  std::int64_t tokens, model_dim, proj_dim, experts;
};

double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (const double value : values) result = std::max(result, std::fabs(value));
  return result;
}

// A stored (n, k) matrix, or the transpose of a (k, n) one.
struct Rows {
  const std::vector<double>& values;
  std::int64_t n, k;
  bool transposed = false;
  [[nodiscard]] double at(std::int64_t row, std::int64_t column) const {
    return values[transposed ? column * n + row : row * k + column];
  }
  [[nodiscard]] double norm(std::int64_t row) const {
    double sum = 0.0;
    for (std::int64_t c = 0; c < k; ++c) sum += at(row, c) * at(row, c);
    return std::sqrt(sum);
  }
};

// The gradient of a row v by way of u = v / |v|, for a gradient g of u, is (g - <u, g> u) / |v|: nothing is
// left of it where g and v are parallel, as vectors of one element always are. The largest element of the
// first term, where g = weights others, with rows of `others` normalized if `normalize`.
double largest_term(const Rows& v, const Rows& weights, const Rows& others, bool normalize) {
  std::vector<double> inverse_norms;
  for (std::int64_t i = 0; i < others.n; ++i)
    inverse_norms.push_back(normalize ? 1.0 / std::max(others.norm(i), kCosineNormFloor) : 1.0);
  double result = 0.0;
  for (std::int64_t row = 0; row < v.n; ++row) {
    const double norm = std::max(v.norm(row), kCosineNormFloor);
    for (std::int64_t c = 0; c < v.k; ++c) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < others.n; ++i)
        sum += weights.at(row, i) * others.at(i, c) * inverse_norms[static_cast<std::size_t>(i)];
      result = std::max(result, std::fabs(sum) / norm);
    }
  }
  return result;
}

TEST_P(GateCuda, CosineGateAndItsGradientEqualTheirTwins) {
  for (const CosineSizes& s :
       {CosineSizes{0, 8, 4, 2}, {1, 8, 1, 1}, {1, 8, 2, 1}, {37, 33, 19, 5}, {1000, 512, 256, 32}}) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.model_dim, s.proj_dim, s.experts}));
    const auto x_values = random_exact(s.tokens * s.model_dim, 1, dtype());
    const auto weight_values = random_exact(s.proj_dim * s.model_dim, 2, DType::kF32);
    const auto bias_values = random_exact(s.proj_dim, 3, DType::kF32);
    const auto sim_values = random_exact(s.proj_dim * s.experts, 4, DType::kF32);
    const auto dlogits_values = random_exact(s.tokens * s.experts, 5, DType::kF32);
    expect_parity(dtype(), [&](Side& side) -> Outputs {
      const Tensor x = side.real({s.tokens, s.model_dim}, x_values);
      const Tensor weight = side.gate({s.proj_dim, s.model_dim}, weight_values);
      const Tensor bias = side.gate({s.proj_dim}, bias_values);
      const Tensor sim = side.gate({s.proj_dim, s.experts}, sim_values);
      constexpr double kTemperature = 0.6875;
      const Tensor temperature = side.gate({1}, {kTemperature});
      const Tensor dlogits = side.gate({s.tokens, s.experts}, dlogits_values);
      Tensor projected = side.gate_output({s.tokens, s.proj_dim});
      Tensor normalized_sim = side.gate_output(sim.shape());
      Tensor logits = side.gate_output(dlogits.shape());
      cosine_gate({.x = x,
                   .projector_weight = weight,
                   .projector_bias = bias,
                   .sim_matrix = sim,
                   .temperature = temperature,
                   .projected = projected,
                   .normalized_sim = normalized_sim,
                   .logits = logits},
                  side.stream());
      Tensor dprojected = side.gate_output(projected.shape());
      Tensor dweight = side.gate_output(weight.shape());
      Tensor dbias = side.gate_output(bias.shape());
      Tensor dsim = side.gate_output(sim.shape());
      Tensor dtemperature = side.gate_output({1});
      Tensor dx = side.real_output(x.shape());
      Tensor workspace = side.bytes(
          cosine_gate_backward_workspace_bytes(s.tokens, s.model_dim, s.proj_dim, s.experts, side.device()));
      cosine_gate_backward({.x = x,
                            .projector_weight = weight,
                            .sim_matrix = sim,
                            .temperature = temperature,
                            .projected = projected,
                            .normalized_sim = normalized_sim,
                            .dlogits = dlogits,
                            .dprojected = dprojected,
                            .dprojector_weight = dweight,
                            .dprojector_bias = dbias,
                            .dsim_matrix = dsim,
                            .dtemperature = dtemperature,
                            .dx = dx,
                            .workspace = workspace},
                           side.stream());
      side.stream().synchronize_blocking();
      // Chains of sums over M, P and E follow each other, and twice the cancellation of a normalization's
      // gradient, by the terms that cancel; then a sum over the tokens. dtemperature is one sum of all
      // logits' terms, whose size is that of its largest partial sums.
      const double forward =
          4.0 * chain_tolerance(DType::kF32, s.model_dim + s.proj_dim, (s.model_dim + s.proj_dim) / 32 + 8);
      const double backward = 4.0 * forward + chain_tolerance(DType::kF32, s.experts, s.experts);
      const double summed = backward + chain_tolerance(DType::kF32, s.tokens, s.tokens / 8 + 64);
      const std::vector<double> p = values_of(projected);
      const std::vector<double> v = values_of(normalized_sim);
      const double scale = std::exp(kTemperature);
      const Rows dlogits_by_token = {dlogits_values, s.tokens, s.experts};
      const Rows dlogits_by_expert = {dlogits_values, s.experts, s.tokens, true};
      const double p_terms = scale * largest_term({p, s.tokens, s.proj_dim}, dlogits_by_token,
                                                  {v, s.experts, s.proj_dim, true}, false);
      const double sim_terms = scale * largest_term({sim_values, s.experts, s.proj_dim, true},
                                                    dlogits_by_expert, {p, s.tokens, s.proj_dim}, true);
      return {{"projected", values_of(projected), forward},
              {"normalized_sim", values_of(normalized_sim), forward},
              {"logits", values_of(logits), forward},
              {"dprojected", values_of(dprojected), backward, p_terms},
              {"dprojector_weight", values_of(dweight), summed, p_terms * largest(x_values)},
              {"dprojector_bias", values_of(dbias), summed, p_terms},
              {"dsim_matrix", values_of(dsim), summed, sim_terms},
              {"dtemperature", values_of(dtemperature), 16.0 * summed},
              {"dx", values_of(dx), backward + chain_tolerance(dtype(), s.proj_dim, s.proj_dim),
               p_terms * largest(weight_values)}};
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GateCuda, ::testing::ValuesIn(kCudaTypes), dtype_name);

}  // namespace
}  // namespace flex::testing
