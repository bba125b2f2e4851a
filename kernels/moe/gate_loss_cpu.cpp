#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/moe/gate_loss.h"

// Everything is computed in double: the sums have few terms of very different size, and cost nothing beside
// the gate.
namespace flex {
namespace {

constexpr double kCv2Epsilon = 1e-10;  // added to the squared mean; numerics.md, "Losses on the gate"

double normal_cdf(double v) { return 0.5 * std::erfc(-v / std::numbers::sqrt2); }
double normal_density(double v) {
  return std::exp(-0.5 * v * v) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
}

bool is_load_importance(GateLossKind kind) {
  return kind == GateLossKind::kLoadImportance || kind == GateLossKind::kLoadImportanceReleased;
}

// softmax of one row of logits, an element at a time so that it needs no memory.
template <class T>
class RowSoftmax {
 public:
  RowSoftmax(const T* logits, std::int64_t experts) : logits_(logits) {
    largest_ = static_cast<double>(*std::max_element(logits, logits + experts));
    for (std::int64_t expert = 0; expert < experts; ++expert) sum_ += exponential(expert);
  }
  [[nodiscard]] double operator[](std::int64_t expert) const { return exponential(expert) / sum_; }
  [[nodiscard]] double log_sum_exp() const { return largest_ + std::log(sum_); }

 private:
  [[nodiscard]] double exponential(std::int64_t expert) const {
    return std::exp(static_cast<double>(logits_[expert]) - largest_);
  }
  const T* logits_;
  double largest_ = 0.0;
  double sum_ = 0.0;
};

// cv2 of E values: unbiased variance / (mean^2 + epsilon), and its gradient by each value.
struct SquaredVariation {
  SquaredVariation(const double* values, std::int64_t count) : num_values(static_cast<double>(count)) {
    if (count < 2) return;
    for (std::int64_t i = 0; i < count; ++i) mean += values[i];
    mean /= num_values;
    for (std::int64_t i = 0; i < count; ++i) variance += (values[i] - mean) * (values[i] - mean);
    variance /= num_values - 1.0;
  }
  [[nodiscard]] double value() const { return variance / (mean * mean + kCv2Epsilon); }
  [[nodiscard]] double gradient(double at) const {
    if (num_values < 2.0) return 0.0;
    const double denominator = mean * mean + kCv2Epsilon;
    const double dvariance = 2.0 * (at - mean) / (num_values - 1.0);
    const double ddenominator = 2.0 * mean / num_values;
    return (dvariance - variance / denominator * ddenominator) / denominator;
  }

  double num_values;
  double mean = 0.0;
  double variance = 0.0;
};

// How far expert's clean gate value is above the token's threshold, in standard deviations of the noise.
struct LoadMargin {
  double threshold;
  double stddev;
  bool released;  // compares a probability with a logit
  template <class T>
  [[nodiscard]] double of(const T* clean, const RowSoftmax<T>& softmax, std::int64_t expert) const {
    const double value = released ? softmax[expert] : static_cast<double>(clean[expert]);
    return (value - threshold) / stddev;
  }
};

template <class T, class Args>
LoadMargin load_margin(const Args& args, std::int64_t token) {
  const std::int32_t last = args.indices.template slice<std::int32_t>(token)[args.indices.size(1) - 1];
  return {.threshold = static_cast<double>(args.noisy.template slice<T>(token)[last]),
          .stddev = args.settings.gate_noise / static_cast<double>(args.scores.size(1)),
          .released = args.settings.kind == GateLossKind::kLoadImportanceReleased};
}

// Adds s (ds - <s, ds>) to dlogits, softmax and its gradient being given element by element.
template <class T, class Softmax, class Gradient>
void add_softmax_backward(const Softmax& softmax, const Gradient& dsoftmax, std::int64_t experts,
                          T* dlogits) {
  double dot = 0.0;
  for (std::int64_t expert = 0; expert < experts; ++expert) dot += softmax(expert) * dsoftmax(expert);
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    dlogits[expert] += static_cast<T>(softmax(expert) * (dsoftmax(expert) - dot));
  }
}

template <class T>
void add_load_importance_backward(const GateLossBackwardArgs& args, const RowSoftmax<T>& softmax,
                                  const SquaredVariation& importance, const SquaredVariation& load,
                                  std::int64_t token) {
  const std::int64_t experts = args.scores.size(1);
  const double* sums = args.sums.as<double>();
  const T* clean = args.clean.slice<T>(token);
  T* dlogits = args.dlogits.slice<T>(token);
  const LoadMargin margin = load_margin<T>(args, token);

  // Gradient of the loss by the left side of the comparison; by the threshold it is minus the sum of these.
  const auto dcompared = [&](std::int64_t expert) {
    const double dload = 0.5 * args.dvalue * load.gradient(sums[experts + expert]);
    return dload * normal_density(margin.of(clean, softmax, expert)) / margin.stddev;
  };
  const auto dsoftmax = [&](std::int64_t expert) {
    const double dimportance = 0.5 * args.dvalue * importance.gradient(sums[expert]);
    return margin.released ? dimportance + dcompared(expert) : dimportance;
  };
  double dthreshold = 0.0;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const double gradient = dcompared(expert);
    dthreshold -= gradient;
    if (!margin.released) dlogits[expert] += static_cast<T>(gradient);
  }
  dlogits[args.indices.slice<std::int32_t>(token)[args.indices.size(1) - 1]] += static_cast<T>(dthreshold);
  add_softmax_backward<T>([&](std::int64_t expert) { return softmax[expert]; }, dsoftmax, experts, dlogits);
}

}  // namespace

