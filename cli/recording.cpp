#include "cli/recording.h"

#include <fmt/format.h>

#include <cstdio>

namespace flex::cli {

void end_recording(TraceRecorder& recorder, const std::string& file) {
  const std::optional<TraceTrailer> trailer = recorder.close();
  if (!trailer) return;
  fmt::print(stderr, "recorded {} passes in {}{}\n", trailer->num_records, file,
             trailer->num_dropped == 0 ? "" : fmt::format("; {} were dropped", trailer->num_dropped));
}

}  // namespace flex::cli
