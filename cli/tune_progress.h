#pragma once

#include <cstdint>
#include <vector>

#include "cli/progress.h"
#include "cli/tune_options.h"
#include "tuner/fastest_pair.h"
#include "tuner/search.h"

namespace flex::cli {

/// Progress over all layers and strategies, with the best pair so far of the present layer.
class TuneProgress {
 public:
  TuneProgress(std::size_t num_layers, const TuneOptions& options);

  void begin_layer(const TuningTarget& target, const TuneOptions& options);
  void update(StrategyKind strategy, const EvaluatedPlan& made);

 private:
  Passes passes_;
  std::size_t num_layers_;
  std::size_t num_strategies_;
  std::int64_t per_strategy_ = 1;
  std::size_t layers_begun_ = 0;
  std::size_t done_ = 0;
  std::vector<TimedPlan> timed_;
  Progress progress_{"tune", WhenInterrupted::kGoOn};
};

}  // namespace flex::cli
