#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/plan.h"
#include "costmodel/workload.h"

/// What the tuner remembers: where a pass ran (Environment), what ran (TunedLayer, TuningCase), how fast a
/// plan was (Trial), and which plan is best (Decision). Plain values; all but samples compare by ==.
namespace flex {

/// Hardware, software and topology of a job. What was measured in one environment says nothing about
/// another: any difference is a miss. Text that is not known is empty.
struct Environment {
  std::string device;      ///< model name of what computes, e.g. `NVIDIA H200`
  std::string intra_node;  ///< name of the links inside a node
  std::string inter_node;  ///< and between nodes
  std::string driver;      ///< version of the GPU's driver
  std::string cuda;        ///< version of the CUDA runtime
  std::string nccl;        ///< version of NCCL, or of what else moves tensors
  std::string build;       ///< of Flex: version, compiler, build type
  std::int64_t world = 1;
  std::int64_t ranks_per_node = 1;
  std::int64_t ranks_per_device = 1;

  friend bool operator==(const Environment&, const Environment&) = default;
};

/// The fields of a layer that its fastest plan may depend on: Workload without what changes from pass to
/// pass, and without the agreement on token counts, which all plans pay alike.
struct TunedLayer {
  std::int64_t num_experts = 1;
  std::int64_t top_k = 1;
  std::int64_t model_dim = 1;
  std::int64_t hidden_dim = 1;
  DType dtype = DType::kF32;
  FfnKind ffn = FfnKind::kStandard;
  bool fc1_bias = true;
  bool fc2_bias = true;
  bool train_fc2_bias = true;
  bool is_postscore = true;
  GateKind gate = GateKind::kLinear;
  std::int64_t projection_dim = 0;  ///< of the cosine gate; 0 for the linear one
  bool gate_noise = false;
  bool gate_loss = true;
  bool global_loss_scope = true;
  bool dropless = false;
  bool regather_weights = false;

  friend constexpr bool operator==(const TunedLayer&, const TunedLayer&) = default;
};

/// given_degree of a pass that chooses r itself.
inline constexpr std::int32_t kFreeDegree = -1;

/// One pass of a layer at about one load.
struct TuningCase {
  std::int32_t capacity_bucket = 0;   ///< floor(C / 128)
  std::int32_t imbalance_bucket = 0;  ///< floor(2 log2(max / mean)) of the tokens per expert
  Pass pass = Pass::kForward;
  std::int32_t given_degree =
      kFreeDegree;  ///< r that the pass must use: the forward plan's, for a backward pass

  friend constexpr auto operator<=>(const TuningCase&, const TuningCase&) = default;
};

/// What a trial or a decision is about.
struct TuningKey {
  Environment environment;
  TunedLayer layer;
  TuningCase one;

  friend bool operator==(const TuningKey&, const TuningKey&) = default;
};

enum class TrialSource : std::uint8_t { kSimulated, kImported, kMeasured };  ///< from the least trusted on
/// `simulated`, `imported`, `measured`.
[[nodiscard]] std::string_view name(TrialSource source);
[[nodiscard]] std::optional<TrialSource> parse_trial_source(std::string_view text);

/// Whether a plan ran, in the words of the T4 results format.
enum class TrialOutcome : std::uint8_t { kCorrect, kTimeout, kCompile, kRuntime, kCorrectness, kConstraints };
/// `correct`, `timeout`, `compile`, `runtime`, `correctness`, `constraints`.
[[nodiscard]] std::string_view name(TrialOutcome outcome);
[[nodiscard]] std::optional<TrialOutcome> parse_trial_outcome(std::string_view text);

/// One evaluation of one plan, with the conditions under which it was made.
struct Trial {
  Plan plan;
  TrialOutcome outcome = TrialOutcome::kCorrect;
  TrialSource source = TrialSource::kMeasured;
  std::string origin;           ///< who made it: a command, a calibration, a file
  std::int64_t num_tokens = 0;  ///< T and C of the pass; 0 where several were mixed
  std::int64_t capacity = 0;
  std::int64_t num_warmup = 0;        ///< passes before the first sample
  std::int64_t num_repeats = 0;       ///< passes in one sample
  std::int64_t device_clock_MHz = 0;  ///< 0: not known
  std::vector<std::int64_t>
      samples_ns;                   ///< of one pass each, the maximum over ranks; empty if it did not run
  std::int64_t median_ns = 0;       ///< of the samples
  std::int64_t spread_ns = 0;       ///< median absolute deviation of the samples from their median
  std::int64_t measured_at_ns = 0;  ///< since 1970-01-01 UTC

  friend bool operator==(const Trial&, const Trial&) = default;
};

/// Sets median_ns and spread_ns from the samples: of an even number, the lower of the two in the middle.
void summarize(Trial& trial);

/// Why a trial cannot be: a negative duration or count, summaries that are not those of the samples, a trial
/// that ran and has no samples. Nothing if it can.
[[nodiscard]] std::optional<std::string> why_invalid(const Trial& trial);
/// @throws InputError with why_invalid().
void validate(const Trial& trial);

/// The fastest known plan of a case.
struct Decision {
  Plan plan;
  TrialSource source = TrialSource::kMeasured;  ///< of the trials that it rests on
  bool is_complete = false;                     ///< the search came to its own end; otherwise it may go on
  std::string strategy;                         ///< of the search
  std::int64_t median_ns = 0;
  std::int64_t default_median_ns = 0;  ///< of the default plan in the same trials
  std::uint64_t plan_trial = 0;        ///< trial_id of what median_ns comes from
  std::uint64_t default_trial = 0;
  std::int64_t num_trials = 0;  ///< that were compared
  std::int64_t decided_at_ns = 0;

  friend bool operator==(const Decision&, const Decision&) = default;
};

/// The plan that every other is compared with: r1 d1 linear, or d1 linear with the given r.
[[nodiscard]] Plan default_plan(const TuningCase& one);

[[nodiscard]] std::int32_t capacity_bucket(std::int64_t capacity);
/// @param max_over_mean of the tokens per expert; at least 1. Steps of sqrt(2).
[[nodiscard]] std::int32_t imbalance_bucket(double max_over_mean);

[[nodiscard]] TunedLayer layer_of(const Workload& workload);
/// @param max_over_mean 1 where the load does not depend on the routing, as with a capacity.
[[nodiscard]] TuningCase case_of(const Workload& workload, double max_over_mean = 1,
                                 std::int32_t given_degree = kFreeDegree);
/// The inverse of layer_of() and case_of(), at the largest capacity of the bucket; T is not known.
[[nodiscard]] Workload workload_of(const TuningKey& key);
/// Topology and hardware of a cluster; the versions are left empty.
[[nodiscard]] Environment environment_of(const Cluster& cluster);

/// Equal on every rank, machine and run; what the cache knows these values by.
[[nodiscard]] std::uint64_t environment_id(const Environment& environment);
[[nodiscard]] std::uint64_t layer_id(const TunedLayer& layer);
/// Over what was observed, but not `source` and `origin`: a trial that travels through a file is the same
/// one.
[[nodiscard]] std::uint64_t trial_id(const TuningKey& key, const Trial& trial);
/// Of a whole key, as users name a case: 16 hexadecimal digits.
[[nodiscard]] std::string case_name(const TuningKey& key);

/// The time of the wall clock, for measured_at_ns and decided_at_ns.
[[nodiscard]] std::int64_t now_ns();

}  // namespace flex
