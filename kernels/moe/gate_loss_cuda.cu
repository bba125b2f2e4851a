#include "kernels/moe/gate_loss_params.cuh"
#include "kernels/moe/token_lanes.cuh"

namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr double kCv2Epsilon = 1e-10;  // added to the squared mean; numerics.md, "Losses on the gate"

// ---- Value ----------------------------------------------------------------------------------------------

// cv2 of E values: unbiased variance / (mean^2 + epsilon), for a whole warp, and its gradient by each value.
struct SquaredVariation {
  double num_values;
  double mean = 0.0;
  double variance = 0.0;

  __device__ SquaredVariation(const double* values, int count, int lane) : num_values(count) {
    if (count < 2) return;
    double sum = 0.0;
    for (int i = lane; i < count; i += kWarpSize) sum += values[i];
    mean = lanes_sum(sum) / num_values;
    double squares = 0.0;
    for (int i = lane; i < count; i += kWarpSize) squares += (values[i] - mean) * (values[i] - mean);
    variance = lanes_sum(squares) / (num_values - 1.0);
  }
  [[nodiscard]] __device__ double value() const { return variance / (mean * mean + kCv2Epsilon); }
  [[nodiscard]] __device__ double gradient(double at) const {
    if (num_values < 2.0) return 0.0;
    const double denominator = mean * mean + kCv2Epsilon;
    const double dvariance = 2.0 * (at - mean) / (num_values - 1.0);
    const double ddenominator = 2.0 * mean / num_values;
    return (dvariance - variance / denominator * ddenominator) / denominator;
  }
};

__global__ void __launch_bounds__(kWarpSize)
    value_kernel(const __grid_constant__ LossParams p, float* value) {
  const int lane = static_cast<int>(threadIdx.x);
  const int experts = p.num_experts;
  const double tokens = p.sums[2 * experts + 1];
  double loss = 0.0;
  if (tokens > 0.0) {  // alike in all lanes
    if (p.kind == GateLossKind::kGshard) {
      for (int expert = lane; expert < experts; expert += kWarpSize)
        loss += p.sums[expert] * p.sums[experts + expert];
      loss = lanes_sum(loss) * experts / (tokens * tokens);
    } else if (p.compares_load()) {
      const SquaredVariation importance(p.sums, experts, lane);
      const SquaredVariation load(p.sums + experts, experts, lane);
      loss = 0.5 * (importance.value() + load.value());
    }
    loss += p.z_loss_weight * p.sums[2 * experts] / tokens;
  }
  if (lane == 0) *value = static_cast<float>(loss);
}

// ---- Gradient -------------------------------------------------------------------------------------------

// What a token's gradient is made of; every contribution is a softmax s, its gradient ds, and what is added
// beside it: dlogit = s (ds - <s, ds>) + direct.
struct Contribution {
  double softmax;
  double dsoftmax;
  double direct;
};

class TokenGradient {
 public:
  __device__ TokenGradient(const LossParams& p, const SquaredVariation& importance,
                           const SquaredVariation& load, std::int64_t token, int lane)
      : p_(p), importance_(importance), load_(load), token_(token), tokens_(p.sums[2 * p.num_experts + 1]) {
    if (p.needs_statistics()) statistics_ = token_statistics(p, token, lane);
  }

  [[nodiscard]] __device__ Contribution of(int expert) const {
    const double* sums = p_.sums;
    const std::int64_t place = token_ * p_.num_experts + expert;
    Contribution result = {0.0, 0.0, 0.0};
    if (p_.kind == GateLossKind::kGshard) {
      const double scale = p_.dvalue * p_.num_experts / (tokens_ * tokens_);
      result.softmax = p_.scores[place];
      result.dsoftmax = scale * sums[p_.num_experts + expert];
    } else if (p_.compares_load()) {
      const double dcompared = gradient_by_compared(expert);
      result.softmax = statistics_.softmax(p_.clean[place]);
      result.dsoftmax = 0.5 * p_.dvalue * importance_.gradient(sums[expert]);
      if (p_.released())
        result.dsoftmax += dcompared;
      else
        result.direct = dcompared;
    }
    if (p_.z_loss_weight != 0.0) {
      const double dsquare = p_.dvalue * p_.z_loss_weight / tokens_;
      result.direct += dsquare * 2.0 * statistics_.log_sum_exp() * statistics_.softmax(p_.clean[place]);
    }
    return result;
  }

  // Gradient of the loss by the left side of the comparison of load; by the threshold it is minus the sum of
  // these.
  [[nodiscard]] __device__ double gradient_by_compared(int expert) const {
    const double dload = 0.5 * p_.dvalue * load_.gradient(p_.sums[p_.num_experts + expert]);
    const float clean = p_.clean[token_ * p_.num_experts + expert];
    return dload * normal_density(load_margin(p_, statistics_, clean)) / p_.stddev;
  }

