#pragma once

#include <cstdint>

#include "runtime/moe_layer.h"

namespace flex {

/// |y - exact| / |exact| over `num_tokens` tokens spread over x, where exact is computed in double on the
/// host from x, the parameters, and the choices and gate weights of the layer's last forward pass, whose
/// capacity is `capacity`: a check of the output at sizes where a whole second computation would take too
/// long. Linear gate weights are taken as they are. One rank, so that it holds all experts; waits for the
/// device.
[[nodiscard]] double sampled_output_error(MoeLayer& layer, const ConstTensorView& x, const ConstTensorView& y,
                                          std::int64_t capacity, std::int64_t num_tokens);

}  // namespace flex
