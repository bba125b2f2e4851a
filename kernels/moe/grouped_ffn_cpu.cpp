#include "kernels/moe/grouped_ffn.h"

/// Each expert by itself, over its rows, through the kernels of expert_ffn.h.
namespace flex {
namespace {

using Counts = std::span<const std::int64_t>;

// Expert `expert` alone; of a (L, R, .) view its first `rows` rows.
template <class View>
View expert_of(const View& view, std::int64_t expert) {
  if (!view.present()) return view;
  View result = view;
  using Byte = std::conditional_t<std::is_same_v<View, ConstTensorView>, const char, char>;
  result.data = static_cast<Byte*>(view.data) + expert * view.outer_stride * size_bytes(view.dtype);
  result.shape = view.shape.rank() == 2 ? Shape{1, view.size(1)} : Shape{1, view.size(1), view.size(2)};
  return result;
}
template <class View>
View rows_of(const View& view, std::int64_t expert, std::int64_t rows) {
  return view.present() ? expert_of(view, expert).narrowed(0, rows) : view;
}
template <class View>
ExpertParameters<View> expert_of(const ExpertParameters<View>& parameters, std::int64_t expert) {
  return {.fc1_w = expert_of(parameters.fc1_w, expert),
          .up_w = expert_of(parameters.up_w, expert),
          .fc2_w = expert_of(parameters.fc2_w, expert),
          .fc1_bias = expert_of(parameters.fc1_bias, expert),
          .fc2_bias = expert_of(parameters.fc2_bias, expert)};
}

}  // namespace

template <class T>
void grouped_ffn_cpu(const ExpertFfnArgs& args, Counts counts) {
  for (std::int64_t expert = 0; expert < args.x.size(0); ++expert) {
    const std::int64_t rows = counts[static_cast<std::size_t>(expert)];
    ExpertFfnArgs one = args;
    one.weights = expert_of(args.weights, expert);
    one.x = rows_of(args.x, expert, rows);
    one.hidden = rows_of(args.hidden, expert, rows);
    one.up = rows_of(args.up, expert, rows);
    one.activated = rows_of(args.activated, expert, rows);
    one.y = rows_of(args.y, expert, rows);
    expert_ffn_cpu<T>(one);
  }
}

template <class T>
void grouped_ffn_backward_data_cpu(const ExpertFfnBackwardDataArgs& args, Counts counts) {
  for (std::int64_t expert = 0; expert < args.dy.size(0); ++expert) {
    const std::int64_t rows = counts[static_cast<std::size_t>(expert)];
    ExpertFfnBackwardDataArgs one = args;
    one.weights = expert_of(args.weights, expert);
    one.dy = rows_of(args.dy, expert, rows);
    one.hidden = rows_of(args.hidden, expert, rows);
    one.up = rows_of(args.up, expert, rows);
    one.dhidden = rows_of(args.dhidden, expert, rows);
    one.dup = rows_of(args.dup, expert, rows);
    one.dx = rows_of(args.dx, expert, rows);
    one.tile = expert_of(args.tile, expert);
    expert_ffn_backward_data_cpu<T>(one);
  }
}

template <class T>
void grouped_ffn_backward_fc1_cpu(const ExpertFfnBackwardWeightsArgs& args, Counts counts) {
  for (std::int64_t expert = 0; expert < args.x.size(0); ++expert) {
    const std::int64_t rows = counts[static_cast<std::size_t>(expert)];
    ExpertFfnBackwardWeightsArgs one = args;
    one.x = rows_of(args.x, expert, rows);
    one.dhidden = rows_of(args.dhidden, expert, rows);
    one.dup = rows_of(args.dup, expert, rows);
    one.gradients = expert_of(args.gradients, expert);
    expert_ffn_backward_fc1_cpu<T>(one);
  }
}

template <class T>
void grouped_ffn_backward_fc2_cpu(const ExpertFfnBackwardWeightsArgs& args, Counts counts) {
  for (std::int64_t expert = 0; expert < args.dy.size(0); ++expert) {
    const std::int64_t rows = counts[static_cast<std::size_t>(expert)];
    ExpertFfnBackwardWeightsArgs one = args;
    one.dy = rows_of(args.dy, expert, rows);
    one.hidden = rows_of(args.hidden, expert, rows);
    one.up = rows_of(args.up, expert, rows);
    one.activated = rows_of(args.activated, expert, rows);
    one.gradients = expert_of(args.gradients, expert);
    expert_ffn_backward_fc2_cpu<T>(one);
  }
}

template void grouped_ffn_cpu<float>(const ExpertFfnArgs&, Counts);
template void grouped_ffn_cpu<double>(const ExpertFfnArgs&, Counts);
template void grouped_ffn_backward_data_cpu<float>(const ExpertFfnBackwardDataArgs&, Counts);
template void grouped_ffn_backward_data_cpu<double>(const ExpertFfnBackwardDataArgs&, Counts);
template void grouped_ffn_backward_fc1_cpu<float>(const ExpertFfnBackwardWeightsArgs&, Counts);
template void grouped_ffn_backward_fc2_cpu<float>(const ExpertFfnBackwardWeightsArgs&, Counts);
template void grouped_ffn_backward_fc1_cpu<double>(const ExpertFfnBackwardWeightsArgs&, Counts);
template void grouped_ffn_backward_fc2_cpu<double>(const ExpertFfnBackwardWeightsArgs&, Counts);

}  // namespace flex
