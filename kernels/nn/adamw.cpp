#include "kernels/nn/adamw.h"

#include "kernels/check.h"

namespace flex {

void adamw(const AdamwArgs& args, Stream& stream) {
  const ArgumentCheck check("adamw", stream.device());
  require(args.tensors != nullptr, "adamw: tensors is missing");
  require(args.tensors->device() == stream.device(), "adamw: tensors lie on {}, the stream runs on {}",
          to_string(args.tensors->device()), to_string(stream.device()));
  const auto is_decay = [](double value) { return value >= 0.0 && value < 1.0; };
  require(is_decay(args.beta1) && is_decay(args.beta2),
          "adamw: betas are {} and {}, expected 0 to less than 1", args.beta1, args.beta2);
  require(args.average_decay >= 0.0 && args.average_decay <= 1.0,
          "adamw: average_decay is {}, expected 0 to 1", args.average_decay);
  check.tensor("scale", args.scale, DType::kF64, {1});
  check.tensor("step", args.step, DType::kI64, {1});
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return adamw_cuda(args, stream);
#endif
  enqueue_as(args.tensors->dtype(), stream, [args]<class T>() { adamw_cpu<T>(args); });
}

}  // namespace flex
