#include "tuner/trial.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/require.h"
#include "tuner/checksum.h"
#include "tuner/key_fields.h"

namespace flex {
namespace {

constexpr std::int64_t kCapacityStep = 128;
constexpr double kImbalanceStepsPerDoubling = 2;

// As the row of the field's table holds it.
template <class Field>
void add_field(Checksum& checksum, const Field& field) {
  if constexpr (std::is_same_v<Field, std::string>) {
    checksum.add(std::string_view(field));
  } else if constexpr (std::is_integral_v<Field>) {
    checksum.add(static_cast<std::int64_t>(field));
  } else {
    checksum.add(name(field));
  }
}

std::int64_t lower_median(std::vector<std::int64_t> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

template <class Enum, std::size_t kCount>
std::optional<Enum> parse_name(std::string_view text, const std::array<Enum, kCount>& values) {
  for (const Enum value : values) {
    if (text == name(value)) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string_view name(TrialSource source) {
  switch (source) {
    case TrialSource::kSimulated:
      return "simulated";
    case TrialSource::kImported:
      return "imported";
    case TrialSource::kMeasured:
      return "measured";
  }
  return "?";
}

std::optional<TrialSource> parse_trial_source(std::string_view text) {
  using enum TrialSource;
  return parse_name(text, std::array{kSimulated, kImported, kMeasured});
}

std::string_view name(TrialOutcome outcome) {
  switch (outcome) {
    case TrialOutcome::kCorrect:
      return "correct";
    case TrialOutcome::kTimeout:
      return "timeout";
    case TrialOutcome::kCompile:
      return "compile";
    case TrialOutcome::kRuntime:
      return "runtime";
    case TrialOutcome::kCorrectness:
      return "correctness";
    case TrialOutcome::kConstraints:
      return "constraints";
  }
  return "?";
}

std::optional<TrialOutcome> parse_trial_outcome(std::string_view text) {
  using enum TrialOutcome;
  return parse_name(text, std::array{kCorrect, kTimeout, kCompile, kRuntime, kCorrectness, kConstraints});
}

void summarize(Trial& trial) {
  trial.median_ns = trial.spread_ns = 0;
  if (trial.samples_ns.empty()) return;
  trial.median_ns = lower_median(trial.samples_ns);
  std::vector<std::int64_t> distances;
  distances.reserve(trial.samples_ns.size());
  for (const std::int64_t sample : trial.samples_ns) distances.push_back(std::abs(sample - trial.median_ns));
  trial.spread_ns = lower_median(std::move(distances));
}

std::optional<std::string> why_invalid(const Trial& trial) {
  if (trial.plan.parallel_degree < 0 || trial.plan.pipeline_degree < 1)
    return "r is 0 or more and d 1 or more";
  for (const std::int64_t sample : trial.samples_ns) {
    if (sample <= 0) return fmt::format("a sample is {} ns; durations are above zero", sample);
  }
  if ((trial.outcome == TrialOutcome::kCorrect) == trial.samples_ns.empty()) {
    return fmt::format("its outcome is {}, but it has {} sample(s)", name(trial.outcome),
                       trial.samples_ns.size());
  }
  for (const std::int64_t count : {trial.num_tokens, trial.capacity, trial.num_warmup, trial.num_repeats,
                                   trial.device_clock_MHz, trial.measured_at_ns}) {
    if (count < 0) return fmt::format("a size, a count or a time is {}; it is zero or more", count);
  }
  Trial summarized = trial;
  summarize(summarized);
  if (summarized == trial) return std::nullopt;
  return fmt::format("its median {} ns and spread {} ns are not {} ns and {} ns, those of its samples",
                     trial.median_ns, trial.spread_ns, summarized.median_ns, summarized.spread_ns);
}

void validate(const Trial& trial) {
  if (const auto reason = why_invalid(trial)) fail("trial of {}: {}", to_string(trial.plan), *reason);
}

Plan default_plan(const TuningCase& one) {
  Plan plan = kDefaultPlan;
  if (one.given_degree != kFreeDegree) plan.parallel_degree = one.given_degree;
  return plan;
}

std::int32_t capacity_bucket(std::int64_t capacity) {
  require(capacity >= 0, "capacity is {}; it is zero or more", capacity);
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(capacity / kCapacityStep, std::numeric_limits<std::int32_t>::max()));
}

std::int32_t imbalance_bucket(double max_over_mean) {
  require(max_over_mean >= 1 && std::isfinite(max_over_mean),
          "the largest load is {} of the mean; it is at least 1", max_over_mean);
  return static_cast<std::int32_t>(std::floor(kImbalanceStepsPerDoubling * std::log2(max_over_mean)));
}

TunedLayer layer_of(const Workload& w) {
  return {.num_experts = w.num_experts,
          .top_k = w.top_k,
          .model_dim = w.model_dim,
          .hidden_dim = w.hidden_dim,
          .dtype = w.dtype,
          .ffn = w.ffn,
          .fc1_bias = w.fc1_bias,
          .fc2_bias = w.fc2_bias,
          .train_fc2_bias = w.train_fc2_bias,
          .is_postscore = w.is_postscore,
          .gate = w.gate,
          .projection_dim = w.gate == GateKind::kCosine ? w.projection_dim : 0,
          .gate_noise = w.gate_noise,
          .gate_loss = w.gate_loss,
          .global_loss_scope = w.global_loss_scope,
          .dropless = w.dropless,
          .regather_weights = w.regather_weights};
}

Workload workload_of(const TuningKey& key) {
  const TunedLayer& l = key.layer;
  return {.world = static_cast<int>(key.environment.world),
          .num_experts = l.num_experts,
          .capacity = (key.one.capacity_bucket + std::int64_t{1}) * kCapacityStep - 1,
          .top_k = l.top_k,
          .model_dim = l.model_dim,
          .hidden_dim = l.hidden_dim,
          .dtype = l.dtype,
          .pass = key.one.pass,
          .ffn = l.ffn,
          .fc1_bias = l.fc1_bias,
          .fc2_bias = l.fc2_bias,
          .train_fc2_bias = l.train_fc2_bias,
          .is_postscore = l.is_postscore,
          .gate = l.gate,
          .projection_dim = l.projection_dim,
          .gate_noise = l.gate_noise,
          .gate_loss = l.gate_loss,
          .global_loss_scope = l.global_loss_scope,
          .dropless = l.dropless,
          .regather_weights = l.regather_weights};
}

TuningCase case_of(const Workload& workload, double max_over_mean, std::int32_t given_degree) {
  return {.capacity_bucket = capacity_bucket(workload.capacity),
          .imbalance_bucket = imbalance_bucket(max_over_mean),
          .pass = workload.pass,
          .given_degree = given_degree};
}

Environment environment_of(const Cluster& cluster) {
  return {.device = cluster.device.name,
          .intra_node = cluster.intra_node.name,
          .inter_node = cluster.inter_node.name,
          .world = cluster.world(),
          .ranks_per_node = cluster.ranks_per_node,
          .ranks_per_device = cluster.ranks_per_device};
}

std::uint64_t environment_id(const Environment& environment) {
  Checksum checksum;
  for_each_environment_field(environment,
                             [&](const char*, const auto& field) { add_field(checksum, field); });
  return checksum.value();
}

std::uint64_t layer_id(const TunedLayer& layer) {
  Checksum checksum;
  for_each_layer_field(layer, [&](const char*, const auto& field) { add_field(checksum, field); });
  return checksum.value();
}

namespace {

void add_key(Checksum& checksum, const TuningKey& key) {
  checksum.add(static_cast<std::int64_t>(environment_id(key.environment)));
  checksum.add(static_cast<std::int64_t>(layer_id(key.layer)));
  checksum.add(std::int64_t{key.one.capacity_bucket});
  checksum.add(std::int64_t{key.one.imbalance_bucket});
  checksum.add(name(key.one.pass));
  checksum.add(std::int64_t{key.one.given_degree});
}

}  // namespace

std::uint64_t trial_id(const TuningKey& key, const Trial& trial) {
  Checksum checksum;
  add_key(checksum, key);
  checksum.add(to_string(trial.plan));
  checksum.add(name(trial.outcome));
  for (const std::int64_t value : {trial.num_tokens, trial.capacity, trial.num_warmup, trial.num_repeats,
                                   trial.device_clock_MHz, trial.measured_at_ns}) {
    checksum.add(value);
  }
  for (const std::int64_t sample : trial.samples_ns) checksum.add(sample);
  return checksum.value();
}

std::string case_name(const TuningKey& key) {
  Checksum checksum;
  add_key(checksum, key);
  return fmt::format("{:016x}", checksum.value());
}

std::int64_t now_ns() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch).count();
}

}  // namespace flex
