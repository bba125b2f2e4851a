#include "kernels/gemm_product_cuda.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/require.h"
#include "kernels/cuda_blas_check.h"

namespace flex {
namespace {

constexpr std::int64_t kRowsPerBucket = 128;     // as in the tuning cache's capacity buckets
constexpr std::int64_t kLargestAlignment = 256;  // the library's default assumption
constexpr std::int64_t kVectorLoadBytes = 16;    // kernels need no more than their widest access

std::uint32_t alignment_of(const void* data, std::int64_t batch, std::int64_t stride_bytes) {
  auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data)) | kLargestAlignment;
  if (batch > 1) bits |= static_cast<std::uint64_t>(stride_bytes);
  return std::uint32_t{1} << std::countr_zero(bits);
}

bool has_bias(GemmEpilogue epilogue) {
  return epilogue == GemmEpilogue::kBias || epilogue == GemmEpilogue::kReluBias;
}
bool has_sums(GemmEpilogue epilogue) {
  return epilogue == GemmEpilogue::kRowSumsA || epilogue == GemmEpilogue::kColumnSumsB;
}

cublasLtEpilogue_t library_epilogue(GemmEpilogue epilogue) {
  switch (epilogue) {
    case GemmEpilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case GemmEpilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case GemmEpilogue::kRelu:
      return CUBLASLT_EPILOGUE_RELU;
    case GemmEpilogue::kReluBias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case GemmEpilogue::kRowSumsA:
      return CUBLASLT_EPILOGUE_BGRADB;  // the library's B is our A
    case GemmEpilogue::kColumnSumsB:
      return CUBLASLT_EPILOGUE_BGRADA;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

std::size_t combine(std::size_t hash, std::uint64_t value) {
  // Fibonacci hashing of the running value: enough for tables of some hundred entries.
  return (std::rotl(hash, 5) ^ static_cast<std::size_t>(value)) * 0x9e3779b97f4a7c15ULL;
}

template <class... Values>
std::size_t hash_values(Values... values) {
  std::size_t hash = 0;
  ((hash = combine(hash, static_cast<std::uint64_t>(values))), ...);
  return hash;
}

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, T value,
         const GemmShape& shape) {
  FLEX_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
                    to_string(shape));
}

template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value,
         const GemmShape& shape) {
  FLEX_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
                    to_string(shape));
}

// A stored row-major (rows, columns) matrix is a column-major (columns, rows) one.
void describe(cublasLtMatrixLayout_t layout, const GemmShape& shape, std::int64_t rows, std::int64_t columns,
              std::int64_t leading, std::int64_t stride) {
  FLEX_CUBLAS_CHECK(
      cublasLtMatrixLayoutInit(layout, cuda_type(shape.dtype), static_cast<std::uint64_t>(columns),
                               static_cast<std::uint64_t>(rows), leading),
      to_string(shape));
  const auto batch = static_cast<std::int32_t>(shape.batch);
  FLEX_CUBLAS_CHECK(
      cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof(batch)),
      to_string(shape));
  FLEX_CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                     &stride, sizeof(stride)),
                    to_string(shape));
}

// Stands for an address of this alignment until a launch sets the real one: the library looks at the
// alignment when it suggests algorithms.
const void* address_with_alignment(std::uint32_t alignment) {
  return reinterpret_cast<const void*>(  // NOLINT(performance-no-int-to-ptr): never read through
      static_cast<std::uintptr_t>(alignment));
}

}  // namespace

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    default:
      fail("products on CUDA are computed in fp32, fp16 and bf16, not in {}", name(dtype));
  }
}

GemmAlignments alignments_of(const GemmCall& call) {
  const GemmShape& shape = call.shape;
  const std::int64_t element = size_bytes(shape.dtype);
  const void* vector = has_sums(shape.epilogue) ? call.sums : call.bias;
  return {.a = alignment_of(call.a, shape.batch, shape.stride_a * element),
          .b = alignment_of(call.b, shape.batch, shape.stride_b * element),
          .d = alignment_of(call.d, shape.batch, shape.stride_d * element),
          .vector = alignment_of(vector, shape.batch, shape.vector_stride * element)};
}

GemmShape with_leading_dimensions(GemmShape shape) {
  if (shape.lda == 0) shape.lda = shape.transpose_a ? shape.m : shape.k;
  if (shape.ldb == 0) shape.ldb = shape.transpose_b ? shape.k : shape.n;
  if (shape.ldd == 0) shape.ldd = shape.n;
  return shape;
}

GemmFamily family_of(const GemmShape& shape, const GemmAlignments& alignments, bool allow_tf32) {
  const std::int64_t element = size_bytes(shape.dtype);
  std::uint64_t bits = alignments.a | alignments.b | alignments.d | kVectorLoadBytes;
  bits |= static_cast<std::uint64_t>((shape.lda | shape.ldb | shape.ldd) * element);
  if (has_bias(shape.epilogue) || has_sums(shape.epilogue)) bits |= alignments.vector;
  return {.dtype = shape.dtype,
          .allow_tf32 = allow_tf32 && shape.dtype == DType::kF32,
          .transpose_a = shape.transpose_a,
          .transpose_b = shape.transpose_b,
          .accumulate = shape.accumulate,
          .epilogue = shape.epilogue,
          .row_bucket = (shape.transpose_a ? shape.k : shape.m) / kRowsPerBucket,
          .a_columns = shape.transpose_a ? shape.m : shape.k,
          .n = shape.n,
          .batch = shape.batch,
          .alignment_bytes = std::int64_t{1} << std::countr_zero(bits)};
}

