#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/gemm_algorithms.h"
#include "kernels/moe/expert_ffn.h"

namespace flex::bench {

/// The experts of one layer: L experts of R rows, M model dim, F hidden dim.
struct FfnShape {
  std::int64_t experts, rows, model_dim, hidden_dim;
};

/// The rows of the published table of one H200 (experts, capacity, M, H), with the time of the two batched
/// products alone there, through PyTorch's cuBLAS in fp16.
struct TableRow {
  FfnShape shape;
  double published_bmm_ms;
};
inline constexpr std::array<TableRow, 9> kTable = {{{{2, 4096, 4096, 4096}, 0.820},
                                                    {{2, 16384, 4096, 4096}, 3.380},
                                                    {{8, 4096, 2048, 2048}, 0.870},
                                                    {{8, 4096, 2048, 8192}, 3.331},
                                                    {{64, 256, 2048, 2048}, 0.502},
                                                    {{32, 2560, 1024, 4096}, 2.174},
                                                    {{32, 490, 512, 2048}, 0.171},
                                                    {{32, 1960, 512, 2048}, 0.588},
                                                    {{8, 1024, 4096, 14336}, 2.606}}};

/// Relu experts with biases and all tensors of both passes on a device; inputs uniform in [-1, 1).
class FfnProblem {
 public:
  FfnProblem(const FfnShape& shape, DType dtype, GemmAlgorithms& gemm, Stream& stream);

  [[nodiscard]] ExpertFfnArgs forward();
  [[nodiscard]] ExpertFfnBackwardDataArgs backward_data();
  [[nodiscard]] ExpertFfnBackwardWeightsArgs backward_weights();
  /// The products of the forward pass alone: x fc1_w^T into hidden, hidden fc2_w into y.
  [[nodiscard]] std::array<GemmCall, 2> plain_products();
  /// The six products of both passes without epilogues.
  [[nodiscard]] std::vector<GemmCall> all_products();

  /// Largest error of sampled rows of y, after a forward pass that was waited for, over the largest
  /// magnitude: against double on the host from the same rounded inputs. Rows `first_rows` (L) and up are
  /// sampled.
  [[nodiscard]] double forward_error(const std::vector<std::int64_t>& rows_per_expert) const;
  /// The most that forward_error() may be.
  [[nodiscard]] double error_limit() const;

  [[nodiscard]] const FfnShape& shape() const { return shape_; }
  /// Multiply-adds of the forward pass's products over all rows, times two.
  [[nodiscard]] double forward_flop() const;

 private:
  FfnShape shape_;
  DType dtype_;
  GemmAlgorithms& gemm_;
  Tensor x_, dy_, fc1_w_, fc2_w_, fc1_bias_, fc2_bias_;
  Tensor hidden_, y_, dhidden_, dx_, dfc1_w_, dfc2_w_, dfc1_bias_, dfc2_bias_;
};

}  // namespace flex::bench
