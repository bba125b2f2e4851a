#pragma once

#include <string>
#include <vector>

#include "traces/training_metrics.h"

/// The metrics of training runs (docs/training.md), as a report shows them.
namespace flex {

struct ReportRun {
  std::string name;  ///< its file
  TrainingMetrics metrics;
};

/// Runs that are drawn over each other.
struct TrainingDocument {
  std::vector<ReportRun> runs;  ///< at least one, each with a line at least
};

}  // namespace flex
