#pragma once

#include <cstdint>
#include <filesystem>

#include "base/file_descriptor.h"
#include "traces/training_metrics.h"

namespace flex {

/// Writes the metrics of a run, line by line: each line is in the system's hands when add() returns, so that
/// a killed process loses at most the line that it was writing. One process writes a file at a time.
class MetricsLog {
 public:
  /// Begins the file anew if no steps are done. Else keeps its lines up to step `num_done`, as if the run had
  /// never gone further: what stands beyond is cut off in one move, a last line that was cut off is removed,
  /// and one that only lacks its end gets it. A file that is not there is begun.
  /// An evaluation after `num_done` steps is kept: it belongs before the checkpoint of those steps.
  /// @throws InputError if the file holds something else than metrics, which then stay; FileError.
  MetricsLog(const std::filesystem::path& path, std::int64_t num_done);

  /// Appends one line. @throws InputError for a step that does not come after the last one; FileError, after
  /// which nothing more may be added.
  void add(const StepMetrics& metrics);
  void add(const EvaluationMetrics& metrics);

 private:
  void append(const MetricsRecord& record, std::int64_t step, std::int64_t& last);

  std::filesystem::path path_;
  FileDescriptor file_;
  std::int64_t last_step_ = 0;         // of step lines
  std::int64_t last_evaluation_ = -1;  // of evaluation lines
};

}  // namespace flex
