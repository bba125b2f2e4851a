#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gemm_algorithms.h"
#include "kernels/moe/expert_ffn.h"

/// The matrix products of all experts of a call. Private to the kernels that have some; CUDA builds only.
namespace flex {

/// d = op(a) op(b) for every expert. `a` is (L, R, .): with transpose_a the sum runs over its rows.
struct ExpertProduct {
  ConstTensorView a;
  ConstTensorView b;
  bool transpose_a = false;
  bool transpose_b = false;
  TensorView d;
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  ConstTensorView bias{};  ///< (L, at least the columns of d)
  TensorView sums{};       ///< (L, rows of d for kRowSumsA, columns of d for kColumnSumsB)
  bool accumulate = false;
};

/// Sums over the rows of an operand of a product: a bias gradient.
struct BiasSums {
  GemmEpilogue epilogue = GemmEpilogue::kRowSumsA;  ///< or kColumnSumsB
  std::int64_t begin = 0;                           ///< first column that the sums cover
  TensorView sums{};                                ///< (L, B), optional
  bool accumulate = false;                          ///< adds to the sums instead of overwriting them
};

/// The product as one call over all rows of all experts.
[[nodiscard]] GemmCall batched_call(const ExpertProduct& product);

/// Queues products over all rows, in one batch, or over the first `counts[expert]` rows of each expert.
class ExpertProducts {
 public:
  /// `counts` on the host; empty: all rows.
  ExpertProducts(GemmAlgorithms& gemm, std::span<const std::int64_t> counts, Stream& stream)
      : gemm_(gemm), counts_(counts), stream_(stream) {}

  /// @throws DeviceError if the library cannot compute it.
  void run(const ExpertProduct& product);
  /// The same, or false with nothing queued if there is no product with this epilogue.
  [[nodiscard]] bool run_if_supported(const ExpertProduct& product);
  /// A weight's gradient and its bias's, the latter by the product's epilogue where that was measured to pay:
  /// kernels that have it may be slower by more than the pass that it saves.
  void run_with_sums(const ExpertProduct& plain, const BiasSums& bias);
  /// GemmAlgorithms::prefers_fused; false with counts, where products have no epilogues.
  [[nodiscard]] std::optional<bool> prefers_fused(const ExpertProduct& fused, const ExpertProduct& plain,
                                                  std::int64_t pass_bytes);

  [[nodiscard]] GemmAlgorithms& gemm() const { return gemm_; }
  [[nodiscard]] std::span<const std::int64_t> counts() const { return counts_; }
  [[nodiscard]] Stream& stream() const { return stream_; }

 private:
  void collect(const ExpertProduct& product);

  GemmAlgorithms& gemm_;
  std::span<const std::int64_t> counts_;
  Stream& stream_;
  std::vector<GemmCall> calls_;  // of the product under way, one an expert
};

}  // namespace flex
