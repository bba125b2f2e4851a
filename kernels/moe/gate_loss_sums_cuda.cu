#include "kernels/moe/gate_loss_params.cuh"

// Sums over tokens are taken in two stages of fixed order: slices of tokens, then the slices.
namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kTokensOfTile = 32;
constexpr int kQuad = 4;  // experts that one access reads

// Sums by expert of a slice lie beside those of the others.
__device__ double& partial_of(const LossParams& p, std::int64_t sum) {
  return p.partials[sum * p.num_slices + blockIdx.x];
}

struct SliceTokens {
  std::int64_t begin;
  std::int64_t end;
  __device__ explicit SliceTokens(const LossParams& p) {
    const std::int64_t size = ceil_div(p.num_tokens, p.num_slices);
    begin = min(blockIdx.x * size, p.num_tokens);
    end = min(begin + size, p.num_tokens);
  }
};

// ---- Scores and first choices ---------------------------------------------------------------------------

// What the gshard loss needs: a thread adds up kWidth experts over every blockDim.y-th token of the slice.
// First choices are counted as integers, whose order does not matter. Block (slice, group of
// kWidth blockDim.x experts).
template <int kWidth>
__global__ void __launch_bounds__(kThreads) score_sums_kernel(const __grid_constant__ LossParams p) {
  __shared__ double shares[kWidth * kThreads];
  __shared__ int choices[kWidth * kThreads];
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int width = kWidth * static_cast<int>(blockDim.x);
  const int first_expert = static_cast<int>(blockIdx.y) * width;
  const int expert = first_expert + kWidth * static_cast<int>(threadIdx.x);
  const SliceTokens slice(p);

  for (int i = thread; i < width; i += kThreads) choices[i] = 0;
  __syncthreads();
  for (std::int64_t token = slice.begin + thread; token < slice.end; token += kThreads) {
    const int choice = p.indices[token * p.top_k] - first_expert;
    if (choice >= 0 && choice < width) atomicAdd(&choices[choice], 1);
  }
  double sums[kWidth] = {};
  if (expert < p.num_experts) {
    const float* scores = p.scores + expert;
#pragma unroll 4
    for (std::int64_t token = slice.begin + threadIdx.y; token < slice.end; token += blockDim.y) {
      if constexpr (kWidth == kQuad) {
        const float4 four = *reinterpret_cast<const float4*>(scores + token * p.num_experts);
        sums[0] += four.x;
        sums[1] += four.y;
        sums[2] += four.z;
        sums[3] += four.w;
      } else {
        sums[0] += scores[token * p.num_experts];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) shares[kWidth * thread + i] = sums[i];
  __syncthreads();
  for (int i = thread; i < width && first_expert + i < p.num_experts; i += kThreads) {
    double sum = 0.0;
#pragma unroll 8
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y) sum += shares[y * width + i];
    partial_of(p, first_expert + i) = sum;
    partial_of(p, p.num_experts + first_expert + i) = choices[i];
  }
  if (blockIdx.y == 0 && thread == 0) partial_of(p, 2 * static_cast<std::int64_t>(p.num_experts)) = 0.0;
}

// ---- All sums -------------------------------------------------------------------------------------------

// Each thread adds up one expert over every blockDim.y-th token of a tile, the tiles of the slice in order.
// Statistics of a tile's tokens are computed by the warps first. Block (slice, group of blockDim.x experts).
__global__ void __launch_bounds__(kThreads) all_sums_kernel(const __grid_constant__ LossParams p) {
  __shared__ TokenStatistics statistics[kTokensOfTile];
  __shared__ double shares[2][kThreads];
  __shared__ double warp_squares[kWarps];
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const SliceTokens slice(p);
  const int expert = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  const bool active = expert < p.num_experts;

  double first = 0.0;    // scores or importance
  double second = 0.0;   // first choices or load
  double squares = 0.0;  // of logsumexp, over this warp's tokens
  for (std::int64_t tile = slice.begin; tile < slice.end; tile += kTokensOfTile) {
    const int tokens = static_cast<int>(min(slice.end - tile, static_cast<std::int64_t>(kTokensOfTile)));
    __syncthreads();  // the tile before has been used
    for (int token = warp; p.needs_statistics() && token < tokens; token += kWarps) {
      const TokenStatistics mine = token_statistics(p, tile + token, lane);
      if (p.z_loss_weight != 0.0) squares += mine.log_sum_exp() * mine.log_sum_exp();
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
  if (thread == 0 && blockIdx.y == 0) {
    double sum = 0.0;
    for (const double share : warp_squares) sum += share;
    partial_of(p, 2 * static_cast<std::int64_t>(p.num_experts)) = sum;
  }
  if (threadIdx.y != 0 || !active) return;
  for (int which = 0; which < 2; ++which) {
    double sum = 0.0;
    for (unsigned y = 0; y < blockDim.y; ++y) sum += shares[which][y * blockDim.x + threadIdx.x];
    partial_of(p, static_cast<std::int64_t>(which) * p.num_experts + expert) = sum;
  }
}

// ---- Slices ---------------------------------------------------------------------------------------------

// A warp for each sum.
__global__ void __launch_bounds__(kThreads)
    sum_slices_kernel(const __grid_constant__ LossParams p, double* sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::int64_t count = 2 * static_cast<std::int64_t>(p.num_experts) + 1;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (i == count && lane == 0) sums[i] = static_cast<double>(p.num_tokens);
  if (i >= count) return;
  double sum = 0.0;
#pragma unroll 8
  for (std::int64_t slice = lane; slice < p.num_slices; slice += kWarpSize) {
    sum += p.partials[i * p.num_slices + slice];
  }
  sum = lanes_sum(sum);
  if (lane == 0) sums[i] = sum;
}

// A block of kWidth experts a thread, and as many rows of threads as fit.
template <int kWidth, class Kernel>
void launch_sums(Kernel* kernel, const LossParams& p, cudaStream_t stream) {
  const std::int64_t columns = ceil_div(p.num_experts, kWidth);
  unsigned lanes = 1;
  while (lanes < kThreads && lanes < columns) lanes *= 2;
  const dim3 blocks(grid_size(p.num_slices), static_cast<unsigned>(ceil_div<std::int64_t>(columns, lanes)));
  kernel<<<blocks, dim3(lanes, kThreads / lanes), 0, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

std::int64_t gate_loss_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts) {
  return num_loss_slices(num_tokens) * (2 * num_experts + 1) * static_cast<std::int64_t>(sizeof(double));
}

void gate_loss_sums_cuda(const GateLossSumsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  LossParams p = loss_params(args);
  p.partials = args.workspace.as<double>();
  if (p.num_slices > 0) {
    if (p.kind != GateLossKind::kGshard || p.needs_statistics())
      launch_sums<1>(all_sums_kernel, p, native);
    else if (p.num_experts % kQuad == 0 && aligned_to({p.scores}, kVectorBytes))
      launch_sums<kQuad>(score_sums_kernel<kQuad>, p, native);
    else
      launch_sums<1>(score_sums_kernel<1>, p, native);
  }
  const std::int64_t num_sums = gate_loss_num_sums(p.num_experts);
  sum_slices_kernel<<<grid_size(ceil_div<std::int64_t>(num_sums, kWarps)), kThreads, 0, native>>>(
      p, args.sums.as<double>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
