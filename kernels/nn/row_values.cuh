#pragma once

#include <cstdint>

#include "kernels/cuda_launch.cuh"

/// Rows that kLanes neighbouring lanes of a warp work on together, for the normalization kernels. Included by
/// .cu files only.
namespace flex {

/// How a kernel walks over a row: kVectors vectors of kWidth elements a lane, kept in registers between
/// passes; or as many as it takes, read again in each pass, where kVectors is 0.
template <class Element, int width, int lanes, int vectors>
struct LaneRow {
  using T = Element;
  static constexpr int kWidth = width;
  static constexpr int kLanes = lanes;
  static constexpr int kVectors = vectors;
  static constexpr int kSlots = vectors == 0 ? 1 : vectors;  // registers of a lane, in vectors
};

/// A lane's part of one row.
template <class Shape>
class RowValues {
 public:
  using T = typename Shape::T;
  using Vector = Pack<T, Shape::kWidth>;

  __device__ RowValues(const T* row, std::int64_t channels, int lane)
      : row_(row), channels_(channels), lane_(lane) {
#pragma unroll
    for (int j = 0; j < Shape::kVectors; ++j) {
      const std::int64_t column = column_of(j);
      raw_[j] = column < channels ? Vector::load(row + column) : Vector::zero();
    }
  }
  /// First column of vector j; not below channels() where there is none.
  [[nodiscard]] __device__ std::int64_t column_of(std::int64_t j) const {
    return (j * Shape::kLanes + lane_) * Shape::kWidth;
  }
  [[nodiscard]] __device__ std::int64_t channels() const { return channels_; }
  /// Vector j, whose first column is below channels().
  __device__ void get(std::int64_t j, float (&values)[Shape::kWidth]) const {
    if constexpr (Shape::kVectors > 0) {
      Vector::unpack(raw_[j], values);
    } else {
      Vector::unpack(Vector::load(row_ + column_of(j)), values);
    }
  }

 private:
  const T* row_;
  std::int64_t channels_;
  int lane_;
  typename Vector::Raw raw_[Shape::kSlots];
};

/// Calls function(j, first column) for a lane's vectors of a row.
template <class Shape, class Function>
__device__ inline void for_each_vector(const RowValues<Shape>& row, const Function& function) {
  if constexpr (Shape::kVectors > 0) {
#pragma unroll
    for (int j = 0; j < Shape::kVectors; ++j) {
      if (row.column_of(j) < row.channels()) function(j, row.column_of(j));
    }
  } else {
    for (std::int64_t j = 0; row.column_of(j) < row.channels(); ++j)
      function(static_cast<int>(j), row.column_of(j));
  }
}

/// Calls function.operator()<LaneRow>() with what suits rows of `channels` elements of `dtype`.
template <class Function>
void dispatch_rows(DType dtype, std::int64_t channels, bool vectors, Function&& function) {
  dispatch_dtype(dtype, [&]<class T>() {
    constexpr int kWidth = kVectorWidth<T>;
    const std::int64_t row_vectors = channels / kWidth;
    if (!vectors) return function.template operator()<LaneRow<T, 1, kWarpSize, 0>>();
    if (row_vectors <= 16) return function.template operator()<LaneRow<T, kWidth, 16, 1>>();
    if (row_vectors <= 32) return function.template operator()<LaneRow<T, kWidth, kWarpSize, 1>>();
    if (row_vectors <= 64) return function.template operator()<LaneRow<T, kWidth, kWarpSize, 2>>();
    if (row_vectors <= 128) return function.template operator()<LaneRow<T, kWidth, kWarpSize, 4>>();
    return function.template operator()<LaneRow<T, kWidth, kWarpSize, 0>>();
  });
}

/// The vector of `values` that begins at `column`. Vectors of more than one element are aligned for 16 bytes.
template <int kWidth>
__device__ inline void load_floats(const float* values, std::int64_t column, float (&to)[kWidth]) {
  if constexpr (kWidth == 1) {
    to[0] = values[column];
  } else {
#pragma unroll
    for (int v = 0; v < kWidth; v += 4) {
      const float4 four = *reinterpret_cast<const float4*>(values + column + v);
      to[v] = four.x;
      to[v + 1] = four.y;
      to[v + 2] = four.z;
      to[v + 3] = four.w;
    }
  }
}

}  // namespace flex
