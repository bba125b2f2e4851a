#pragma once

namespace flex {

/// Binds the calling thread, and the threads that it makes from then on, to one of the cores that it may run
/// on: the one at `index`, counted around. Ranks that are bound neither wake up on each other's core nor move
/// between cores, as under a launcher of MPI that binds ranks. Does nothing where the system cannot.
void bind_this_thread(int index) noexcept;

}  // namespace flex
