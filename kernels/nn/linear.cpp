#include "kernels/nn/linear.h"

#include "kernels/gemm_check.h"

namespace flex {
namespace {

void check_linear(const LinearArgs& args, Device device) {
  const ArgumentCheck check("linear", device);
  const DType dtype = args.x.dtype;
  const std::int64_t rows = args.x.size(0);
  const std::int64_t columns = args.weight.size(0);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {rows, args.x.size(1)});
  check.tensor("weight", args.weight, dtype, {columns, args.x.size(1)});
  if (args.bias.present()) check.tensor("bias", args.bias, dtype, {columns});
  check.tensor("y", args.y, dtype, {rows, columns});
  if (!args.activation || args.activation == Activation::kRelu) {
    check.require_absent("preactivation", args.preactivation, "without a gelu or silu");
  } else if (args.preactivation.present()) {
    check.tensor("preactivation", args.preactivation, dtype, {rows, columns});
  }
  require_gemm(check, args.gemm, device);
}

void check_linear_backward(const LinearBackwardArgs& args, Device device) {
  const ArgumentCheck check("linear_backward", device);
  const DType dtype = args.dy.dtype;
  const std::int64_t rows = args.dy.size(0);
  const std::int64_t columns = args.dy.size(1);
  check.require_compute_dtype("dy", dtype);
  check.tensor("dy", args.dy, dtype, {rows, columns});
  if (args.activation) {
    check.tensor("kept", args.kept, dtype, {rows, columns});
    check.tensor("dpreactivation", args.dpreactivation, dtype, {rows, columns});
  } else {
    check.require_absent("kept", args.kept, "without an activation");
    check.require_absent("dpreactivation", args.dpreactivation, "without an activation");
  }
  if (args.dx.present()) {
    check.tensor("weight", args.weight, dtype, {columns, args.weight.size(1)});
    check.tensor("dx", args.dx, dtype, {rows, args.weight.size(1)});
  }
  if (args.dweight.present()) {
    check.tensor("x", args.x, dtype, {rows, args.x.size(1)});
    check.tensor("dweight", args.dweight, dtype, {columns, args.x.size(1)});
  }
  if (args.dbias.present()) check.tensor("dbias", args.dbias, dtype, {columns});
  require_gemm(check, args.gemm, device);
}

}  // namespace

void linear(const LinearArgs& args, Stream& stream) {
  check_linear(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return linear_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { linear_cpu<T>(args); });
}

void linear_backward(const LinearBackwardArgs& args, Stream& stream) {
  check_linear_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return linear_backward_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { linear_backward_cpu<T>(args); });
}

}  // namespace flex
