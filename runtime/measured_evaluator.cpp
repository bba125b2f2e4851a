#include "runtime/measured_evaluator.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "base/require.h"
#include "costmodel/plan_space.h"
#include "runtime/max_over_ranks.h"

namespace flex {

void validate(const MeasurementSettings& settings) {
  require(settings.num_warmup >= 0, "{} warm-up passes; there are zero or more", settings.num_warmup);
  require(settings.min_repeats >= 1 && settings.max_repeats >= settings.min_repeats,
          "from {} to {} repeats; the first is at least 1, and the second no less", settings.min_repeats,
          settings.max_repeats);
  require(settings.relative_half_width >= 0, "a relative half width of {}; it is 0 or more",
          settings.relative_half_width);
  require(settings.max_seconds >= 0, "at most {} seconds for a plan; they are 0 or more",
          settings.max_seconds);
}

MeasuredEvaluator::MeasuredEvaluator(const LayerShape& shape, const MoeConfig& config, RankContext& context,
                                     Stream& stream, MeasurementSettings settings)
    : context_(context),
      settings_((validate(settings), std::move(settings))),
      layer_(shape, config, settings_.seed, context, stream) {
  static_cast<void>(layer_.time_blocking({}));
  load_ = layer_.load();
}

double MeasuredEvaluator::elapsed_s() const {
  return stopped_ ? std::numeric_limits<double>::infinity() : elapsed_s_;
}

Evaluation MeasuredEvaluator::run(const Plan& plan, Pass pass) {
  if (auto why_not = why_illegal(plan, load_.workload, context_.cluster())) {
    return {.source = EvaluationSource::kMeasured, .why_not = *std::move(why_not)};
  }
  if (const auto kept = kept_.extract({plan, pass})) return kept.mapped();
  const Measured measured = measure_blocking(plan);
  const Pass other = pass == Pass::kForward ? Pass::kBackward : Pass::kForward;
  kept_.insert_or_assign({plan, other}, measured.of(other));
  return measured.of(pass);
}

MeasuredEvaluator::Measured MeasuredEvaluator::measure_blocking(const Plan& plan) {
  const double begin_s = elapsed_s_;
  warm_up_blocking(plan);
  std::vector<std::int64_t> forward_ns;
  std::vector<std::int64_t> backward_ns;
  Measured measured;
  for (int repeat = 1; repeat <= settings_.max_repeats; ++repeat) {
    const PassTimes times = time_blocking(plan);
    forward_ns.push_back(times.forward_ns);
    backward_ns.push_back(times.backward_ns);
    if (repeat < settings_.min_repeats) continue;
    measured = {.forward = evaluation_of(forward_ns, EvaluationSource::kMeasured),
                .backward = evaluation_of(backward_ns, EvaluationSource::kMeasured)};
    if (stopped_ || elapsed_s_ - begin_s >= settings_.max_seconds) break;
    if (is_narrow(measured.forward) && is_narrow(measured.backward)) break;
  }
  return measured;
}

void MeasuredEvaluator::warm_up_blocking(const Plan& plan) {
  GemmAlgorithms* gemm = context_.gemm();
  if (gemm != nullptr) gemm->set_tune_unseen(true);
  for (int pass = 0; pass < settings_.num_warmup; ++pass) static_cast<void>(time_blocking(plan));
  if (gemm != nullptr) gemm->set_tune_unseen(false);
}

PassTimes MeasuredEvaluator::time_blocking(const Plan& plan) {
  const std::int64_t begin_ns = steady_now_ns();
  const PassTimes own = layer_.time_blocking({plan, plan});
  const bool wants_stop = settings_.should_stop && settings_.should_stop();
  // One exchange for all that ranks must know alike.
  std::array<std::int64_t, 4> agreed = {own.forward_ns, own.backward_ns, steady_now_ns() - begin_ns,
                                        wants_stop ? 1 : 0};
  max_over_ranks_blocking(agreed, context_.control());
  elapsed_s_ += static_cast<double>(agreed[2]) * 1e-9;
  stopped_ = stopped_ || agreed[3] != 0;
  return {.forward_ns = agreed[0], .backward_ns = agreed[1]};
}

bool MeasuredEvaluator::is_narrow(const Evaluation& evaluation) const {
  constexpr double kHalfWidthInSpreads = 1.96;  // 95% of a normal distribution
  return kHalfWidthInSpreads * evaluation.spread_us <= settings_.relative_half_width * evaluation.duration_us;
}

}  // namespace flex
