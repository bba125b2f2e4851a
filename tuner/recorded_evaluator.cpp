#include "tuner/recorded_evaluator.h"

#include "base/require.h"

namespace flex {

RecordedEvaluator::RecordedEvaluator(std::span<const RecordedPass> sweep, const Workload& workload) {
  for (const RecordedPass& one : sweep) {
    Workload wanted = workload;
    wanted.pass = one.workload.pass;
    if (one.workload != wanted) continue;
    const auto [known, is_new] = passes_.try_emplace({one.plan, one.workload.pass}, one);
    if (is_new) continue;
    RecordedPass& pass = known->second;
    pass.samples_ns.insert(pass.samples_ns.end(), one.samples_ns.begin(), one.samples_ns.end());
    if (pass.why_not.empty()) pass.why_not = one.why_not;
  }
  require(!passes_.empty(),
          "the sweep of {} recorded pass(es) has none of this workload: {} ranks, {} experts, {} tokens, "
          "capacity {}, {} x {}, {}",
          sweep.size(), workload.world, workload.num_experts, workload.num_tokens, workload.capacity,
          workload.model_dim, workload.hidden_dim, name(workload.dtype));
}

Evaluation RecordedEvaluator::run(const Plan& plan, Pass pass) {
  const auto found = passes_.find({plan, pass});
  if (found == passes_.end()) {
    return {.source = EvaluationSource::kRecorded,
            .why_not = fmt::format("the sweep has no {} pass with {}", name(pass), to_string(plan))};
  }
  const RecordedPass& one = found->second;
  if (!one.why_not.empty()) return {.source = EvaluationSource::kRecorded, .why_not = one.why_not};
  for (const std::int64_t ns : one.samples_ns) elapsed_s_ += static_cast<double>(ns) * 1e-9;
  return evaluation_of(one.samples_ns, EvaluationSource::kRecorded);
}

}  // namespace flex
