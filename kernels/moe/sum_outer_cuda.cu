#include <algorithm>

#include "kernels/moe/split_products.cuh"
#include "kernels/moe/token_products.cuh"

// Tokens are split into a number of slices that depends on the shape alone. A block has one slice, 64
// channels and 16 kM rows, of which each warp takes every fourth step of 16 tokens, through a pipeline of
// stages that no other lane touches: lane 4g + t has tokens 4t to 4t + 3 of a step, channels 8g to 8g + 7 and
// rows 2 kM g to 2 kM g + 2 kM - 1. Rows are A and channels are B of the products, tokens the terms; column g
// of column tile j is channel 8g + j. The warps' sums are added in their order, and the slices' by a second
// kernel.
namespace flex {
namespace {

constexpr int kColumnTiles = 8;
constexpr int kColumns = kColumnTiles * kMmaColumns;
constexpr int kTokensOfStep = kMmaTerms;
constexpr int kTokensOfLane = 4;
constexpr int kTokensOfRound = kProductWarps * kTokensOfStep;
constexpr int kStages = 4;
constexpr int kFactorParts = 3;
constexpr int kLastLevel = 2;
constexpr std::int64_t kMaxSlices = 64;
constexpr std::int64_t kMinTokensOfSlice = 256;

std::int64_t rows_of_tile(std::int64_t rows) { return rows <= kMmaRows ? kMmaRows : 2 * kMmaRows; }

std::int64_t num_slices(std::int64_t tokens, std::int64_t rows, std::int64_t cols) {
  if (tokens == 0 || rows == 0 || cols == 0) return 0;
  const std::int64_t tiles = ceil_div<std::int64_t>(cols, kColumns) * ceil_div(rows, rows_of_tile(rows));
  // Rounded down, so that all blocks of a large problem run at once.
  const std::int64_t wanted = std::max<std::int64_t>(kProductBlocks / tiles, 1);
  return std::min({wanted, kMaxSlices, ceil_div(tokens, kMinTokensOfSlice)});
}

struct OuterParams {
  const float* a;
  const void* x;
  float* partials;  // (slices, N, M)
  std::int64_t num_tokens;
  std::int64_t num_rows;
  std::int64_t num_columns;
  std::int64_t row_tiles;
  std::int64_t column_tiles;
  std::int64_t tokens_of_slice;
  bool a_vectors;
  bool x_vectors;
};

// A warp's tokens of a step, as its lanes read them.
template <class T, int kM>
struct OuterStage {
  static constexpr int kVectors = static_cast<int>(sizeof(T)) / 2;  // of eight channels
  static constexpr int kFactors = 2 * kM;
  uint4 x[kTokensOfLane][kVectors][kWarpSize];
  float a[kTokensOfLane][kWarpSize][kFactors];
};

// Place of a warp's sum in the order in which a lane has them; a lane more in each row, so that neither
// writing by lanes nor reading by channels meets many bank conflicts.
template <int kM>
struct OuterTotal {
  static constexpr int kSums = kM * kColumnTiles * 4;  // of a lane
  static constexpr int kStride = kWarpSize + 1;
  static constexpr int kFloats = kSums * kStride;
  __device__ static int place(int m, int half, int second, int column_tile, int lane) {
    return (((m * 2 + half) * 2 + second) * kColumnTiles + column_tile) * kStride + lane;
  }
};

template <class T, int kM>
constexpr std::size_t outer_shared_bytes() {
  // The same memory serves to add the warps' sums at the end.
  return std::max(sizeof(OuterStage<T, kM>) * kProductWarps * kStages,
                  sizeof(float) * OuterTotal<kM>::kFloats * kProductWarps);
}

template <class T, int kM>
__device__ void stage_tokens(OuterStage<T, kM>& to, const OuterParams& p, std::int64_t first_token,
                             std::int64_t end_token, std::int64_t first_row, std::int64_t first_column,
                             int lane) {
  using Stage = OuterStage<T, kM>;
  const std::int64_t row = first_row + lane / 4 * Stage::kFactors;
  const std::int64_t column = first_column + lane / 4 * 8;
#pragma unroll
  for (int token = 0; token < kTokensOfLane; ++token) {
    // Tokens past the slice count as zeros.
    const std::int64_t wanted = first_token + lane % 4 * kTokensOfLane + token;
    const bool inside = wanted < end_token;
    const std::int64_t source = inside ? wanted : 0;
    const T* x = static_cast<const T*>(p.x) + source * p.num_columns;
#pragma unroll
    for (int vector = 0; vector < Stage::kVectors; ++vector) {
      stage_vector(reinterpret_cast<unsigned char*>(&to.x[token][vector][lane]), x,
                   column + vector * kVectorWidth<T>, p.num_columns, inside, p.x_vectors);
    }
    const float* a = p.a + source * p.num_rows;
    float* factors = to.a[token][lane];
    if (p.a_vectors) {
      const bool within = inside && row < p.num_rows;
      copy_async<static_cast<int>(sizeof(float)) * Stage::kFactors>(factors, within ? a + row : p.a, within);
      continue;
    }
#pragma unroll
    for (int i = 0; i < Stage::kFactors; ++i) {
      const bool within = inside && row + i < p.num_rows;
      copy_async<sizeof(float)>(factors + i, within ? a + row + i : p.a, within);
    }
  }
}

// Parts of one channel of a lane's four tokens, as terms of B.
template <class T, int kWords>
__device__ void channel_terms(const unsigned (&x)[kTokensOfLane][kWords], int channel,
                              unsigned (&terms)[kNumParts<T>][1][2]) {
  if constexpr (kNumParts<T> == 1) {
    const unsigned select = channel % 2 == 0 ? 0x5410U : 0x7632U;  // both lower halves, or both upper ones
    const int word = channel / 2;
    terms[0][0][0] = __byte_perm(x[0][word], x[1][word], select);
    terms[0][0][1] = __byte_perm(x[2][word], x[3][word], select);
  } else {
    float values[kTokensOfLane];
#pragma unroll
    for (int token = 0; token < kTokensOfLane; ++token) {
      if constexpr (sizeof(T) == sizeof(float)) {
        values[token] = __uint_as_float(x[token][channel]);
      } else {
        __half2 pair;
        memcpy(&pair, &x[token][channel / 2], sizeof(pair));
        values[token] = channel % 2 == 0 ? __low2float(pair) : __high2float(pair);
      }
    }
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      unsigned parts[kNumParts<T>];
      split_pair(values[2 * pair], values[2 * pair + 1], parts);
#pragma unroll
      for (int part = 0; part < kNumParts<T>; ++part) terms[part][0][pair] = parts[part];
    }
  }
}

template <int kM>
inline constexpr int kGroup = 4 / kM;  // column tiles whose products are taken together
template <int kM>
using OuterSums = float[kColumnTiles / kGroup<kM>][kM][kGroup<kM>][4];

// sums[row][channel] += a[token][row] * x[token][channel] over the tokens of a step.
template <class T, int kM>
__device__ void add_tokens(OuterSums<kM>& sums, const OuterStage<T, kM>& stage, int lane) {
  using Stage = OuterStage<T, kM>;
  unsigned a[kM][kFactorParts][1][4];
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    float factors[2][Stage::kFactors];
#pragma unroll
    for (int token = 0; token < 2; ++token) {
      if constexpr (Stage::kFactors == 4) {
        const float4 four = *reinterpret_cast<const float4*>(stage.a[2 * pair + token][lane]);
        factors[token][0] = four.x;
        factors[token][1] = four.y;
        factors[token][2] = four.z;
        factors[token][3] = four.w;
      } else {
        const float2 two = *reinterpret_cast<const float2*>(stage.a[2 * pair + token][lane]);
        factors[token][0] = two.x;
        factors[token][1] = two.y;
      }
    }
#pragma unroll
    for (int row = 0; row < Stage::kFactors; ++row) {
      unsigned parts[kFactorParts];
      split_pair(factors[0][row], factors[1][row], parts);
#pragma unroll
      for (int part = 0; part < kFactorParts; ++part) a[row / 2][part][0][2 * pair + row % 2] = parts[part];
    }
  }
  unsigned x[kTokensOfLane][4 * Stage::kVectors];
#pragma unroll
  for (int token = 0; token < kTokensOfLane; ++token) {
#pragma unroll
    for (int vector = 0; vector < Stage::kVectors; ++vector) {
      const uint4 words = stage.x[token][vector][lane];
      x[token][4 * vector] = words.x;
      x[token][4 * vector + 1] = words.y;
      x[token][4 * vector + 2] = words.z;
      x[token][4 * vector + 3] = words.w;
    }
  }
#pragma unroll
  for (int group = 0; group < kColumnTiles / kGroup<kM>; ++group) {
    unsigned b[kGroup<kM>][kNumParts<T>][1][2];
#pragma unroll
    for (int n = 0; n < kGroup<kM>; ++n) channel_terms<T>(x, group * kGroup<kM> + n, b[n]);
    add_products<kLastLevel>(sums[group], a, b);
  }
}

