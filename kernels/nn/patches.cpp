#include "kernels/nn/patches.h"

#include "kernels/check.h"

namespace flex {
namespace {

void check_patches(const ArgumentCheck& check, const ConstTensorView& images, const ConstTensorView& rows,
                   std::int64_t patch) {
  check.require_compute_dtype("rows", rows.dtype);
  require(images.shape.rank() == 4, "{}: images is {}, expected (images, channels, rows, columns)",
          check.kernel(), to_string(images.shape));
  require(patch >= 1 && images.size(2) % patch == 0 && images.size(3) % patch == 0,
          "{}: patches of {} x {} do not divide images of {} x {}", check.kernel(), patch, patch,
          images.size(2), images.size(3));
  check.tensor("images", images, gate_dtype(rows.dtype), images.shape);
  check.tensor(
      "rows", rows, rows.dtype,
      {images.size(0) * (images.size(2) / patch) * (images.size(3) / patch), images.size(1) * patch * patch});
}

void check_merge(const ArgumentCheck& check, Extent map, const ConstTensorView& x,
                 const ConstTensorView& rows) {
  check.require_compute_dtype("x", x.dtype);
  require(map.rows >= 1 && map.columns >= 1, "{}: a map of {} x {}; extents are 1 or more", check.kernel(),
          map.rows, map.columns);
  require(x.size(0) % map.area() == 0, "{}: x has {} rows, not a multiple of the map's {}", check.kernel(),
          x.size(0), map.area());
  check.tensor("x", x, x.dtype, {x.size(0), x.size(1)});
  check.tensor("rows", rows, x.dtype, {x.size(0) / map.area() * merged_map(map).area(), 4 * x.size(1)});
}

}  // namespace

void patch_rows(const PatchRowsArgs& args, Stream& stream) {
  check_patches(ArgumentCheck("patch_rows", stream.device()), args.images, args.rows, args.patch);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return patch_rows_cuda(args, stream);
#endif
  enqueue_as(args.rows.dtype, stream, [args]<class T>() { patch_rows_cpu<T>(args); });
}

void patch_rows_backward(const PatchRowsBackwardArgs& args, Stream& stream) {
  check_patches(ArgumentCheck("patch_rows_backward", stream.device()), args.dimages, args.drows, args.patch);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return patch_rows_backward_cuda(args, stream);
#endif
  enqueue_as(args.drows.dtype, stream, [args]<class T>() { patch_rows_backward_cpu<T>(args); });
}

void merge_patches(const MergePatchesArgs& args, Stream& stream) {
  check_merge(ArgumentCheck("merge_patches", stream.device()), args.map, args.x, args.rows);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return merge_patches_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { merge_patches_cpu<T>(args); });
}

void merge_patches_backward(const MergePatchesBackwardArgs& args, Stream& stream) {
  check_merge(ArgumentCheck("merge_patches_backward", stream.device()), args.map, args.dx, args.drows);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return merge_patches_backward_cuda(args, stream);
#endif
  enqueue_as(args.drows.dtype, stream, [args]<class T>() { merge_patches_backward_cpu<T>(args); });
}

}  // namespace flex
