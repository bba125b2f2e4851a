#include "tuner/tune.h"

#include <algorithm>

#include "base/require.h"
#include "tuner/resumed_evaluator.h"

namespace flex {
namespace {

/// Tells who asks what a strategy evaluates.
class WatchedEvaluator final : public Evaluator {
 public:
  WatchedEvaluator(Evaluator& inner, const TuneSettings& settings, StrategyKind strategy)
      : inner_(inner), settings_(settings), strategy_(strategy) {}

  [[nodiscard]] double elapsed_s() const override { return inner_.elapsed_s(); }

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override {
    EvaluatedPlan made{plan, pass, inner_.evaluate(plan, pass)};
    if (settings_.on_evaluation) settings_.on_evaluation(strategy_, made);
    return std::move(made.evaluation);
  }

  Evaluator& inner_;
  const TuneSettings& settings_;
  StrategyKind strategy_;
};

}  // namespace

const StrategyResult& TuneResult::best() const {
  return *std::ranges::min_element(strategies, {}, [this](const StrategyResult& result) {
    return std::pair(total_us(evaluated, result.search.best, passes), !result.search.complete);
  });
}

TuneResult tune(const TuningTarget& target, Evaluator& evaluator, std::span<const EvaluatedPlan> known,
                TuningCache* cache, const CostModel& costs, const TuneSettings& settings) {
  require(!settings.strategies.empty(), "tune: name at least one search strategy");
  TuneResult result{.passes = target.problem.passes};
  const auto keep = [&](const EvaluatedPlan& one) {
    if (one.evaluation.ran()) result.evaluated.push_back({one.plan, one.pass, one.evaluation.duration_us});
  };
  std::ranges::for_each(known, keep);
  ResumedEvaluator resumed(evaluator, known, [&](const EvaluatedPlan& one) {
    keep(one);
    if (cache != nullptr) record_evaluation(*cache, target, one, settings.conditions);
  });
  for (const StrategyKind kind : settings.strategies) {
    const std::int64_t known_before = resumed.num_new();
    WatchedEvaluator watched(resumed, settings, kind);
    SearchResult found =
        make_strategy(kind, costs)->search(target.problem, watched, settings.budget, settings.seed);
    result.strategies.push_back({kind, std::move(found), resumed.num_new() - known_before});
  }
  const StrategyResult& best = result.best();
  if (const auto baseline = missing_baseline(target.problem, best.search)) {
    static_cast<void>(resumed.evaluate(*baseline, Pass::kBackward));
  }
  if (cache != nullptr) {
    record_decisions(*cache, target, best.search, std::string(name(best.strategy)));
  }
  return result;
}

}  // namespace flex
