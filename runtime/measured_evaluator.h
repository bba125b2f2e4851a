#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "kernels/stream.h"
#include "runtime/timed_layer.h"
#include "tuner/evaluator.h"

namespace flex {

/// How long a plan is measured. The same on all ranks, but for should_stop.
struct MeasurementSettings {
  int num_warmup = 2;    ///< passes before the first repeat of a plan
  int min_repeats = 5;   ///< at least 1
  int max_repeats = 50;  ///< at least min_repeats
  /// Repeats end once half the 95% confidence interval of the median is at most this fraction of the median,
  /// forward and backward both.
  double relative_half_width = 0.02;
  double max_seconds = 10;  ///< of one plan: repeats beyond min_repeats are not begun later
  std::uint64_t seed = 1;   ///< of the tokens
  /// Asked on every rank after each pass, e.g. for a signal; one rank's yes counts for all. Null: never.
  std::function<bool()> should_stop;
};
/// @throws InputError naming the first setting that cannot be.
void validate(const MeasurementSettings& settings);

/// Times plans by running them: one layer on random tokens, on the ranks of a context. Collective: every rank
/// makes the same calls, and gets the same evaluations.
///
/// One training pass, forward and backward with the same plan, measures both at once. What it says of the
/// pass that was not asked for is kept for when it is, once: that costs no time. A sample is the longest that
/// any rank took.
///
/// Once should_stop() has said yes, elapsed_s() is infinite, so that a search on any budget of time is over
/// and returns what it has, cut short. What is evaluated nevertheless takes min_repeats and no more: there
/// are no evaluations by halves.
class MeasuredEvaluator final : public Evaluator {
 public:
  /// Runs the default plan once, to know the load. `shape` says what `config` does not; where both do, they
  /// agree. With shape.capacity_factor <= 0 the routing is dropless. `stream` must outlive it.
  /// @throws InputError for settings, or a layer, that cannot be on these ranks.
  MeasuredEvaluator(const LayerShape& shape, const MoeConfig& config, RankContext& context, Stream& stream,
                    MeasurementSettings settings = {});

  /// What every pass runs at, agreed.
  [[nodiscard]] const LayerLoad& load() const { return load_; }
  /// Of the forward pass: the largest T, and C.
  [[nodiscard]] const Workload& workload() const { return load_.workload; }
  [[nodiscard]] const MeasurementSettings& settings() const { return settings_; }
  /// True once a rank's should_stop() said yes.
  [[nodiscard]] bool stopped() const { return stopped_; }
  /// What passes have taken so far, agreement included, warm-up too; infinite once stopped(). Equal on all
  /// ranks.
  [[nodiscard]] double elapsed_s() const override;

 private:
  /// Both passes of one plan.
  struct Measured {
    Evaluation forward;
    Evaluation backward;

    [[nodiscard]] const Evaluation& of(Pass pass) const {
      return pass == Pass::kForward ? forward : backward;
    }
  };

  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override;
  [[nodiscard]] Measured measure_blocking(const Plan& plan);
  /// One pass, the longest of the ranks; counts its time and asks whether to stop.
  [[nodiscard]] PassTimes time_blocking(const Plan& plan);
  void warm_up_blocking(const Plan& plan);
  [[nodiscard]] bool is_narrow(const Evaluation& evaluation) const;

  RankContext& context_;
  MeasurementSettings settings_;
  TimedLayer layer_;
  LayerLoad load_;
  std::map<std::pair<Plan, Pass>, Evaluation> kept_;  ///< measured beside what was asked for
  double elapsed_s_ = 0;
  bool stopped_ = false;
};

}  // namespace flex
