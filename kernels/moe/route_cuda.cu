#include <algorithm>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/route.h"
#include "kernels/moe/route_params.cuh"

namespace flex {
namespace {

constexpr int kMaxSharedCounts = 8192;
constexpr int kMantissaBits = 23;

// Cuts the workspace, of any alignment, into aligned pieces; with a null start it only counts bytes.
class Cutter {
 public:
  explicit Cutter(void* start) {
    const auto address = reinterpret_cast<std::uintptr_t>(start);
    const auto alignment = static_cast<std::uintptr_t>(kAlignmentBytes);
    next_ = ceil_div(address, alignment) * alignment;
  }
  template <class T>
  T* take(std::int64_t count) {
    const std::int64_t bytes =
        ceil_div(count * static_cast<std::int64_t>(sizeof(T)), kAlignmentBytes) * kAlignmentBytes;
    T* piece = reinterpret_cast<T*>(next_);
    next_ += static_cast<std::uintptr_t>(bytes);
    used_ += bytes;
    return piece;
  }
  [[nodiscard]] std::int64_t max_bytes() const { return used_ + kAlignmentBytes; }

 private:
  std::uintptr_t next_ = 0;
  std::int64_t used_ = 0;
};

// Scratch of the sort, without asking CUB for it in every call: a second buffer of the pairs, 256 counters
// for each tile of some thousand pairs, and little else. sort_tokens() checks that it suffices.
std::size_t max_sort_bytes(std::int64_t tokens) {
  constexpr std::int64_t kPerToken = 12;
  constexpr std::int64_t kConstant = 1 << 20;
  return static_cast<std::size_t>(kPerToken * tokens + kConstant);
}

std::int64_t num_tiles(std::int64_t tokens) { return ceil_div<std::int64_t>(tokens, kRouteTile); }

RouteScratch cut_workspace(void* start, std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  RouteScratch scratch;
  Cutter cutter(start);
  scratch.first_bad = cutter.take<std::int64_t>(1);
  scratch.tile_bad = cutter.take<unsigned long long>(num_tiles(tokens));
  scratch.tile_counts = cutter.take<int>(top_k * num_tiles(tokens) * experts);
  for (auto& keys : scratch.keys) keys = cutter.take<std::uint32_t>(tokens);
  for (auto& order : scratch.order) order = cutter.take<std::int32_t>(tokens);
  scratch.sort_bytes = max_sort_bytes(tokens);
  scratch.sort = cutter.take<char>(static_cast<std::int64_t>(scratch.sort_bytes));
  scratch.bytes = cutter.max_bytes();
  return scratch;
}

RouteParams route_params(const RouteArgs& args) {
  const std::int64_t tokens = args.logits.size(0);
  const std::int64_t experts = args.logits.size(1);
  const std::int64_t top_k = args.indices.size(1);
  return {.logits = args.logits.as<float>(),
          .scores = args.scores.as<float>(),
          .gates = args.gates.as<float>(),
          .indices = args.indices.as<std::int32_t>(),
          .locations = args.locations.as<std::int32_t>(),
          .counts = args.counts.as<std::int32_t>(),
          .needed = args.needed_capacity.as<std::int32_t>(),
          .scratch = cut_workspace(args.workspace.data, tokens, experts, top_k),
          .num_tokens = tokens,
          .num_tiles = num_tiles(tokens),
          .num_experts = static_cast<int>(experts),
          .top_k = static_cast<int>(top_k),
          .max_key = (1U << route_sort_bits(experts)) - 1U,
          .normalize = args.normalize_gate,
          .prioritized = args.batch_prioritized,
          .shared_counts = top_k * experts <= kMaxSharedCounts};
}

}  // namespace

// The largest score of E lies in [1/E, 1] but for rounding, so that few of a float's bits tell tokens apart.
int route_sort_bits(std::int64_t experts) {
  int log2_experts = 0;
  while ((std::int64_t{1} << log2_experts) < experts) ++log2_experts;
  int exponent_bits = 0;
  while ((1 << exponent_bits) <= log2_experts + 1) ++exponent_bits;
  return kMantissaBits + exponent_bits;
}

std::size_t route_shared_bytes(const RouteParams& p) {
  return p.shared_counts ? sizeof(int) * static_cast<std::size_t>(p.top_k * p.num_experts) : 0;
}

std::int64_t route_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts, std::int64_t top_k,
                                        DType /*gate_type*/) {
  return cut_workspace(nullptr, num_tokens, num_experts, top_k).bytes;
}

void route_cuda(const RouteArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const RouteParams p = route_params(args);
  if (p.num_tokens == 0) {
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.counts, 0, sizeof(std::int32_t) * p.num_experts, native));
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.needed, 0, sizeof(std::int32_t), native));
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.scratch.first_bad, 0xFF, sizeof(std::int64_t), native));  // -1
    return;
  }
  choose_experts(p, native);
  place_choices(p, native);
}

std::int64_t route_first_bad_logit_blocking_cuda(const RouteArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  std::int64_t first_bad = -1;
  FLEX_CUDA_CHECK(cudaMemcpyAsync(&first_bad, route_params(args).scratch.first_bad, sizeof(first_bad),
                                  cudaMemcpyDeviceToHost, native));
  FLEX_CUDA_CHECK(cudaStreamSynchronize(native));
  return first_bad;
}

}  // namespace flex
