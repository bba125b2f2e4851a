#include "kernels/moe/gshard_einsum.h"

#include "kernels/check.h"

namespace flex {
namespace {

void check_gemm(const ArgumentCheck& check, const GemmAlgorithms* gemm, Device device) {
  require(device.is_cpu() || gemm != nullptr,
          "{}: gemm is missing; on CUDA it chooses the matrix product's algorithm", check.kernel());
}

void check_mask(const GshardMaskArgs& args, Device device) {
  const ArgumentCheck check("gshard_mask", device);
  const DType dtype = args.mask.dtype;
  const std::int64_t tokens = args.indices.size(0);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("mask", dtype);
  require(args.capacity >= 0, "gshard_mask: capacity is {}, expected 0 or more", args.capacity);
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  if (args.gates.present()) check.tensor("gates", args.gates, gate_dtype(dtype), {tokens, top_k});
  check.tensor("mask", args.mask, dtype, {tokens, args.mask.size(1), args.capacity});
}

void check_mask_backward(const GshardMaskBackwardArgs& args, Device device) {
  const ArgumentCheck check("gshard_mask_backward", device);
  const DType dtype = args.dmask.dtype;
  const std::int64_t tokens = args.indices.size(0);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("dmask", dtype);
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  check.tensor("dmask", args.dmask, dtype, {tokens, args.dmask.size(1), args.dmask.size(2)});
  check.tensor("dgates", args.dgates, gate_dtype(dtype), {tokens, top_k});
}

void check_encode(const GshardEncodeArgs& args, Device device) {
  const ArgumentCheck check("gshard_encode", device);
  const DType dtype = args.x.dtype;
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {args.x.size(0), args.x.size(1)});
  check.tensor("mask", args.mask, dtype, {args.x.size(0), args.mask.size(1), args.mask.size(2)});
  check.tensor("buffer", args.buffer, dtype, {args.mask.size(1) * args.mask.size(2), args.x.size(1)});
  check_gemm(check, args.gemm, device);
}

void check_decode(const GshardDecodeArgs& args, Device device) {
  const ArgumentCheck check("gshard_decode", device);
  const DType dtype = args.buffer.dtype;
  check.require_compute_dtype("buffer", dtype);
  check.tensor("y", args.y, dtype, {args.y.size(0), args.y.size(1)});
  check.tensor("mask", args.mask, dtype, {args.y.size(0), args.mask.size(1), args.mask.size(2)});
  check.tensor("buffer", args.buffer, dtype, {args.mask.size(1) * args.mask.size(2), args.y.size(1)});
  check_gemm(check, args.gemm, device);
}

void check_decode_backward_mask(const GshardDecodeBackwardMaskArgs& args, Device device) {
  const ArgumentCheck check("gshard_decode_backward_mask", device);
  const DType dtype = args.dy.dtype;
  check.require_compute_dtype("dy", dtype);
  check.tensor("dy", args.dy, dtype, {args.dy.size(0), args.dy.size(1)});
  check.tensor("dmask", args.dmask, dtype, {args.dy.size(0), args.dmask.size(1), args.dmask.size(2)});
  check.tensor("buffer", args.buffer, dtype, {args.dmask.size(1) * args.dmask.size(2), args.dy.size(1)});
  check_gemm(check, args.gemm, device);
}

}  // namespace

void gshard_mask(const GshardMaskArgs& args, Stream& stream) {
  check_mask(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gshard_mask_cuda(args, stream);
#endif
  enqueue_as(args.mask.dtype, stream, [args]<class T>() { gshard_mask_cpu<T>(args); });
}

void gshard_mask_backward(const GshardMaskBackwardArgs& args, Stream& stream) {
  check_mask_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gshard_mask_backward_cuda(args, stream);
#endif
  enqueue_as(args.dmask.dtype, stream, [args]<class T>() { gshard_mask_backward_cpu<T>(args); });
}

void gshard_encode(const GshardEncodeArgs& args, Stream& stream) {
  check_encode(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gshard_encode_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { gshard_encode_cpu<T>(args); });
}

void gshard_decode(const GshardDecodeArgs& args, Stream& stream) {
  check_decode(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gshard_decode_cuda(args, stream);
#endif
  enqueue_as(args.buffer.dtype, stream, [args]<class T>() { gshard_decode_cpu<T>(args); });
}

void gshard_decode_backward_mask(const GshardDecodeBackwardMaskArgs& args, Stream& stream) {
  check_decode_backward_mask(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gshard_decode_backward_mask_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { gshard_decode_backward_mask_cpu<T>(args); });
}

}  // namespace flex
