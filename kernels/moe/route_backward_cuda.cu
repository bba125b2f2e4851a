#include <cfloat>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/route.h"
#include "kernels/moe/token_lanes.cuh"

namespace flex {
namespace {

constexpr int kThreads = 256;

struct RouteBackwardParams {
  const float* scores;
  const std::int32_t* indices;
  const float* dgates;
  float* dlogits;
  std::int64_t num_tokens;
  int num_experts;
  int top_k;
  bool normalize;
};

// A token is shared by kLanes neighbouring lanes. With gate_j = s_j / D: ds_j = (dgate_j - along) / D for the
// choices and 0 elsewhere, and dlogit_e = s_e (ds_e - dot).
template <int kLanes, int kWidth>
__global__ void __launch_bounds__(kThreads) route_backward_kernel(RouteBackwardParams p) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t token = thread / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool active = token < p.num_tokens;
  const int top_k = active ? p.top_k : 0;  // idle lanes only take part in the shuffles
  const float* scores = p.scores + token * p.num_experts;
  const std::int32_t* indices = p.indices + token * p.top_k;
  const float* dgates = p.dgates + token * p.top_k;
  float* dlogits = p.dlogits + token * p.num_experts;

  float sum = 0.0F;       // of the chosen scores
  float weighted = 0.0F;  // of dgate * score
#pragma unroll 1          // a few choices; unrolled, they take registers that more warps could have
  for (int choice = lane; choice < top_k; choice += kLanes) {
    const float score = scores[indices[choice]];
    sum += score;
    weighted += dgates[choice] * score;
  }
  sum = lanes_sum<kLanes>(sum);
  weighted = lanes_sum<kLanes>(weighted);
  const bool divides = p.normalize && p.top_k > 1;
  const float divisor = divides ? fmaxf(sum, FLT_EPSILON) : 1.0F;
  // Where the floor binds, the divisor is a constant.
  const float along = divides && sum > FLT_EPSILON ? weighted / divisor : 0.0F;

  float dot = 0.0F;
#pragma unroll 1
  for (int choice = lane; choice < top_k; choice += kLanes) {
    dot += scores[indices[choice]] * ((dgates[choice] - along) / divisor);
  }
  dot = lanes_sum<kLanes>(dot);
  for (int first = lane * kWidth; active && first < p.num_experts; first += kLanes * kWidth) {
    float mine[kWidth];
    float dscores[kWidth] = {};
    load_experts(scores + first, mine);
#pragma unroll 1
    for (int choice = 0; choice < p.top_k; ++choice) {
      const int place = indices[choice] - first;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (place == i) dscores[i] = (dgates[choice] - along) / divisor;
      }
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) mine[i] *= dscores[i] - dot;
    store_experts(dlogits + first, mine);
  }
}

}  // namespace

void route_backward_cuda(const RouteBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const RouteBackwardParams p = {.scores = args.scores.as<float>(),
                                 .indices = args.indices.as<std::int32_t>(),
                                 .dgates = args.dgates.as<float>(),
                                 .dlogits = args.dlogits.as<float>(),
                                 .num_tokens = args.scores.size(0),
                                 .num_experts = static_cast<int>(args.scores.size(1)),
                                 .top_k = static_cast<int>(args.indices.size(1)),
                                 .normalize = args.normalize_gate};
  if (p.num_tokens == 0) return;
  dispatch_token_lanes(p.num_experts, {p.scores, p.dlogits}, [&]<int kLanes, int kWidth>() {
    const unsigned blocks = grid_size(ceil_div<std::int64_t>(p.num_tokens * kLanes, kThreads));
    route_backward_kernel<kLanes, kWidth><<<blocks, kThreads, 0, native>>>(p);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace flex
