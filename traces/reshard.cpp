#include "traces/reshard.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr ReshardPolicy kPolicies[] = {ReshardPolicy::kSplit, ReshardPolicy::kTile, ReshardPolicy::kResample};

// How many of the integers in [begin, end) leave `part` when divided by `parts`.
std::int64_t count_congruent(std::int64_t begin, std::int64_t end, std::int64_t part, std::int64_t parts) {
  const auto below = [&](std::int64_t bound) { return (bound + parts - 1 - part) / parts; };
  return below(end) - below(begin);
}

std::int64_t choices_of(const SparseCounts::Row& row) {
  std::int64_t choices = 0;
  for (const ExpertCount& entry : row.experts) choices += entry.choices;
  return choices;
}

void append_dense(std::int64_t source, std::span<const std::int64_t> by_expert, SparseCounts& counts) {
  bool has_row = false;
  for (std::size_t e = 0; e < by_expert.size(); ++e) {
    if (by_expert[e] == 0) continue;
    if (!has_row) counts.begin_row(static_cast<std::int32_t>(source));
    has_row = true;
    require(by_expert[e] <= kMaxTraceCount, "expert {} has {} choices of rank {}; a trace holds up to {}", e,
            by_expert[e], source, kMaxTraceCount);
    counts.add(static_cast<std::int32_t>(e), static_cast<std::int32_t>(by_expert[e]));
  }
}

// A token takes an expert at most once: what is drawn beyond `num_tokens` goes to the experts after it.
void spill(std::vector<std::int64_t>& by_expert, std::int64_t num_tokens) {
  std::int64_t excess = 0;
  for (int round = 0; round < 2; ++round) {  // a second time round for what the last experts did not take
    for (std::int64_t& count : by_expert) {
      const std::int64_t wanted = count + excess;
      count = std::min(wanted, num_tokens);
      excess = wanted - count;
    }
  }
}

}  // namespace

std::string_view name(ReshardPolicy policy) {
  switch (policy) {
    case ReshardPolicy::kSplit:
      return "split";
    case ReshardPolicy::kTile:
      return "tile";
    case ReshardPolicy::kResample:
      return "resample";
  }
  return "?";
}

std::optional<ReshardPolicy> parse_reshard_policy(std::string_view text) {
  for (const ReshardPolicy policy : kPolicies) {
    if (text == name(policy)) return policy;
  }
  return std::nullopt;
}

Resharder::Resharder(const TraceHeader& from, const ReshardOptions& options)
    : old_world_(from.world), options_(options), header_(from) {
  require(options.world >= 1 && options.world <= kMaxTraceWorld, "{} ranks; there are 1 to {}", options.world,
          kMaxTraceWorld);
  const bool is_split = options.policy == ReshardPolicy::kSplit;
  require(!is_split || options.world % old_world_ == 0 || old_world_ % options.world == 0,
          "split cannot lay {} ranks on {}: one must divide the other; use tile or resample", old_world_,
          options.world);
  TraceOrigin origin{.source = TraceSource::kResharded,
                     .policy = std::string(name(options.policy)),
                     .file = options.file,
                     .world = old_world_};
  if (options.policy == ReshardPolicy::kResample) origin.seed = options.seed;
  header_.origins.insert(header_.origins.begin(), origin);
  header_.world = options.world;
  header_.ranks_per_node = options.ranks_per_node;
  for (TraceLayer& layer : header_.layers) {
    Workload& w = layer.workload;
    w.world = options.world;
    if (is_split) w.num_tokens = (w.num_tokens * old_world_ + options.world - 1) / options.world;
  }
  validate(header_);
}

TraceRecord Resharder::reshard(const TraceRecord& record) const {
  TraceRecord result{.step = record.step,
                     .layer = record.layer,
                     .pass = record.pass,
                     .top_k = record.top_k,
                     .capacity_factor = record.capacity_factor};
  if (record.pass == Pass::kBackward) return result;
  const std::int64_t top_k = top_k_of(header_, record);
  switch (options_.policy) {
    case ReshardPolicy::kSplit:
      result.counts = options_.world >= old_world_ ? split(record.counts, top_k) : join(record.counts);
      break;
    case ReshardPolicy::kTile:
      result.counts = tile(record.counts);
      break;
    case ReshardPolicy::kResample:
      result.counts = resample(record, top_k);
      break;
  }
  return result;
}

