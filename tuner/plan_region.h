#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "costmodel/layer_load.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/plan_pair.h"
#include "tuner/capacity_span.h"
#include "tuner/model_neighbourhood.h"
#include "tuner/parameter_belief.h"

/// Private to the online policy.
namespace flex {

/// The candidates of one layer in a span of capacities, and what a model says of them: durations that are
/// linear in the capacity, and whose logarithms are linear in those of the model's parameters.
class PlanRegion {
 public:
  /// Places of a forward and a backward plan among plans().
  struct Pair {
    std::int32_t forward = 0;
    std::int32_t backward = 0;
    [[nodiscard]] std::int32_t of(Pass pass) const { return pass == Pass::kForward ? forward : backward; }
    friend bool operator==(const Pair&, const Pair&) = default;
  };

  /// What is known of one plan in one pass beside the model.
  struct Record {
    std::int32_t slot = -1;  ///< of the residual in the belief; -1: has none
    std::int64_t num_observations = 0;
    double last = 0;  ///< logarithm of the last duration over the model's
  };

  /// `first`: a load in the span. Nothing is simulated before the first build().
  PlanRegion(const LayerLoad& first, const CapacitySpan& span, Cluster cluster, Passes passes);

  /// Simulates the candidates with the parameters that are believed in: those that `costs` moved to `offsets`
  /// says are not kFarBehind, the default plan, and those that are pinned or have residuals. Records are
  /// kept.
  void build(const CostModel& costs, const ModelErrors& errors, const Eigen::VectorXd& offsets);
  /// A candidate from the next build on, whatever the model says of it.
  void pin(const Plan& plan) { pinned_.push_back(plan); }
  /// How often it was built.
  [[nodiscard]] std::int64_t version() const { return version_; }
  /// How far the parameters have moved since, in sigmas: the largest of them that matters.
  [[nodiscard]] double distance(const ParameterBelief& belief) const;

  /// Iterations that ran in it, in all and since the last build.
  [[nodiscard]] std::int64_t visits() const { return visits_; }
  [[nodiscard]] std::int64_t visits_since_build() const { return visits_ - visits_at_build_; }
  void count_visit() { ++visits_; }

  [[nodiscard]] const LayerLoad& first() const { return first_; }
  [[nodiscard]] const CapacitySpan& span() const { return span_; }
  [[nodiscard]] Passes passes() const { return passes_; }
  /// Ascending.
  [[nodiscard]] std::span<const Plan> plans() const { return plans_; }
  /// By plan: those of equal numbers can pair, and stand for one r and expert kernel.
  [[nodiscard]] std::span<const std::int32_t> groups() const { return groups_; }
  [[nodiscard]] std::optional<std::int32_t> place_of(const Plan& plan) const;
  [[nodiscard]] PlanPair plans_of(const Pair& pair) const {
    return {plans_[static_cast<std::size_t>(pair.forward)], plans_[static_cast<std::size_t>(pair.backward)]};
  }

  [[nodiscard]] Record& record(Pass pass, std::int32_t place) { return table(pass).records[at(place)]; }
  [[nodiscard]] const Record& record(Pass pass, std::int32_t place) const {
    return table(pass).records[at(place)];
  }

  /// The model's word, with the parameters that it was built with.
  [[nodiscard]] double model_us(Pass pass, std::int32_t place, std::int64_t capacity) const;
  /// Adds `factor` times the logarithm of a duration over model_us() to `form`, but for constant_of().
  void add_to(BeliefForm& form, Pass pass, std::int32_t place, double factor) const;
  /// What add_to() leaves out: the slopes times the offsets of the build.
  [[nodiscard]] double constant_of(Pass pass, std::int32_t place) const {
    return table(pass).constants[place];
  }
  [[nodiscard]] double own_variance(Pass pass, std::int32_t place) const {
    return table(pass).own_variances[place];
  }
  /// Expected durations of all plans in one pass. `us`: plans().size() of them or more. Zeros for a pass that
  /// does not run. Allocates nothing.
  void expect(const ParameterBelief& belief, Pass pass, std::int64_t capacity, Eigen::VectorXd& us) const;

  /// In microseconds over those of the fastest plan, both passes together: what is left out.
  static constexpr double kFarBehind = 2.5;

 private:
  struct Table {
    Eigen::VectorXd low_us, high_us;  // at the ends of the span
    Eigen::MatrixXd slopes;           // (plans, parameters), to one sigma
    Eigen::VectorXd constants;
    Eigen::VectorXd own_variances;
    std::vector<Record> records;
  };

  [[nodiscard]] static std::size_t at(std::int32_t place) { return static_cast<std::size_t>(place); }
  [[nodiscard]] Table& table(Pass pass) { return tables_[static_cast<std::size_t>(pass)]; }
  [[nodiscard]] const Table& table(Pass pass) const { return tables_[static_cast<std::size_t>(pass)]; }
  [[nodiscard]] Workload workload_at(std::int64_t capacity) const;
  [[nodiscard]] double fraction_at(std::int64_t capacity) const;
  [[nodiscard]] std::vector<Plan> select_plans(const CostModel& costs) const;
  void fill(Table& table, Pass pass, const ModelNeighbourhood& neighbourhood);

  LayerLoad first_;
  CapacitySpan span_;
  Cluster cluster_;
  Passes passes_;
  std::int64_t version_ = 0;
  std::int64_t visits_ = 0;
  std::int64_t visits_at_build_ = 0;
  std::vector<Plan> pinned_;
  Eigen::VectorXd offsets_;
  std::vector<Plan> plans_;
  std::vector<std::int32_t> groups_;
  std::array<Table, 2> tables_;  // by pass
};

}  // namespace flex
