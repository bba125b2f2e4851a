#include <cmath>

#include "kernels/nn/adamw.h"

namespace flex {

template <class T>
void adamw_cpu(const AdamwArgs& args) {
  const double scale = args.scale.as<double>()[0];
  if (!std::isfinite(scale)) return;
  const auto step = static_cast<double>(++args.step.as<std::int64_t>()[0]);
  const auto beta1 = static_cast<T>(args.beta1);
  const auto beta2 = static_cast<T>(args.beta2);
  const auto new_first = static_cast<T>(1.0 - args.beta1);  // in double: 1 - 0.999 cancels
  const auto new_second = static_cast<T>(1.0 - args.beta2);
  const auto keep_average = static_cast<T>(args.average_decay);
  const auto new_average = static_cast<T>(1.0 - args.average_decay);
  const auto first_correction = static_cast<T>(1.0 - std::pow(args.beta1, step));
  const auto second_correction = static_cast<T>(1.0 - std::pow(args.beta2, step));
  for (const TrainedTensor& tensor : args.tensors->tensors()) {
    const auto kept = static_cast<T>(tensor.decays ? 1.0 - args.learning_rate * args.weight_decay : 1.0);
    for (std::int64_t i = 0; i < tensor.parameter.num_elements(); ++i) {
      const T gradient = static_cast<T>(scale) * tensor.gradient.as<T>()[i];
      T& first = tensor.first_moment.as<T>()[i];
      T& second = tensor.second_moment.as<T>()[i];
      T& parameter = tensor.parameter.as<T>()[i];
      first = beta1 * first + new_first * gradient;
      second = beta2 * second + new_second * gradient * gradient;
      const T divisor = std::sqrt(second / second_correction) + static_cast<T>(args.epsilon);
      parameter =
          kept * parameter - static_cast<T>(args.learning_rate) * (first / first_correction) / divisor;
      if (!tensor.average.present()) continue;
      T& average = tensor.average.as<T>()[i];
      average = keep_average * average + new_average * parameter;
    }
  }
}

template void adamw_cpu<float>(const AdamwArgs&);
template void adamw_cpu<double>(const AdamwArgs&);

}  // namespace flex
