#include "kernels/cuda_launch.cuh"
#include "runtime/rank_order_sum_cuda.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

/// The type in which T is added.
template <class T>
struct Sum {
  using Type = T;
};
template <>
struct Sum<__half> {
  using Type = float;
};
template <>
struct Sum<__nv_bfloat16> {
  using Type = float;
};

template <class T>
__device__ typename Sum<T>::Type widened(T value) {
  if constexpr (std::is_same_v<T, typename Sum<T>::Type>)
    return value;
  else
    return to_float(value);
}

template <class T>
__device__ T narrowed(typename Sum<T>::Type value) {
  if constexpr (std::is_same_v<T, typename Sum<T>::Type>)
    return value;
  else
    return from_float<T>(value);
}

/// kWidth neighbours that one access moves.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Neighbours {
  T at[kWidth];
};

// All pieces are read before the first place is written: a place may be a piece.
template <class T, int kWidth>
__device__ void reduce_neighbours(const RankOrderReductionArgs& args, std::int64_t first) {
  using Access = Neighbours<T, kWidth>;
  const auto load = [&](int rank) {
    return *reinterpret_cast<const Access*>(static_cast<const T*>(args.from[rank]) + first);
  };
  typename Sum<T>::Type sum[kWidth];
  const Access own = load(0);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum[i] = widened(own.at[i]);
#pragma unroll 4
  for (int rank = 1; rank < args.num_ranks; ++rank) {
    const Access piece = load(rank);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const typename Sum<T>::Type value = widened(piece.at[i]);
      if (args.op == ReduceOp::kSum) {
        sum[i] += value;
      } else if (value > sum[i] || value != value) {
        sum[i] = value;
      }
    }
  }
  Access result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result.at[i] = narrowed<T>(sum[i]);
  for (int place = 0; place < args.num_to; ++place) {
    *reinterpret_cast<Access*>(static_cast<T*>(args.to[place]) + first) = result;
  }
}

// A thread for each whole group of neighbours, and one for each element that is left over.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const __grid_constant__ RankOrderReductionArgs args, std::int64_t num_whole) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread < num_whole) {
    reduce_neighbours<T, kWidth>(args, thread * kWidth);
  } else if (const std::int64_t element = num_whole * kWidth + (thread - num_whole); element < args.count) {
    reduce_neighbours<T, 1>(args, element);
  }
}

bool all_aligned(const RankOrderReductionArgs& args) {
  for (int rank = 0; rank < args.num_ranks; ++rank) {
    if (!aligned_to({args.from[rank]}, kVectorBytes)) return false;
  }
  for (int place = 0; place < args.num_to; ++place) {
    if (!aligned_to({args.to[place]}, kVectorBytes)) return false;
  }
  return true;
}

template <class T, int kWidth>
void launch(const RankOrderReductionArgs& args, Stream& stream) {
  const std::int64_t num_whole = args.count / kWidth;
  const std::int64_t num_threads = num_whole + args.count % kWidth;
  const unsigned blocks = grid_size(ceil_div<std::int64_t>(num_threads, kThreads));
  reduce_kernel<T, kWidth><<<blocks, kThreads, 0, launch_stream(stream)>>>(args, num_whole);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

template <class T>
void reduce(const RankOrderReductionArgs& args, Stream& stream) {
  if (all_aligned(args)) return launch<T, kVectorWidth<T>>(args, stream);
  launch<T, 1>(args, stream);
}

}  // namespace

void reduce_in_rank_order_cuda(const RankOrderReductionArgs& args, Stream& stream) {
  if (args.count == 0) return;  // CUDA rejects an empty grid
  switch (args.dtype) {
    case DType::kF64:
      return reduce<double>(args, stream);
    case DType::kF32:
      return reduce<float>(args, stream);
    case DType::kF16:
      return reduce<__half>(args, stream);
    case DType::kBF16:
      return reduce<__nv_bfloat16>(args, stream);
    case DType::kI64:
      return reduce<std::int64_t>(args, stream);
    case DType::kI32:
      return reduce<std::int32_t>(args, stream);
    case DType::kU8:
      break;
  }
  throw InputError("a reduction of this element type does not exist on CUDA");
}

}  // namespace flex
