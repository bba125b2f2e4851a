#include "tests/support/reference_layer.h"

#include <algorithm>
#include <span>

#include "base/philox.h"
#include "base/require.h"
#include "tests/support/reference_expert.h"
#include "tests/support/reference_gate.h"
#include "tests/support/reference_loss.h"
#include "tests/support/reference_route.h"

namespace flex::testing {
namespace {

void check(const ReferenceConfig& config, ReferenceParameters parameters, const ReferenceCall& call,
           const std::vector<ReferenceTokens>& tokens) {
  require(config.model_dim >= 1 && config.num_experts >= 1, "reference_layer: model_dim {}, num_experts {}",
          config.model_dim, config.num_experts);
  require(call.top_k >= 1 && call.top_k <= config.num_experts, "reference_layer: top_k {} of {} experts",
          call.top_k, config.num_experts);
  ReferenceParameters expected = zero_parameters(config);
  const auto given = list_parameters(parameters);
  const auto wanted = list_parameters(expected);
  for (std::size_t i = 0; i < given.size(); ++i) {
    require(given[i].second->size() == wanted[i].second->size(),
            "reference_layer: {} has {} elements, not {}", given[i].first, given[i].second->size(),
            wanted[i].second->size());
  }
  for (const ReferenceTokens& rank : tokens) {
    require(std::ssize(rank.x) % config.model_dim == 0 && rank.x.size() == rank.dy.size(),
            "reference_layer: x has {} and dy {} elements for model_dim {}", rank.x.size(), rank.dy.size(),
            config.model_dim);
  }
  const bool needs_noise =
      config.loss == ReferenceLoss::kLoadImportance || config.loss == ReferenceLoss::kLoadImportanceReleased;
  require(!needs_noise || config.gate_noise > 0.0,
          "reference_layer: the load_importance losses need gate_noise > 0");
}

std::vector<double> noisy_logits(const ReferenceConfig& config, const ReferenceCall& call,
                                 const std::vector<double>& clean, std::int64_t first_token) {
  std::vector<double> noisy = clean;
  if (!call.add_noise || config.gate_noise <= 0.0) return noisy;
  for (std::int64_t i = 0; i < std::ssize(noisy); ++i) {
    const std::int64_t token = first_token + i / config.num_experts;
    noisy[i] += config.gate_noise / static_cast<double>(config.num_experts) *
                gate_noise_normal(call.seed, call.iteration, call.layer, token, i % config.num_experts);
  }
  return noisy;
}

/// What the expert sees of a token: x, times the gate if the gate comes before the expert.
std::vector<double> expert_input(const ReferenceConfig& config, const ReferenceTokens& tokens,
                                 std::int64_t token, double gate) {
  const auto begin = tokens.x.begin() + token * config.model_dim;
  std::vector<double> input(begin, begin + config.model_dim);
  if (!config.is_postscore) {
    for (double& value : input) value *= gate;
  }
  return input;
}

/// One call on one source rank: the dispatched choices are those with a location below the capacity.
struct ExpertPass {
  ReferenceLayerView layer;
  std::int64_t top_k;
  std::int64_t capacity;
};

void run_experts(const ExpertPass& pass, const ReferenceTokens& tokens, ReferenceRank& rank) {
  const ReferenceConfig& config = pass.layer.config;
  rank.y.assign(rank.num_tokens * config.model_dim, 0.0);
  for (std::int64_t choice = 0; choice < std::ssize(rank.indices); ++choice) {
    if (rank.locations[choice] >= pass.capacity) {
      ++rank.num_dropped;
      continue;
    }
    const std::int64_t token = choice / pass.top_k;
    const double gate = rank.gates[choice];
    const std::vector<double> output =
        expert_forward(pass.layer, rank.indices[choice], expert_input(config, tokens, token, gate));
    const double factor = config.is_postscore ? gate : 1.0;
    for (std::int64_t m = 0; m < config.model_dim; ++m)
      rank.y[token * config.model_dim + m] += factor * output[m];
  }
}

/// Adds the gradients of sum(y * dy) by the experts' parameters and, in rank.dx, by x through the experts;
/// returns those by the gates.
std::vector<double> run_experts_backward(const ExpertPass& pass, const ReferenceTokens& tokens,
                                         ReferenceRank& rank, ReferenceParameters& gradients) {
  const ReferenceConfig& config = pass.layer.config;
  std::vector<double> dgates(rank.gates.size(), 0.0);
  for (std::int64_t choice = 0; choice < std::ssize(rank.indices); ++choice) {
    if (rank.locations[choice] >= pass.capacity) continue;
    const std::int64_t token = choice / pass.top_k;
    const std::int32_t expert = rank.indices[choice];
    const double gate = rank.gates[choice];
    const double* x = &tokens.x[token * config.model_dim];
    const double* dy = &tokens.dy[token * config.model_dim];
    const std::vector<double> input = expert_input(config, tokens, token, gate);
    std::vector<double> doutput(dy, dy + config.model_dim);
    if (config.is_postscore) {
      const std::vector<double> output = expert_forward(pass.layer, expert, input);
      for (std::int64_t m = 0; m < config.model_dim; ++m) {
        dgates[choice] += dy[m] * output[m];
        doutput[m] *= gate;
      }
    }
    const std::vector<double> dinput = expert_backward(pass.layer, expert, input, doutput, gradients);
    for (std::int64_t m = 0; m < config.model_dim; ++m) {
      if (!config.is_postscore) dgates[choice] += dinput[m] * x[m];
      rank.dx[token * config.model_dim + m] += config.is_postscore ? dinput[m] : gate * dinput[m];
    }
  }
  return dgates;
}

void compute_losses(const ReferenceConfig& config, const ReferenceCall& call,
                    const std::vector<ReferenceTokens>& tokens, ReferenceResult& result) {
  const std::span<const ReferenceRank> ranks(result.ranks);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const auto scope = config.local_loss_scope ? ranks.subspan(r, 1) : ranks;
    result.l_aux.push_back(auxiliary_loss(config, call.top_k, scope));
    if (config.local_loss_scope || r == 0) result.total_loss += call.aux_weight * result.l_aux[r];
    for (std::size_t i = 0; i < ranks[r].y.size(); ++i) result.total_loss += ranks[r].y[i] * tokens[r].dy[i];
  }
}

void add_loss_gradients(const ReferenceConfig& config, const ReferenceCall& call,
                        const ReferenceResult& result, std::vector<std::vector<double>>& dlogits) {
  const std::span<const ReferenceRank> ranks(result.ranks);
  const std::span<std::vector<double>> gradients(dlogits);
  if (!config.local_loss_scope) {
    auxiliary_loss_backward(config, call.top_k, ranks, call.aux_weight, gradients);
    return;
  }
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    auxiliary_loss_backward(config, call.top_k, ranks.subspan(r, 1), call.aux_weight,
                            gradients.subspan(r, 1));
  }
}

}  // namespace

