#include "kernels/nn/cross_entropy.h"

#include "kernels/check.h"

namespace flex {
namespace {

void check_cross_entropy(const CrossEntropyArgs& args, Device device) {
  const ArgumentCheck check("cross_entropy", device);
  const DType dtype = args.logits.dtype;
  const DType wide = gate_dtype(dtype);
  const std::int64_t samples = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  check.require_compute_dtype("logits", dtype);
  check.tensor("logits", args.logits, dtype, {samples, classes});
  require(classes >= 1, "{}: logits is {}, expected classes", check.kernel(), to_string(args.logits.shape));
  require(args.labels.present() != args.targets.present(), "{}: expected either labels or targets",
          check.kernel());
  if (args.labels.present()) check.tensor("labels", args.labels, DType::kI32, {samples});
  if (args.targets.present()) check.tensor("targets", args.targets, wide, {samples, classes});
  require(args.label_smoothing >= 0.0 && args.label_smoothing <= 1.0,
          "{}: label_smoothing is {}, expected 0 to 1", check.kernel(), args.label_smoothing);
  require(args.batch == 0 || args.batch >= samples, "{}: a batch of {} does not hold {} samples",
          check.kernel(), args.batch, samples);
  check.tensor("losses", args.losses, wide, {samples});
  check.tensor("loss", args.loss, wide, {1});
  if (args.dlogits.present()) check.tensor("dlogits", args.dlogits, dtype, {samples, classes});
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, Stream& stream) {
  check_cross_entropy(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return cross_entropy_cuda(args, stream);
#endif
  enqueue_as(args.logits.dtype, stream, [args]<class T>() { cross_entropy_cpu<T>(args); });
}

}  // namespace flex
