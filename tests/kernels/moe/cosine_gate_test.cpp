#include <cmath>
#include <numbers>

#include "kernels/moe/gate.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

/// All tensors of one cosine gate. T tokens, M model dim, P projection dim, E experts.
struct CosineGateCase {
  Tensor x, projector_weight, projector_bias, sim_matrix, temperature;
  Tensor projected, normalized_sim, logits;

  void run(Stream& stream) {
    cosine_gate({.x = x,
                 .projector_weight = projector_weight,
                 .projector_bias = projector_bias,
                 .sim_matrix = sim_matrix,
                 .temperature = temperature,
                 .projected = projected,
                 .normalized_sim = normalized_sim,
                 .logits = logits},
                stream);
    stream.synchronize_blocking();
  }
};

struct CosineGradients {
  Tensor dprojected, dprojector_weight, dprojector_bias, dsim_matrix, dtemperature, dx, workspace;
};

struct Sizes {
  std::int64_t tokens, model_dim, proj_dim, experts;
};

class CosineGate : public KernelTest {
 protected:
  CosineGateCase make_case(const Sizes& s, double temperature) {
    return {.x = random_real({s.tokens, s.model_dim}, 1),
            .projector_weight = random_gate_real({s.proj_dim, s.model_dim}, 2),
            .projector_bias = random_gate_real({s.proj_dim}, 3),
            .sim_matrix = random_gate_real({s.proj_dim, s.experts}, 4),
            .temperature = gate_real({1}, {temperature}),
            .projected = gate_output({s.tokens, s.proj_dim}),
            .normalized_sim = gate_output({s.proj_dim, s.experts}),
            .logits = gate_output({s.tokens, s.experts})};
  }

  CosineGradients backward(const CosineGateCase& forward, const Tensor& dlogits) {
    CosineGradients gradients = {.dprojected = gate_output(forward.projected.shape()),
                                 .dprojector_weight = gate_output(forward.projector_weight.shape()),
                                 .dprojector_bias = gate_output(forward.projector_bias.shape()),
                                 .dsim_matrix = gate_output(forward.sim_matrix.shape()),
                                 .dtemperature = gate_output({1}),
                                 .dx = real_output(forward.x.shape()),
                                 .workspace = bytes(cosine_gate_backward_workspace_bytes(
                                     forward.x.shape()[0], forward.x.shape()[1], forward.projected.shape()[1],
                                     forward.logits.shape()[1], device()))};
    cosine_gate_backward(backward_args(forward, dlogits, gradients), stream());
    wait();
    return gradients;
  }

  static CosineGateBackwardArgs backward_args(const CosineGateCase& forward, const Tensor& dlogits,
                                              CosineGradients& gradients) {
    return {.x = forward.x,
            .projector_weight = forward.projector_weight,
            .sim_matrix = forward.sim_matrix,
            .temperature = forward.temperature,
            .projected = forward.projected,
            .normalized_sim = forward.normalized_sim,
            .dlogits = dlogits,
            .dprojected = gradients.dprojected,
            .dprojector_weight = gradients.dprojector_weight,
            .dprojector_bias = gradients.dprojector_bias,
            .dsim_matrix = gradients.dsim_matrix,
            .dtemperature = gradients.dtemperature,
            .dx = gradients.dx,
            .workspace = gradients.workspace};
  }
};
class CosineGateGradient : public CosineGate {};

// p = (2, 1) * identity + (1, 3) = (3, 4), of norm 5; S has the columns (0, 2) and (-3, 4). The cosines are
// 4/5 and 7/25, the scale exp(ln 10).
TEST_P(CosineGate, MatchesHandWorkedExample) {
  CosineGateCase gate = make_case({1, 2, 2, 2}, std::numbers::ln10);
  assign(gate.x, {2, 1});
  assign(gate.projector_weight, {1, 0, 0, 1});
  assign(gate.projector_bias, {1, 3});
  assign(gate.sim_matrix, {0, -3, 2, 4});
  gate.run(stream());
  const double tolerance =
      16.0 * unit_roundoff(gate_type());  // a dozen operations, exp's condition number ln 10
  EXPECT_EQ(values_of(gate.projected), (std::vector<double>{3, 4}));
  EXPECT_TRUE(close(values_of(gate.normalized_sim), {0, -0.6, 1, 0.8}, tolerance));
  EXPECT_TRUE(close(values_of(gate.logits), {8, 2.8}, tolerance));
}

TEST_P(CosineGate, MatchesTheDefinitionForAllShapes) {
  for (const Sizes& s :
       {Sizes{0, 4, 3, 2}, {1, 1, 1, 1}, {5, 3, 7, 1}, {37, 19, 33, 11}, {65, 96, 256, 16}}) {
    CosineGateCase gate = make_case(s, 0.7);
    gate.run(stream());
    const std::vector<double> x = values_of(gate.x);
    const std::vector<double> weight = values_of(gate.projector_weight);
    const std::vector<double> bias = values_of(gate.projector_bias);
    const std::vector<double> sim = values_of(gate.sim_matrix);
    std::vector<double> expected;
    for (std::int64_t token = 0; token < s.tokens; ++token) {
      std::vector<double> p(bias);
      for (std::int64_t i = 0; i < s.proj_dim; ++i) {
        for (std::int64_t c = 0; c < s.model_dim; ++c)
          p[i] += weight[i * s.model_dim + c] * x[token * s.model_dim + c];
      }
      for (std::int64_t expert = 0; expert < s.experts; ++expert) {
        std::vector<double> column(s.proj_dim);
        for (std::int64_t i = 0; i < s.proj_dim; ++i) column[i] = sim[i * s.experts + expert];
        const double norms = std::sqrt(inner_product(p, p) * inner_product(column, column));
        expected.push_back(inner_product(p, column) / norms * std::exp(values_of(gate.temperature)[0]));
      }
    }
    // Two sums after each other, then a division by norms that are no smaller than the sums.
    const double tolerance = 2.0 * product_tolerance(gate_type(), s.model_dim + s.proj_dim);
    EXPECT_TRUE(close(values_of(gate.logits), expected, tolerance)) << s.tokens << " tokens";
  }
}

