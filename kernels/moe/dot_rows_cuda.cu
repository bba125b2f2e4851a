#include <algorithm>

#include "kernels/moe/token_products.cuh"
#include "kernels/moe/token_tile.cuh"

// A warp has kTokens tokens and kRows rows of weights; its lanes share the channels, so that a value that is
// read serves kTokens or kRows products, and the sums over lanes are taken once at the end. Tokens and
// weights come through a pipeline of stages in shared memory; the weights serve all warps of the block.
namespace flex {
namespace {

template <class T, int kRowsOfTile>
struct DotTile {
  static constexpr int kRows = kRowsOfTile;
  // With few rows the kernel is bound by memory, and two blocks share an SM: fp32 then has half the tokens.
  static constexpr bool kNarrow = kRows <= 8;
  static constexpr int kTokens = kNarrow && sizeof(T) == 4 ? 4 : 8;
  static constexpr int kStages = kNarrow || sizeof(T) == 4 ? 2 : 3;
  static constexpr int kBlocksPerSm = kNarrow ? 2 : 1;
  static constexpr int kTokensOfBlock = kTileWarps * kTokens;
  static constexpr int kTokenBytes = kTokensOfBlock * kTileColumns * static_cast<int>(sizeof(T));
  static constexpr int kWeightBytes = kRows * kTileColumns * static_cast<int>(sizeof(float));
  static constexpr int kStageBytes = kTokenBytes + kWeightBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

struct DotParams {
  const void* x;
  StridedMatrix<const float> weight;
  const float* bias;
  float* out;
  std::int64_t num_tokens;
  std::int64_t num_columns;
  std::int64_t row_tiles;
  bool x_vectors;
  bool weight_vectors;
};

template <class T, class Tile>
__global__ void __launch_bounds__(kTileThreads, Tile::kBlocksPerSm)
    dot_rows_kernel(const __grid_constant__ DotParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  // Blocks of the same tokens are neighbours, so that the second one finds them in the L2 cache.
  const std::int64_t token_tile = blockIdx.x / p.row_tiles;
  const std::int64_t first_row = (blockIdx.x - token_tile * p.row_tiles) * Tile::kRows;
  const std::int64_t first_token = token_tile * Tile::kTokensOfBlock + warp * Tile::kTokens;
  const int num_chunks = static_cast<int>(ceil_div<std::int64_t>(p.num_columns, kTileColumns));

  const auto tokens_of = [&](int chunk) {
    return reinterpret_cast<T*>(shared + chunk % Tile::kStages * Tile::kStageBytes) +
           warp * Tile::kTokens * kTileColumns;
  };
  const auto weights_of = [&](int chunk) {
    return reinterpret_cast<float*>(shared + chunk % Tile::kStages * Tile::kStageBytes + Tile::kTokenBytes);
  };
  const auto stage = [&](int chunk) {
    if (chunk < num_chunks) {
      const std::int64_t first_column = static_cast<std::int64_t>(chunk) * kTileColumns;
#pragma unroll
      for (int token = 0; token < Tile::kTokens; ++token) {
        const std::int64_t source = min(first_token + token, p.num_tokens - 1);
        stage_lane(tokens_of(chunk) + token * kTileColumns,
                   static_cast<const T*>(p.x) + source * p.num_columns, first_column, p.num_columns, lane,
                   p.x_vectors);
      }
      stage_weights<T, Tile::kRows>(weights_of(chunk), p.weight.data, first_row, p.weight.rows, first_column,
                                    p.num_columns, p.weight.row_stride, p.weight.col_stride,
                                    p.weight_vectors);
    }
    __pipeline_commit();  // also where there is nothing left, so that stages can be counted
  };

  float sums[Tile::kTokens * Tile::kRows] = {};
  for (int chunk = 0; chunk < Tile::kStages - 1; ++chunk) stage(chunk);
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    __pipeline_wait_prior(Tile::kStages - 2);
    __syncthreads();  // this stage is there, and nobody reads the one that is filled next
    stage(chunk + Tile::kStages - 1);
    const T* tokens = tokens_of(chunk);
    const float* weights = weights_of(chunk);
#pragma unroll 1  // unrolled, both halves are read ahead, and registers run out
    for (int half = 0; half < 2; ++half) {
      float x[Tile::kTokens][4];
#pragma unroll
      for (int token = 0; token < Tile::kTokens; ++token) {
        read_quad(tokens + token * kTileColumns, lane, half, x[token]);
      }
#pragma unroll
      for (int row = 0; row < Tile::kRows; ++row) {
        float weight[4];
        read_quad(weights + row * kTileColumns, lane, half, weight);
#pragma unroll
        for (int token = 0; token < Tile::kTokens; ++token) {
          float& sum = sums[token * Tile::kRows + row];
#pragma unroll
          for (int i = 0; i < 4; ++i) sum = fmaf(x[token][i], weight[i], sum);
        }
      }
    }
  }

  constexpr int kSumsOfLane = Tile::kTokens * Tile::kRows / kWarpSize;
  static_assert(kSumsOfLane >= 1);
  fold_lanes(sums, lane);
#pragma unroll
  for (int i = 0; i < kSumsOfLane; ++i) {
    const int place = lane * kSumsOfLane + i;
    const std::int64_t token = first_token + place / Tile::kRows;
    const std::int64_t row = first_row + place % Tile::kRows;
    if (token >= p.num_tokens || row >= p.weight.rows) continue;
    p.out[token * p.weight.rows + row] = sums[i] + (p.bias == nullptr ? 0.0F : p.bias[row]);
  }
}

template <class T, int kRows>
void launch_dot_rows(DotParams p, cudaStream_t stream) {
  using Tile = DotTile<T, kRows>;
  p.row_tiles = ceil_div<std::int64_t>(p.weight.rows, kRows);
  const std::int64_t blocks = ceil_div<std::int64_t>(p.num_tokens, Tile::kTokensOfBlock) * p.row_tiles;
  auto* kernel = dot_rows_kernel<T, Tile>;
  allow_shared_bytes(kernel, Tile::kSharedBytes);
  kernel<<<grid_size(blocks), kTileThreads, Tile::kSharedBytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void dot_rows_cuda(const ConstTensorView& x, const StridedMatrix<const float>& weight, const float* bias,
                   const TensorView& out, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t columns = x.size(1);
  const DotParams p = {.x = x.data,
                       .weight = weight,
                       .bias = bias,
                       .out = out.as<float>(),
                       .num_tokens = x.size(0),
                       .num_columns = columns,
                       .row_tiles = 0,
                       .x_vectors = tile_vectors(x.data, columns, columns, 1, size_bytes(x.dtype)),
                       .weight_vectors = tile_vectors(weight.data, columns, weight.row_stride,
                                                      weight.col_stride, sizeof(float))};
  if (p.num_tokens == 0 || weight.rows == 0) return;
  dispatch_dtype(x.dtype, [&]<class T>() {
    constexpr int kFewRows = 8;
    constexpr int kManyRows = 16;
    weight.rows <= kFewRows ? launch_dot_rows<T, kFewRows>(p, native)
                            : launch_dot_rows<T, kManyRows>(p, native);
  });
}

}  // namespace flex
