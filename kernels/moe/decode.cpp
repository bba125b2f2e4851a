#include "kernels/moe/decode.h"

#include "kernels/check.h"
#include "kernels/moe/slots.h"

namespace flex {
namespace {

void check_decode(const DecodeArgs& args, Device device) {
  const ArgumentCheck check("decode", device);
  const DType dtype = args.buffer.dtype;
  const std::int64_t tokens = args.y.size(0);
  const std::int64_t model_dim = args.y.size(1);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("buffer", dtype);
  require_layout(check, args.layout, args.capacity);
  check.tensor("y", args.y, dtype, {tokens, model_dim});
  check.tensor("buffer", args.buffer, dtype, {args.layout.num_rows(), model_dim});
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  if (args.gates.present()) check.tensor("gates", args.gates, gate_dtype(dtype), {tokens, top_k});
}

void check_decode_backward(const DecodeBackwardArgs& args, Device device) {
  const ArgumentCheck check("decode_backward", device);
  const DType dtype = args.dy.dtype;
  const std::int64_t tokens = args.dy.size(0);
  const std::int64_t model_dim = args.dy.size(1);
  const std::int64_t top_k = args.indices.size(1);
  check.require_compute_dtype("dy", dtype);
  require_layout(check, args.dbuffer_layout, args.capacity);
  check.tensor("dy", args.dy, dtype, {tokens, model_dim});
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  check.tensor("counts", args.counts, DType::kI32, {args.dbuffer_layout.num_experts});
  check.tensor("dbuffer", args.dbuffer, dtype, {args.dbuffer_layout.num_rows(), model_dim});
  if (!args.gates.present()) {
    check.require_absent("dgates", args.dgates, "without gates");
    return;
  }
  require_layout(check, args.buffer_layout, args.capacity);
  require(args.buffer_layout.num_experts == args.dbuffer_layout.num_experts,
          "decode_backward: buffer_layout has {} experts, dbuffer_layout {}", args.buffer_layout.num_experts,
          args.dbuffer_layout.num_experts);
  check.tensor("buffer", args.buffer, dtype, {args.buffer_layout.num_rows(), model_dim});
  check.tensor("gates", args.gates, gate_dtype(dtype), {tokens, top_k});
  check.tensor("dgates", args.dgates, gate_dtype(dtype), {tokens, top_k});
  require(args.buffer.data != args.dbuffer.data || args.buffer.data == nullptr ||
              args.buffer_layout == args.dbuffer_layout,
          "decode_backward: dbuffer is buffer itself, but their layouts differ ({} and {} chunks, {} and {} "
          "parts)",
          args.dbuffer_layout.chunks, args.buffer_layout.chunks, args.dbuffer_layout.parts,
          args.buffer_layout.parts);
}

}  // namespace

void decode(const DecodeArgs& args, Stream& stream) {
  check_decode(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return decode_cuda(args, stream);
#endif
  enqueue_as(args.buffer.dtype, stream, [args]<class T>() { decode_cpu<T>(args); });
}

void decode_backward(const DecodeBackwardArgs& args, Stream& stream) {
  check_decode_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return decode_backward_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { decode_backward_cpu<T>(args); });
}

}  // namespace flex
