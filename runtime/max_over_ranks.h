#pragma once

#include <cstdint>
#include <span>

#include "runtime/communicator.h"

namespace flex {

/// Replaces each number by its largest over the ranks of `communicator`, in one exchange of host numbers.
/// Collective, with as many numbers on every rank. @throws CommError.
void max_over_ranks_blocking(std::span<std::int64_t> numbers, Communicator& communicator);
/// Whether `mine` is true on any rank. Collective. @throws CommError.
[[nodiscard]] bool any_rank_blocking(bool mine, Communicator& communicator);

}  // namespace flex
