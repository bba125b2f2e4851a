#pragma once

#include <cstdint>

/// What a program of the performance guard does: defined once by each, called once.

/// What must be there before, and is not counted.
void prepare_work();

/// The same work in every run, in one thread. Callgrind counts its instructions and those of all that it
/// calls, by this name. How much was done, so that no compiler leaves it out.
[[gnu::noinline]] std::int64_t measured_work();
