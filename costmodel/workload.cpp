#include "costmodel/workload.h"

#include <algorithm>

#include "base/require.h"

namespace flex {

std::string_view name(Pass pass) { return pass == Pass::kForward ? "forward" : "backward"; }

std::string_view name(GateKind kind) { return kind == GateKind::kLinear ? "linear" : "cosine"; }

void validate(const Workload& w) {
  require(w.world >= 1, "world size is {}; it is at least 1", w.world);
  require(w.num_experts >= 1, "num_experts is {}; it is at least 1", w.num_experts);
  require(w.num_experts % w.world == 0 || w.world % w.num_experts == 0,
          "{} experts do not spread over {} ranks: one must divide the other", w.num_experts, w.world);
  require(w.model_dim >= 1, "model_dim is {}; it is at least 1", w.model_dim);
  require(w.hidden_dim >= 1, "hidden_dim is {}; it is at least 1", w.hidden_dim);
  require(w.hidden_dim % w.shards() == 0,
          "hidden_dim {} is not divisible by the {} ranks that share an expert", w.hidden_dim, w.shards());
  require(w.num_tokens >= 0, "num_tokens is {}; it is zero or more", w.num_tokens);
  require(w.capacity >= 0, "capacity is {}; it is zero or more", w.capacity);
  require(w.top_k >= 1 && w.top_k <= w.num_experts, "top_k is {}; with {} experts it is from 1 to {}",
          w.top_k, w.num_experts, w.num_experts);
  require(w.gate == GateKind::kLinear || w.projection_dim >= 1, "projection_dim is {}; it is at least 1",
          w.projection_dim);
  // The largest buffer, E * C * max(M, H) elements for each of up to s copies, must be far from overflow.
  constexpr double kMaxElements = 1e17;
  const double largest = static_cast<double>(w.num_experts) *
                         (static_cast<double>(w.capacity) + static_cast<double>(w.shards())) *
                         static_cast<double>(w.shards()) *
                         static_cast<double>(std::max(w.model_dim, w.hidden_dim));
  require(largest <= kMaxElements,
          "a capacity of {} slots for each of {} experts is more than any memory holds", w.capacity,
          w.num_experts);
  require(is_floating(w.dtype), "dtype {} is not a floating type", name(w.dtype));
}

}  // namespace flex
