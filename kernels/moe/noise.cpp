#include "kernels/moe/noise.h"

#include <cmath>

#include "base/philox.h"
#include "kernels/check.h"

namespace flex {

template <class T>
void add_gate_noise_cpu(const GateNoiseArgs& args) {
  const std::int64_t tokens = args.logits.size(0);
  const std::int64_t experts = args.logits.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      const double normal =
          gate_noise_normal(args.seed, args.iteration, args.layer, args.first_token + token, expert);
      // Summed in double and rounded once, so that the result does not depend on a fused multiply-add.
      const auto logit = static_cast<double>(args.logits.slice<T>(token)[expert]);
      args.noisy.slice<T>(token)[expert] = static_cast<T>(logit + args.stddev * normal);
    }
  }
}

template void add_gate_noise_cpu<float>(const GateNoiseArgs&);
template void add_gate_noise_cpu<double>(const GateNoiseArgs&);

void add_gate_noise(const GateNoiseArgs& args, Stream& stream) {
  const ArgumentCheck check("add_gate_noise", stream.device());
  const DType dtype = args.logits.dtype;
  check.require_gate_dtype("logits", dtype);
  check.tensor("logits", args.logits, dtype, {args.logits.size(0), args.logits.size(1)});
  check.tensor("noisy", args.noisy, dtype, args.logits.shape);
  require(std::isfinite(args.stddev) && args.stddev >= 0, "add_gate_noise: stddev is {}, expected 0 or more",
          args.stddev);
  require(args.first_token >= 0, "add_gate_noise: first_token is {}, expected 0 or more", args.first_token);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return add_gate_noise_cuda(args, stream);
#endif
  enqueue_as(dtype, stream, [args]<class T>() { add_gate_noise_cpu<T>(args); });
}

}  // namespace flex
