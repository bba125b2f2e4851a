#include "costmodel/rank_loads.h"

#include <algorithm>
#include <numeric>

#include "base/require.h"

namespace flex {
namespace {

// All products but the gate's.
bool is_expert_product(const Operation& operation) {
  return operation.size.batch > 0 && operation.kind != OperationKind::kGate &&
         operation.kind != OperationKind::kGateBackward;
}

}  // namespace

void RankLoads::bind(const Schedule& schedule, std::span<const std::int64_t> counts,
                     std::int64_t usual_count) {
  require(usual_count >= 0, "the usual count is {}; it is zero or more", usual_count);
  schedule_ = &schedule;
  counts_ = counts;
  usual_count_ = usual_count;
  shape_ = plan_shape(schedule.workload, schedule.plan);
  if (counts.empty()) return;
  check_counts();
  const Workload& w = schedule.workload;
  const auto experts = static_cast<std::size_t>(w.num_experts);
  largest_count_.assign(experts, 0);
  tokens_.clear();
  for (std::size_t source = 0; source < static_cast<std::size_t>(w.world); ++source) {
    const std::span<const std::int64_t> row = counts.subspan(source * experts, experts);
    for (std::size_t e = 0; e < experts; ++e) largest_count_[e] = std::max(largest_count_[e], row[e]);
    const std::int64_t choices = std::accumulate(row.begin(), row.end(), std::int64_t{0});
    require(choices % w.top_k == 0, "counts of rank {}: {} choices are no multiple of top_k {}", source,
            choices, w.top_k);
    tokens_.push_back(choices / w.top_k);
    require(tokens_.back() <= w.num_tokens, "counts of rank {}: {} tokens are more than the workload's {}",
            source, tokens_.back(), w.num_tokens);
  }
}

void RankLoads::check_counts() const {
  const Workload& w = schedule_->workload;
  require(static_cast<std::int64_t>(counts_.size()) == w.world * w.num_experts,
          "{} counts; {} ranks with {} experts have {}", counts_.size(), w.world, w.num_experts,
          w.world * w.num_experts);
  const auto least = std::ranges::min_element(counts_);
  if (*least >= 0) return;
  const std::int64_t at = least - counts_.begin();
  fail("counts of rank {}: expert {} has {}; a count is zero or more", at / w.num_experts, at % w.num_experts,
       *least);
}

RankLoad RankLoads::of(int rank, const Operation& operation) {
  const Workload& w = schedule_->workload;
  RankLoad load{.rank = rank, .num_tokens = w.num_tokens};
  if (!counts_.empty()) load.num_tokens = tokens_[static_cast<std::size_t>(rank)];
  if (counts_.empty() && usual_count_ == 0) return load;
  if (schedule_->plan.expert_kernel == ExpertKernel::kCounted && is_expert_product(operation)) {
    count_expert_rows(rank, operation);
    load.expert_rows = expert_rows_;
  }
  return load;
}

std::int64_t RankLoads::largest_count(int rank, std::int64_t e) const {
  const Workload& w = schedule_->workload;
  if (counts_.empty()) return e == 0 ? w.capacity : usual_count_;
  if (schedule_->plan.parallel_degree == 0)
    return counts_[static_cast<std::size_t>(rank * w.num_experts + e)];
  const std::int64_t shards = w.shards();
  const std::int64_t first = shards > 1 ? rank / shards : rank * shape_.experts;
  return largest_count_[static_cast<std::size_t>(first + e)];
}

void RankLoads::count_expert_rows(int rank, const Operation& operation) {
  const Workload& w = schedule_->workload;
  const bool local = schedule_->plan.parallel_degree == 0;
  // Ranks that are alike are all like the first of an expert: the one that has the most.
  const std::int64_t slice = counts_.empty() ? 0 : rank % w.shards();
  const std::int64_t part_begin = local ? 0 : slice % shape_.parts * shape_.part_slots;
  // Products into gradients of weights run over the whole part at once, the others over a chunk of it.
  const bool whole = operation.size.slots == 0;
  const std::int64_t begin = whole ? 0 : operation.size.slot_begin;
  const std::int64_t slots = whole ? shape_.part_slots : operation.size.slots;
  expert_rows_.resize(static_cast<std::size_t>(shape_.experts));
  for (std::int64_t e = 0; e < shape_.experts; ++e) {
    const std::int64_t reached = std::min(largest_count(rank, e), w.capacity) - part_begin - begin;
    expert_rows_[static_cast<std::size_t>(e)] = shape_.sources * std::clamp<std::int64_t>(reached, 0, slots);
  }
}

}  // namespace flex
