#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "kernels/moe/route.h"

namespace flex {
namespace {

// scores = exp(logits - max) / sum of the same.
template <class T>
void softmax_row(const T* logits, T* scores, std::int64_t experts, std::int64_t token) {
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    require(std::isfinite(logits[expert]),
            "route: the logit of token {} for expert {} is {}, expected a finite number", token, expert,
            logits[expert]);
  }
  const T largest = *std::max_element(logits, logits + experts);
  T sum = T(0);
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    scores[expert] = std::exp(logits[expert] - largest);
    sum += scores[expert];
  }
  for (std::int64_t expert = 0; expert < experts; ++expert) scores[expert] /= sum;
}

// The k experts of largest score, best first. Experts come in ascending order and pass an earlier one only
// with a strictly larger score, so that ties go to the lower index.
template <class T>
void top_k_row(const T* scores, std::int32_t* indices, std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    std::int64_t place = std::min(expert, top_k);
    while (place > 0 && scores[expert] > scores[indices[place - 1]]) --place;
    if (place == top_k) continue;
    for (std::int64_t later = std::min(expert, top_k - 1); later > place; --later)
      indices[later] = indices[later - 1];
    indices[place] = static_cast<std::int32_t>(expert);
  }
}

// What a token's gate weights are divided by.
template <class T>
T gate_divisor(const T* scores, const std::int32_t* indices, std::int64_t top_k, bool normalize_gate) {
  if (!normalize_gate || top_k == 1) return T(1);
  T sum = T(0);
  for (std::int64_t choice = 0; choice < top_k; ++choice) sum += scores[indices[choice]];
  return std::max(sum, static_cast<T>(gate_sum_floor(kDTypeOf<T>)));
}

// Tokens in the order in which they take slots.
template <class T>
void order_tokens(const RouteArgs& args, std::int32_t* order) {
  const std::int64_t tokens = args.logits.size(0);
  for (std::int64_t token = 0; token < tokens; ++token) order[token] = static_cast<std::int32_t>(token);
  if (!args.batch_prioritized) return;
  const auto best = [&args](std::int32_t token) {
    return args.scores.slice<T>(token)[args.indices.slice<std::int32_t>(token)[0]];
  };
  std::sort(order, order + tokens, [&best](std::int32_t a, std::int32_t b) {
    const T best_a = best(a);
    const T best_b = best(b);
    return best_a != best_b ? best_a > best_b : a < b;
  });
}

}  // namespace

template <class T>
void route_cpu(const RouteArgs& args) {
  const std::int64_t tokens = args.logits.size(0);
  const std::int64_t experts = args.logits.size(1);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    T* scores = args.scores.slice<T>(token);
    std::int32_t* indices = args.indices.slice<std::int32_t>(token);
    softmax_row(args.logits.slice<T>(token), scores, experts, token);
    top_k_row(scores, indices, experts, top_k);
    const T divisor = gate_divisor(scores, indices, top_k, args.normalize_gate);
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      args.gates.slice<T>(token)[choice] = scores[indices[choice]] / divisor;
    }
  }

  auto* order = args.workspace.as<std::int32_t>();
  order_tokens<T>(args, order);
  auto* counts = args.counts.as<std::int32_t>();
  std::fill_n(counts, experts, 0);
  for (std::int64_t choice = 0; choice < top_k; ++choice) {
    for (std::int64_t place = 0; place < tokens; ++place) {
      const std::int32_t expert = args.indices.slice<std::int32_t>(order[place])[choice];
      args.locations.slice<std::int32_t>(order[place])[choice] = counts[expert]++;
    }
  }
  args.needed_capacity.as<std::int32_t>()[0] = *std::max_element(counts, counts + experts);
}

// gate_j = s_j / D with D = max(sum of s, floor): ds_j = (dgate_j - sum_i dgate_i gate_i) / D, without the
// sum where the floor binds. Softmax: dlogit_e = s_e (ds_e - sum_i s_i ds_i).
template <class T>
void route_backward_cpu(const RouteBackwardArgs& args) {
  const std::int64_t tokens = args.scores.size(0);
  const std::int64_t experts = args.scores.size(1);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const T* scores = args.scores.slice<T>(token);
    const auto* indices = args.indices.slice<std::int32_t>(token);
    const T* dgates = args.dgates.slice<T>(token);
    const T divisor = gate_divisor(scores, indices, top_k, args.normalize_gate);
    const bool normalized =
        args.normalize_gate && top_k > 1 && divisor > static_cast<T>(gate_sum_floor(kDTypeOf<T>));
    T along = T(0);
    for (std::int64_t choice = 0; choice < top_k && normalized; ++choice) {
      along += dgates[choice] * (scores[indices[choice]] / divisor);
    }

    T* dlogits = args.dlogits.slice<T>(token);  // holds ds first
    std::fill_n(dlogits, experts, T(0));
    T dot = T(0);
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      dlogits[indices[choice]] = (dgates[choice] - along) / divisor;
      dot += scores[indices[choice]] * dlogits[indices[choice]];
    }
    for (std::int64_t expert = 0; expert < experts; ++expert)
      dlogits[expert] = scores[expert] * (dlogits[expert] - dot);
  }
}

template void route_cpu<float>(const RouteArgs&);
template void route_cpu<double>(const RouteArgs&);
template void route_backward_cpu<float>(const RouteBackwardArgs&);
template void route_backward_cpu<double>(const RouteBackwardArgs&);

}  // namespace flex
