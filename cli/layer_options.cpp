#include "cli/layer_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/require.h"
#include "kernels/moe/route.h"

namespace flex::cli {

MoeConfig LayerOptions::config() const {
  MoeConfig config{.model_dim = model_dim,
                   .hidden_dim = hidden_dim,
                   .num_experts = experts,
                   .dtype = *parse_dtype(dtype),
                   .gate = gate == "cosine" ? GateKind::kCosine : GateKind::kLinear,
                   .batch_prioritized_routing = batch_prioritized,
                   .ffn = activation == "swiglu" ? FfnKind::kGated : FfnKind::kStandard,
                   .gate_loss = *parse_gate_loss(loss)};
  if (const auto parsed = parse_activation(activation)) config.activation = *parsed;
  // The losses that look at the noise need some.
  if (loss.starts_with("load_importance")) config.gate_noise = 1.0;
  return config;
}

LayerShape LayerOptions::shape() const {
  return {.num_tokens = tokens,
          .model_dim = model_dim,
          .hidden_dim = hidden_dim,
          .num_experts = experts,
          .top_k = top_k,
          .capacity_factor = capacity_factor};
}

Workload LayerOptions::workload(int world, std::optional<std::int64_t> needed_capacity) const {
  const MoeConfig layer = config();
  validate(layer, world);
  Workload workload = workload_of(layer, world);
  workload.num_tokens = tokens;
  workload.top_k = top_k;
  require(top_k <= experts, "--top-k is {}, but there are {} experts", top_k, experts);
  workload.dropless = capacity_factor <= 0;
  const std::int64_t balanced = (tokens * top_k + experts - 1) / experts;
  const std::int64_t needed = needed_capacity.value_or(balanced);
  require(needed >= balanced,
          "--needed-capacity is {}; {} choices of {} experts need at least {} slots of the fullest", needed,
          tokens * top_k, experts, balanced);
  workload.capacity = expert_capacity(top_k, capacity_factor, tokens, experts, needed);
  return workload;
}

std::string LayerOptions::text(const std::string& experts_text) const {
  return fmt::format("T = {} tokens per rank, M = {}, H = {}, E = {}, k = {}, f = {}, {}, {} gate, {}",
                     tokens, model_dim, hidden_dim,
                     experts_text.empty() ? fmt::format("{}", experts) : experts_text, top_k, capacity_factor,
                     dtype, gate, activation);
}

nlohmann::ordered_json LayerOptions::json() const {
  return {{"tokens_per_rank", tokens},
          {"model_dim", model_dim},
          {"hidden_dim", hidden_dim},
          {"experts", experts},
          {"top_k", top_k},
          {"capacity_factor", capacity_factor},
          {"dtype", dtype},
          {"gate", gate},
          {"activation", activation},
          {"gate_loss", loss},
          {"batch_prioritized", batch_prioritized}};
}

void add_layer_options(CLI::App& command, LayerOptions& options) {
  const auto size = [&](const char* name, std::int64_t& value, const char* help) {
    command.add_option(name, value, help)
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
        ->capture_default_str();
  };
  command.add_option("--tokens", options.tokens, "Tokens on each rank")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->capture_default_str();
  size("--model-dim", options.model_dim, "Width of a token, M");
  size("--hidden-dim", options.hidden_dim, "Hidden width of an expert, H");
  size("--experts", options.experts, "Experts in the whole layer, E");
  size("--top-k", options.top_k, "Experts that each token takes, k");
  command
      .add_option("--capacity-factor", options.capacity_factor,
                  "f: above 0 fixed capacity, 0 dropless, below 0 dropless up to -f")
      ->capture_default_str();
  command
      .add_option("--dtype", options.dtype, "Element type: fp32 or fp64 on cpu; fp32, fp16 or bf16 on cuda")
      ->check(CLI::IsMember({"fp32", "fp64", "fp16", "bf16"}))
      ->capture_default_str();
  command.add_option("--gate", options.gate, "Of the router: linear or cosine")
      ->check(CLI::IsMember({"linear", "cosine"}))
      ->capture_default_str();
  command.add_option("--activation", options.activation, "Of the experts")
      ->check(CLI::IsMember({"gelu", "relu", "silu", "swiglu"}))
      ->capture_default_str();
  command.add_option("--gate-loss", options.loss, "Auxiliary loss")
      ->check(CLI::IsMember({"none", "gshard", "load_importance", "load_importance_released"}))
      ->capture_default_str();
  command.add_flag("--batch-prioritized", options.batch_prioritized, "Serve tokens with large scores first");
}

}  // namespace flex::cli