// Adds the warps' sums in their order and writes the block's partials.
template <int kM>
__device__ void write_partials(const OuterParams& p, const OuterSums<kM>& sums, float* shared,
                               std::int64_t slice, std::int64_t first_row, std::int64_t first_column) {
  using Total = OuterTotal<kM>;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float* mine = shared + static_cast<int>(threadIdx.x) / kWarpSize * Total::kFloats;
  __syncthreads();  // all stages have been used
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int tile = 0; tile < kColumnTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        mine[Total::place(m, i / 2, i % 2, tile, lane)] = sums[tile / kGroup<kM>][m][tile % kGroup<kM>][i];
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kMmaRows * kM * kColumns; i += kProductThreads) {
    const int row = i / kColumns;
    const int column = i % kColumns;
    if (first_row + row >= p.num_rows || first_column + column >= p.num_columns) continue;
    // Row 2 kM g + 2m + half is row g + 8 half of tile m; channel 8 (2t + second) + j is column 2t + second
    // of tile j; lane 4g + t has both.
    const int of_lane = row % (2 * kM);
    const int place =
        Total::place(of_lane / 2, of_lane % 2, column / 8 % 2, column % 8, row / (2 * kM) * 4 + column / 16);
    float sum = shared[place];
#pragma unroll
    for (int warp = 1; warp < kProductWarps; ++warp) sum += shared[warp * Total::kFloats + place];
    p.partials[(slice * p.num_rows + first_row + row) * p.num_columns + first_column + column] = sum;
  }
}

