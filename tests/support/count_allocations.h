#pragma once

#include <cstdint>

namespace flex::testing {

/// Calls of malloc, calloc, realloc, aligned_alloc and posix_memalign so far, from any thread of this
/// process. Counted only in programs that compile count_allocations.cpp in, which takes the place of the C
/// library's entry points.
[[nodiscard]] std::int64_t num_allocations();

}  // namespace flex::testing
