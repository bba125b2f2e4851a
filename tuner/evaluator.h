#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/plan.h"
#include "costmodel/workload.h"

namespace flex {

/// Where the duration of an evaluation comes from.
enum class EvaluationSource : std::uint8_t {
  kSimulated,  ///< a cost model's virtual clock
  kMeasured,   ///< the layer, on real ranks
  kRecorded,   ///< a measurement of an earlier run
};
/// `simulated`, `measured`, `recorded`.
[[nodiscard]] std::string_view name(EvaluationSource source);

/// What evaluating one plan for one pass gave.
struct Evaluation {
  double duration_us = 0;  ///< of one pass, the largest over ranks; 0 if it did not run
  /// One standard deviation of duration_us: how much it would scatter if it were evaluated again. 0: not at
  /// all, or not known.
  double spread_us = 0;
  std::vector<std::int64_t> samples_ns = {};  ///< that duration_us is the median of; rounded, if simulated
  EvaluationSource source = EvaluationSource::kSimulated;
  std::string why_not = {};  ///< why the plan could not run, in words; empty if it ran

  [[nodiscard]] bool ran() const { return why_not.empty(); }
  [[nodiscard]] std::int64_t num_samples() const { return static_cast<std::int64_t>(samples_ns.size()); }
  friend bool operator==(const Evaluation&, const Evaluation&) = default;
};

/// What samples of one plan and pass say together: their median, and the standard deviation of a median of so
/// many samples, from their median absolute deviation, so that outliers move neither.
/// @throws InputError for no samples, or one that is not above 0.
/// @source for normal samples: sigma is 1.4826 MAD, a median of n scatters by sqrt(pi / 2) sigma / sqrt(n)
[[nodiscard]] Evaluation evaluation_of(std::span<const std::int64_t> samples_ns, EvaluationSource source);

/// Times plans of one layer on one cluster: what a search spends its budget on.
///
/// Where an evaluation is collective, every rank runs the same search with the same seed on an evaluator of
/// its own: evaluations and elapsed_s() are then equal on all ranks, so that the searches decide alike.
class Evaluator {
 public:
  Evaluator() = default;
  virtual ~Evaluator() = default;
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// One pass with `plan`: the forward pass from the tokens on (route included), or the backward pass after a
  /// forward pass of the same r. A plan that cannot run is an answer, not an error. Counted whatever it says.
  /// @throws what the evaluator's means throw when they fail, e.g. CommError.
  [[nodiscard]] Evaluation evaluate(const Plan& plan, Pass pass);

  [[nodiscard]] std::int64_t num_evaluations() const { return num_evaluations_; }
  /// What evaluations have taken so far, for budgets of time: on the evaluator's own clock, which for a
  /// simulation is the virtual one. Infinite once searches are to end, whatever their budget.
  [[nodiscard]] virtual double elapsed_s() const = 0;

 private:
  [[nodiscard]] virtual Evaluation run(const Plan& plan, Pass pass) = 0;

  std::int64_t num_evaluations_ = 0;
};

}  // namespace flex
