#include "kernels/nn/gradient_norm.h"

#include "kernels/check.h"

namespace flex {

std::int64_t squared_norms_workspace_bytes(const TrainedTensors& tensors) {
  return tensors.device().is_cuda() ? tensors.num_chunks() * size_bytes(DType::kF64) : 0;
}

void squared_norms(const SquaredNormsArgs& args, Stream& stream) {
  const ArgumentCheck check("squared_norms", stream.device());
  require(args.tensors != nullptr, "squared_norms: tensors is missing");
  require(args.tensors->device() == stream.device(),
          "squared_norms: tensors lie on {}, the stream runs on {}", to_string(args.tensors->device()),
          to_string(stream.device()));
  check.tensor("sums", args.sums, DType::kF64, {args.tensors->num_groups()});
  check.workspace(args.workspace, squared_norms_workspace_bytes(*args.tensors));
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return squared_norms_cuda(args, stream);
#endif
  stream.enqueue([args] { squared_norms_cpu(args); });
}

void gradient_scale(const GradientScaleArgs& args, Stream& stream) {
  const ArgumentCheck check("gradient_scale", stream.device());
  check.tensor("sums", args.sums, DType::kF64, {args.sums.size(0)});
  require(args.max_norm >= 0.0, "gradient_scale: max_norm is {}, expected 0 or more", args.max_norm);
  require(args.loss_scale > 0.0, "gradient_scale: loss_scale is {}, expected more than 0", args.loss_scale);
  check.tensor("norm", args.norm, DType::kF64, {1});
  check.tensor("scale", args.scale, DType::kF64, {1});
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gradient_scale_cuda(args, stream);
#endif
  stream.enqueue([args] { gradient_scale_cpu(args); });
}

}  // namespace flex
