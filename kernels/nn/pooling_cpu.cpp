#include "kernels/matrix_map.h"
#include "kernels/nn/pooling.h"

namespace flex {

template <class T>
void mean_pool_cpu(const MeanPoolArgs& args) {
  for (std::int64_t image = 0; image < args.y.size(0); ++image) {
    const std::int64_t positions = args.x.size(0) / args.y.size(0);
    auto y = row_of<T>(args.y, image);
    y.setZero();
    for (std::int64_t at = 0; at < positions; ++at) y += row_of<T>(args.x, image * positions + at);
    y /= static_cast<T>(positions);
  }
}

template <class T>
void mean_pool_backward_cpu(const MeanPoolBackwardArgs& args) {
  for (std::int64_t row = 0; row < args.dx.size(0); ++row) {
    const std::int64_t positions = args.dx.size(0) / args.dy.size(0);
    row_of<T>(args.dx, row) = row_of<T>(args.dy, row / positions) / static_cast<T>(positions);
  }
}

template void mean_pool_cpu<float>(const MeanPoolArgs&);
template void mean_pool_cpu<double>(const MeanPoolArgs&);
template void mean_pool_backward_cpu<float>(const MeanPoolBackwardArgs&);
template void mean_pool_backward_cpu<double>(const MeanPoolBackwardArgs&);

}  // namespace flex
