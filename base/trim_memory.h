#pragma once

namespace flex {

/// Gives back to the system what the allocator keeps of freed memory, where it knows how (glibc): what a
/// checkpoint or an evaluation took for a while stays with the arena of each thread that had it, and the
/// process would seem to grow until each of them has had its turn. Process-wide; some milliseconds.
void trim_memory() noexcept;

/// From now on blocks of 64 KiB and more come from the system and go back to it when they are freed. The
/// allocator would raise that bound with each larger block that is freed, and keep them. For programs that
/// run for days, at their start. Process-wide.
void return_large_blocks() noexcept;

}  // namespace flex
