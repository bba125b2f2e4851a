#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

/// Arguments of add_gate_noise. T tokens of this rank, E experts.
struct GateNoiseArgs {
  ConstTensorView logits;  ///< (T, E) in the gate's type
  TensorView noisy;        ///< (T, E) out; may alias logits
  double stddev = 0.0;     ///< gate_noise / E
  std::uint64_t seed = 0;
  std::uint64_t iteration = 0;
  std::uint32_t layer = 0;
  std::int64_t first_token = 0;  ///< global index of this rank's token 0
};

/// noisy = logits + stddev * N(0, 1), drawn by Philox4x32-10 from (seed, iteration, layer, global token,
/// expert) alone, so that neither the number of ranks nor the plan changes what is drawn (base/philox.h has
/// the mapping). The normal is computed in double on every device.
void add_gate_noise(const GateNoiseArgs& args, Stream& stream);

template <class T>
void add_gate_noise_cpu(const GateNoiseArgs& args);

#ifdef FLEX_HAS_CUDA
void add_gate_noise_cuda(const GateNoiseArgs& args, Stream& stream);
#endif

}  // namespace flex
