#include "tuner/evaluator.h"

namespace flex {

std::string_view name(EvaluationSource source) {
  switch (source) {
    case EvaluationSource::kSimulated:
      return "simulated";
    case EvaluationSource::kMeasured:
      return "measured";
    case EvaluationSource::kRecorded:
      return "recorded";
  }
  return "?";
}

Evaluation Evaluator::evaluate(const Plan& plan, Pass pass) {
  ++num_evaluations_;
  return run(plan, pass);
}

}  // namespace flex