template <class T>
void gate_loss_sums_cpu(const GateLossSumsArgs& args) {
  const std::int64_t tokens = args.scores.size(0);
  const std::int64_t experts = args.scores.size(1);
  double* sums = args.sums.as<double>();
  std::fill_n(sums, gate_loss_num_sums(experts), 0.0);
  sums[2 * experts + 1] = static_cast<double>(tokens);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const T* clean = args.clean.slice<T>(token);
    const RowSoftmax<T> softmax(clean, experts);
    if (args.settings.z_loss_weight != 0.0) {
      sums[2 * experts] += softmax.log_sum_exp() * softmax.log_sum_exp();
    }
    if (args.settings.kind == GateLossKind::kGshard) {
      for (std::int64_t expert = 0; expert < experts; ++expert) {
        sums[expert] += static_cast<double>(args.scores.slice<T>(token)[expert]);
      }
      sums[experts + args.indices.slice<std::int32_t>(token)[0]] += 1.0;
    }
    if (!is_load_importance(args.settings.kind)) continue;
    const LoadMargin margin = load_margin<T>(args, token);
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      sums[expert] += softmax[expert];
      sums[experts + expert] += normal_cdf(margin.of(clean, softmax, expert));
    }
  }
}

template <class T>
void gate_loss_value_cpu(const GateLossValueArgs& args) {
  const std::int64_t experts = (args.sums.size(0) - 2) / 2;
  const double* sums = args.sums.as<double>();
  const double tokens = sums[2 * experts + 1];
  double value = 0.0;
  if (tokens > 0.0) {
    if (args.settings.kind == GateLossKind::kGshard) {
      for (std::int64_t expert = 0; expert < experts; ++expert)
        value += sums[expert] * sums[experts + expert];
      value *= static_cast<double>(experts) / (tokens * tokens);
    } else if (is_load_importance(args.settings.kind)) {
      value =
          0.5 * (SquaredVariation(sums, experts).value() + SquaredVariation(sums + experts, experts).value());
    }
    value += args.settings.z_loss_weight * sums[2 * experts] / tokens;
  }
  args.value.as<T>()[0] = static_cast<T>(value);
}

template <class T>
void gate_loss_backward_cpu(const GateLossBackwardArgs& args) {
  const std::int64_t experts = args.scores.size(1);
  const double* sums = args.sums.as<double>();
  const double tokens = sums[2 * experts + 1];
  const SquaredVariation importance(sums, experts);
  const SquaredVariation load(sums + experts, experts);
  for (std::int64_t token = 0; token < args.scores.size(0); ++token) {
    T* dlogits = args.dlogits.slice<T>(token);
    if (args.settings.kind == GateLossKind::kGshard) {
      const T* scores = args.scores.slice<T>(token);
      const double scale = args.dvalue * static_cast<double>(experts) / (tokens * tokens);
      add_softmax_backward<T>([&](std::int64_t expert) { return static_cast<double>(scores[expert]); },
                              [&](std::int64_t expert) { return scale * sums[experts + expert]; }, experts,
                              dlogits);
    }
    const RowSoftmax<T> softmax(args.clean.slice<T>(token), experts);
    if (is_load_importance(args.settings.kind)) {
      add_load_importance_backward(args, softmax, importance, load, token);
    }
    if (args.settings.z_loss_weight == 0.0) continue;
    const double dsquare = args.dvalue * args.settings.z_loss_weight / tokens;
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      dlogits[expert] += static_cast<T>(dsquare * 2.0 * softmax.log_sum_exp() * softmax[expert]);
    }
  }
}

template void gate_loss_sums_cpu<float>(const GateLossSumsArgs&);
template void gate_loss_sums_cpu<double>(const GateLossSumsArgs&);
template void gate_loss_value_cpu<float>(const GateLossValueArgs&);
template void gate_loss_value_cpu<double>(const GateLossValueArgs&);
template void gate_loss_backward_cpu<float>(const GateLossBackwardArgs&);
template void gate_loss_backward_cpu<double>(const GateLossBackwardArgs&);

}  // namespace flex
