#include "kernels/moe/grouped_ffn.h"

#include "kernels/check.h"
#include "kernels/moe/expert_ffn_check.h"

namespace flex {
namespace {

using Counts = std::span<const std::int64_t>;

void check_counts(std::string_view kernel, Counts counts, const ConstTensorView& rows) {
  require(std::ssize(counts) == rows.size(0), "{}: rows_per_expert has {} counts for {} experts", kernel,
          counts.size(), rows.size(0));
  for (std::size_t expert = 0; expert < counts.size(); ++expert) {
    require(counts[expert] >= 0 && counts[expert] <= rows.size(1),
            "{}: rows_per_expert[{}] is {}, expected 0 to {}", kernel, expert, counts[expert], rows.size(1));
  }
}

}  // namespace

void grouped_ffn(const ExpertFfnArgs& args, Counts rows_per_expert, Stream& stream) {
  check_expert_ffn("grouped_ffn", args, stream.device());
  check_counts("grouped_ffn", rows_per_expert, args.x);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return grouped_ffn_cuda(args, rows_per_expert, stream);
#endif
  enqueue_as(args.x.dtype, stream,
             [args, rows_per_expert]<class T>() { grouped_ffn_cpu<T>(args, rows_per_expert); });
}

void grouped_ffn_backward_data(const ExpertFfnBackwardDataArgs& args, Counts rows_per_expert,
                               Stream& stream) {
  check_expert_ffn("grouped_ffn_backward_data", args, stream.device());
  check_counts("grouped_ffn_backward_data", rows_per_expert, args.dy);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return grouped_ffn_backward_data_cuda(args, rows_per_expert, stream);
#endif
  enqueue_as(args.dy.dtype, stream,
             [args, rows_per_expert]<class T>() { grouped_ffn_backward_data_cpu<T>(args, rows_per_expert); });
}

void grouped_ffn_backward_fc1(const ExpertFfnBackwardWeightsArgs& args, Counts rows_per_expert,
                              Stream& stream) {
  check_expert_ffn_fc1("grouped_ffn_backward_fc1", args, stream.device());
  check_counts("grouped_ffn_backward_fc1", rows_per_expert, args.x);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return grouped_ffn_backward_fc1_cuda(args, rows_per_expert, stream);
#endif
  enqueue_as(args.x.dtype, stream,
             [args, rows_per_expert]<class T>() { grouped_ffn_backward_fc1_cpu<T>(args, rows_per_expert); });
}

void grouped_ffn_backward_fc2(const ExpertFfnBackwardWeightsArgs& args, Counts rows_per_expert,
                              Stream& stream) {
  check_expert_ffn_fc2("grouped_ffn_backward_fc2", args, stream.device());
  check_counts("grouped_ffn_backward_fc2", rows_per_expert, args.dy);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return grouped_ffn_backward_fc2_cuda(args, rows_per_expert, stream);
#endif
  enqueue_as(args.dy.dtype, stream,
             [args, rows_per_expert]<class T>() { grouped_ffn_backward_fc2_cpu<T>(args, rows_per_expert); });
}

}  // namespace flex
