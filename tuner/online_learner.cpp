#include "tuner/online_learner.h"

#include <algorithm>
#include <cmath>

#include "costmodel/parameter_scaling.h"

namespace flex {
namespace {

/// Plans that are remembered in one pass of one region each; of more, those that ran longest ago are
/// forgotten.
constexpr Eigen::Index kMaxResiduals = 128;
/// Standard deviations beyond which an observation counts as no further off: it may be an outlier. A change
/// that lasts is told by the detectors, and explained by what was further off than kSurprising.
constexpr double kLargestSurprise = 4;
constexpr double kSurprising = 2;
constexpr std::size_t kMaxOutliers = 8;
/// How far parameters (in sigmas of the model's errors) and residuals (in logarithms) walk from one
/// observation to the next, so that a slow change is followed.
constexpr double kParameterWalk = 0.02;
constexpr double kResidualWalk = 0.0005;
/// How far parameters may have moved when the machine has changed, in sigmas of the model's errors.
constexpr double kChange = 4;
constexpr double kOtherChange = 1;  ///< where others explain the change better
/// Weight of one observation in the estimate of the noise, and the least noise that is believed.
constexpr double kNoiseWeight = 0.02;
constexpr double kLeastNoise = 0.002;

}  // namespace

OnlineLearner::OnlineLearner(const CostModel& costs, const OnlineSettings& settings)
    : costs_(costs),
      errors_{.parameter = settings.parameter_error, .candidate = settings.candidate_error},
      belief_(static_cast<Eigen::Index>(num_scalable(costs.parameters())), kMaxResiduals) {
  noise_variance_.fill(settings.measurement_spread * settings.measurement_spread);
  form_.slopes = Eigen::VectorXd::Zero(belief_.num_parameters());
  outliers_.resize(kMaxOutliers, Outlier{.form = form_});
  owners_.reserve(kMaxResiduals);
}

double OnlineLearner::expected_log_us(const PlanRegion& region, Pass pass, std::int32_t place) const {
  form_.clear();
  region.add_to(form_, pass, place, 1);
  return belief_.mean(form_) - region.constant_of(pass, place) +
         std::log(region.model_us(pass, place, region.span().middle()));
}

void OnlineLearner::build(PlanRegion& region) {
  std::vector<double> before(owners_.size());
  const auto visit_slots = [&](auto&& visit) {
    for (std::size_t slot = 0; slot < owners_.size(); ++slot) {
      const Owner& owner = owners_[slot];
      if (owner.region == &region) visit(slot, owner.pass, *region.place_of(owner.plan));
    }
  };
  visit_slots([&](std::size_t slot, Pass pass, std::int32_t place) {
    before[slot] = expected_log_us(region, pass, place);
  });
  region.build(costs_, errors_, belief_.parameters());
  visit_slots([&](std::size_t slot, Pass pass, std::int32_t place) {
    const double jump = expected_log_us(region, pass, place) - before[slot];
    belief_.loosen_residual(static_cast<std::int32_t>(slot), jump * jump);
  });
}

bool OnlineLearner::observe(PlanRegion& region, Pass pass, std::int32_t place, std::int64_t capacity,
                            double duration_us) {
  PlanRegion::Record& record = region.record(pass, place);
  if (record.slot < 0) give_slot(region, pass, place);
  owners_[static_cast<std::size_t>(record.slot)].last_observed = ++num_observations_;
  belief_.age(kParameterWalk * kParameterWalk, kResidualWalk * kResidualWalk);

  form_.clear();
  region.add_to(form_, pass, place, 1);
  const double over_model = std::log(duration_us / region.model_us(pass, place, capacity));
  const double surprise = over_model + region.constant_of(pass, place) - belief_.mean(form_);
  const double spread = std::sqrt(belief_.variance(form_) + noise_variance(pass));
  last_surprise_ = surprise;
  const bool changed = detectors_[index(pass)].observe(surprise / spread);
  if (std::abs(surprise) > kSurprising * spread) {
    outliers_[num_outliers_++ % outliers_.size()] = {form_, surprise, spread * spread};
  }
  if (changed) learn_change();
  // After a change `spread` is that of the belief before it: what was found is believed as it is.
  const double most = changed ? std::abs(surprise) : kLargestSurprise * spread;
  belief_.observe(form_, std::clamp(surprise, -most, most), noise_variance(pass));
  learn_noise(record, pass, over_model);
  return changed;
}

// Most changes are of one thing: a link, a clock. Each parameter is asked how well it alone explains what
// could not be believed, and may have moved by so much of kChange as that makes it likely.
void OnlineLearner::learn_change() {
  const std::size_t count = std::min(num_outliers_, outliers_.size());
  const Eigen::Index num_parameters = belief_.num_parameters();
  Eigen::VectorXd evidence(num_parameters);
  for (Eigen::Index p = 0; p < num_parameters; ++p) {
    double precision = 1 / (kChange * kChange);
    double pull = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Outlier& one = outliers_[i];
      precision += one.form.slopes[p] * one.form.slopes[p] / one.variance;
      pull += one.form.slopes[p] * one.surprise / one.variance;
    }
    evidence[p] = (pull * pull / precision - std::log(precision * kChange * kChange)) / 2;
  }
  const Eigen::VectorXd likelihood = (evidence.array() - evidence.maxCoeff()).exp();
  belief_.widen((kChange * kChange / likelihood.sum() * likelihood).array() + kOtherChange * kOtherChange);
  num_outliers_ = 0;
  detectors_ = {};
}

