#include "kernels/nn/pooling.h"

#include "kernels/check.h"

namespace flex {
namespace {

void check_pooling(const ArgumentCheck& check, const ConstTensorView& rows, const ConstTensorView& pooled) {
  check.require_compute_dtype("x", rows.dtype);
  const std::int64_t images = pooled.size(0);
  require(images == 0 ? rows.size(0) == 0 : rows.size(0) >= images && rows.size(0) % images == 0,
          "{}: {} rows are not as many positions for each of {} images", check.kernel(), rows.size(0),
          images);
  check.tensor("x", rows, rows.dtype, {rows.size(0), rows.size(1)});
  check.tensor("y", pooled, rows.dtype, {images, rows.size(1)});
}

}  // namespace

void mean_pool(const MeanPoolArgs& args, Stream& stream) {
  check_pooling(ArgumentCheck("mean_pool", stream.device()), args.x, args.y);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return mean_pool_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { mean_pool_cpu<T>(args); });
}

void mean_pool_backward(const MeanPoolBackwardArgs& args, Stream& stream) {
  check_pooling(ArgumentCheck("mean_pool_backward", stream.device()), args.dx, args.dy);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return mean_pool_backward_cuda(args, stream);
#endif
  enqueue_as(args.dx.dtype, stream, [args]<class T>() { mean_pool_backward_cpu<T>(args); });
}

}  // namespace flex
