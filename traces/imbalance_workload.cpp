#include "traces/imbalance_workload.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::int64_t kMeanWeight = std::int64_t{1} << 16;

struct NamedImbalance {
  std::string_view name;
  std::string_view description;
};
constexpr std::array<NamedImbalance, kNumImbalanceWorkloads> kNames = {{
    {"W0", "balanced: every expert gets the same"},
    {"W1", "hot experts: an eighth of them, at random places, gets half of the choices"},
    {"W2", "hot rank: an eighth of the experts, all neighbours, gets half of the choices"},
    {"W3", "spread hot: every eighth expert is hot, together they get half of the choices"},
    {"W4", "ragged sources: source ranks have from a quarter to all of the tokens"},
    {"W5", "zero load: a quarter of experts and source ranks, and each eighth step, gets nothing"},
    {"W6", "rotating hotspot: the hot neighbours of W2 move round in 8 steps"},
    {"W7", "burst: in one of 16 steps a sixteenth of the experts gets three quarters of the choices"},
    {"drift", "as in training: needed capacity rises to 4.38 times the balanced one, then falls"},
}};

/// A part of a whole.
struct Fraction {
  std::int64_t numerator = 1;
  std::int64_t denominator = 1;
};

std::int64_t part_of(std::int64_t whole, Fraction part) {
  return std::max<std::int64_t>(1, whole * part.numerator / part.denominator);
}

PhiloxStream random_of(const ImbalancePlace& place, std::uint64_t purpose) {
  return PhiloxStream(place.seed, splitmix64(splitmix64(purpose) ^ static_cast<std::uint64_t>(place.layer)));
}

/// Weights of hot and other experts. `hot_total`: what the hot ones ask for in all.
struct HotWeights {
  std::int64_t hot = 0;
  std::int64_t other = 0;
};

// The hot ones are cut where a token would take an expert twice, and rounded down; the others are rounded up,
// to no more than the mean, so that 1 / top_k holds for both.
HotWeights hot_weights(std::int64_t num_experts, std::int64_t num_hot, std::int64_t top_k,
                       std::int64_t hot_total) {
  const std::int64_t total = num_experts * kMeanWeight;
  const std::int64_t hot = std::clamp(hot_total / num_hot, kMeanWeight, std::max(kMeanWeight, total / top_k));
  const std::int64_t others = num_experts - num_hot;
  const std::int64_t rest = std::max<std::int64_t>(0, total - num_hot * hot);
  return {.hot = hot, .other = others == 0 ? 0 : (rest + others - 1) / others};
}

/// Which experts are hot.
enum class Places : std::uint8_t { kRandom, kNeighbours, kSpread };

std::vector<std::int64_t> random_places(std::int64_t num_experts, std::int64_t count, PhiloxStream random) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(num_experts));
  std::iota(places.begin(), places.end(), 0);
  for (std::int64_t i = 0; i < count; ++i) {
    std::swap(places[static_cast<std::size_t>(i)],
              places[static_cast<std::size_t>(i + random.below(num_experts - i))]);
  }
  places.resize(static_cast<std::size_t>(count));
  return places;
}

struct Hotspot {
  Places places = Places::kRandom;
  Fraction experts{1, 8};
  Fraction choices{1, 2};
  std::int64_t first_eighth = 0;  ///< where neighbours begin
};

std::vector<std::int64_t> hotspot_weights(const Hotspot& hotspot, const ImbalancePlace& place,
                                          std::int64_t num_experts, std::int64_t top_k) {
  const std::int64_t num_hot = part_of(num_experts, hotspot.experts);
  const std::int64_t hot_total =
      num_experts * kMeanWeight / hotspot.choices.denominator * hotspot.choices.numerator;
  const HotWeights weights = hot_weights(num_experts, num_hot, top_k, hot_total);
  std::vector<std::int64_t> result(static_cast<std::size_t>(num_experts), weights.other);
  if (hotspot.places == Places::kRandom) {
    for (const std::int64_t e : random_places(num_experts, num_hot, random_of(place, 1))) {
      result[static_cast<std::size_t>(e)] = weights.hot;
    }
    return result;
  }
  for (std::int64_t i = 0; i < num_hot; ++i) {
    const std::int64_t expert = hotspot.places == Places::kSpread
                                    ? i * num_experts / num_hot
                                    : (hotspot.first_eighth * num_experts / 8 + i) % num_experts;
    result[static_cast<std::size_t>(expert)] = weights.hot;
  }
  return result;
}

// A quarter of the experts, the last ones, gets nothing; fewer where top_k needs more.
std::vector<std::int64_t> zero_weights(std::int64_t num_experts, std::int64_t top_k) {
  const std::int64_t num_idle = std::min(num_experts / 4, num_experts - top_k);
  std::vector<std::int64_t> result(static_cast<std::size_t>(num_experts), kMeanWeight);
  std::fill(result.end() - num_idle, result.end(), 0);
  return result;
}