void OnlineLearner::give_slot(PlanRegion& region, Pass pass, std::int32_t place) {
  const double variance = region.own_variance(pass, place);
  const Owner owner{.region = &region,
                    .pass = pass,
                    .plan = region.plans()[static_cast<std::size_t>(place)],
                    .last_observed = num_observations_};
  std::int32_t& slot = region.record(pass, place).slot;
  if (!belief_.is_full()) {
    slot = belief_.add_residual(variance);
    owners_.push_back(owner);
    return;
  }
  const auto oldest = std::ranges::min_element(owners_, {}, &Owner::last_observed);
  oldest->region->record(oldest->pass, *oldest->region->place_of(oldest->plan)) = {};
  slot = static_cast<std::int32_t>(oldest - owners_.begin());
  belief_.reset_residual(slot, variance);
  *oldest = owner;
}

// Half the squared difference of two observations of one plan has the noise's variance for its mean, whatever
// the plan takes; one in which the machine changed is bounded.
void OnlineLearner::learn_noise(PlanRegion::Record& record, Pass pass, double over_model) {
  constexpr double kBound = 9;
  double& variance = noise_variance_[index(pass)];
  if (record.num_observations > 0) {
    const double difference = over_model - record.last;
    const double sample = std::min(difference * difference / 2, kBound * variance);
    variance = std::max(variance + kNoiseWeight * (sample - variance), kLeastNoise * kLeastNoise);
  }
  record.last = over_model;
  ++record.num_observations;
}

double OnlineLearner::saving_variance(const PlanRegion& region, const PlanRegion::Pair& incumbent,
                                      const PlanRegion::Pair& other, const Eigen::VectorXd& forward_us,
                                      const Eigen::VectorXd& backward_us) const {
  form_.clear();
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    const Eigen::VectorXd& us = pass == Pass::kForward ? forward_us : backward_us;
    if (incumbent.of(pass) == other.of(pass) || us[other.of(pass)] == 0) continue;
    region.add_to(form_, pass, incumbent.of(pass), us[incumbent.of(pass)]);
    region.add_to(form_, pass, other.of(pass), -us[other.of(pass)]);
  }
  return belief_.variance(form_);
}

double OnlineLearner::sigma(const PlanRegion& region, Pass pass, std::int32_t place) const {
  form_.clear();
  region.add_to(form_, pass, place, 1);
  return std::sqrt(belief_.variance(form_));
}

}  // namespace flex