ReferenceResult reference_forward(const ReferenceConfig& config, const ReferenceParameters& parameters,
                                  const ReferenceCall& call, const std::vector<ReferenceTokens>& tokens) {
  check(config, parameters, call, tokens);
  ReferenceResult result;
  std::int64_t first_token = 0;
  std::int64_t max_tokens = 0;
  std::int64_t needed = 0;
  for (const ReferenceTokens& source : tokens) {
    ReferenceRank rank;
    rank.num_tokens = std::ssize(source.x) / config.model_dim;
    rank.clean_logits = gate_logits({config, parameters}, source.x);
    rank.noisy_logits = noisy_logits(config, call, rank.clean_logits, first_token);
    rank.scores = softmax_rows(rank.noisy_logits, config.num_experts);
    choose_experts(config, call.top_k, rank);
    locate_choices(config, call.top_k, rank);
    first_token += rank.num_tokens;
    max_tokens = std::max(max_tokens, rank.num_tokens);
    for (const std::int32_t count : rank.expert_counts) needed = std::max<std::int64_t>(needed, count);
    result.ranks.push_back(std::move(rank));
  }
  result.capacity = reference_capacity(call, config.num_experts, max_tokens, needed);
  const ExpertPass pass = {{config, parameters}, call.top_k, result.capacity};
  for (std::size_t r = 0; r < tokens.size(); ++r) run_experts(pass, tokens[r], result.ranks[r]);
  compute_losses(config, call, tokens, result);
  return result;
}

ReferenceResult reference_layer(const ReferenceConfig& config, const ReferenceParameters& parameters,
                                const ReferenceCall& call, const std::vector<ReferenceTokens>& tokens) {
  ReferenceResult result = reference_forward(config, parameters, call, tokens);
  result.gradients = zero_parameters(config);
  const ExpertPass pass = {{config, parameters}, call.top_k, result.capacity};
  std::vector<std::vector<double>> dlogits;
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    ReferenceRank& rank = result.ranks[r];
    rank.dx.assign(tokens[r].x.size(), 0.0);
    const std::vector<double> dgates = run_experts_backward(pass, tokens[r], rank, result.gradients);
    dlogits.push_back(gates_backward(config, call.top_k, rank, dgates));
  }
  add_loss_gradients(config, call, result, dlogits);
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    gate_backward({config, parameters}, tokens[r].x, dlogits[r], result.gradients, result.ranks[r].dx);
  }
  return result;
}

}  // namespace flex::testing
