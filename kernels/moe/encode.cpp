#include "kernels/moe/encode.h"

#include "kernels/check.h"
#include "kernels/moe/slots.h"

namespace flex {
namespace {

void check_encode(const EncodeArgs& args, Device device) {
  const ArgumentCheck check("encode", device);
  const DType dtype = args.x.dtype;
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("x", dtype);
  require_layout(check, args.layout, args.capacity);
  check.tensor("x", args.x, dtype, {tokens, args.x.size(1)});
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  check.tensor("counts", args.counts, DType::kI32, {args.layout.num_experts});
  if (args.gates.present()) check.tensor("gates", args.gates, gate_dtype(dtype), {tokens, top_k});
  check.tensor("buffer", args.buffer, dtype, {args.layout.num_rows(), args.x.size(1)});
}

void check_encode_backward(const EncodeBackwardArgs& args, Device device) {
  const ArgumentCheck check("encode_backward", device);
  const DType dtype = args.dbuffer.dtype;
  const std::int64_t tokens = args.dx.size(0);
  const std::int64_t model_dim = args.dx.size(1);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("dbuffer", dtype);
  require_layout(check, args.layout, args.capacity);
  check.tensor("dx", args.dx, dtype, {tokens, model_dim});
  check.tensor("dbuffer", args.dbuffer, dtype, {args.layout.num_rows(), model_dim});
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  if (args.gates.present()) {
    check.tensor("gates", args.gates, gate_dtype(dtype), {tokens, top_k});
    check.tensor("x", args.x, dtype, {tokens, model_dim});
    check.tensor("dgates", args.dgates, gate_dtype(dtype), {tokens, top_k});
  } else {
    check.require_absent("dgates", args.dgates, "without gates");
  }
}

}  // namespace

void encode(const EncodeArgs& args, Stream& stream) {
  check_encode(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return encode_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { encode_cpu<T>(args); });
}

void encode_backward(const EncodeBackwardArgs& args, Stream& stream) {
  check_encode_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return encode_backward_cuda(args, stream);
#endif
  enqueue_as(args.dbuffer.dtype, stream, [args]<class T>() { encode_backward_cpu<T>(args); });
}

}  // namespace flex
