#include <cmath>

#include "kernels/matrix_map.h"
#include "kernels/nn/layer_norm.h"
#include "kernels/nn/sample_rows.h"

namespace flex {

template <class T>
void layer_norm_cpu(const LayerNormArgs& args) {
  const std::int64_t rows = args.x.size(0);
  const std::int64_t channels = args.x.size(1);
  const std::int64_t of_sample = rows_per_sample(rows, args.factors);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = args.x.slice<T>(row);
    T mean = T(0);
    for (std::int64_t c = 0; c < channels; ++c) mean += x[c];
    mean /= static_cast<T>(channels);
    T variance = T(0);
    for (std::int64_t c = 0; c < channels; ++c) variance += (x[c] - mean) * (x[c] - mean);
    variance /= static_cast<T>(channels);
    const T rstd = T(1) / std::sqrt(variance + static_cast<T>(args.epsilon));

    const T factor = args.factors.present() ? args.factors.as<T>()[row / of_sample] : T(1);
    T* y = args.y.slice<T>(row);
    for (std::int64_t c = 0; c < channels; ++c) {
      const T normalized = (x[c] - mean) * rstd * args.weight.as<T>()[c] + args.bias.as<T>()[c];
      y[c] = args.residual.present() ? args.residual.slice<T>(row)[c] + factor * normalized : normalized;
    }
    if (!args.mean.present()) continue;
    args.mean.as<T>()[row] = mean;
    args.rstd.as<T>()[row] = rstd;
  }
}

// With h = (x - mean) rstd and g = factor dy weight: dx = rstd (g - mean(g) - h mean(g h)).
template <class T>
void layer_norm_backward_cpu(const LayerNormBackwardArgs& args) {
  const std::int64_t rows = args.dy.size(0);
  const std::int64_t channels = args.dy.size(1);
  const std::int64_t of_sample = rows_per_sample(rows, args.factors);
  RowMap<T> dweight(args.dweight.as<T>(), channels);
  RowMap<T> dbias(args.dbias.as<T>(), channels);
  if (!args.accumulate_weights) {
    dweight.setZero();
    dbias.setZero();
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = args.x.slice<T>(row);
    const T* dy = args.dy.slice<T>(row);
    const T mean = args.mean.as<T>()[row];
    const T rstd = args.rstd.as<T>()[row];
    const T factor = args.factors.present() ? args.factors.as<T>()[row / of_sample] : T(1);
    T sum = T(0);
    T sum_along = T(0);
    for (std::int64_t c = 0; c < channels; ++c) {
      const T normalized = (x[c] - mean) * rstd;
      const T gradient = factor * dy[c];
      dweight[c] += gradient * normalized;
      dbias[c] += gradient;
      sum += gradient * args.weight.as<T>()[c];
      sum_along += gradient * args.weight.as<T>()[c] * normalized;
    }
    T* dx = args.dx.slice<T>(row);
    for (std::int64_t c = 0; c < channels; ++c) {
      const T normalized = (x[c] - mean) * rstd;
      const T gradient = factor * dy[c] * args.weight.as<T>()[c];
      const T value = rstd * (gradient - (sum + normalized * sum_along) / static_cast<T>(channels));
      dx[c] = args.accumulate_dx ? dx[c] + value : value;
    }
  }
}

template void layer_norm_cpu<float>(const LayerNormArgs&);
template void layer_norm_cpu<double>(const LayerNormArgs&);
template void layer_norm_backward_cpu<float>(const LayerNormBackwardArgs&);
template void layer_norm_backward_cpu<double>(const LayerNormBackwardArgs&);

}  // namespace flex