template <class T, int kM>
__global__ void __launch_bounds__(kProductThreads, sizeof(T) == sizeof(float) ? 2 : 3)
    sum_outer_kernel(const __grid_constant__ OuterParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  // Blocks of the same tokens are neighbours and find them in the L2 cache.
  const std::int64_t tile = blockIdx.x / p.row_tiles;
  const std::int64_t first_row = (blockIdx.x - tile * p.row_tiles) * kMmaRows * kM;
  const std::int64_t slice = tile / p.column_tiles;
  const std::int64_t first_column = (tile - slice * p.column_tiles) * kColumns;
  const std::int64_t begin = slice * p.tokens_of_slice;
  const std::int64_t end = min(begin + p.tokens_of_slice, p.num_tokens);

  auto* stages = reinterpret_cast<OuterStage<T, kM>*>(shared) + warp * kStages;
  const int num_steps =
      static_cast<int>(ceil_div<std::int64_t>(max(end - begin, std::int64_t{0}), kTokensOfRound));
  const auto stage = [&](int step) {
    if (step < num_steps) {
      const std::int64_t first_token =
          begin + static_cast<std::int64_t>(step) * kTokensOfRound + warp * kTokensOfStep;
      stage_tokens(stages[step % kStages], p, first_token, end, first_row, first_column, lane);
    }
    commit_copies();  // also where there is nothing left, so that stages can be counted
  };
  OuterSums<kM> sums = {};
  for (int step = 0; step < kStages - 1; ++step) stage(step);
  for (int step = 0; step < num_steps; ++step) {
    wait_copies<kStages - 2>();
    __syncwarp();  // what was read of the stage that is filled next has been read
    stage(step + kStages - 1);
    add_tokens(sums, stages[step % kStages], lane);
  }
  wait_copies<0>();
  write_partials<kM>(p, sums, reinterpret_cast<float*>(shared), slice, first_row, first_column);
}

template <class T, int kM>
void launch_sum_outer(OuterParams p, std::int64_t slices, cudaStream_t stream) {
  constexpr std::size_t kSharedBytes = outer_shared_bytes<T, kM>();
  p.row_tiles = ceil_div<std::int64_t>(p.num_rows, kMmaRows * kM);
  p.a_vectors = whole_vectors(p.a, p.num_rows, p.num_rows, 1, sizeof(float), 2 * kM * sizeof(float));
  auto* kernel = sum_outer_kernel<T, kM>;
  allow_shared_bytes(kernel, kSharedBytes);
  kernel<<<grid_size(slices * p.column_tiles * p.row_tiles), kProductThreads, kSharedBytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

std::int64_t sum_outer_workspace_bytes(std::int64_t tokens, std::int64_t rows, std::int64_t cols) {
  return num_slices(tokens, rows, cols) * rows * cols * static_cast<std::int64_t>(sizeof(float));
}

void sum_outer_cuda(const ConstTensorView& a, const ConstTensorView& x, const StridedMatrix<float>& out,
                    float* workspace, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t tokens = x.size(0);
  const std::int64_t columns = x.size(1);
  const std::int64_t slices = num_slices(tokens, out.rows, columns);
  if (slices > 0) {
    const OuterParams p = {
        .a = a.as<float>(),
        .x = x.data,
        .partials = workspace,
        .num_tokens = tokens,
        .num_rows = out.rows,
        .num_columns = columns,
        .row_tiles = 0,
        .column_tiles = ceil_div<std::int64_t>(columns, kColumns),
        .tokens_of_slice = ceil_div(ceil_div(tokens, slices), std::int64_t{kTokensOfRound}) * kTokensOfRound,
        .a_vectors = false,
        .x_vectors = whole_vectors(x.data, columns, columns, 1, size_bytes(x.dtype))};
    dispatch_dtype(x.dtype, [&]<class T>() {
      out.rows <= kMmaRows ? launch_sum_outer<T, 1>(p, slices, native)
                           : launch_sum_outer<T, 2>(p, slices, native);
    });
  }
  sum_partials_cuda(workspace, slices, out, stream);
}

}  // namespace flex
