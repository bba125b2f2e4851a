#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

/// A second implementation of the whole layer, to test against: double throughout, plain loops, no threads,
/// no collectives. It shares nothing with the kernels but the generator of the gate's noise. Matrices are
/// row-major vectors. T tokens of one rank, M model dim, H hidden dim, E experts, k choices, P projection.
/// @source numerics.md "Gate" to "Losses on the gate" and "Parallelism": the one-rank result that W ranks
/// must equal
namespace flex::testing {

enum class ReferenceActivation : std::uint8_t { kGelu, kRelu, kSilu };
enum class ReferenceGate : std::uint8_t { kLinear, kCosine };
enum class ReferenceLoss : std::uint8_t { kNone, kGshard, kLoadImportance, kLoadImportanceReleased };

/// What is fixed when the layer is made.
struct ReferenceConfig {
  std::int64_t model_dim = 0;
  std::int64_t hidden_dim = 0;
  std::int64_t num_experts = 0;
  ReferenceActivation activation = ReferenceActivation::kGelu;  ///< of the plain experts; gated ones use silu
  bool gated = false;
  bool has_fc2_bias = true;
  ReferenceGate gate = ReferenceGate::kLinear;
  std::int64_t proj_dim = 256;  ///< of the cosine gate
  bool normalize_gate = true;
  bool batch_prioritized = false;
  bool is_postscore = true;
  ReferenceLoss loss = ReferenceLoss::kGshard;
  double gate_noise = 0.0;     ///< the standard deviation is gate_noise / E
  double z_loss_weight = 0.0;  ///< adds z_loss_weight * mean of logsumexp(clean logits)^2 to l_aux
  bool local_loss_scope = false;
};

/// Parameters, or their gradients. What the configuration does not use stays empty.
struct ReferenceParameters {
  std::vector<double> gate_weight = {};       ///< (E, M) linear gate
  std::vector<double> projector_weight = {};  ///< (P, M) cosine gate
  std::vector<double> projector_bias = {};    ///< (P)
  std::vector<double> sim_matrix = {};        ///< (P, E)
  std::vector<double> temperature = {};       ///< (1)
  std::vector<double> fc1_w = {};             ///< (E, H, M) plain experts
  std::vector<double> fc1_bias = {};          ///< (E, H)
  std::vector<double> fc2_w = {};             ///< (E, H, M)
  std::vector<double> fc2_bias = {};          ///< (E, M) if has_fc2_bias
  std::vector<double> w1 = {};                ///< (E, H, M) gated experts
  std::vector<double> w2 = {};                ///< (E, H, M)
  std::vector<double> w3 = {};                ///< (E, H, M)
};

/// Every member of `parameters` with its name, those that stay empty included; pointers into `parameters`.
[[nodiscard]] std::vector<std::pair<std::string, std::vector<double>*>> list_parameters(
    ReferenceParameters& parameters);

/// Zeros in the shapes that `config` asks for.
[[nodiscard]] ReferenceParameters zero_parameters(const ReferenceConfig& config);

/// Deterministic values in the shapes that `config` asks for, the same on every platform: uniform in [-1, 1),
/// the experts' matrices divided by the square root of their inputs; temperature ln 2.
[[nodiscard]] ReferenceParameters random_parameters(const ReferenceConfig& config, std::uint64_t seed);

/// `count` values uniform in [-1, 1), the same on every platform.
[[nodiscard]] std::vector<double> random_values(std::int64_t count, std::uint64_t seed);

/// What may change in every iteration.
struct ReferenceCall {
  std::int64_t top_k = 1;
  double capacity_factor = 1.0;
  bool add_noise = false;  ///< adds gate_noise / E * N(0, 1) to the logits
  std::uint64_t seed = 0;
  std::uint64_t iteration = 0;
  std::uint32_t layer = 0;
  double aux_weight = 0.0;  ///< gradient of the total loss by l_aux
};

/// One source rank's tokens and the gradient of the total loss by their outputs.
struct ReferenceTokens {
  std::vector<double> x;   ///< (T, M)
  std::vector<double> dy;  ///< (T, M)
};

/// What one source rank gets back.
struct ReferenceRank {
  std::int64_t num_tokens = 0;
  std::vector<double> clean_logits;         ///< (T, E)
  std::vector<double> noisy_logits;         ///< (T, E), the clean ones if no noise is added
  std::vector<double> scores;               ///< (T, E) softmax of the noisy logits
  std::vector<std::int32_t> indices;        ///< (T, k) chosen experts, best first
  std::vector<double> gates;                ///< (T, k) kept also where the choice is dropped
  std::vector<std::int32_t> locations;      ///< (T, k) kept also where they are C or more
  std::vector<std::int32_t> expert_counts;  ///< (E) choices that want the expert, before any are dropped
  std::int64_t num_dropped = 0;             ///< choices with location >= C
  std::vector<double> y;                    ///< (T, M)
  std::vector<double> dx;                   ///< (T, M) gradient of the total loss
};

struct ReferenceResult {
  std::int64_t capacity = 0;  ///< C, not rounded up
  std::vector<double> l_aux;  ///< per rank; all equal in the global scope; z-loss included
  double total_loss = 0.0;  ///< sum(y * dy) + aux_weight * l_aux, in the local scope sum of l_aux over ranks
  std::vector<ReferenceRank> ranks;
  ReferenceParameters gradients;  ///< of total_loss, so summed over all ranks' tokens
};

/// Slots per expert and source rank; `needed` is the largest count of any expert on any rank.
[[nodiscard]] std::int64_t reference_capacity(const ReferenceCall& call, std::int64_t num_experts,
                                              std::int64_t max_tokens, std::int64_t needed);

/// Forward pass only: dx and the gradients stay empty. @throws InputError for shapes that disagree with
/// `config`, top_k outside [1, E], or a load_importance loss without gate_noise.
[[nodiscard]] ReferenceResult reference_forward(const ReferenceConfig& config,
                                                const ReferenceParameters& parameters,
                                                const ReferenceCall& call,
                                                const std::vector<ReferenceTokens>& tokens);

/// Forward and backward pass of `total_loss`; one element of `tokens` per source rank. Throws as
/// reference_forward.
[[nodiscard]] ReferenceResult reference_layer(const ReferenceConfig& config,
                                              const ReferenceParameters& parameters,
                                              const ReferenceCall& call,
                                              const std::vector<ReferenceTokens>& tokens);

}  // namespace flex::testing
