#pragma once

#include <functional>
#include <map>
#include <span>
#include <utility>

#include "tuner/search.h"

namespace flex {

/// Answers from what is known already, and asks another evaluator for the rest: a search that was stopped
/// goes on, and several searches of one layer share what they measure.
class ResumedEvaluator final : public Evaluator {
 public:
  using Listener = std::function<void(const EvaluatedPlan&)>;

  /// `on_new`, if any, is told each evaluation that `inner` made, at once. `inner` must live as long.
  /// Of several evaluations of one plan and pass the last is known.
  ResumedEvaluator(Evaluator& inner, std::span<const EvaluatedPlan> known, Listener on_new = {});

  /// Of new evaluations only.
  [[nodiscard]] double elapsed_s() const override { return inner_.elapsed_s(); }
  /// Evaluations that were not known.
  [[nodiscard]] std::int64_t num_new() const { return num_new_; }

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override;

  Evaluator& inner_;
  std::map<std::pair<Plan, Pass>, Evaluation> known_;
  Listener on_new_;
  std::int64_t num_new_ = 0;
};

}  // namespace flex
