#include "kernels/matrix_map.h"
#include "kernels/nn/patches.h"

namespace flex {
namespace {

// Calls function(index in the images, index in the rows) for each element of the images.
template <class Function>
void for_each_pixel(const Shape& images, std::int64_t patch, const Function& function) {
  const std::int64_t channels = images[1];
  const Extent patches = {images[2] / patch, images[3] / patch};
  std::int64_t pixel = 0;
  for (std::int64_t image = 0; image < images[0]; ++image) {
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      for (std::int64_t row = 0; row < images[2]; ++row) {
        for (std::int64_t column = 0; column < images[3]; ++column, ++pixel) {
          const std::int64_t patch_index =
              (image * patches.rows + row / patch) * patches.columns + column / patch;
          const std::int64_t in_patch = (channel * patch + row % patch) * patch + column % patch;
          function(pixel, patch_index * channels * patch * patch + in_patch);
        }
      }
    }
  }
}

// Calls function(merged row, quarter, row of x, or -1 outside of the map).
template <class Function>
void for_each_quarter(std::int64_t images, Extent map, const Function& function) {
  const Extent merged = merged_map(map);
  for (std::int64_t index = 0; index < images * merged.area(); ++index) {
    const std::int64_t image = index / merged.area();
    const std::int64_t row = index % merged.area() / merged.columns;
    const std::int64_t column = index % merged.columns;
    for (std::int64_t quarter = 0; quarter < 4; ++quarter) {  // parity 00, 10, 01, 11: the row's first
      const std::int64_t of_row = 2 * row + quarter % 2;
      const std::int64_t of_column = 2 * column + quarter / 2;
      const bool is_inside = of_row < map.rows && of_column < map.columns;
      function(index, quarter, is_inside ? image * map.area() + of_row * map.columns + of_column : -1);
    }
  }
}

}  // namespace

template <class T>
void patch_rows_cpu(const PatchRowsArgs& args) {
  for_each_pixel(args.images.shape, args.patch, [&](std::int64_t pixel, std::int64_t element) {
    args.rows.as<T>()[element] = args.images.as<T>()[pixel];
  });
}

template <class T>
void patch_rows_backward_cpu(const PatchRowsBackwardArgs& args) {
  for_each_pixel(args.dimages.shape, args.patch, [&](std::int64_t pixel, std::int64_t element) {
    args.dimages.as<T>()[pixel] = args.drows.as<T>()[element];
  });
}

template <class T>
void merge_patches_cpu(const MergePatchesArgs& args) {
  const std::int64_t channels = args.x.size(1);
  for_each_quarter(args.x.size(0) / args.map.area(), args.map,
                   [&](std::int64_t merged, std::int64_t quarter, std::int64_t row) {
                     RowMap<T> to(args.rows.slice<T>(merged) + quarter * channels, channels);
                     if (row < 0) {
                       to.setZero();
                     } else {
                       to = row_of<T>(args.x, row);
                     }
                   });
}

template <class T>
void merge_patches_backward_cpu(const MergePatchesBackwardArgs& args) {
  const std::int64_t channels = args.dx.size(1);
  for_each_quarter(args.dx.size(0) / args.map.area(), args.map,
                   [&](std::int64_t merged, std::int64_t quarter, std::int64_t row) {
                     if (row < 0) return;
                     row_of<T>(args.dx, row) =
                         ConstRowMap<T>(args.drows.slice<T>(merged) + quarter * channels, channels);
                   });
}

template void patch_rows_cpu<float>(const PatchRowsArgs&);
template void patch_rows_cpu<double>(const PatchRowsArgs&);
template void patch_rows_backward_cpu<float>(const PatchRowsBackwardArgs&);
template void patch_rows_backward_cpu<double>(const PatchRowsBackwardArgs&);
template void merge_patches_cpu<float>(const MergePatchesArgs&);
template void merge_patches_cpu<double>(const MergePatchesArgs&);
template void merge_patches_backward_cpu<float>(const MergePatchesBackwardArgs&);
template void merge_patches_backward_cpu<double>(const MergePatchesBackwardArgs&);

}  // namespace flex
