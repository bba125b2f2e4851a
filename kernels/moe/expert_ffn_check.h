#pragma once

#include "kernels/moe/expert_ffn.h"

/// What the front doors of expert_ffn.h and grouped_ffn.h check. Private to them.
namespace flex {

/// @throws InputError, beginning with `kernel`, for shapes that disagree, and for a CUDA device without a
/// GemmAlgorithms of that device.
void check_expert_ffn(std::string_view kernel, const ExpertFfnArgs& args, Device device);
void check_expert_ffn(std::string_view kernel, const ExpertFfnBackwardDataArgs& args, Device device);
void check_expert_ffn_fc1(std::string_view kernel, const ExpertFfnBackwardWeightsArgs& args, Device device);
void check_expert_ffn_fc2(std::string_view kernel, const ExpertFfnBackwardWeightsArgs& args, Device device);

}  // namespace flex