TEST_P(CosineGate, ScaleIsClampedAtOneHundred) {
  CosineGateCase gate = make_case({3, 4, 5, 2}, std::log(kMaxCosineScale));
  gate.run(stream());
  const std::vector<double> at_limit = values_of(gate.logits);
  assign(gate.temperature, {50.0});
  gate.run(stream());
  EXPECT_EQ(values_of(gate.logits), at_limit);
  const Tensor dlogits = random_gate_real({3, 2}, 6);
  EXPECT_EQ(values_of(backward(gate, dlogits).dtemperature), (std::vector<double>{0}));
}

TEST_P(CosineGate, FloorOfTheNormsKeepsZeroVectorsFinite) {
  CosineGateCase gate = make_case({2, 2, 2, 2}, 0.0);
  assign(gate.x, {0, 0, 1, 1});
  assign(gate.projector_bias, {0, 0});
  assign(gate.sim_matrix, {0, 1, 0, 1});  // expert 0 has the zero vector
  gate.run(stream());
  const std::vector<double> logits = values_of(gate.logits);
  EXPECT_EQ(logits[0], 0.0);
  EXPECT_EQ(logits[1], 0.0);
  EXPECT_EQ(logits[2], 0.0);
  const CosineGradients gradients = backward(gate, gate_real({2, 2}, {1, 1, 1, 1}));
  for (const Tensor* gradient : {&gradients.dprojected, &gradients.dsim_matrix, &gradients.dtemperature}) {
    for (const double value : values_of(*gradient)) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(CosineGate, BackwardAccumulatesOnRequest) {
  CosineGateCase gate = make_case({3, 4, 5, 2}, 0.3);
  gate.run(stream());
  const Tensor dlogits = random_gate_real({3, 2}, 6);
  CosineGradients gradients = backward(gate, dlogits);
  std::vector<double> expected = values_of(gradients.dx);
  for (double& value : expected) value *= 2.0;
  CosineGateBackwardArgs args = backward_args(gate, dlogits, gradients);
  args.accumulate_dx = true;
  cosine_gate_backward(args, stream());
  wait();
  EXPECT_TRUE(close(values_of(gradients.dx), expected, 2.0 * unit_roundoff(dtype())));
}

TEST_P(CosineGateGradient, MatchesFiniteDifferences) {
  for (const Sizes& s : {Sizes{5, 4, 6, 3}, {1, 1, 2, 1}, {3, 7, 2, 5}}) {
    CosineGateCase gate = make_case(s, 0.4);
    const Tensor dlogits = random_gate_real({s.tokens, s.experts}, 6);
    const auto loss = [&] {
      gate.run(stream());
      return inner_product(values_of(gate.logits), values_of(dlogits));
    };
    (void)loss();
    const CosineGradients gradients = backward(gate, dlogits);
    const auto check = [&](const Tensor& analytic, Tensor& variable) {
      return close(values_of(analytic), numeric_gradient(variable, loss), kFiniteDifferenceTolerance);
    };
    EXPECT_TRUE(check(gradients.dx, gate.x));
    EXPECT_TRUE(check(gradients.dprojector_weight, gate.projector_weight));
    EXPECT_TRUE(check(gradients.dprojector_bias, gate.projector_bias));
    EXPECT_TRUE(check(gradients.dsim_matrix, gate.sim_matrix));
    EXPECT_TRUE(check(gradients.dtemperature, gate.temperature));
  }
}

TEST_P(CosineGate, SaysWhatIsWrong) {
  CosineGateCase gate = make_case({3, 4, 5, 2}, 0.3);
  gate.temperature = gate_output({2});
  EXPECT_EQ(error_text([&] { gate.run(stream()); }), "cosine_gate: temperature is (2), expected (1)");
  gate.sim_matrix = gate_output({2, 5});
  EXPECT_EQ(error_text([&] { gate.run(stream()); }), "cosine_gate: sim_matrix is (2, 5), expected (5, 5)");
  gate.projector_bias = gate_output({4});
  EXPECT_EQ(error_text([&] { gate.run(stream()); }), "cosine_gate: projector_bias is (4), expected (5)");
  const Tensor dlogits = gate_output({3, 5});
  EXPECT_EQ(error_text([&] {
              (void)backward(make_case({3, 4, 5, 2}, 0.3), dlogits);
            }),
            "cosine_gate_backward: dlogits is (3, 5), expected (3, 2)");
}

INSTANTIATE_TEST_SUITE_P(Backends, CosineGate, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, CosineGateGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
