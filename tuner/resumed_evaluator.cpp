#include "tuner/resumed_evaluator.h"

namespace flex {

ResumedEvaluator::ResumedEvaluator(Evaluator& inner, std::span<const EvaluatedPlan> known, Listener on_new)
    : inner_(inner), on_new_(std::move(on_new)) {
  for (const EvaluatedPlan& one : known) known_.insert_or_assign({one.plan, one.pass}, one.evaluation);
}

Evaluation ResumedEvaluator::run(const Plan& plan, Pass pass) {
  const auto found = known_.find({plan, pass});
  if (found != known_.end()) return found->second;
  ++num_new_;
  const EvaluatedPlan made{plan, pass, inner_.evaluate(plan, pass)};
  known_.emplace(std::pair(plan, pass), made.evaluation);
  if (on_new_) on_new_(made);
  return made.evaluation;
}

}  // namespace flex
