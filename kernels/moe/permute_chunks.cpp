#include "kernels/moe/permute_chunks.h"

#include "kernels/check.h"

namespace flex {
namespace {

// `exchange` holds rows in exchange order, `experts` in the experts' order.
void check_permute(std::string_view kernel, const PermuteRowsArgs& args, std::string_view exchange_name,
                   const ConstTensorView& exchange, std::string_view experts_name,
                   const ConstTensorView& experts, Device device) {
  const ArgumentCheck check(kernel, device);
  const DType dtype = exchange.dtype;
  require(args.world >= 1 && args.local_experts >= 1,
          "{}: world is {} and local_experts {}, expected 1 or more", kernel, args.world, args.local_experts);
  require(args.slots >= 0 && args.slot_begin >= 0 && args.slot_begin + args.slots <= args.slot_capacity,
          "{}: slots [{}, {}) do not lie within the {} slots of an expert", kernel, args.slot_begin,
          args.slot_begin + args.slots, args.slot_capacity);
  check.tensor(exchange_name, exchange, dtype,
               {args.world * args.local_experts * args.slots, exchange.size(1)});
  check.tensor(experts_name, experts, dtype,
               {args.local_experts, args.slot_capacity * args.world, exchange.size(1)});
}

void check_strided_copy(const StridedChunkCopyArgs& args, Device device) {
  const ArgumentCheck check("strided_chunk_copy", device);
  require(args.rows >= 1 && args.cols >= 1 && args.chunk_bytes >= 0,
          "strided_chunk_copy: {} rows, {} cols and chunks of {} bytes; rows and cols are 1 or more",
          args.rows, args.cols, args.chunk_bytes);
  const std::int64_t chunks = args.rows * args.cols;
  require(args.parts >= 1 && args.group >= 1 && args.group % args.parts == 0 && chunks % args.group == 0,
          "strided_chunk_copy: parts {} must divide group {}, and group the {} chunks", args.parts,
          args.group, chunks);
  const std::int64_t read_bytes = chunks / args.group * args.parts * args.chunk_bytes;
  const std::int64_t written_bytes = chunks * args.chunk_bytes;
  require(args.from.bytes() >= read_bytes, "strided_chunk_copy: from has {} bytes, expected {}",
          args.from.bytes(), read_bytes);
  require(args.to.bytes() >= written_bytes, "strided_chunk_copy: to has {} bytes, expected {}",
          args.to.bytes(), written_bytes);
  check.require_device("from", args.from);
  check.require_device("to", args.to);
  check.require_contiguous("from", args.from);
  check.require_contiguous("to", args.to);
}

void check_sum_copies(const SumCopiesArgs& args, Device device) {
  const ArgumentCheck check("sum_copies", device);
  const DType dtype = args.to.dtype;
  const std::int64_t experts = args.to.size(0);
  const std::int64_t elements = args.to.size(1);
  check.require_compute_dtype("to", dtype);
  check.tensor("to", args.to, dtype, {experts, elements});
  check.tensor("from", args.from, dtype, {experts, args.from.size(1), elements});
  require(args.from.size(1) >= 1, "sum_copies: from holds no copies");
}

}  // namespace

void rows_to_experts(const PermuteRowsArgs& args, Stream& stream) {
  check_permute("rows_to_experts", args, "from", args.from, "to", args.to, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return rows_to_experts_cuda(args, stream);
#endif
  stream.enqueue([args] { rows_to_experts_cpu(args); });
}

void rows_from_experts(const PermuteRowsArgs& args, Stream& stream) {
  check_permute("rows_from_experts", args, "to", args.to, "from", args.from, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return rows_from_experts_cuda(args, stream);
#endif
  stream.enqueue([args] { rows_from_experts_cpu(args); });
}

void strided_chunk_copy(const StridedChunkCopyArgs& args, Stream& stream) {
  check_strided_copy(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return strided_chunk_copy_cuda(args, stream);
#endif
  stream.enqueue([args] { strided_chunk_copy_cpu(args); });
}

void sum_copies(const SumCopiesArgs& args, Stream& stream) {
  check_sum_copies(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return sum_copies_cuda(args, stream);
#endif
  enqueue_as(args.to.dtype, stream, [args]<class T>() { sum_copies_cpu<T>(args); });
}

}  // namespace flex
