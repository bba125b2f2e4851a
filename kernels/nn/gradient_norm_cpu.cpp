#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/nn/gradient_norm.h"

namespace flex {
namespace {

template <class T>
double sum_of_squares(const ConstTensorView& view) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < view.num_elements(); ++i) {
    const auto value = static_cast<double>(view.as<T>()[i]);
    sum += value * value;
  }
  return sum;
}

}  // namespace

void squared_norms_cpu(const SquaredNormsArgs& args) {
  auto* sums = args.sums.as<double>();
  std::fill_n(sums, args.sums.num_elements(), 0.0);
  for (const TrainedTensor& tensor : args.tensors->tensors()) {
    if (tensor.norm_group == TrainedTensor::kNoGroup) continue;
    sums[tensor.norm_group] += tensor.gradient.dtype == DType::kF64 ? sum_of_squares<double>(tensor.gradient)
                                                                    : sum_of_squares<float>(tensor.gradient);
  }
}

void gradient_scale_cpu(const GradientScaleArgs& args) {
  constexpr double kFloor = 1e-6;  // what torch's clip_grad_norm_ adds to the norm
  double sum = 0.0;
  for (std::int64_t group = 0; group < args.sums.num_elements(); ++group)
    sum += args.sums.as<double>()[group];
  const double norm = std::sqrt(sum) / args.loss_scale;
  const double clip = args.max_norm > 0.0 ? std::min(1.0, args.max_norm / (norm + kFloor)) : 1.0;
  args.norm.as<double>()[0] = norm;
  args.scale.as<double>()[0] =
      std::isfinite(norm) ? clip / args.loss_scale : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace flex
