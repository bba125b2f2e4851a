#pragma once

#include <cstdint>

#include "models/model_parameters.h"
#include "runtime/rank_context.h"

namespace flex {

/// 64-bit hash of the bits of all parameters that every rank holds alike (not the experts'), after it was
/// compared over the ranks: a guard against ranks that drift apart. Waits for nothing that is queued: the
/// parameters must be at rest. Collective; exchanges one number unless something is wrong.
/// @throws Error, alike on all ranks, that names the first parameter in which ranks differ and the first rank
/// that differs from most others (of two ranks: from rank 0); CommError.
[[nodiscard]] std::uint64_t parameter_hash_blocking(const ModelParameters& parameters, RankContext& context);

}  // namespace flex
