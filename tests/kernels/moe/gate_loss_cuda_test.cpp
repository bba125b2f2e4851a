#include "tests/kernels/moe/cuda_parity.h"
#include "tests/kernels/moe/loss_case.h"

// Losses on the gate at the sizes of real layers.
namespace flex::testing {
namespace {

// Inputs that fp32 holds exactly; the choices stay those of the doubles.
LossInputs exact_inputs(std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  LossInputs inputs = random_loss_inputs(tokens, experts, top_k, 5);
  const auto round = [](const std::vector<double>& values) {
    return values_of(make_tensor({std::ssize(values)}, values, DType::kF32));
  };
  inputs.clean = round(inputs.clean);
  inputs.noise = round(inputs.noise);
  return inputs;
}

TEST(GateLossCuda, EqualsItsTwin) {
  FLEX_SKIP_WITHOUT_CUDA();
  struct Sizes {
    std::int64_t tokens, experts, top_k;
  };
  for (const Sizes& s :
       {Sizes{0, 3, 1}, {1, 1, 1}, {31, 2, 2}, {33, 7, 2}, {1000, 33, 3}, {4099, 64, 2}, {300, 300, 4}}) {
    const LossInputs inputs = exact_inputs(s.tokens, s.experts, s.top_k);
    const std::vector<double> before = random_exact(s.tokens * s.experts, 6, DType::kF32);
    for (const GateLossSettings& settings : kLossVariants) {
      SCOPED_TRACE(describe(settings, inputs));
      expect_parity(DType::kF32, [&](Side& side) -> Outputs {
        LossTensors tensors(inputs, side.gate_type(), side.device());
        Tensor dlogits = side.gate({s.tokens, s.experts}, before);
        tensors.run_sums(settings, side.stream());
        const double value = tensors.run_value(settings, side.stream());
        // dvalue T keeps the gradient as large as what it is added to.
        tensors.run_backward(settings, static_cast<double>(s.tokens), dlogits, side.stream());
        // Scores and noisy logits are rounded to fp32 on one side only; the load divides their difference by
        // the noise's deviation, at least 0.7 / E. All sums are in double.
        const double rounding = unit_roundoff(DType::kF32);
        const double load = 16.0 * static_cast<double>(s.experts) * rounding;
        return {{"sums", values_of(tensors.sums), 4.0 * load},
                {"value", {value}, 64.0 * load},
                {"dlogits", values_of(dlogits), 64.0 * load}};
      });
    }
  }
}

}  // namespace
}  // namespace flex::testing
