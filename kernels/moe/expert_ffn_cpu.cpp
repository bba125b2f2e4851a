#include <algorithm>

#include "kernels/matrix_map.h"
#include "kernels/moe/activation_functions.h"
#include "kernels/moe/expert_ffn.h"

namespace flex {
namespace {

// activated = act(hidden), times up when there is one; may overwrite hidden.
template <class T>
void activate_rows(Activation activation, const T* hidden, const T* up, T* activated, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T value = activate(activation, hidden[i]);
    activated[i] = up != nullptr ? value * up[i] : value;
  }
}

}  // namespace

template <class T>
void expert_ffn_cpu(const ExpertFfnArgs& args) {
  const bool gated = args.kind == FfnKind::kGated;
  const TensorView& activated_rows =
      keeps_activated(args.kind, args.activation) ? args.hidden : args.activated;
  const auto& weights = args.weights;
  for (std::int64_t expert = 0; expert < args.x.size(0); ++expert) {
    const auto x = matrix_slice<T>(args.x, expert);
    auto hidden = matrix_slice<T>(args.hidden, expert);
    multiply(hidden, x, matrix_slice<T>(weights.fc1_w, expert).transpose());
    if (weights.fc1_bias.present()) hidden.rowwise() += row_of<T>(weights.fc1_bias, expert);
    if (gated)
      multiply(matrix_slice<T>(args.up, expert), x, matrix_slice<T>(weights.up_w, expert).transpose());

    activate_rows<T>(activation_of(args.kind, args.activation), hidden.data(),
                     gated ? args.up.slice<T>(expert) : nullptr, activated_rows.slice<T>(expert),
                     hidden.size());

    auto y = matrix_slice<T>(args.y, expert);
    multiply(y, matrix_slice<T>(activated_rows, expert), matrix_slice<T>(weights.fc2_w, expert));
    if (weights.fc2_bias.present()) {
      const std::int64_t columns = covered_columns(args.fc2_bias_begin, weights.fc2_bias.size(1), y.cols());
      if (columns == 0) continue;
      y.middleCols(args.fc2_bias_begin, columns).rowwise() +=
          row_of<T>(weights.fc2_bias, expert).head(columns);
    }
  }
}

// dhidden = dactivated * slope(hidden), and with `up` times up; dup = dactivated * act(hidden).
template <class T>
void activate_rows_backward(Activation activation, const T* dactivated, const T* hidden, const T* up,
                            T* dhidden, T* dup, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T gradient = dactivated[i];
    const T before = hidden[i];  // read first: any of the outputs may lie where an input does
    const T factor = up != nullptr ? up[i] : T(1);
    if (up != nullptr) dup[i] = gradient * activate(activation, before);
    dhidden[i] = gradient * factor * activation_slope(activation, before);
  }
}

template <class T>
void expert_ffn_backward_data_cpu(const ExpertFfnBackwardDataArgs& args) {
  const bool gated = args.kind == FfnKind::kGated;
  const std::int64_t rows = args.dy.size(1);
  const TensorView tile = args.tile.present() ? args.tile : args.dhidden;
  const std::int64_t step = std::max<std::int64_t>(tile.size(1), 1);
  for (std::int64_t expert = 0; expert < args.dy.size(0); ++expert) {
    const auto dy = matrix_slice<T>(args.dy, expert);
    auto dhidden = matrix_slice<T>(args.dhidden, expert);
    auto dactivated = matrix_slice<T>(tile, expert);
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t count = std::min(step, rows - begin);
      const std::int64_t first = begin * dhidden.cols();
      multiply(dactivated.topRows(count), dy.middleRows(begin, count),
               matrix_slice<T>(args.weights.fc2_w, expert).transpose());
      activate_rows_backward<T>(activation_of(args.kind, args.activation), dactivated.data(),
                                args.hidden.slice<T>(expert) + first,
                                gated ? args.up.slice<T>(expert) + first : nullptr, dhidden.data() + first,
                                gated ? args.dup.slice<T>(expert) + first : nullptr, count * dhidden.cols());
    }
    auto dx = matrix_slice<T>(args.dx, expert);
    multiply(dx, dhidden, matrix_slice<T>(args.weights.fc1_w, expert));
    if (gated)
      multiply_add(dx, matrix_slice<T>(args.dup, expert), matrix_slice<T>(args.weights.up_w, expert));
  }
}

template <class T>
void expert_ffn_backward_fc1_cpu(const ExpertFfnBackwardWeightsArgs& args) {
  const auto& gradients = args.gradients;
  for (std::int64_t expert = 0; expert < args.x.size(0); ++expert) {
    const auto x = matrix_slice<T>(args.x, expert);
    const auto dhidden = matrix_slice<T>(args.dhidden, expert);
    multiply(matrix_slice<T>(gradients.fc1_w, expert), dhidden.transpose(), x);
    if (args.kind == FfnKind::kGated)
      multiply(matrix_slice<T>(gradients.up_w, expert), matrix_slice<T>(args.dup, expert).transpose(), x);
    if (gradients.fc1_bias.present()) row_of<T>(gradients.fc1_bias, expert) = dhidden.colwise().sum();
  }
}

template <class T>
void expert_ffn_backward_fc2_cpu(const ExpertFfnBackwardWeightsArgs& args) {
  const auto& gradients = args.gradients;
  for (std::int64_t expert = 0; expert < args.dy.size(0); ++expert) {
    const auto dy = matrix_slice<T>(args.dy, expert);
    if (keeps_activated(args.kind, args.activation)) {
      multiply(matrix_slice<T>(gradients.fc2_w, expert), matrix_slice<T>(args.hidden, expert).transpose(),
               dy);
    } else {
      auto activated = matrix_slice<T>(args.activated, expert);
      activate_rows<T>(activation_of(args.kind, args.activation), args.hidden.slice<T>(expert),
                       args.kind == FfnKind::kGated ? args.up.slice<T>(expert) : nullptr, activated.data(),
                       activated.size());
      multiply(matrix_slice<T>(gradients.fc2_w, expert), activated.transpose(), dy);
    }
    if (gradients.fc2_bias.present()) {
      auto bias = row_of<T>(gradients.fc2_bias, expert);
      bias.setZero();
      const std::int64_t columns = covered_columns(args.fc2_bias_begin, bias.size(), dy.cols());
      if (columns > 0) bias.head(columns) = dy.middleCols(args.fc2_bias_begin, columns).colwise().sum();
    }
  }
}

template void expert_ffn_cpu<float>(const ExpertFfnArgs&);
template void expert_ffn_cpu<double>(const ExpertFfnArgs&);
template void expert_ffn_backward_data_cpu<float>(const ExpertFfnBackwardDataArgs&);
template void expert_ffn_backward_data_cpu<double>(const ExpertFfnBackwardDataArgs&);
template void expert_ffn_backward_fc1_cpu<float>(const ExpertFfnBackwardWeightsArgs&);
template void expert_ffn_backward_fc1_cpu<double>(const ExpertFfnBackwardWeightsArgs&);
template void expert_ffn_backward_fc2_cpu<float>(const ExpertFfnBackwardWeightsArgs&);
template void expert_ffn_backward_fc2_cpu<double>(const ExpertFfnBackwardWeightsArgs&);

}  // namespace flex
