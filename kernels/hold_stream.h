#pragma once

#include "kernels/stream.h"

namespace flex {

/// Keeps `stream` busy for about `us` microseconds and does nothing else: what is queued behind it begins
/// when the host is that far ahead. On CUDA one thread waits; on the CPU the stream's worker sleeps.
/// @throws InputError for less than 0 or more than 1 s.
void hold_stream(Stream& stream, double us);

void hold_stream_cuda(Stream& stream, double us);

}  // namespace flex
