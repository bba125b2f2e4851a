#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <vector>

#include "kernels/gemm_algorithms.h"

/// One product in cuBLASLt's words. Private to GemmAlgorithms; CUDA builds only.
namespace flex {

/// Bytes that the addresses of all members of a batch are multiples of, at most 256 (what the library asks
/// about).
struct GemmAlignments {
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t d = 0;
  std::uint32_t vector = 0;  ///< of bias or sums
  friend bool operator==(const GemmAlignments&, const GemmAlignments&) = default;
};
[[nodiscard]] GemmAlignments alignments_of(const GemmCall& call);
/// With rows without gaps, where the shape left leading dimensions out.
[[nodiscard]] GemmShape with_leading_dimensions(GemmShape shape);
[[nodiscard]] GemmFamily family_of(const GemmShape& shape, const GemmAlignments& alignments, bool allow_tf32);
[[nodiscard]] std::size_t hash_of(const GemmShape& shape, const GemmAlignments& alignments);
[[nodiscard]] std::size_t hash_of(const GemmFamily& family);

/// Device memory that the library may use while it computes.
struct GemmWorkspace {
  void* data = nullptr;
  std::int64_t bytes = 0;
};

/// The library's descriptors of a shape. cuBLASLt is column-major, so that it is asked for
/// D^T = op(B)^T op(A)^T: its A is our B.
class GemmProduct {
 public:
  GemmProduct(const GemmShape& shape, const GemmAlignments& alignments, bool allow_tf32);

  /// At most `count` algorithms, best guess first; none if the library cannot compute this.
  [[nodiscard]] std::vector<cublasLtMatmulAlgo_t> suggestions(cublasLtHandle_t handle,
                                                              std::int64_t workspace_bytes, int count) const;
  /// True if `algorithm` can compute this within the workspace.
  [[nodiscard]] bool fits(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm,
                          std::int64_t workspace_bytes) const;
  [[nodiscard]] cublasStatus_t launch(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm,
                                      const GemmCall& call, const GemmWorkspace& workspace,
                                      cudaStream_t stream) const;
  [[nodiscard]] const GemmShape& shape() const { return shape_; }

 private:
  GemmShape shape_;
  GemmAlignments alignments_;
  // The library takes descriptors as pointers to mutable, also where it only reads.
  mutable cublasLtMatmulDescOpaque_t operation_;
  mutable cublasLtMatrixLayoutOpaque_t left_, right_, result_;
};

[[nodiscard]] cudaDataType_t cuda_type(DType dtype);

}  // namespace flex
