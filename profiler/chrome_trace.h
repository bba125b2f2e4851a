#pragma once

#include <filesystem>
#include <span>

#include "profiler/span.h"

namespace flex {

/// Writes a timeline that Perfetto and chrome://tracing open: one process for each rank of each process group
/// (groups in the order in which they first appear, then ranks), one track for each of its streams (in the
/// order of first appearance), one complete event for each span. Spans of one stream that overlap get further
/// tracks, named `compute (2)` and so on, since complete events of one track must nest. Times are written in
/// microseconds with all nanoseconds. The file appears whole or not at all.
/// @throws InputError for a span that ends before it begins, or has a name that is not UTF-8; FileError.
/// @source Trace Event Format, "Complete Events" and "Metadata Events"
void write_chrome_trace(const std::filesystem::path& path, std::span<const Span> spans);

}  // namespace flex
