#include <algorithm>
#include <array>
#include <bit>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/require.h"
#include "costmodel/plan_pair.h"
#include "costmodel/plan_space.h"
#include "kernels/moe/route.h"
#include "runtime/moe_layer_impl.h"

/// What all ranks must know alike before the expert part: sizes, the plan, and that they made the same call.
namespace flex {
namespace {

/// What ranks compare before they go on: a number that differs by right (the first), then what must be equal.
enum Word : std::size_t { kNumber, kTopK, kCapacityFactor, kCall, kConfig, kPlans, kNumWords };

std::int64_t as_word(std::uint64_t bits) { return std::bit_cast<std::int64_t>(bits); }

}  // namespace

std::int64_t MoeLayer::Impl::word_of(int rank, std::size_t word) const {
  return words_[static_cast<std::size_t>(rank) * mine_.size() + word];
}

void MoeLayer::Impl::compare_calls(std::int64_t number, std::span<const std::int32_t> counts) {
  const bool chosen = call_.choose != nullptr;
  mine_ = {number,
           call_.top_k,
           std::bit_cast<std::int64_t>(call_.capacity_factor),
           static_cast<std::int64_t>(call_.iteration * 8 + (call_.training ? 1 : 0) +
                                     (call_.add_noise ? 2 : 0) + (call_.equal_tokens ? 4 : 0)),
           as_word(stable_hash(config_)),
           as_word(chosen ? call_.chooser_state
                          : stable_hash(call_.plans.forward) * 3 + stable_hash(call_.plans.backward))};
  mine_.insert(mine_.end(), counts.begin(), counts.end());
  words_.resize(mine_.size() * static_cast<std::size_t>(context_.size()));
  context_.control().gather_host_blocking(mine_, words_);

  constexpr std::array<std::string_view, kNumWords> kWhat = {
      "", "top_k", "capacity_factor", "iteration, training, add_noise or equal_tokens", "the configuration",
      ""};
  for (int rank = 0; rank < context_.size(); ++rank) {
    for (const std::size_t word : {kTopK, kCapacityFactor, kCall, kConfig}) {
      require(word_of(rank, word) == word_of(0, word),
              "MoeLayer::forward: {} differs between rank 0 and rank {}; all ranks must make the same call",
              kWhat[word], rank);
    }
    result_.plans_disagreed = result_.plans_disagreed || word_of(rank, kPlans) != word_of(0, kPlans);
  }
}

void MoeLayer::Impl::agree_on_tokens() {
  compare_calls(x_.size(0), {});
  first_token_ = 0;
  for (int rank = 0; rank < context_.size(); ++rank) {
    const std::int64_t tokens = word_of(rank, kNumber);
    if (rank < context_.rank()) first_token_ += tokens;
    workload_.num_tokens = std::max(workload_.num_tokens, tokens);
  }
}

void MoeLayer::Impl::agree_on_capacity(Stream& stream) {
  const std::int32_t needed = host_needed_.as<std::int32_t>()[0];
  if (needed == kRouteNotFinite) flex::check_routed_blocking(route_args(), stream);
  needed_capacity_ = needed;
  const std::span counts(host_counts_.as<std::int32_t>(), static_cast<std::size_t>(config_.num_experts));
  source_counts_.assign(counts.begin(), counts.end());
  if (context_.size() == 1) return;
  compare_calls(needed, counts);
  source_counts_.clear();
  for (int rank = 0; rank < context_.size(); ++rank) {
    needed_capacity_ = std::max(needed_capacity_, word_of(rank, kNumber));
    for (std::size_t expert = 0; expert < counts.size(); ++expert) {
      source_counts_.push_back(word_of(rank, kNumWords + expert));
    }
  }
}

double MoeLayer::Impl::max_over_mean() const {
  if (!workload_.dropless) return 1;
  const auto num_experts = static_cast<std::size_t>(config_.num_experts);
  std::int64_t all = 0;
  std::int64_t fullest = 0;
  for (std::size_t expert = 0; expert < num_experts; ++expert) {
    std::int64_t tokens = 0;
    for (std::size_t i = expert; i < source_counts_.size(); i += num_experts) {
      tokens += std::min(source_counts_[i], workload_.capacity);  // f < 0 drops the rest
    }
    all += tokens;
    fullest = std::max(fullest, tokens);
  }
  return all == 0 ? 1 : static_cast<double>(fullest * config_.num_experts) / static_cast<double>(all);
}

void MoeLayer::Impl::warn_of_disagreement() const {
  if (context_.rank() != 0) return;
  if (call_.choose != nullptr) {
    log_warning("ranks choose plans from different states; all run the default '{}'",
                to_string(kDefaultPlan));
    return;
  }
  log_warning("ranks came with different plans (rank 0 with '{}' and '{}'); all run the default '{}'",
              to_string(call_.plans.forward), to_string(call_.plans.backward), to_string(kDefaultPlan));
}

void MoeLayer::Impl::fix_plans() {
  result_.max_over_mean = max_over_mean();
  if (result_.plans_disagreed) {
    result_.plans = {};
    warn_of_disagreement();
  } else if (call_.choose != nullptr) {
    result_.plans = (*call_.choose)({workload_, result_.max_over_mean});
  }
  check_pair(result_.plans);
  for (const Plan& plan : {result_.plans.forward, result_.plans.backward}) {
    if (const auto reason = is_legal(plan, workload_, context_.cluster())
                                ? std::nullopt
                                : why_illegal(plan, workload_, context_.cluster())) {
      fail("plan '{}' cannot run with capacity {}: {}", to_string(plan), workload_.capacity, *reason);
    }
  }
}

}  // namespace flex
