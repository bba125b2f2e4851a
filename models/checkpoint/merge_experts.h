#pragma once

#include <filesystem>
#include <vector>

#include "models/checkpoint/stored_tensor.h"

namespace flex {

/// Gives the experts' tensors that have several pieces, one of each rank, the shape of the whole. How many
/// experts there are follows from the layer's gate: ranks hold E / W experts each, or with W > E a slice of
/// one, of which that of the second bias may be padded. @throws InputError that names the tensor.
void merge_experts(std::vector<StoredTensor>& tensors, const std::filesystem::path& path);

}  // namespace flex
