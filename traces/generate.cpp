#include "traces/generate.h"

#include <numeric>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

// k T times the sum of weights must stay within 63 bits.
constexpr std::int64_t kMaxChoices = std::int64_t{1} << 26;

// Where the rounding of a rank's counts begins, in [0, total).
std::int64_t rounding_offset(const GenerateOptions& options, std::int64_t step, std::int64_t layer,
                             std::int64_t source, std::int64_t total) {
  std::uint64_t stream = splitmix64(static_cast<std::uint64_t>(step));
  stream = splitmix64(stream ^ static_cast<std::uint64_t>(layer));
  stream = splitmix64(stream ^ static_cast<std::uint64_t>(source));
  return PhiloxStream(options.seed, stream).below(total);
}

}  // namespace

TraceHeader generated_header(const GenerateOptions& options) {
  require(options.num_steps >= 0, "{} steps; there are zero or more", options.num_steps);
  TraceHeader header = options.header;
  header.origins = {{.source = TraceSource::kGenerated,
                     .workload = std::string(name(options.imbalance)),
                     .seed = options.seed}};
  validate(header);
  for (std::size_t i = 0; i < header.layers.size(); ++i) {
    const Workload& w = header.layers[i].workload;
    require(w.num_tokens <= kMaxChoices / w.top_k,
            "layers[{}]: {} tokens with top_k {} are more choices than the {} that are generated", i,
            w.num_tokens, w.top_k, kMaxChoices);
  }
  return header;
}

SparseCounts generated_counts(const GenerateOptions& options, std::int64_t step, std::int64_t layer) {
  const Workload& w = options.header.layers[static_cast<std::size_t>(layer)].workload;
  const ImbalancePlace place{
      .seed = options.seed, .step = step, .num_steps = options.num_steps, .layer = layer};
  const std::vector<std::int64_t> weights = expert_weights(options.imbalance, place, w.num_experts, w.top_k);
  const std::int64_t total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  SparseCounts counts;
  for (std::int64_t source = 0; source < w.world; ++source) {
    const std::int64_t choices =
        w.top_k * source_tokens(options.imbalance, place, source, w.world, w.num_tokens);
    if (choices == 0) continue;
    counts.begin_row(static_cast<std::int32_t>(source));
    // Choice number i falls to the expert in whose part of [0, total) the point (i total + offset) / choices
    // lies: each expert gets its fraction rounded down or up, and all of them together every choice.
    std::int64_t reached = rounding_offset(options, step, layer, source, total);
    for (std::int64_t expert = 0; expert < w.num_experts; ++expert) {
      const std::int64_t before = reached / total;
      reached += choices * weights[static_cast<std::size_t>(expert)];
      const std::int64_t count = reached / total - before;
      if (count > 0) counts.add(static_cast<std::int32_t>(expert), static_cast<std::int32_t>(count));
    }
  }
  return counts;
}

}  // namespace flex
