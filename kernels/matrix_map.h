#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

#include "kernels/tensor.h"

/// Memory of tensors as Eigen matrices, for the CPU kernels. Included by .cpp files only: a user of Flex
/// needs no Eigen.
namespace flex {

template <class T>
using RowMajorMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using MatrixMap = Eigen::Map<RowMajorMatrix<T>>;
template <class T>
using ConstMatrixMap = Eigen::Map<const RowMajorMatrix<T>>;
template <class T>
using RowMap = Eigen::Map<Eigen::Matrix<T, 1, Eigen::Dynamic>>;
template <class T>
using ConstRowMap = Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>;

/// A contiguous (rows, cols) matrix.
template <class T>
MatrixMap<T> as_matrix(const TensorView& view) {
  return {view.as<T>(), view.size(0), view.size(1)};
}
template <class T>
ConstMatrixMap<T> as_matrix(const ConstTensorView& view) {
  return {view.as<T>(), view.size(0), view.size(1)};
}

/// Slice `index` of axis 0 of a (N, rows, cols) tensor.
template <class T>
MatrixMap<T> matrix_slice(const TensorView& view, std::int64_t index) {
  return {view.slice<T>(index), view.size(1), view.size(2)};
}
template <class T>
ConstMatrixMap<T> matrix_slice(const ConstTensorView& view, std::int64_t index) {
  return {view.slice<T>(index), view.size(1), view.size(2)};
}

/// Row `index` of a (rows, cols) matrix.
template <class T>
RowMap<T> row_of(const TensorView& view, std::int64_t index) {
  return {view.slice<T>(index), view.size(1)};
}
template <class T>
ConstRowMap<T> row_of(const ConstTensorView& view, std::int64_t index) {
  return {view.slice<T>(index), view.size(1)};
}

/// out += a b, in tiles whose packed operands fit Eigen's buffers on the stack: a product of any size
/// allocates nothing.
template <class Out, class A, class B>
void multiply_add(Out&& out, const A& a, const B& b) {
  constexpr Eigen::Index kTile = 64;
  constexpr Eigen::Index kDepth = 128;  // kTile * kDepth doubles: half of EIGEN_STACK_ALLOCATION_LIMIT
  for (Eigen::Index row = 0; row < out.rows(); row += kTile) {
    const Eigen::Index rows = std::min(kTile, out.rows() - row);
    for (Eigen::Index column = 0; column < out.cols(); column += kTile) {
      const Eigen::Index columns = std::min(kTile, out.cols() - column);
      for (Eigen::Index at = 0; at < a.cols(); at += kDepth) {
        const Eigen::Index depth = std::min(kDepth, a.cols() - at);
        out.block(row, column, rows, columns).noalias() +=
            a.block(row, at, rows, depth) * b.block(at, column, depth, columns);
      }
    }
  }
}

/// out = a b.
template <class Out, class A, class B>
void multiply(Out&& out, const A& a, const B& b) {
  out.setZero();
  multiply_add(out, a, b);
}

}  // namespace flex
