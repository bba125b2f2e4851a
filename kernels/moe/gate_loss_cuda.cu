#include <algorithm>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/gate_loss.h"

// As on the CPU, everything is computed in double. Sums over tokens are taken in two stages of fixed order:
// slices of tokens, then the slices.
namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kTokensOfTile = 32;
constexpr std::int64_t kMaxSlices = 264;  // two for each SM of an H100 or H200
constexpr std::int64_t kMinTokensOfSlice = kTokensOfTile;
constexpr double kCv2Epsilon = 1e-10;  // added to the squared mean; numerics.md, "Losses on the gate"

std::int64_t num_slices(std::int64_t tokens) {
  return std::min(ceil_div(tokens, kMinTokensOfSlice), kMaxSlices);
}

struct LossParams {
  GateLossKind kind;
  const float* scores;
  const float* clean;
  const float* noisy;
  const std::int32_t* indices;
  const double* sums;  // of all tokens of the scope
  double* partials;    // (slices, 2 E + 1)
  float* dlogits;
  std::int64_t num_tokens;
  std::int64_t num_slices;
  int num_experts;
  int top_k;
  double stddev;  // of the noise
  double dvalue;
  double z_loss_weight;

  [[nodiscard]] __device__ bool compares_load() const {
    return kind == GateLossKind::kLoadImportance || kind == GateLossKind::kLoadImportanceReleased;
  }
  [[nodiscard]] __device__ bool released() const { return kind == GateLossKind::kLoadImportanceReleased; }
};

__device__ double normal_cdf(double v) { return 0.5 * erfc(-v * 0.70710678118654752440); }
__device__ double normal_density(double v) { return exp(-0.5 * v * v) * 0.39894228040143267794; }

// A token's softmax of the clean logits and the threshold of its load.
struct TokenStatistics {
  double largest;
  double sum;
  double threshold;

  [[nodiscard]] __device__ double softmax(float logit) const { return exp(logit - largest) / sum; }
  [[nodiscard]] __device__ double log_sum_exp() const { return largest + log(sum); }
};

// For a whole warp; every lane gets the result.
__device__ TokenStatistics token_statistics(const LossParams& p, std::int64_t token, int lane) {
  const float* clean = p.clean + token * p.num_experts;
  float largest = -INFINITY;
  for (int expert = lane; expert < p.num_experts; expert += kWarpSize)
    largest = fmaxf(largest, clean[expert]);
  TokenStatistics statistics = {.largest = lanes_max(largest), .sum = 0.0, .threshold = 0.0};
  double sum = 0.0;
  for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
    sum += exp(clean[expert] - statistics.largest);
  }
  statistics.sum = lanes_sum(sum);
  if (p.compares_load()) {
    const std::int32_t last = p.indices[token * p.top_k + p.top_k - 1];
    statistics.threshold = p.noisy[token * p.num_experts + last];
  }
  return statistics;
}

// How far an expert's clean gate value is above the token's threshold, in standard deviations of the noise.
__device__ double load_margin(const LossParams& p, const TokenStatistics& statistics, float clean) {
  const double value = p.released() ? statistics.softmax(clean) : static_cast<double>(clean);
  return (value - statistics.threshold) / p.stddev;
}

// ---- Sums -----------------------------------------------------------------------------------------------

