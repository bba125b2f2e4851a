#pragma once

#include <cstdint>

#include "kernels/nn/window_map.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Gathers whose result a linear layer multiplies: patches of images, and the four neighbours that a patch
/// merging joins. Each is a permutation of its elements (but for padding), so that its backward pass is the
/// inverse gather. All functions throw InputError for shapes or types that disagree, run on the stream's
/// device and may return before the work is done. @source numerics.md "SwinV2-MoE"
namespace flex {

struct PatchRowsArgs {
  ConstTensorView images;  ///< (B, channels, H, W) in the gate's type
  std::int64_t patch = 4;  ///< divides H and W
  TensorView rows;         ///< (B H/patch W/patch, channels patch^2)
};
/// Patches in (image, row, column) order; the columns of one in (channel, row, column) order, as the weight
/// of a convolution (N, channels, patch, patch) has them: patch embedding is `linear` of these rows.
void patch_rows(const PatchRowsArgs& args, Stream& stream);

struct PatchRowsBackwardArgs {
  ConstTensorView drows;  ///< (B H/patch W/patch, channels patch^2)
  std::int64_t patch = 4;
  TensorView dimages;  ///< (B, channels, H, W) in the gate's type
};
void patch_rows_backward(const PatchRowsBackwardArgs& args, Stream& stream);

/// Rows of a map after patch merging: half of it, rounded up.
[[nodiscard]] constexpr Extent merged_map(Extent map) { return {(map.rows + 1) / 2, (map.columns + 1) / 2}; }

struct MergePatchesArgs {
  Extent map;
  ConstTensorView x;  ///< (B map.area(), C)
  TensorView rows;    ///< (B merged_map(map).area(), 4 C)
};
/// Joins the neighbours of (row, column) parity 00, 10, 01, 11; those outside of the map are zero.
void merge_patches(const MergePatchesArgs& args, Stream& stream);

struct MergePatchesBackwardArgs {
  Extent map;
  ConstTensorView drows;  ///< (B merged_map(map).area(), 4 C)
  TensorView dx;          ///< (B map.area(), C)
};
void merge_patches_backward(const MergePatchesBackwardArgs& args, Stream& stream);

template <class T>
void patch_rows_cpu(const PatchRowsArgs& args);
template <class T>
void patch_rows_backward_cpu(const PatchRowsBackwardArgs& args);
template <class T>
void merge_patches_cpu(const MergePatchesArgs& args);
template <class T>
void merge_patches_backward_cpu(const MergePatchesBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void patch_rows_cuda(const PatchRowsArgs& args, Stream& stream);
void patch_rows_backward_cuda(const PatchRowsBackwardArgs& args, Stream& stream);
void merge_patches_cuda(const MergePatchesArgs& args, Stream& stream);
void merge_patches_backward_cuda(const MergePatchesBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
