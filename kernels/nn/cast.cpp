#include "kernels/nn/cast.h"

#include "kernels/check.h"

namespace flex {

void cast(const CastArgs& args, Stream& stream) {
  const ArgumentCheck check("cast", stream.device());
  check.require_compute_dtype("from", args.from.dtype);
  check.require_compute_dtype("to", args.to.dtype);
  check.tensor("from", args.from, args.from.dtype, args.from.shape);
  check.tensor("to", args.to, args.to.dtype, args.from.shape);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return cast_cuda(args, stream);
#endif
  stream.enqueue([args] { cast_cpu(args); });
}

}  // namespace flex