// Each thread adds up one expert over every blockDim.y-th token of a tile, the tiles of the slice in order.
// Statistics of a tile's tokens are computed by the warps first. Block (slice, group of blockDim.x experts).
__global__ void __launch_bounds__(kThreads) sums_kernel(const __grid_constant__ LossParams p) {
  __shared__ TokenStatistics statistics[kTokensOfTile];
  __shared__ double shares[2][kThreads];
  __shared__ double warp_squares[kWarps];
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const std::int64_t size = ceil_div(p.num_tokens, p.num_slices);
  const std::int64_t begin = min(blockIdx.x * size, p.num_tokens);
  const std::int64_t end = min(begin + size, p.num_tokens);
  const int expert = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  const bool active = expert < p.num_experts;

  double first = 0.0;    // scores or importance
  double second = 0.0;   // first choices or load
  double squares = 0.0;  // of logsumexp, over this warp's tokens
  for (std::int64_t tile = begin; tile < end; tile += kTokensOfTile) {
    const int tokens = static_cast<int>(min(end - tile, static_cast<std::int64_t>(kTokensOfTile)));
    __syncthreads();  // the tile before has been used
    for (int token = warp; token < tokens; token += kWarps) {
      const TokenStatistics mine = token_statistics(p, tile + token, lane);
      squares += mine.log_sum_exp() * mine.log_sum_exp();
      if (lane == 0) statistics[token] = mine;
    }
    __syncthreads();
    for (int token = static_cast<int>(threadIdx.y); active && token < tokens; token += blockDim.y) {
      const std::int64_t place = (tile + token) * p.num_experts + expert;
      if (p.kind == GateLossKind::kGshard) {
        first += p.scores[place];
        second += p.indices[(tile + token) * p.top_k] == expert ? 1.0 : 0.0;
      } else if (p.compares_load()) {
        first += statistics[token].softmax(p.clean[place]);
        second += normal_cdf(load_margin(p, statistics[token], p.clean[place]));
      }
    }
  }
  shares[0][thread] = first;
  shares[1][thread] = second;
  if (lane == 0) warp_squares[warp] = squares;
  __syncthreads();
  double* partials = p.partials + blockIdx.x * (2 * static_cast<std::int64_t>(p.num_experts) + 1);
  if (thread == 0 && blockIdx.y == 0) {
    double sum = 0.0;
    for (const double share : warp_squares) sum += share;
    partials[2 * p.num_experts] = sum;
  }
  if (threadIdx.y != 0 || !active) return;
  for (int which = 0; which < 2; ++which) {
    double sum = 0.0;
    for (unsigned y = 0; y < blockDim.y; ++y) sum += shares[which][y * blockDim.x + threadIdx.x];
    partials[which * p.num_experts + expert] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_slices_kernel(const __grid_constant__ LossParams p, double* sums) {
  const std::int64_t count = 2 * static_cast<std::int64_t>(p.num_experts) + 1;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i == count) sums[i] = static_cast<double>(p.num_tokens);
  if (i >= count) return;
  double sum = 0.0;
#pragma unroll 8
  for (std::int64_t slice = 0; slice < p.num_slices; ++slice) sum += p.partials[slice * count + i];
  sums[i] = sum;
}

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
    if (p.compares_load() || p.z_loss_weight != 0.0) statistics_ = token_statistics(p, token, lane);
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

template <class Args>
LossParams loss_params(const Args& args) {
  const std::int64_t experts = args.scores.size(1);
  return {.kind = args.settings.kind,
          .scores = args.scores.template as<float>(),
          .clean = args.clean.template as<float>(),
          .noisy = args.noisy.template as<float>(),
          .indices = args.indices.template as<std::int32_t>(),
          .num_tokens = args.scores.size(0),
          .num_slices = num_slices(args.scores.size(0)),
          .num_experts = static_cast<int>(experts),
          .top_k = static_cast<int>(args.indices.size(1)),
          .stddev = args.settings.gate_noise / static_cast<double>(experts),
          .z_loss_weight = args.settings.z_loss_weight};
}

}  // namespace

std::int64_t gate_loss_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts) {
  return num_slices(num_tokens) * (2 * num_experts + 1) * static_cast<std::int64_t>(sizeof(double));
}

void gate_loss_sums_cuda(const GateLossSumsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  LossParams p = loss_params(args);
  p.partials = args.workspace.as<double>();
  if (p.num_slices > 0) {
    unsigned lanes = 1;  // experts of a block
    while (lanes < kThreads && lanes < static_cast<unsigned>(p.num_experts)) lanes *= 2;
    const dim3 blocks(grid_size(p.num_slices),
                      static_cast<unsigned>(ceil_div<std::int64_t>(p.num_experts, lanes)));
    sums_kernel<<<blocks, dim3(lanes, kThreads / lanes), 0, native>>>(p);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  const std::int64_t num_sums = gate_loss_num_sums(p.num_experts);
  sum_slices_kernel<<<grid_size(ceil_div<std::int64_t>(num_sums, kThreads)), kThreads, 0, native>>>(
      p, args.sums.as<double>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

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
  if (p.num_tokens == 0) return;
  backward_kernel<<<grid_size(ceil_div<std::int64_t>(p.num_tokens, kWarps)), kThreads, 0, native>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
