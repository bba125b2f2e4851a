#pragma once

#include <string>

#include "runtime/trace_recorder.h"

namespace flex::cli {

/// Ends the file of a recording; rank 0 says on stderr what is in it. @throws FileError.
void end_recording(TraceRecorder& recorder, const std::string& file);

}  // namespace flex::cli
