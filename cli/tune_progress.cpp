#include "cli/tune_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/figures.h"

namespace flex::cli {

TuneProgress::TuneProgress(std::size_t num_layers, const TuneOptions& options)
    : passes_(options.passes()), num_layers_(num_layers), num_strategies_(strategies_of(options).size()) {}

void TuneProgress::begin_layer(const TuningTarget& target, const TuneOptions& options) {
  const SearchBudget budget = budget_of(options);
  per_strategy_ = std::min(target.problem.num_candidates(), budget.max_evaluations);
  timed_.clear();
  done_ = layers_begun_++ * num_strategies_ * static_cast<std::size_t>(per_strategy_);
}

void TuneProgress::update(StrategyKind strategy, const EvaluatedPlan& made) {
  ++done_;
  if (made.evaluation.ran()) timed_.push_back({made.plan, made.pass, made.evaluation.duration_us});
  const auto best = fastest_pair(timed_, passes_);
  const std::size_t total = num_layers_ * num_strategies_ * static_cast<std::size_t>(per_strategy_);
  progress_.update(static_cast<int>(std::min(done_, total)), static_cast<int>(total),
                   best
                       ? fmt::format("{}: {} {}", name(strategy), to_string(*best), format_us(best->total_us))
                       : std::string(name(strategy)));
}

}  // namespace flex::cli
