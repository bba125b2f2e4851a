#include "kernels/nn/position_bias.h"

#include "kernels/check.h"

namespace flex {
namespace {

// Of one call, forward or backward; fc2_weight tells the sizes.
template <class Args>
void check_net(const ArgumentCheck& check, const Args& args) {
  const DType dtype = args.fc2_weight.dtype;
  const std::int64_t heads = args.fc2_weight.size(0);
  const std::int64_t hidden = args.fc2_weight.size(1);
  check.require_gate_dtype("fc2_weight", dtype);
  require(args.window.rows >= 1 && args.window.columns >= 1, "{}: a window of {} x {}; extents are 1 or more",
          check.kernel(), args.window.rows, args.window.columns);
  require(args.pretrained_window.rows >= 0 && args.pretrained_window.columns >= 0,
          "{}: a pretrained window of {} x {}; extents are 0 or more", check.kernel(),
          args.pretrained_window.rows, args.pretrained_window.columns);
  check.tensor("fc1_weight", args.fc1_weight, dtype, {hidden, 2});
  check.tensor("fc1_bias", args.fc1_bias, dtype, {hidden});
  check.tensor("fc2_weight", args.fc2_weight, dtype, {heads, hidden});
  check.tensor("table", args.table, dtype, {heads, num_offsets(args.window)});
}

}  // namespace

void position_bias(const PositionBiasArgs& args, Stream& stream) {
  check_net(ArgumentCheck("position_bias", stream.device()), args);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return position_bias_cuda(args, stream);
#endif
  enqueue_as(args.table.dtype, stream, [args]<class T>() { position_bias_cpu<T>(args); });
}

void position_bias_backward(const PositionBiasBackwardArgs& args, Stream& stream) {
  const ArgumentCheck check("position_bias_backward", stream.device());
  check_net(check, args);
  const DType dtype = args.table.dtype;
  check.tensor("dtable", args.dtable, dtype, args.table.shape);
  check.tensor("dfc1_weight", args.dfc1_weight, dtype, args.fc1_weight.shape);
  check.tensor("dfc1_bias", args.dfc1_bias, dtype, args.fc1_bias.shape);
  check.tensor("dfc2_weight", args.dfc2_weight, dtype, args.fc2_weight.shape);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return position_bias_backward_cuda(args, stream);
#endif
  enqueue_as(dtype, stream, [args]<class T>() { position_bias_backward_cpu<T>(args); });
}

}  // namespace flex
