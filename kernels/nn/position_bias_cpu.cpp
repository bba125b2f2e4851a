#include <algorithm>
#include <cmath>

#include "kernels/matrix_map.h"
#include "kernels/nn/position_bias.h"

namespace flex {
namespace {

template <class T>
struct OffsetInput {
  T row;
  T column;
};

// The log-spaced coordinate of an offset along an axis whose window is `window` long.
template <class T>
T log_spaced(std::int64_t offset, std::int64_t window, std::int64_t pretrained) {
  const std::int64_t extent = std::max<std::int64_t>((pretrained > 0 ? pretrained : window) - 1, 1);
  const T v = T(8) * static_cast<T>(offset) / static_cast<T>(extent);
  return std::copysign(std::log2(T(1) + std::abs(v)) / T(3), v);  // log2(8) = 3
}

template <class T, class Args>
OffsetInput<T> input_of(const Args& args, std::int64_t offset) {
  const Extent window = args.window;
  const std::int64_t width = 2 * window.columns - 1;
  return {
      log_spaced<T>(offset / width - (window.rows - 1), window.rows, args.pretrained_window.rows),
      log_spaced<T>(offset % width - (window.columns - 1), window.columns, args.pretrained_window.columns)};
}

// fc1 of one offset and hidden column, before the relu.
template <class T, class Args>
T preactivation(const Args& args, const OffsetInput<T>& input, std::int64_t column) {
  const T* weight = args.fc1_weight.template slice<T>(column);
  return weight[0] * input.row + weight[1] * input.column + args.fc1_bias.template as<T>()[column];
}

}  // namespace

template <class T>
void position_bias_cpu(const PositionBiasArgs& args) {
  const std::int64_t hidden_dim = args.fc2_weight.size(1);
  for (std::int64_t offset = 0; offset < num_offsets(args.window); ++offset) {
    const auto input = input_of<T>(args, offset);
    for (std::int64_t head = 0; head < args.table.size(0); ++head) {
      const T* weight = args.fc2_weight.slice<T>(head);
      T net = T(0);
      for (std::int64_t column = 0; column < hidden_dim; ++column) {
        net += weight[column] * std::max(preactivation(args, input, column), T(0));
      }
      args.table.slice<T>(head)[offset] =
          args.bounded ? static_cast<T>(kPositionBiasScale) / (T(1) + std::exp(-net)) : net;
    }
  }
}

// With t = 16 sigmoid(net): dt/dnet = t (1 - t / 16).
template <class T>
void position_bias_backward_cpu(const PositionBiasBackwardArgs& args) {
  auto dfc1_weight = as_matrix<T>(args.dfc1_weight);
  auto dfc2_weight = as_matrix<T>(args.dfc2_weight);
  RowMap<T> dfc1_bias(args.dfc1_bias.as<T>(), args.dfc1_bias.size(0));
  if (!args.accumulate_weights) {
    dfc1_weight.setZero();
    dfc2_weight.setZero();
    dfc1_bias.setZero();
  }
  const std::int64_t heads = args.fc2_weight.size(0);
  for (std::int64_t offset = 0; offset < num_offsets(args.window); ++offset) {
    const auto input = input_of<T>(args, offset);
    const auto net_gradient = [&](std::int64_t head) {
      const T gradient = args.dtable.slice<T>(head)[offset];
      const T value = args.table.slice<T>(head)[offset];
      return args.bounded ? gradient * value * (T(1) - value / static_cast<T>(kPositionBiasScale)) : gradient;
    };
    for (std::int64_t column = 0; column < args.fc2_weight.size(1); ++column) {
      const T before = preactivation(args, input, column);
      if (before <= T(0)) continue;
      T gradient = T(0);
      for (std::int64_t head = 0; head < heads; ++head) {
        dfc2_weight(head, column) += net_gradient(head) * before;
        gradient += net_gradient(head) * args.fc2_weight.slice<T>(head)[column];
      }
      dfc1_weight(column, 0) += gradient * input.row;
      dfc1_weight(column, 1) += gradient * input.column;
      dfc1_bias[column] += gradient;
    }
  }
}

template void position_bias_cpu<float>(const PositionBiasArgs&);
template void position_bias_cpu<double>(const PositionBiasArgs&);
template void position_bias_backward_cpu<float>(const PositionBiasBackwardArgs&);
template void position_bias_backward_cpu<double>(const PositionBiasBackwardArgs&);

}  // namespace flex
