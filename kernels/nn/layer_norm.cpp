#include "kernels/nn/layer_norm.h"

#include "kernels/check.h"
#include "kernels/nn/sample_rows_check.h"

namespace flex {
namespace {

void check_layer_norm(const LayerNormArgs& args, Device device) {
  const ArgumentCheck check("layer_norm", device);
  const DType dtype = args.x.dtype;
  const DType wide = gate_dtype(dtype);
  const std::int64_t rows = args.x.size(0);
  const std::int64_t channels = args.x.size(1);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {rows, channels});
  require(channels >= 1, "{}: x is {}, expected channels to normalize over", check.kernel(),
          to_string(args.x.shape));
  check.tensor("weight", args.weight, wide, {channels});
  check.tensor("bias", args.bias, wide, {channels});
  if (args.residual.present()) check.tensor("residual", args.residual, dtype, {rows, channels});
  if (args.factors.present()) {
    require(args.residual.present(), "{}: factors is given, but has no use without residual", check.kernel());
    require_factors(check, args.factors, rows, dtype);
  }
  check.tensor("y", args.y, dtype, {rows, channels});
  if (args.mean.present() || args.rstd.present()) {
    check.tensor("mean", args.mean, wide, {rows});
    check.tensor("rstd", args.rstd, wide, {rows});
  }
}

void check_layer_norm_backward(const LayerNormBackwardArgs& args, Device device) {
  const ArgumentCheck check("layer_norm_backward", device);
  const DType dtype = args.dy.dtype;
  const DType wide = gate_dtype(dtype);
  const std::int64_t rows = args.dy.size(0);
  const std::int64_t channels = args.dy.size(1);
  check.require_compute_dtype("dy", dtype);
  check.tensor("dy", args.dy, dtype, {rows, channels});
  require(channels >= 1, "{}: dy is {}, expected channels to normalize over", check.kernel(),
          to_string(args.dy.shape));
  check.tensor("x", args.x, dtype, {rows, channels});
  check.tensor("weight", args.weight, wide, {channels});
  check.tensor("mean", args.mean, wide, {rows});
  check.tensor("rstd", args.rstd, wide, {rows});
  if (args.factors.present()) require_factors(check, args.factors, rows, dtype);
  check.tensor("dx", args.dx, dtype, {rows, channels});
  check.tensor("dweight", args.dweight, wide, {channels});
  check.tensor("dbias", args.dbias, wide, {channels});
  check.workspace(args.workspace, layer_norm_backward_workspace_bytes(rows, channels, device));
}

}  // namespace

std::int64_t layer_norm_backward_workspace_bytes([[maybe_unused]] std::int64_t rows,
                                                 [[maybe_unused]] std::int64_t channels,
                                                 [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return layer_norm_backward_workspace_bytes_cuda(rows, channels);
#endif
  return 0;
}

void layer_norm(const LayerNormArgs& args, Stream& stream) {
  check_layer_norm(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return layer_norm_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { layer_norm_cpu<T>(args); });
}

void layer_norm_backward(const LayerNormBackwardArgs& args, Stream& stream) {
  check_layer_norm_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return layer_norm_backward_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { layer_norm_backward_cpu<T>(args); });
}

}  // namespace flex