std::size_t hash_of(const GemmShape& shape, const GemmAlignments& alignments) {
  return hash_values(static_cast<int>(shape.dtype), shape.transpose_a, shape.transpose_b, shape.m, shape.n,
                     shape.k, shape.batch, shape.lda, shape.ldb, shape.ldd, shape.stride_a, shape.stride_b,
                     shape.stride_d, shape.vector_stride, static_cast<int>(shape.epilogue), shape.accumulate,
                     alignments.a, alignments.b, alignments.d, alignments.vector);
}

std::size_t hash_of(const GemmFamily& family) {
  return hash_values(static_cast<int>(family.dtype), family.allow_tf32, family.transpose_a,
                     family.transpose_b, family.accumulate, static_cast<int>(family.epilogue),
                     family.row_bucket, family.a_columns, family.n, family.batch, family.alignment_bytes);
}

GemmProduct::GemmProduct(const GemmShape& shape, const GemmAlignments& alignments, bool allow_tf32)
    : shape_(shape), alignments_(alignments) {
  const bool tf32 = allow_tf32 && shape.dtype == DType::kF32;
  FLEX_CUBLAS_CHECK(cublasLtMatmulDescInit(
                        &operation_, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
                    to_string(shape));
  const auto operation_of = [](bool transposed) -> std::int32_t {
    return transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  set(&operation_, CUBLASLT_MATMUL_DESC_TRANSA, operation_of(shape.transpose_b), shape);
  set(&operation_, CUBLASLT_MATMUL_DESC_TRANSB, operation_of(shape.transpose_a), shape);
  set(&operation_, CUBLASLT_MATMUL_DESC_EPILOGUE,
      static_cast<std::uint32_t>(library_epilogue(shape.epilogue)), shape);
  if (has_bias(shape.epilogue) || has_sums(shape.epilogue)) {
    set(&operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, address_with_alignment(alignments.vector), shape);
    if (shape.batch > 1) set(&operation_, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, shape.vector_stride, shape);
  }
  describe(&left_, shape, shape.transpose_b ? shape.n : shape.k, shape.transpose_b ? shape.k : shape.n,
           shape.ldb, shape.stride_b);
  describe(&right_, shape, shape.transpose_a ? shape.k : shape.m, shape.transpose_a ? shape.m : shape.k,
           shape.lda, shape.stride_a);
  describe(&result_, shape, shape.m, shape.n, shape.ldd, shape.stride_d);
}

std::vector<cublasLtMatmulAlgo_t> GemmProduct::suggestions(cublasLtHandle_t handle,
                                                           std::int64_t workspace_bytes, int count) const {
  cublasLtMatmulPreferenceOpaque_t preference;
  FLEX_CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference), to_string(shape_));
  set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes),
      shape_);
  // Partial sums stay in fp32: the other schemes round them to the output's type.
  set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), shape_);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments_.b, shape_);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments_.a, shape_);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments_.d, shape_);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments_.d, shape_);
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(count));
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, &operation_, &left_, &right_, &result_, &result_, &preference, count, results.data(), &found);
  // Two ways of saying that there is no algorithm for these types, this epilogue or these strides.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  FLEX_CUBLAS_CHECK(status, to_string(shape_));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (const auto& result : std::span(results).first(static_cast<std::size_t>(found))) {
    if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
  }
  return algorithms;
}

bool GemmProduct::fits(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm,
                       std::int64_t workspace_bytes) const {
  const auto refuses = [&](cublasLtMatmulAlgoCapAttributes_t attribute, std::uint32_t alignment) {
    std::uint32_t needed = 0;
    std::size_t written = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoCapGetAttribute(&algorithm, attribute, &needed, sizeof(needed), &written);
    return status == CUBLAS_STATUS_SUCCESS && needed > alignment;
  };
  // The check below knows the layouts, but no addresses.
  if (refuses(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES, alignments_.b) ||
      refuses(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES, alignments_.a) ||
      refuses(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES, alignments_.d)) {
    return false;
  }
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle, &operation_, &left_, &right_, &result_, &result_, &algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.state == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<std::size_t>(workspace_bytes);
}

cublasStatus_t GemmProduct::launch(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm,
                                   const GemmCall& call, const GemmWorkspace& workspace,
                                   cudaStream_t stream) const {
  if (has_bias(shape_.epilogue)) {
    set(&operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias, shape_);
  } else if (has_sums(shape_.epilogue)) {
    set(&operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.sums, shape_);
  }
  const float one = 1.0F;
  const float beta = shape_.accumulate ? 1.0F : 0.0F;
  return cublasLtMatmul(handle, &operation_, &one, call.b, &left_, call.a, &right_, &beta, call.d, &result_,
                        call.d, &result_, &algorithm, workspace.data,
                        static_cast<std::size_t>(workspace.bytes), stream);
}

}  // namespace flex
