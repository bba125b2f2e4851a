#include "tuner/dictionary_policy.h"

#include <algorithm>
#include <optional>

#include "base/philox.h"
#include "base/require.h"
#include "tuner/dictionary_search.h"

namespace flex {
namespace {

/// Answers from what was observed. The search is not written to be interrupted: to find what it wants next,
/// it is run again over all that is known, and left by this exception where it asks for more.
class KnownEvaluator final : public Evaluator {
 public:
  struct Unknown {
    Plan plan;
  };

  explicit KnownEvaluator(const std::map<std::pair<Plan, Pass>, double>& known_us) : known_us_(known_us) {}
  [[nodiscard]] double elapsed_s() const override { return 0; }

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override {
    const auto found = known_us_.find({plan, pass});
    if (found == known_us_.end()) throw Unknown{plan};
    return {.duration_us = found->second, .source = EvaluationSource::kMeasured};
  }

  const std::map<std::pair<Plan, Pass>, double>& known_us_;
};

}  // namespace

DictionaryPolicy::Bucket& DictionaryPolicy::bucket_at(std::int64_t layer, const LayerLoad& load) {
  const auto [found, is_new] = buckets_.try_emplace(LayerBucket(layer, load));
  Bucket& bucket = found->second;
  if (is_new) {
    bucket.problem = search_problem(load.workload, context_.cluster, context_.passes);
    // The default plan is every search's first, even where it may not run.
    std::erase_if(bucket.problem.plans,
                  [&](const Plan& plan) { return plan != kDefaultPlan && !context_.allows(load, plan); });
    advance(bucket);
  }
  return bucket;
}

void DictionaryPolicy::advance(Bucket& bucket) {
  try {
    KnownEvaluator evaluator(bucket.known_us);
    bucket.next = DictionarySearch().search(bucket.problem, evaluator, {}, 0).best;
    bucket.has_ended = true;
  } catch (const KnownEvaluator::Unknown& unknown) {
    bucket.next = {unknown.plan, unknown.plan};
  }
}

PlanPair DictionaryPolicy::choose(std::int64_t layer, const LayerLoad& load) {
  const Bucket& bucket = bucket_at(layer, load);
  if (context_.allows(load, bucket.next)) return bucket.next;
  return {kDefaultPlan, kDefaultPlan};
}

void DictionaryPolicy::observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
                               const PassDurations& durations) {
  Bucket& bucket = bucket_at(layer, load);
  if (bucket.has_ended) return;
  constexpr double kUsPerNs = 1e-3;
  bool is_news = false;
  for (const auto& [pass, ns] :
       {std::pair{Pass::kForward, durations.forward_ns}, std::pair{Pass::kBackward, durations.backward_ns}}) {
    if (ns <= 0) continue;
    const double us = static_cast<double>(ns) * kUsPerNs;
    is_news |= bucket.known_us.try_emplace({plans.of(pass), pass}, us).second;
    hash_ = splitmix64(hash_ ^ LayerBucket(layer, load).hash() ^ stable_hash(plans.of(pass)) ^
                       static_cast<std::uint64_t>(ns));
  }
  if (is_news) advance(bucket);
}

}  // namespace flex
