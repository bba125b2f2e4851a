#include "kernels/moe/token_products.cuh"
#include "kernels/moe/token_tile.cuh"

// A warp has kTokens tokens and 256 channels, 8 a lane; all run through the rows of weights together. The
// weights and the tokens' factors of kStep rows at a time lie in shared memory.
namespace flex {
namespace {

constexpr int kTokens = 8;
constexpr int kTokensOfBlock = kTileWarps * kTokens;
constexpr int kStep = 32;
// A row of factors, one a token: four more than needed, so that staging meets fewer bank conflicts.
constexpr int kFactorStride = kTokensOfBlock + 4;

struct CombineParams {
  const float* a;
  StridedMatrix<const float> weight;
  void* out;
  std::int64_t num_tokens;
  std::int64_t column_tiles;
  bool weight_vectors;
  bool out_vectors;
  bool accumulate;
};

__device__ void stage_factors(float* to, const CombineParams& p, std::int64_t first_token,
                              std::int64_t first_row, int rows) {
  for (int i = threadIdx.x; i < kTokensOfBlock * kStep; i += kTileThreads) {
    const int row = i % kStep;
    const int token = i / kStep;
    if (row >= rows) continue;
    const std::int64_t source = min(first_token + token, p.num_tokens - 1);
    to[row * kFactorStride + token] = p.a[source * p.weight.rows + first_row + row];
  }
}

template <class T>
__device__ void write_tokens(const CombineParams& p, const float (&sums)[kTokens][kLaneColumns],
                             std::int64_t first_token, std::int64_t first_column, int lane) {
  constexpr int kWidth = kVectorWidth<T>;
  using Access = Pack<T, kWidth>;
#pragma unroll
  for (int token = 0; token < kTokens; ++token) {
    if (first_token + token >= p.num_tokens) return;
    T* row = static_cast<T*>(p.out) + (first_token + token) * p.weight.cols;
#pragma unroll
    for (int access = 0; access < kLaneColumns / kWidth; ++access) {
      const std::int64_t column = first_column + lane_column<T>(lane, access);
      float values[kWidth];
      if (p.out_vectors) {
        if (column >= p.weight.cols) continue;
        if (p.accumulate) {
          Access::unpack(Access::load(row + column), values);
        }
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          values[i] = (p.accumulate ? values[i] : 0.0F) + sums[token][access * kWidth + i];
        }
        Access::store(row + column, Access::pack(values));
        continue;
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (column + i >= p.weight.cols) continue;
        const float before = p.accumulate ? to_float(row[column + i]) : 0.0F;
        row[column + i] = from_float<T>(before + sums[token][access * kWidth + i]);
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads, 2)
    combine_rows_kernel(const __grid_constant__ CombineParams p) {
  __shared__ __align__(16) float weights[kStep * kTileColumns];
  __shared__ __align__(16) float factors[kStep * kFactorStride];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const std::int64_t token_tile = blockIdx.x / p.column_tiles;
  const std::int64_t first_column = (blockIdx.x - token_tile * p.column_tiles) * kTileColumns;
  const std::int64_t first_token = token_tile * kTokensOfBlock;

  float sums[kTokens][kLaneColumns] = {};
  for (std::int64_t first_row = 0; first_row < p.weight.rows; first_row += kStep) {
    const int rows = static_cast<int>(min(p.weight.rows - first_row, static_cast<std::int64_t>(kStep)));
    __syncthreads();  // the rows before have been used
    stage_weights<T, kStep>(weights, p.weight.data, first_row, p.weight.rows, first_column, p.weight.cols,
                            p.weight.row_stride, p.weight.col_stride, p.weight_vectors);
    __pipeline_commit();
    stage_factors(factors, p, first_token, first_row, rows);
    __pipeline_wait_prior(0);
    __syncthreads();
#pragma unroll 2
    for (int row = 0; row < rows; ++row) {
      float weight[2][4];
      read_quad(weights + row * kTileColumns, lane, 0, weight[0]);
      read_quad(weights + row * kTileColumns, lane, 1, weight[1]);
      const float* factor = factors + row * kFactorStride + warp * kTokens;
#pragma unroll
      for (int four = 0; four < kTokens / 4; ++four) {
        const float4 tokens = *reinterpret_cast<const float4*>(factor + 4 * four);
        const float values[4] = {tokens.x, tokens.y, tokens.z, tokens.w};
#pragma unroll
        for (int token = 0; token < 4; ++token) {
#pragma unroll
          for (int i = 0; i < kLaneColumns; ++i) {
            float& sum = sums[4 * four + token][i];
            sum = fmaf(values[token], weight[i / 4][i % 4], sum);
          }
        }
      }
    }
  }
  write_tokens<T>(p, sums, first_token + warp * kTokens, first_column, lane);
}

}  // namespace

void combine_rows_cuda(const ConstTensorView& a, const StridedMatrix<const float>& weight,
                       const TensorView& out, bool accumulate, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t columns = weight.cols;
  const CombineParams p = {.a = a.as<float>(),
                           .weight = weight,
                           .out = out.data,
                           .num_tokens = out.size(0),
                           .column_tiles = ceil_div<std::int64_t>(columns, kTileColumns),
                           .weight_vectors = tile_vectors(weight.data, columns, weight.row_stride,
                                                          weight.col_stride, sizeof(float)),
                           .out_vectors = tile_vectors(out.data, columns, columns, 1, size_bytes(out.dtype)),
                           .accumulate = accumulate};
  if (p.num_tokens == 0 || columns == 0) return;
  const unsigned blocks = grid_size(ceil_div<std::int64_t>(p.num_tokens, kTokensOfBlock) * p.column_tiles);
  dispatch_dtype(out.dtype, [&]<class T>() {
    combine_rows_kernel<T><<<blocks, kTileThreads, 0, native>>>(p);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace flex
