#include <algorithm>

#include "kernels/moe/token_products.cuh"
#include "kernels/moe/token_tile.cuh"

// Tokens are split into a number of slices that depends on the shape alone. A block has one slice, 256
// channels and kRows rows; each warp takes four tokens at a time of its own, through a pipeline of stages
// that no other warp touches. The warps' sums are added in their order, and the slices' in theirs by a second
// kernel.
namespace flex {
namespace {

constexpr int kTokensOfStep = 4;
constexpr int kTokensOfRound = kTileWarps * kTokensOfStep;
constexpr int kFewRows = 8;
constexpr int kManyRows = 16;
constexpr std::int64_t kWantedBlocks = 264;  // two for each SM of an H100 or H200
constexpr std::int64_t kMaxSlices = 64;
constexpr std::int64_t kMinTokensOfSlice = 256;

std::int64_t rows_of_tile(std::int64_t rows) { return rows <= kFewRows ? kFewRows : kManyRows; }

std::int64_t num_slices(std::int64_t tokens, std::int64_t rows, std::int64_t cols) {
  if (tokens == 0 || rows == 0 || cols == 0) return 0;
  const std::int64_t tiles = ceil_div<std::int64_t>(cols, kTileColumns) * ceil_div(rows, rows_of_tile(rows));
  return std::min({ceil_div(kWantedBlocks, tiles), kMaxSlices, ceil_div(tokens, kMinTokensOfSlice)});
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
  bool x_vectors;
};

template <class T, int kRows>
struct OuterStage {
  T x[kTokensOfStep][kTileColumns];
  float a[kTokensOfStep][kRows];
};

// With few rows two blocks share an SM: fp32 then has a stage less.
template <class T, int kRows>
inline constexpr int kStages = kRows == kFewRows && sizeof(T) == sizeof(float) ? 3 : 4;

template <class T, int kRows>
constexpr std::size_t outer_shared_bytes() {
  static_assert(sizeof(OuterStage<T, kRows>) % kVectorBytes == 0);
  // The same memory serves to add the warps' sums at the end.
  return std::max(sizeof(OuterStage<T, kRows>) * kTileWarps * kStages<T, kRows>,
                  sizeof(float) * kRows * kTileColumns);
}

template <class T, int kRows>
__device__ void stage_tokens(OuterStage<T, kRows>& to, const OuterParams& p, std::int64_t first_token,
                             std::int64_t end_token, std::int64_t first_row, std::int64_t first_column,
                             int lane) {
#pragma unroll
  for (int token = 0; token < kTokensOfStep; ++token) {
    // Tokens past the slice count as zeros.
    const bool inside = first_token + token < end_token;
    const T* row = static_cast<const T*>(p.x) + (inside ? first_token + token : 0) * p.num_columns;
    stage_lane(to.x[token], row, first_column, inside ? p.num_columns : 0, lane, p.x_vectors);
  }
#pragma unroll
  for (int i = lane; i < kTokensOfStep * kRows; i += kWarpSize) {
    const std::int64_t token = first_token + i / kRows;
    const std::int64_t row = first_row + i % kRows;
    const bool inside = token < end_token && row < p.num_rows;
    __pipeline_memcpy_async(&to.a[i / kRows][i % kRows], p.a + (inside ? token * p.num_rows + row : 0),
                            sizeof(float), inside ? 0 : sizeof(float));
  }
}

// sums[row][i] += a[token][row] * x[token][i].
template <class T, int kRows>
__device__ void add_tokens(const OuterStage<T, kRows>& stage, float (&sums)[kRows][kLaneColumns], int lane) {
#pragma unroll
  for (int token = 0; token < kTokensOfStep; ++token) {
    float x[2][4];
    read_quad(stage.x[token], lane, 0, x[0]);
    read_quad(stage.x[token], lane, 1, x[1]);
#pragma unroll
    for (int first = 0; first < kRows; first += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&stage.a[token][first]);
      const float factors[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int row = 0; row < 4; ++row) {
#pragma unroll
        for (int i = 0; i < kLaneColumns; ++i) {
          sums[first + row][i] = fmaf(factors[row], x[i / 4][i % 4], sums[first + row][i]);
        }
      }
    }
  }
}

template <class T, int kRows>
__global__ void __launch_bounds__(kTileThreads, kRows == kFewRows ? 2 : 1)
    sum_outer_kernel(const __grid_constant__ OuterParams p) {
  constexpr int kNumStages = kStages<T, kRows>;
  extern __shared__ __align__(16) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  // Blocks of the same tokens and channels are neighbours and find them in the L2 cache.
  const std::int64_t tile = blockIdx.x / p.row_tiles;
  const std::int64_t first_row = (blockIdx.x - tile * p.row_tiles) * kRows;
  const std::int64_t slice = tile / p.column_tiles;
  const std::int64_t first_column = (tile - slice * p.column_tiles) * kTileColumns;
  const std::int64_t begin = slice * p.tokens_of_slice;
  const std::int64_t end = min(begin + p.tokens_of_slice, p.num_tokens);

  auto* stages = reinterpret_cast<OuterStage<T, kRows>*>(shared) + warp * kNumStages;
  const int num_steps =
      static_cast<int>(ceil_div<std::int64_t>(max(end - begin, std::int64_t{0}), kTokensOfRound));
  const auto stage = [&](int step) {
    if (step < num_steps) {
      const std::int64_t first_token =
          begin + static_cast<std::int64_t>(step) * kTokensOfRound + warp * kTokensOfStep;
      stage_tokens(stages[step % kNumStages], p, first_token, end, first_row, first_column, lane);
    }
    __pipeline_commit();
  };
  float sums[kRows][kLaneColumns] = {};
  for (int step = 0; step < kNumStages - 1; ++step) stage(step);
  for (int step = 0; step < num_steps; ++step) {
    __pipeline_wait_prior(kNumStages - 2);
    __syncwarp();  // this stage is there for all lanes, and none reads the one that is filled next
    stage(step + kNumStages - 1);
    add_tokens(stages[step % kNumStages], sums, lane);
  }

  __pipeline_wait_prior(0);
  auto* total = reinterpret_cast<float*>(shared);
  for (int turn = 0; turn < kTileWarps; ++turn) {
    __syncthreads();
    if (turn != warp) continue;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int i = 0; i < kLaneColumns; ++i) {
        float& place = total[row * kTileColumns + i / 4 * (kTileColumns / 2) + lane * 4 + i % 4];
        place = turn == 0 ? sums[row][i] : place + sums[row][i];
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kTileColumns; i += kTileThreads) {
    const std::int64_t row = first_row + i / kTileColumns;
    const std::int64_t column = first_column + i % kTileColumns;
    if (row >= p.num_rows || column >= p.num_columns) continue;
    p.partials[(slice * p.num_rows + row) * p.num_columns + column] =
        total[i / kTileColumns * kTileColumns + tile_place<T>(i % kTileColumns)];
  }
}

__global__ void __launch_bounds__(kTileThreads)
    sum_partials_kernel(const float* partials, std::int64_t num_partials, StridedMatrix<float> out) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x;
  const std::int64_t count = out.rows * out.cols;
  if (i >= count) return;
  float sum = 0.0F;
#pragma unroll 8
  for (std::int64_t partial = 0; partial < num_partials; ++partial) sum += partials[partial * count + i];
  const std::int64_t row = i / out.cols;
  out.data[row * out.row_stride + (i - row * out.cols) * out.col_stride] = sum;
}

