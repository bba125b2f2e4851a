#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cuda_launch.cuh"

/// Vector access to experts' rows, for device code of this folder.
namespace flex {

inline constexpr int kExpertThreads = 256;
/// Row counts travel as a kernel parameter (4 KiB at most); more experts take several launches.
inline constexpr std::int64_t kMaxExpertsPerLaunch = 256;

struct RowCounts {
  std::int32_t rows[kMaxExpertsPerLaunch];
};

/// Counts of experts [first, first + num); without counts all_rows for each.
inline RowCounts row_counts(std::span<const std::int64_t> counts, std::int64_t all_rows, std::int64_t first,
                            std::int64_t num) {
  RowCounts result;
  for (std::int64_t i = 0; i < num; ++i) {
    const auto expert = static_cast<std::size_t>(first + i);
    result.rows[i] = static_cast<std::int32_t>(counts.empty() ? all_rows : counts[expert]);
  }
  return result;
}
inline std::int64_t most_rows(const RowCounts& counts, std::int64_t num) {
  return num == 0 ? 0 : *std::max_element(counts.rows, counts.rows + num);
}

/// True if `elements` of a type fill whole vectors.
inline bool fills_vectors(std::int64_t elements, DType dtype) {
  return elements * size_bytes(dtype) % kVectorBytes == 0;
}
/// True if every expert of the view begins at a vector's place, or the view was left out.
inline bool begins_at_vectors(const ConstTensorView& view) {
  return !view.present() ||
         (aligned_to({view.data}, kVectorBytes) && fills_vectors(view.outer_stride, view.dtype));
}

/// Calls function.operator()<T, kWidth>() with the device type of `dtype`, and kWidth a vector or 1.
template <class Function>
void dispatch_vectors(DType dtype, bool vectors, Function&& function) {
  dispatch_dtype(dtype, [&]<class T>() {
    if (vectors) {
      function.template operator()<T, kVectorWidth<T>>();
    } else {
      function.template operator()<T, 1>();
    }
  });
}

/// Experts' elements of one tensor, from the first expert of a launch on; null for a tensor left out.
template <class T>
struct ExpertElements {
  T* data;
  std::int64_t stride;

  [[nodiscard]] __device__ bool present() const { return data != nullptr; }
  [[nodiscard]] __device__ T* of(unsigned expert) const { return data + expert * stride; }
};
template <class T, class View>
ExpertElements<T> elements_from(const View& view, std::int64_t first_expert) {
  if (!view.present()) return {nullptr, 0};
  return {view.template as<std::remove_const_t<T>>() + first_expert * view.outer_stride, view.outer_stride};
}

}  // namespace flex
