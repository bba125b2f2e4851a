#include "tuner/pair_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace flex {
namespace {

/// Of each group and pass so many plans, the fastest, are thought of for trying.
constexpr std::size_t kTriedPerGroup = 3;
/// Gains of an observation below this, as a fraction of the incumbent's time, are none.
constexpr double kLeastGain = 5e-4;

/// Expected value of max(x, 0) for a normal x.
double expected_positive(double mean, double sigma) {
  if (sigma <= 0) return std::max(mean, 0.0);
  const double z = mean / sigma;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
  const double below = std::erfc(-z / std::numbers::sqrt2) / 2;
  return sigma * density + mean * below;
}

}  // namespace

void PairChoice::look_at(const PlanRegion& region, const OnlineLearner& learner, std::int64_t capacity,
                         std::span<const std::uint8_t> allowed) {
  region_ = &region;
  learner_ = &learner;
  allowed_ = allowed;
  const auto count = static_cast<Eigen::Index>(region.plans().size());
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    Eigen::VectorXd& us = us_[static_cast<std::size_t>(pass)];
    if (us.size() < count) us.resize(count);
    region.expect(learner.belief(), pass, capacity, us);
    fastest_[static_cast<std::size_t>(pass)].reserve(kTriedPerGroup + 1);
  }
}

void PairChoice::collect_fastest(std::int32_t group) {
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<std::int32_t>& found = fastest_[pass];
    const Eigen::VectorXd& us = us_[pass];
    found.clear();
    for (std::int32_t place = 0; place < static_cast<std::int32_t>(allowed_.size()); ++place) {
      if (allowed_[static_cast<std::size_t>(place)] == 0) continue;
      if (region_->groups()[static_cast<std::size_t>(place)] != group) continue;
      const auto after =
          std::ranges::upper_bound(found, us[place], {}, [&](std::int32_t one) { return us[one]; });
      found.insert(after, place);
      if (found.size() > kTriedPerGroup) found.pop_back();
    }
  }
  // One plan for both passes where only one runs.
  if (region_->passes() != Passes::kBoth) fastest_[1] = fastest_[0];
}

std::optional<PlanRegion::Pair> PairChoice::fastest() const {
  std::optional<PlanRegion::Pair> best;
  double best_us = std::numeric_limits<double>::infinity();
  const std::span<const std::int32_t> groups = region_->groups();
  const std::int32_t num_groups = groups.empty() ? 0 : 1 + *std::ranges::max_element(groups);
  for (std::int32_t group = 0; group < num_groups; ++group) {
    PlanRegion::Pair pair{-1, -1};
    for (std::int32_t place = 0; place < static_cast<std::int32_t>(allowed_.size()); ++place) {
      const auto at = static_cast<std::size_t>(place);
      if (allowed_[at] == 0 || groups[at] != group) continue;
      if (pair.forward < 0 || us_[0][place] < us_[0][pair.forward]) pair.forward = place;
      if (pair.backward < 0 || us_[1][place] < us_[1][pair.backward]) pair.backward = place;
    }
    if (pair.forward < 0) continue;
    if (region_->passes() != Passes::kBoth) pair.backward = pair.forward;
    if (total_us(pair) < best_us) {
      best = pair;
      best_us = total_us(pair);
    }
  }
  return best;
}

bool PairChoice::beats(const PlanRegion::Pair& other, const PlanRegion::Pair& incumbent) const {
  const double saving_us = total_us(incumbent) - total_us(other);
  if (saving_us <= settings_.least_saving * total_us(incumbent)) return false;
  const double variance = learner_->saving_variance(*region_, incumbent, other, us_[0], us_[1]);
  return saving_us > settings_.least_significance * std::sqrt(variance);
}

double PairChoice::gain_of(const PlanRegion::Pair& other, const PlanRegion::Pair& incumbent) const {
  const double saving_us = total_us(incumbent) - total_us(other);
  const double variance = learner_->saving_variance(*region_, incumbent, other, us_[0], us_[1]);
  double noise = 0;
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    const double us = us_[static_cast<std::size_t>(pass)][other.of(pass)];
    noise += us * us * learner_->noise_variance(pass);
  }
  // By how much one observation may move what is expected to be saved.
  const double moved_us = variance / std::sqrt(variance + noise);
  return expected_positive(saving_us - settings_.least_saving * total_us(incumbent), moved_us);
}

std::optional<Trying> PairChoice::most_promising(const PlanRegion::Pair& incumbent, double uses) {
  std::optional<Trying> best;
  double most_us = 0;
  const std::span<const std::int32_t> groups = region_->groups();
  const std::int32_t num_groups = 1 + *std::ranges::max_element(groups);
  for (std::int32_t group = 0; group < num_groups; ++group) {
    collect_fastest(group);
    for (const std::int32_t forward : fastest_[0]) {
      for (const std::int32_t backward : fastest_[1]) {
        if (region_->passes() != Passes::kBoth && forward != backward) continue;
        const PlanRegion::Pair pair{forward, backward};
        if (pair == incumbent) continue;
        const double gain_us = gain_of(pair, incumbent);
        if (gain_us < kLeastGain * total_us(incumbent)) continue;
        const double cost_us = std::max(total_us(pair) - total_us(incumbent), 0.0);
        const double worth_us = uses * gain_us - cost_us;
        if (worth_us <= most_us) continue;
        most_us = worth_us;
        best = {pair, total_us(pair)};
      }
    }
  }
  return best;
}

}  // namespace flex