 private:
  const LossParams& p_;
  const SquaredVariation& importance_;
  const SquaredVariation& load_;
  std::int64_t token_;
  double tokens_;
  TokenStatistics statistics_ = {};
};

// A warp for each token.
__global__ void __launch_bounds__(kThreads) backward_kernel(const __grid_constant__ LossParams p) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (token >= p.num_tokens) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int experts = p.num_experts;
  const int varied = p.compares_load() ? experts : 0;
  const SquaredVariation importance(p.sums, varied, lane);
  const SquaredVariation load(p.sums + experts, varied, lane);
  const TokenGradient gradient(p, importance, load, token, lane);

  double dot = 0.0;
  double dthreshold = 0.0;
  for (int expert = lane; expert < experts; expert += kWarpSize) {
    const Contribution part = gradient.of(expert);
    dot += part.softmax * part.dsoftmax;
    if (p.compares_load()) dthreshold -= gradient.gradient_by_compared(expert);
  }
  dot = lanes_sum(dot);
  dthreshold = lanes_sum(dthreshold);
  const int last = p.compares_load() ? p.indices[token * p.top_k + p.top_k - 1] : -1;
  float* dlogits = p.dlogits + token * experts;
  for (int expert = lane; expert < experts; expert += kWarpSize) {
    const Contribution part = gradient.of(expert);
    double sum = part.softmax * (part.dsoftmax - dot) + part.direct;
    if (expert == last) sum += dthreshold;
    dlogits[expert] += static_cast<float>(sum);
  }
}

// The gshard loss alone: kLanes neighbouring lanes share a token, each with kWidth neighbouring experts at a
// time. Blocks run through the tokens.
template <int kLanes, int kWidth>
__global__ void __launch_bounds__(kThreads) gshard_backward_kernel(const __grid_constant__ LossParams p) {
  const int first_expert = static_cast<int>(threadIdx.x) % kLanes * kWidth;
  const double tokens = p.sums[2 * p.num_experts + 1];
  const double scale = p.dvalue * p.num_experts / (tokens * tokens);
  double dscores[kWidth] = {};
  const bool active = first_expert < p.num_experts;
#pragma unroll
  for (int i = 0; active && i < kWidth; ++i) dscores[i] = scale * p.sums[p.num_experts + first_expert + i];

  constexpr int kTokens = kThreads / kLanes;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kTokens;
  // All lanes take as many rounds, for the sake of the shuffles.
  const std::int64_t rounds = ceil_div<std::int64_t>(p.num_tokens, stride);
  std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kTokens + threadIdx.x / kLanes;
#pragma unroll 2
  for (std::int64_t round = 0; round < rounds; ++round, token += stride) {
    const bool inside = active && token < p.num_tokens;
    const std::int64_t place = token * p.num_experts + first_expert;
    float scores[kWidth] = {};
    float before[kWidth] = {};
    if (inside) {
      load_experts(p.scores + place, scores);
      load_experts(p.dlogits + place, before);
    }
    double dot = 0.0;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) dot += scores[i] * dscores[i];
    dot = lanes_sum<kLanes>(dot);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) before[i] += static_cast<float>(scores[i] * (dscores[i] - dot));
    if (inside) store_experts(p.dlogits + place, before);
  }
}

// Returns false unless the gshard loss alone was asked for, and a token's experts fit its lanes.
bool launch_gshard_backward(const LossParams& p, cudaStream_t stream) {
  if (p.kind != GateLossKind::kGshard || p.needs_statistics()) return false;
  return dispatch_token_lanes(p.num_experts, {p.scores, p.dlogits}, [&]<int kLanes, int kWidth>() {
    if (p.num_experts > kLanes * kWidth) return false;
    constexpr std::int64_t kMaxBlocks = 8 * 132;  // as many as an H100 or H200 runs at once
    const std::int64_t blocks = std::min(ceil_div<std::int64_t>(p.num_tokens, kThreads / kLanes), kMaxBlocks);
    gshard_backward_kernel<kLanes, kWidth><<<grid_size(blocks), kThreads, 0, stream>>>(p);
    FLEX_CUDA_CHECK(cudaGetLastError());
    return true;
  });
}

}  // namespace

void gate_loss_value_cuda(const GateLossValueArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  LossParams p = {};
  p.kind = args.settings.kind;
  p.num_experts = static_cast<int>((args.sums.size(0) - gate_loss_num_sums(0)) / 2);
  p.z_loss_weight = args.settings.z_loss_weight;
  p.sums = args.sums.as<double>();
  value_kernel<<<1, kWarpSize, 0, native>>>(p, args.value.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

void gate_loss_backward_cuda(const GateLossBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  LossParams p = loss_params(args);
  p.sums = args.sums.as<double>();
  p.dvalue = args.dvalue;
  p.dlogits = args.dlogits.as<float>();
  if (p.num_tokens == 0 || launch_gshard_backward(p, native)) return;
  backward_kernel<<<grid_size(ceil_div<std::int64_t>(p.num_tokens, kWarps)), kThreads, 0, native>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