// Counts do not say which token took which experts; one way is always possible: with the choices in the
// order of their experts, token t of T takes those at t, t + T, ..., which are of different experts because
// none has more than T. New rank i of n gets the tokens that leave i when divided by n.
SparseCounts Resharder::split(const SparseCounts& counts, std::int64_t top_k) const {
  const std::int64_t parts = options_.world / old_world_;
  SparseCounts result;
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    const SparseCounts::Row row = counts.row(r);
    const std::int64_t num_tokens = choices_of(row) / top_k;
    for (std::int64_t part = 0; part < std::min(parts, num_tokens); ++part) {
      result.begin_row(static_cast<std::int32_t>(row.source * parts + part));
      std::int64_t begin = 0;  // of an expert's choices, as the token that takes the first of them
      for (const ExpertCount& entry : row.experts) {
        const std::int64_t end = begin + entry.choices;
        std::int64_t count = count_congruent(begin, std::min(end, num_tokens), part, parts);
        if (end > num_tokens) count += count_congruent(0, end - num_tokens, part, parts);
        if (count > 0) result.add(entry.expert, static_cast<std::int32_t>(count));
        begin = end >= num_tokens ? end - num_tokens : end;
      }
    }
  }
  return result;
}

SparseCounts Resharder::join(const SparseCounts& counts) const {
  const std::int64_t group = old_world_ / options_.world;
  SparseCounts result;
  std::vector<std::int64_t> by_expert;
  for (std::size_t r = 0; r < counts.num_rows();) {
    const std::int64_t source = counts.row(r).source / group;
    std::ranges::fill(by_expert, 0);
    for (; r < counts.num_rows() && counts.row(r).source / group == source; ++r) {
      for (const ExpertCount& entry : counts.row(r).experts) {
        const auto expert = static_cast<std::size_t>(entry.expert);
        if (by_expert.size() <= expert) by_expert.resize(expert + 1);
        by_expert[expert] += entry.choices;
      }
    }
    append_dense(source, by_expert, result);
  }
  return result;
}

SparseCounts Resharder::tile(const SparseCounts& counts) const {
  SparseCounts result;
  for (std::int64_t first = 0; first < options_.world; first += old_world_) {
    for (std::size_t r = 0; r < counts.num_rows(); ++r) {
      const SparseCounts::Row row = counts.row(r);
      if (first + row.source >= options_.world) break;
      result.begin_row(static_cast<std::int32_t>(first + row.source));
      for (const ExpertCount& entry : row.experts) result.add(entry.expert, entry.choices);
    }
  }
  return result;
}

SparseCounts Resharder::resample(const TraceRecord& record, std::int64_t top_k) const {
  const auto num_experts =
      static_cast<std::size_t>(header_.layers[static_cast<std::size_t>(record.layer)].workload.num_experts);
  std::vector<std::int64_t> up_to(num_experts);  // choices of an expert and those before it, over all ranks
  for (std::size_t r = 0; r < record.counts.num_rows(); ++r) {
    for (const ExpertCount& entry : record.counts.row(r).experts) {
      up_to[static_cast<std::size_t>(entry.expert)] += entry.choices;
    }
  }
  std::partial_sum(up_to.begin(), up_to.end(), up_to.begin());
  const std::int64_t total = up_to.back();
  SparseCounts result;
  if (total == 0) return result;
  const std::int64_t old_tokens = total / top_k;
  std::vector<std::int64_t> by_expert(num_experts);
  for (std::int64_t source = 0; source < options_.world; ++source) {
    const std::int64_t num_tokens = (source + 1) * old_tokens / old_world_ - source * old_tokens / old_world_;
    std::uint64_t stream = splitmix64(static_cast<std::uint64_t>(record.step));
    stream = splitmix64(stream ^ static_cast<std::uint64_t>(record.layer));
    PhiloxStream random(options_.seed, splitmix64(stream ^ static_cast<std::uint64_t>(source)));
    std::ranges::fill(by_expert, 0);
    for (std::int64_t i = 0; i < num_tokens * top_k; ++i) {
      const auto drawn = std::ranges::upper_bound(up_to, random.below(total));
      ++by_expert[static_cast<std::size_t>(drawn - up_to.begin())];
    }
    spill(by_expert, num_tokens);
    append_dense(source, by_expert, result);
  }
  return result;
}

}  // namespace flex
