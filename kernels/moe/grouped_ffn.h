#pragma once

#include <cstdint>
#include <span>

#include "kernels/moe/expert_ffn.h"

/// The experts of expert_ffn.h over the rows that are really there: of expert e, the first
/// rows_per_expert[e] of the R rows of every view. The rows behind them are neither read nor written, so that
/// the work follows the routing and not the fullest expert. Everything else as in expert_ffn.h.
///
/// `rows_per_expert` (L) lies on the host and must stay as it is until the work has run on a CPU stream; a
/// CUDA stream has done with it when the call returns. Counts change the work that is queued: not for graph
/// capture.
/// @throws InputError also if there are not L counts, or one is not in [0, R].
namespace flex {

void grouped_ffn(const ExpertFfnArgs& args, std::span<const std::int64_t> rows_per_expert, Stream& stream);
void grouped_ffn_backward_data(const ExpertFfnBackwardDataArgs& args,
                               std::span<const std::int64_t> rows_per_expert, Stream& stream);
/// An expert without rows gets zero gradients.
void grouped_ffn_backward_fc1(const ExpertFfnBackwardWeightsArgs& args,
                              std::span<const std::int64_t> rows_per_expert, Stream& stream);
void grouped_ffn_backward_fc2(const ExpertFfnBackwardWeightsArgs& args,
                              std::span<const std::int64_t> rows_per_expert, Stream& stream);

template <class T>
void grouped_ffn_cpu(const ExpertFfnArgs& args, std::span<const std::int64_t> rows_per_expert);
template <class T>
void grouped_ffn_backward_data_cpu(const ExpertFfnBackwardDataArgs& args,
                                   std::span<const std::int64_t> rows_per_expert);
template <class T>
void grouped_ffn_backward_fc1_cpu(const ExpertFfnBackwardWeightsArgs& args,
                                  std::span<const std::int64_t> rows_per_expert);
template <class T>
void grouped_ffn_backward_fc2_cpu(const ExpertFfnBackwardWeightsArgs& args,
                                  std::span<const std::int64_t> rows_per_expert);

#ifdef FLEX_HAS_CUDA
/// Here no counts at all stand for all rows, which are then computed as one batch.
void grouped_ffn_cuda(const ExpertFfnArgs& args, std::span<const std::int64_t> rows_per_expert,
                      Stream& stream);
void grouped_ffn_backward_data_cuda(const ExpertFfnBackwardDataArgs& args,
                                    std::span<const std::int64_t> rows_per_expert, Stream& stream);
void grouped_ffn_backward_fc1_cuda(const ExpertFfnBackwardWeightsArgs& args,
                                   std::span<const std::int64_t> rows_per_expert, Stream& stream);
void grouped_ffn_backward_fc2_cuda(const ExpertFfnBackwardWeightsArgs& args,
                                   std::span<const std::int64_t> rows_per_expert, Stream& stream);
#endif

}  // namespace flex
