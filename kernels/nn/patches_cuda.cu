#include "kernels/cuda_launch.cuh"
#include "kernels/nn/patches.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

struct ImageParams {
  std::int64_t lines;  // rows of pixels of all patches
  std::int64_t channels, rows, columns, patch;
};

ImageParams image_params(const Shape& images, std::int64_t patch) {
  return {.lines = images.num_elements() / patch,
          .channels = images[1],
          .rows = images[2],
          .columns = images[3],
          .patch = patch};
}

// First pixel, in the images, of a line of the patches' rows.
__device__ std::int64_t first_pixel(const ImageParams& p, std::int64_t line) {
  const std::int64_t patches = p.columns / p.patch;
  const std::int64_t patch_lines = p.channels * p.patch;
  const std::int64_t index = line / patch_lines;
  const std::int64_t in_patch = line - index * patch_lines;
  const std::int64_t channel = in_patch / p.patch;
  const std::int64_t image_row = index / patches;  // of patches, in all images
  const std::int64_t image = image_row / (p.rows / p.patch);
  const std::int64_t row = (image_row - image * (p.rows / p.patch)) * p.patch + in_patch - channel * p.patch;
  const std::int64_t column = (index - image_row * patches) * p.patch;
  return ((image * p.channels + channel) * p.rows + row) * p.columns + column;
}

// One line a thread.
template <class T>
__global__ void __launch_bounds__(kThreads)
    patch_rows_kernel(const __grid_constant__ ImageParams p, const float* images, T* rows) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= p.lines) return;
  const float* from = images + first_pixel(p, line);
  T* to = rows + line * p.patch;
#pragma unroll 4
  for (std::int64_t i = 0; i < p.patch; ++i) to[i] = from_float<T>(from[i]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    patch_rows_backward_kernel(const __grid_constant__ ImageParams p, const T* rows, float* images) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= p.lines) return;
  const T* from = rows + line * p.patch;
  float* to = images + first_pixel(p, line);
#pragma unroll 4
  for (std::int64_t i = 0; i < p.patch; ++i) to[i] = to_float(from[i]);
}

struct MergeParams {
  std::int64_t count;  // of accesses to the merged rows
  std::int64_t channels;
  Extent map, merged;
};

// One access to the merged rows a thread, which is read or, in the backward pass, written to the map.
template <class T, int kWidth, bool kBackward>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(const __grid_constant__ MergeParams p, const T* from, T* to) {
  using Vector = Pack<T, kWidth>;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.count) return;
  const std::int64_t row_accesses = p.channels / kWidth;
  const std::int64_t quarter_index = i / row_accesses;
  const std::int64_t channel = (i - quarter_index * row_accesses) * kWidth;
  const std::int64_t merged = quarter_index / 4;
  const std::int64_t quarter = quarter_index % 4;  // parity 00, 10, 01, 11: the row's first
  const std::int64_t image = merged / p.merged.area();
  const std::int64_t in_image = merged - image * p.merged.area();
  const std::int64_t row = 2 * (in_image / p.merged.columns) + quarter % 2;
  const std::int64_t column = 2 * (in_image % p.merged.columns) + quarter / 2;
  const bool is_inside = row < p.map.rows && column < p.map.columns;
  const std::int64_t place = (image * p.map.area() + row * p.map.columns + column) * p.channels + channel;
  if constexpr (kBackward) {
    if (is_inside) Vector::store(to + place, Vector::load(from + i * kWidth));
  } else {
    Vector::store(to + i * kWidth, is_inside ? Vector::load(from + place) : Vector::zero());
  }
}

template <bool kBackward>
void launch_merge(Extent map, std::int64_t channels, const ConstTensorView& from, const TensorView& to,
                  Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t elements = kBackward ? from.num_elements() : to.num_elements();
  if (elements == 0) return;
  const bool vectors =
      channels * size_bytes(from.dtype) % kVectorBytes == 0 && aligned_to({from.data, to.data}, kVectorBytes);
  dispatch_dtype(from.dtype, [&]<class T>() {
    const std::int64_t count = elements / (vectors ? kVectorWidth<T> : 1);
    const MergeParams p = {.count = count, .channels = channels, .map = map, .merged = merged_map(map)};
    const unsigned blocks = grid_size(ceil_div<std::int64_t>(count, kThreads));
    if (vectors) {
      merge_kernel<T, kVectorWidth<T>, kBackward>
          <<<blocks, kThreads, 0, native>>>(p, from.as<T>(), to.as<T>());
    } else {
      merge_kernel<T, 1, kBackward><<<blocks, kThreads, 0, native>>>(p, from.as<T>(), to.as<T>());
    }
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace

void patch_rows_cuda(const PatchRowsArgs& args, Stream& stream) {
  const ImageParams p = image_params(args.images.shape, args.patch);
  cudaStream_t native = launch_stream(stream);
  if (p.lines == 0) return;
  dispatch_dtype(args.rows.dtype, [&]<class T>() {
    patch_rows_kernel<<<grid_size(ceil_div<std::int64_t>(p.lines, kThreads)), kThreads, 0, native>>>(
        p, args.images.as<float>(), args.rows.as<T>());
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

void patch_rows_backward_cuda(const PatchRowsBackwardArgs& args, Stream& stream) {
  const ImageParams p = image_params(args.dimages.shape, args.patch);
  cudaStream_t native = launch_stream(stream);
  if (p.lines == 0) return;
  dispatch_dtype(args.drows.dtype, [&]<class T>() {
    patch_rows_backward_kernel<<<grid_size(ceil_div<std::int64_t>(p.lines, kThreads)), kThreads, 0, native>>>(
        p, args.drows.as<T>(), args.dimages.as<float>());
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

void merge_patches_cuda(const MergePatchesArgs& args, Stream& stream) {
  launch_merge<false>(args.map, args.x.size(1), args.x, args.rows, stream);
}
void merge_patches_backward_cuda(const MergePatchesBackwardArgs& args, Stream& stream) {
  launch_merge<true>(args.map, args.dx.size(1), args.drows, args.dx, stream);
}

}  // namespace flex
