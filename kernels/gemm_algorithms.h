#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Matrix products on a CUDA device through cuBLASLt, and which of its algorithms computes each of them.
namespace flex {

/// What is done to a product before it is stored, or taken from its operands on the way.
enum class GemmEpilogue : std::uint8_t {
  kNone,
  kBias,         ///< adds bias (n) to every row
  kRelu,         ///< max(., 0)
  kReluBias,     ///< adds bias (n) to every row, then max(., 0)
  kRowSumsA,     ///< also sums[i] = sum over k of op(A)[i, k], (m): a bias gradient
  kColumnSumsB,  ///< also sums[j] = sum over k of op(B)[k, j], (n): a bias gradient
};
/// none, bias, relu, relu_bias, row_sums_a, column_sums_b.
[[nodiscard]] std::string_view name(GemmEpilogue epilogue);

/// D = op(A) op(B), or D += with `accumulate`, for every member of a batch. Row-major; op(A) is (m, k), op(B)
/// (k, n), D (m, n). A plain value, the key of what is known about a product.
struct GemmShape {
  DType dtype = DType::kF32;  ///< of A, B, D, bias and sums: fp32, fp16, bf16; products are summed in fp32
  bool transpose_a = false;   ///< A is stored (k, m)
  bool transpose_b = false;   ///< B is stored (n, k)
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t batch = 1;
  std::int64_t lda = 0;  ///< elements between neighbouring stored rows of A; 0: no gap
  std::int64_t ldb = 0;
  std::int64_t ldd = 0;
  std::int64_t stride_a = 0;  ///< elements between neighbouring members of the batch
  std::int64_t stride_b = 0;
  std::int64_t stride_d = 0;
  std::int64_t vector_stride = 0;  ///< of bias or sums
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  bool accumulate = false;

  friend bool operator==(const GemmShape&, const GemmShape&) = default;
};
/// `bf16 2 x (4096 x 4096) (4096 x 4096)^T relu_bias`.
[[nodiscard]] std::string to_string(const GemmShape& shape);

/// One product. Pointers of the device; the caller has checked them.
struct GemmCall {
  GemmShape shape;
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  const void* bias = nullptr;  ///< kBias, kReluBias
  void* sums = nullptr;        ///< kRowSumsA, kColumnSumsB
};

/// The shapes that share an algorithm: `rows`, the stored rows of A, only count by their bucket.
struct GemmFamily {
  DType dtype = DType::kF32;
  bool allow_tf32 = false;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  std::int64_t row_bucket = 0;  ///< floor(rows / 128), rows = m, or k with transpose_a
  std::int64_t a_columns = 0;   ///< k, or m with transpose_a
  std::int64_t n = 0;
  std::int64_t batch = 1;
  std::int64_t alignment_bytes = 16;  ///< of all operands and their rows, at most 16

  friend bool operator==(const GemmFamily&, const GemmFamily&) = default;
};

/// What a timed search found, for a tuning cache to keep.
struct GemmAlgorithmRow {
  std::string device;                ///< as the driver names it
  std::int64_t library_version = 0;  ///< of cuBLASLt
  GemmFamily family;
  std::string algorithm;  ///< the library's description, 64 bytes as lower-case hexadecimal
  double measured_us = 0.0;

  friend bool operator==(const GemmAlgorithmRow&, const GemmAlgorithmRow&) = default;
};

/// How products of the same kind but for their row counts are run together, see GemmAlgorithms::run_group.
enum class GemmGroupMethod : std::uint8_t {
  kAuto,  ///< one by one if each of them fills the device, grouped otherwise
  kOneByOne,
  kGrouped,  ///< cuBLAS's grouped product
};

struct GemmOptions {
  std::int64_t workspace_bytes = std::int64_t{64} << 20;
  bool allow_tf32 = false;  ///< fp32 products may round their operands to TF32
  int num_candidates = 24;  ///< algorithms that a timed search asks the library for
  GemmGroupMethod group_method = GemmGroupMethod::kAuto;
};

/// Runs products with the algorithm that was found for their family: by a timed search, by import_rows(), or
/// else the library's first suggestion, taken at once. After the first call of a shape a call costs one table
/// lookup and the launch; it allocates nothing.
///
/// One object per device and rank. Its products share a workspace: they go to one stream, or to streams that
/// the caller orders. One thread at a time.
class GemmAlgorithms {
 public:
  /// @throws DeviceError if `device` is no usable CUDA device or this build has no CUDA.
  explicit GemmAlgorithms(Device device, const GemmOptions& options = {});
  ~GemmAlgorithms();
  GemmAlgorithms(const GemmAlgorithms&) = delete;
  GemmAlgorithms& operator=(const GemmAlgorithms&) = delete;

  /// Queues one product. Empty products do nothing; k = 0 writes zeros (only with kNone).
  /// @throws DeviceError if the library cannot compute it.
  void run(const GemmCall& call, Stream& stream);
  /// The same, or false, with nothing queued, if the library has no algorithm for it (an epilogue in a batch,
  /// say).
  [[nodiscard]] bool run_if_supported(const GemmCall& call, Stream& stream);
  /// True if run() can compute it. The first call of a shape prepares it.
  [[nodiscard]] bool supports(const GemmCall& call);
  /// Whether `fused` is to be taken instead of `plain` and a pass of its own over `pass_bytes` of memory.
  /// False if the library cannot compute it, and for empty products; by their times if both were measured,
  /// where the pass counts with the least time that the memory's bandwidth allows; otherwise nothing is
  /// known. With set_tune_unseen() both are measured now.
  [[nodiscard]] std::optional<bool> prefers_fused(const GemmCall& fused, const GemmCall& plain,
                                                  std::int64_t pass_bytes);
  /// Queues products of one dtype without epilogues and batches, all of one kind but for their row counts.
  /// Not for graph capture: grouped, the addresses are copied from host memory.
  void run_group(std::span<const GemmCall> calls, Stream& stream);
  /// True if run_group would run these products one by one.
  [[nodiscard]] bool runs_one_by_one(std::span<const GemmCall> calls) const;

  /// Times the library's suggestions for the call's family on scratch operands of random values, with the L2
  /// flushed, and keeps the fastest median. Waits for all work of the device first, blocks the host, and uses
  /// memory of its own; the pointers only tell the alignment and may be null. For warm-up.
  void tune_blocking(const GemmCall& call);
  /// While on, run() tunes a family without a measured algorithm before its first product, as tune_blocking()
  /// does. To be switched on for a warm-up iteration; never while a graph is captured.
  void set_tune_unseen(bool tune_unseen);
  [[nodiscard]] bool tunes_unseen() const;

  /// Median of the kept algorithm in microseconds; nothing if the family was never timed.
  [[nodiscard]] std::optional<double> measured_us(const GemmCall& call) const;
  /// All measured algorithms, in no particular order.
  [[nodiscard]] std::vector<GemmAlgorithmRow> export_rows() const;
  /// Takes over rows of this device and library version; others, and damaged ones, are ignored. An algorithm
  /// that does not fit a shape is not used for it. Returns how many were taken.
  std::int64_t import_rows(std::span<const GemmAlgorithmRow> rows);

  [[nodiscard]] Device device() const;
  [[nodiscard]] const GemmOptions& options() const;
  /// Scratch of the products, u8. Other kernels may use it between products of the same stream.
  [[nodiscard]] TensorView workspace() const;
  /// Shapes prepared so far, and how often one had to be: a warmed-up iteration adds none.
  [[nodiscard]] std::int64_t num_preparations() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flex
