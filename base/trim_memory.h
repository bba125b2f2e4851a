#pragma once

namespace flex {

/// Gives back to the system what the allocator keeps of freed memory, where it knows how (glibc): what a
/// checkpoint or an evaluation took for a while stays with the arena of each thread that had it, and the
/// process would seem to grow until each of them has had its turn. Process-wide; some milliseconds.
void trim_memory() noexcept;

}  // namespace flex
