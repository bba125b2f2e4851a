#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The three products behind the gates, between many tokens and a few rows of weights. T tokens, N rows of
/// weights, M channels. Operands are read in their own type and sums are in fp32, in an order that depends on
/// the shape alone: equal bits on repeat.
///
/// The tensor cores take the products, of bf16 parts into which fp32 and fp16 values are split (never of
/// TF32; see split_products.cuh). With u = 2^-24 and S the sum of the magnitudes of a result's terms, an fp32
/// result is off by at most (m + 26) u S: m partial sums, one for 32 terms (for 16 of a warp's tokens in
/// sum_outer, and one for each slice), are added and rounded as in any loop in fp32, up to 22 u S come from
/// the truncation inside a partial sum, and 2 u S from the parts that are left out (none beside bf16 values).
/// Errors that occur are a few u S. Values that round to 2^128 or more in bf16, and infinities, give NaN.
namespace flex {

/// A matrix in device memory; strides in elements, so that a transpose needs no copy.
template <class T>
struct StridedMatrix {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

[[nodiscard]] inline StridedMatrix<const float> row_major(const ConstTensorView& view) {
  return {view.as<float>(), view.size(0), view.size(1), view.size(1), 1};
}
[[nodiscard]] inline StridedMatrix<float> row_major(const TensorView& view) {
  return {view.as<float>(), view.size(0), view.size(1), view.size(1), 1};
}
template <class T>
[[nodiscard]] StridedMatrix<T> transposed(const StridedMatrix<T>& matrix) {
  return {matrix.data, matrix.cols, matrix.rows, matrix.col_stride, matrix.row_stride};
}

/// out[t, n] = <x[t], weight[n]> + bias[n]. x (T, M) fp32, fp16 or bf16; weight (N, M); bias (N), or null: 0;
/// out (T, N) fp32.
void dot_rows_cuda(const ConstTensorView& x, const StridedMatrix<const float>& weight, const float* bias,
                   const TensorView& out, Stream& stream);

/// out[t] = sum over n of a[t, n] weight[n], added to out if `accumulate`. a (T, N) fp32; weight (N, M);
/// out (T, M) fp32, fp16 or bf16. For 16-bit outputs the sum is off by at most 3 * 2^-16 of its terms'
/// magnitudes before it is rounded: 1/85 of a rounding of bf16, a tenth of one of fp16.
void combine_rows_cuda(const ConstTensorView& a, const StridedMatrix<const float>& weight,
                       const TensorView& out, bool accumulate, Stream& stream);

/// out[n, m] = sum over t of a[t, n] x[t, m]. a (T, N) fp32; x (T, M) fp32, fp16 or bf16; out (N, M).
/// `workspace` has sum_outer_workspace_bytes, aligned for a float.
void sum_outer_cuda(const ConstTensorView& a, const ConstTensorView& x, const StridedMatrix<float>& out,
                    float* workspace, Stream& stream);
[[nodiscard]] std::int64_t sum_outer_workspace_bytes(std::int64_t tokens, std::int64_t rows,
                                                     std::int64_t cols);

/// out[i] = sum over s, in order, of partials[s, i], added to out if `accumulate`: the second stage of sums
/// over tokens.
void sum_partials_cuda(const float* partials, std::int64_t num_partials, const StridedMatrix<float>& out,
                       Stream& stream, bool accumulate = false);

}  // namespace flex
