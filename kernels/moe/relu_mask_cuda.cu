#include "kernels/moe/activation.h"
#include "kernels/moe/expert_vector.cuh"

namespace flex {
namespace {

constexpr int kByteBits = 8;

template <class T>
struct MaskOperands {
  ExpertElements<const T> hidden;
  ExpertElements<std::uint8_t> mask;
  std::int64_t rows, columns, mask_row_bytes;
};

// A thread for each byte of the mask that has bits in use.
template <class T, int kWidth>
__global__ void __launch_bounds__(kExpertThreads)
    relu_mask_kernel(const __grid_constant__ MaskOperands<T> operands) {
  using Vector = Pack<T, kWidth>;
  static_assert(kByteBits % kWidth == 0);
  const unsigned expert = blockIdx.y;
  const std::int64_t row_bytes = ceil_div<std::int64_t>(operands.columns, kByteBits);
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kExpertThreads + threadIdx.x;
  if (i >= operands.rows * row_bytes) return;
  const std::int64_t row = i / row_bytes;
  const std::int64_t byte = i - row * row_bytes;
  const T* data = operands.hidden.of(expert) + row * operands.columns;
  unsigned bits = 0;
#pragma unroll
  for (int bit = 0; bit < kByteBits; bit += kWidth) {
    const std::int64_t column = byte * kByteBits + bit;
    if (column >= operands.columns) break;
    float values[kWidth];
    Vector::unpack(Vector::load(data + column), values);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) bits |= (values[v] > 0.0F ? 1U : 0U) << (bit + v);
  }
  operands.mask.of(expert)[row * operands.mask_row_bytes + byte] = static_cast<std::uint8_t>(bits);
}

}  // namespace

void relu_mask_cuda(const ReluMaskArgs& args, Stream& stream) {
  if (args.hidden.num_elements() == 0) return;
  const bool vectors =
      fills_vectors(args.hidden.size(2), args.hidden.dtype) && begins_at_vectors(args.hidden);
  constexpr std::int64_t kMaxGridY = 65535;
  const std::int64_t blocks =
      ceil_div(args.hidden.size(1) * ceil_div<std::int64_t>(args.hidden.size(2), kByteBits),
               static_cast<std::int64_t>(kExpertThreads));
  dispatch_vectors(args.hidden.dtype, vectors, [&]<class T, int kWidth>() {
    for (std::int64_t first = 0; first < args.hidden.size(0); first += kMaxGridY) {
      const dim3 grid(grid_size(blocks),
                      static_cast<unsigned>(std::min(kMaxGridY, args.hidden.size(0) - first)));
      relu_mask_kernel<T, kWidth><<<grid, kExpertThreads, 0, launch_stream(stream)>>>(
          {.hidden = elements_from<const T>(args.hidden, first),
           .mask = elements_from<std::uint8_t>(args.mask, first),
           .rows = args.hidden.size(1),
           .columns = args.hidden.size(2),
           .mask_row_bytes = args.mask.size(2)});
      FLEX_CUDA_CHECK(cudaGetLastError());
    }
  });
}

}  // namespace flex