template <class T, int kRows>
void launch_sum_outer(OuterParams p, std::int64_t slices, cudaStream_t stream) {
  p.row_tiles = ceil_div<std::int64_t>(p.num_rows, kRows);
  constexpr std::size_t kSharedBytes = outer_shared_bytes<T, kRows>();
  auto* kernel = sum_outer_kernel<T, kRows>;
  allow_shared_bytes(kernel, kSharedBytes);
  kernel<<<grid_size(slices * p.column_tiles * p.row_tiles), kTileThreads, kSharedBytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

std::int64_t sum_outer_workspace_bytes(std::int64_t tokens, std::int64_t rows, std::int64_t cols) {
  return num_slices(tokens, rows, cols) * rows * cols * static_cast<std::int64_t>(sizeof(float));
}

void sum_partials_cuda(const float* partials, std::int64_t num_partials, const StridedMatrix<float>& out,
                       Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  if (out.rows * out.cols == 0) return;
  const unsigned blocks = grid_size(ceil_div<std::int64_t>(out.rows * out.cols, kTileThreads));
  sum_partials_kernel<<<blocks, kTileThreads, 0, native>>>(partials, num_partials, out);
  FLEX_CUDA_CHECK(cudaGetLastError());
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
        .column_tiles = ceil_div<std::int64_t>(columns, kTileColumns),
        .tokens_of_slice = ceil_div(ceil_div(tokens, slices), std::int64_t{kTokensOfRound}) * kTokensOfRound,
        .x_vectors = tile_vectors(x.data, columns, columns, 1, size_bytes(x.dtype))};
    dispatch_dtype(x.dtype, [&]<class T>() {
      out.rows <= kFewRows ? launch_sum_outer<T, kFewRows>(p, slices, native)
                           : launch_sum_outer<T, kManyRows>(p, slices, native);
    });
  }
  sum_partials_cuda(workspace, slices, out, stream);
}

}  // namespace flex
