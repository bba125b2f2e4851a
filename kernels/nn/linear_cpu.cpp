#include "kernels/matrix_map.h"
#include "kernels/moe/activation_functions.h"
#include "kernels/nn/linear.h"

namespace flex {

template <class T>
void linear_cpu(const LinearArgs& args) {
  auto y = as_matrix<T>(args.y);
  multiply(y, as_matrix<T>(args.x), as_matrix<T>(args.weight).transpose());
  if (args.bias.present()) y.rowwise() += ConstRowMap<T>(args.bias.as<T>(), y.cols());
  if (args.preactivation.present()) as_matrix<T>(args.preactivation) = y;
  if (!args.activation) return;
  for (std::int64_t i = 0; i < y.size(); ++i) y.data()[i] = activate(*args.activation, y.data()[i]);
}

template <class T>
void linear_backward_cpu(const LinearBackwardArgs& args) {
  ConstTensorView gradient = args.dy;
  if (args.activation) {
    gradient = args.dpreactivation;
    for (std::int64_t i = 0; i < args.dy.num_elements(); ++i) {
      args.dpreactivation.as<T>()[i] =
          args.dy.as<T>()[i] * activation_slope(*args.activation, args.kept.as<T>()[i]);
    }
  }
  const auto dy = as_matrix<T>(gradient);
  if (args.dweight.present()) {
    auto dweight = as_matrix<T>(args.dweight);
    if (!args.accumulate_weights) dweight.setZero();
    multiply_add(dweight, dy.transpose(), as_matrix<T>(args.x));
  }
  if (args.dbias.present()) {
    RowMap<T> dbias(args.dbias.as<T>(), dy.cols());
    if (!args.accumulate_weights) dbias.setZero();
    for (std::int64_t row = 0; row < dy.rows(); ++row) dbias += dy.row(row);
  }
  if (args.dx.present()) {
    auto dx = as_matrix<T>(args.dx);
    if (!args.accumulate_dx) dx.setZero();
    multiply_add(dx, dy, as_matrix<T>(args.weight));
  }
}

template void linear_cpu<float>(const LinearArgs&);
template void linear_cpu<double>(const LinearArgs&);
template void linear_backward_cpu<float>(const LinearBackwardArgs&);
template void linear_backward_cpu<double>(const LinearBackwardArgs&);

}  // namespace flex