// Over the mean weight, in parts of kMeanWeight, of the hot experts: rises from 1 to its peak in the first
// tenth of the run and falls from there as 1 / (1 + 9 x), x from 0 to 1 over the rest. The peak is the
// published figure in layer 0 and between 1 + half of its excess and all of it in the others.
std::int64_t drift_weight(const ImbalancePlace& place) {
  constexpr auto kPeakExcess = static_cast<std::int64_t>((kPublishedCapacityDrift - 1) * kMeanWeight);
  constexpr std::int64_t kFall = 9;
  const std::int64_t excess =
      place.layer == 0 ? kPeakExcess : kPeakExcess / 2 + random_of(place, 2).below(kPeakExcess / 2 + 1);
  const std::int64_t last = std::max<std::int64_t>(1, place.num_steps - 1);
  const std::int64_t peak = last / 10;
  if (place.step < peak) return kMeanWeight + excess * place.step / peak;
  const std::int64_t after = std::max<std::int64_t>(1, last - peak);
  return kMeanWeight + excess * after / (after + kFall * std::min(place.step - peak, after));
}

std::vector<std::int64_t> drift_weights(const ImbalancePlace& place, std::int64_t num_experts,
                                        std::int64_t top_k) {
  const std::int64_t num_hot = part_of(num_experts, {1, 8});
  const HotWeights weights = hot_weights(num_experts, num_hot, top_k, num_hot * drift_weight(place));
  std::vector<std::int64_t> result(static_cast<std::size_t>(num_experts), weights.other);
  for (const std::int64_t e : random_places(num_experts, num_hot, random_of(place, 1))) {
    result[static_cast<std::size_t>(e)] = weights.hot;
  }
  return result;
}

}  // namespace

std::string_view name(ImbalanceWorkload imbalance) {
  return kNames[static_cast<std::size_t>(imbalance)].name;
}

std::string_view description(ImbalanceWorkload imbalance) {
  return kNames[static_cast<std::size_t>(imbalance)].description;
}

std::optional<ImbalanceWorkload> parse_imbalance_workload(std::string_view text) {
  const auto equal = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    const auto imbalance = static_cast<ImbalanceWorkload>(i);
    if (std::ranges::equal(text, name(imbalance), equal)) return imbalance;
  }
  return std::nullopt;
}

std::vector<std::int64_t> expert_weights(ImbalanceWorkload imbalance, const ImbalancePlace& place,
                                         std::int64_t num_experts, std::int64_t top_k) {
  require(top_k >= 1 && top_k <= num_experts, "top_k is {}; with {} experts it is from 1 to {}", top_k,
          num_experts, num_experts);
  constexpr std::int64_t kBurstPeriod = 16;
  switch (imbalance) {
    case ImbalanceWorkload::kBalanced:
    case ImbalanceWorkload::kRaggedSources:
      break;
    case ImbalanceWorkload::kHotExperts:
      return hotspot_weights({.places = Places::kRandom}, place, num_experts, top_k);
    case ImbalanceWorkload::kHotRank:
      return hotspot_weights({.places = Places::kNeighbours}, place, num_experts, top_k);
    case ImbalanceWorkload::kSpreadHot:
      return hotspot_weights({.places = Places::kSpread}, place, num_experts, top_k);
    case ImbalanceWorkload::kZeroLoad:
      return zero_weights(num_experts, top_k);
    case ImbalanceWorkload::kRotatingHotspot:
      return hotspot_weights({.places = Places::kNeighbours, .first_eighth = place.step % 8}, place,
                             num_experts, top_k);
    case ImbalanceWorkload::kBurst:
      if ((place.step + random_of({.seed = place.seed}, 3).below(kBurstPeriod)) % kBurstPeriod != 0) break;
      return hotspot_weights({.experts = {1, 16}, .choices = {3, 4}}, place, num_experts, top_k);
    case ImbalanceWorkload::kDrift:
      return drift_weights(place, num_experts, top_k);
  }
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_experts), kMeanWeight);
}

std::int64_t source_tokens(ImbalanceWorkload imbalance, const ImbalancePlace& place, std::int64_t source,
                           std::int64_t world, std::int64_t num_tokens) {
  if (imbalance == ImbalanceWorkload::kRaggedSources) {
    // From a quarter to all along the ranks, each at the middle of its part: T (1/4 + 3/4 (s + 1/2) / W).
    return num_tokens * (2 * world + 3 * (2 * source + 1)) / (8 * world);
  }
  if (imbalance == ImbalanceWorkload::kZeroLoad) {
    const bool is_idle = source >= world - world / 4 || place.step % 8 == 7;
    return is_idle ? 0 : num_tokens;
  }
  return num_tokens;
}

}  // namespace flex
