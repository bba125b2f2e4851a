#include "kernels/nn/dropout.h"

#include "kernels/check.h"

namespace flex {

void dropout(const DropoutArgs& args, Stream& stream) {
  const ArgumentCheck check("dropout", stream.device());
  const DType dtype = args.x.dtype;
  const Shape shape = {args.x.size(0), args.x.size(1)};
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, shape);
  check.tensor("y", args.y, dtype, shape);
  require(args.rate >= 0.0 && args.rate < 1.0, "{}: rate is {}, expected at least 0 and below 1",
          check.kernel(), args.rate);
  require(args.first_row >= 0, "{}: first_row is {}, expected at least 0", check.kernel(), args.first_row);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return dropout_cuda(args, stream);
#endif
  enqueue_as(dtype, stream, [args]<class T>() { dropout_cpu<T>(args); });
}

}  // namespace flex
