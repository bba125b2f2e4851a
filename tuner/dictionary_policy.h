#pragma once

#include <map>
#include <unordered_map>
#include <utility>

#include "tuner/plain_policies.h"
#include "tuner/search.h"

/// Private to make_policy().
namespace flex {

/// The policy of the Tutel paper: a dictionary from a layer and floor(C / 128) to the state of a
/// DictionarySearch. Each iteration of a bucket whose search has not ended is its next evaluation, in both
/// passes; afterwards the bucket runs what the search found.
/// @source Hwang et al., "Tutel: Adaptive Mixture-of-Experts at Scale", MLSys 2023, arXiv 2206.03382v2
class DictionaryPolicy final : public PlanPolicy {
 public:
  explicit DictionaryPolicy(PolicyContext context) : context_(std::move(context)) {}

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
               const PassDurations& durations) override;
  [[nodiscard]] std::uint64_t state_hash() const override { return hash_; }

 private:
  struct Bucket {
    SearchProblem problem;  ///< at the bucket's first load
    std::map<std::pair<Plan, Pass>, double> known_us;
    PlanPair next;  ///< to run: what the search wants to know, then what it found
    bool has_ended = false;
  };

  Bucket& bucket_at(std::int64_t layer, const LayerLoad& load);
  /// Runs the search over what is known, up to the first evaluation that is not.
  static void advance(Bucket& bucket);

  PolicyContext context_;
  std::unordered_map<LayerBucket, Bucket, LayerBucket::Hash> buckets_;
  std::uint64_t hash_ = 0;
};

}  // namespace flex
