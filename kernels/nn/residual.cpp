#include "kernels/nn/residual.h"

#include "kernels/check.h"
#include "kernels/nn/sample_rows_check.h"

namespace flex {

void add_residual(const AddResidualArgs& args, Stream& stream) {
  const ArgumentCheck check("add_residual", stream.device());
  const DType dtype = args.x.dtype;
  const Shape shape = {args.x.size(0), args.x.size(1)};
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, shape);
  check.tensor("residual", args.residual, dtype, shape);
  if (args.factors.present()) require_factors(check, args.factors, shape[0], dtype);
  check.tensor("y", args.y, dtype, shape);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return add_residual_cuda(args, stream);
#endif
  enqueue_as(dtype, stream, [args]<class T>() { add_residual_cpu<T>(args); });
}

void scale_rows(const ScaleRowsArgs& args, Stream& stream) {
  const ArgumentCheck check("scale_rows", stream.device());
  const DType dtype = args.x.dtype;
  const Shape shape = {args.x.size(0), args.x.size(1)};
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, shape);
  require_factors(check, args.factors, shape[0], dtype);
  check.tensor("y", args.y, dtype, shape);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return scale_rows_cuda(args, stream);
#endif
  enqueue_as(dtype, stream, [args]<class T>() { scale_rows_cpu<T>(args); });
}

}  // namespace flex
