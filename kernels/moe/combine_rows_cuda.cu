#include <algorithm>

#include "kernels/moe/split_products.cuh"
#include "kernels/moe/token_products.cuh"

// A block keeps the parts of the weights of 128 channels in shared memory, in the order in which lanes read
// them, and runs through tiles of 16 tokens, one a warp. Tokens' factors are A and weights are B of the
// products; lane t of a quad has rows 8t to 8t + 7 of a block of 32, the terms of two mma. Rows that do not
// fit into shared memory are staged again for every tile.
namespace flex {
namespace {

constexpr int kColumnTiles = 16;
constexpr int kColumns = kColumnTiles * kMmaColumns;
constexpr int kBlockRows = 2 * kMmaTerms;      // a block of rows
constexpr int kMaxBlocks = 8;                  // of rows, in shared memory
constexpr int kQuadColumns = 4 * kMmaColumns;  // of four column tiles, eight neighbours a lane
constexpr int kQuads = kColumnTiles / 4;
constexpr int kGroup = 4;  // column tiles whose products are taken together

// 16-bit outputs need two parts of either factor: what is left out is at most 3 * 2^-16 of the terms, below a
// tenth of the outputs' rounding.
template <class T>
inline constexpr int kPartsFor = sizeof(T) == 4 ? 3 : 2;
template <class T>
inline constexpr int kBlocksPerSm = sizeof(T) == 4 ? 2 : 3;

struct CombineParams {
  StridedMatrix<const float> a;
  StridedMatrix<const float> weight;
  void* out;
  std::int64_t column_tiles;
  int row_blocks;
  int staged_blocks;
  bool a_vectors;
  bool out_vectors;
  bool accumulate;
};

// Column `column` of tile `tile` is this channel of the block's: a lane's results of four tiles are eight
// neighbours.
__device__ int channel_of(int tile, int column) {
  return tile / 4 * kQuadColumns + column / 2 * 8 + tile % 4 * 2 + column % 2;
}

// Parts lie as [block of rows][column tile][part][lane].
template <int kParts>
__device__ void stage_weights(uint4* to, const CombineParams& p, std::int64_t first_channel, int first_block,
                              int num_blocks) {
  const StridedMatrix<const float> columns = {p.weight.data, p.weight.cols, p.weight.rows,
                                              p.weight.col_stride, p.weight.row_stride};
#pragma unroll 4
  for (int place = static_cast<int>(threadIdx.x); place < num_blocks * kColumnTiles * kWarpSize;
       place += kProductThreads) {
    const int tile = place / kWarpSize;
    const int lane = place % kWarpSize;
    float values[8];
    read_eight(columns, first_channel + channel_of(tile % kColumnTiles, lane / 4),
               static_cast<std::int64_t>(first_block + tile / kColumnTiles) * kBlockRows + lane % 4 * 8,
               false, values);
    unsigned words[kParts][4];
    split_eight(values, words);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      to[(tile * kParts + part) * kWarpSize + lane] =
          make_uint4(words[part][0], words[part][1], words[part][2], words[part][3]);
    }
  }
}

using CombineSums = float[kColumnTiles / kGroup][1][kGroup][4];

// sums += the products of a block of rows.
template <int kParts>
__device__ void add_block(CombineSums& sums, const CombineParams& p, std::int64_t first_token,
                          std::int64_t first_row, const uint4* weights) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  unsigned a[1][kParts][2][4];
#pragma unroll
  for (int token = 0; token < 2; ++token) {
    float values[8];
    read_eight(p.a, first_token + 8 * token + lane / 4, first_row + lane % 4 * 8, p.a_vectors, values);
    unsigned words[kParts][4];
    split_eight(values, words);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int word = 0; word < 4; ++word) a[0][part][word / 2][word % 2 * 2 + token] = words[part][word];
    }
  }
#pragma unroll
  for (int group = 0; group < kColumnTiles / kGroup; ++group) {
    unsigned b[kGroup][kParts][2][2];
#pragma unroll
    for (int n = 0; n < kGroup; ++n) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const uint4 words = weights[((group * kGroup + n) * kParts + part) * kWarpSize + lane];
        b[n][part][0][0] = words.x;
        b[n][part][0][1] = words.y;
        b[n][part][1][0] = words.z;
        b[n][part][1][1] = words.w;
      }
    }
    add_products<kParts - 1>(sums[group], a, b);
  }
}

// A lane's eight neighbours of a token in a quad of column tiles.
template <class T>
struct OutEight {
  static constexpr int kWidth = kVectorWidth<T>;
  using Access = Pack<T, kWidth>;
  uint4 raw[8 / kWidth];

  __device__ void load(const T* from, std::int64_t columns_left) {
#pragma unroll
    for (int i = 0; i < 8 / kWidth; ++i) {
      if (i * kWidth < columns_left) raw[i] = Access::load(from + i * kWidth);
    }
  }
  // Writes `values`, added to what was loaded if `accumulate`.
  __device__ void store(T* to, std::int64_t columns_left, const float (&values)[8], bool accumulate) const {
#pragma unroll
    for (int i = 0; i < 8 / kWidth; ++i) {
      if (i * kWidth >= columns_left) continue;
      float sums[kWidth];
      if (accumulate) Access::unpack(raw[i], sums);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        sums[j] = (accumulate ? sums[j] : 0.0F) + values[i * kWidth + j];
      }
      Access::store(to + i * kWidth, Access::pack(sums));
    }
  }
};

template <class T>
__device__ void store_elements(T* to, std::int64_t columns_left, const float (&values)[8], bool accumulate) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= columns_left) continue;
    to[i] = from_float<T>((accumulate ? to_float(to[i]) : 0.0F) + values[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kProductThreads, kBlocksPerSm<T>)
    combine_rows_kernel(const __grid_constant__ CombineParams p) {
  constexpr int kParts = kPartsFor<T>;
  constexpr int kVectorsOfBlock = kColumnTiles * kParts * kWarpSize;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* weights = reinterpret_cast<uint4*>(shared);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const std::int64_t tokens = p.a.rows;
  const std::int64_t columns = p.weight.cols;
  const std::int64_t token_block = blockIdx.x / p.column_tiles;
  const std::int64_t token_blocks = gridDim.x / p.column_tiles;
  const std::int64_t first_channel = (blockIdx.x - token_block * p.column_tiles) * kColumns;
  const bool staged_once = p.staged_blocks >= p.row_blocks;

  if (staged_once) {
    stage_weights<kParts>(weights, p, first_channel, 0, p.row_blocks);
    __syncthreads();
  }
  constexpr int kTokensOfBlock = kMmaRows * kProductWarps;
  // All warps of a block take as many rounds, for the sake of its barriers.
  for (std::int64_t round = token_block * kTokensOfBlock; round < tokens;
       round += token_blocks * kTokensOfBlock) {
    const std::int64_t first_token = round + warp * kMmaRows;
    const auto place_of = [&](int quad, int token, std::int64_t& columns_left) {
      const std::int64_t channel = first_channel + quad * kQuadColumns + lane % 4 * 8;
      const std::int64_t row = first_token + 8 * token + lane / 4;
      columns_left = row < tokens ? columns - channel : 0;
      return static_cast<T*>(p.out) + row * columns + channel;
    };
    OutEight<T> before[kQuads][2];
    if (p.accumulate && p.out_vectors) {
#pragma unroll
      for (int quad = 0; quad < kQuads; ++quad) {
#pragma unroll
        for (int token = 0; token < 2; ++token) {
          std::int64_t columns_left = 0;
          const T* from = place_of(quad, token, columns_left);
          before[quad][token].load(from, columns_left);
        }
      }
    }
    CombineSums sums = {};
    for (int first_block = 0; first_block < p.row_blocks; first_block += p.staged_blocks) {
      const int num_blocks = min(p.staged_blocks, p.row_blocks - first_block);
      if (!staged_once) {
        __syncthreads();  // the rows before have been used
        stage_weights<kParts>(weights, p, first_channel, first_block, num_blocks);
        __syncthreads();
      }
      if (first_token >= tokens) continue;
      for (int block = 0; block < num_blocks; ++block) {
        add_block<kParts>(sums, p, first_token, static_cast<std::int64_t>(first_block + block) * kBlockRows,
                          weights + block * kVectorsOfBlock);
      }
    }
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
#pragma unroll
      for (int token = 0; token < 2; ++token) {
        std::int64_t columns_left = 0;
        T* to = place_of(quad, token, columns_left);
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int tile = 4 * quad + i / 2;
          values[i] = sums[tile / kGroup][0][tile % kGroup][2 * token + i % 2];
        }
        if (p.out_vectors)
          before[quad][token].store(to, columns_left, values, p.accumulate);
        else
          store_elements(to, columns_left, values, p.accumulate);
      }
    }
  }
}

template <class T>
void launch_combine_rows(const CombineParams& p, cudaStream_t stream) {
  constexpr std::int64_t kTokensOfBlock = kMmaRows * kProductWarps;
  const std::int64_t wanted =
      std::max<std::int64_t>(kProductBlocks / 3 * kBlocksPerSm<T> / p.column_tiles, 1);
  const std::int64_t token_blocks = std::min(wanted, ceil_div(p.a.rows, kTokensOfBlock));
  const int shared_bytes = p.staged_blocks * kColumnTiles * kPartsFor<T> * kWarpSize * kVectorBytes;
  auto* kernel = combine_rows_kernel<T>;
  allow_shared_bytes(kernel, static_cast<std::size_t>(shared_bytes));
  kernel<<<grid_size(token_blocks * p.column_tiles), kProductThreads, shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void combine_rows_cuda(const ConstTensorView& a, const StridedMatrix<const float>& weight,
                       const TensorView& out, bool accumulate, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t columns = weight.cols;
  const int row_blocks = static_cast<int>(ceil_div<std::int64_t>(weight.rows, kBlockRows));
  const CombineParams p = {.a = row_major(a),
                           .weight = weight,
                           .out = out.data,
                           .column_tiles = ceil_div<std::int64_t>(columns, kColumns),
                           .row_blocks = row_blocks,
                           .staged_blocks = std::clamp(row_blocks, 1, kMaxBlocks),
                           .a_vectors = whole_vectors(a.data, weight.rows, weight.rows, 1, sizeof(float)),
                           .out_vectors = whole_vectors(out.data, columns, columns, 1, size_bytes(out.dtype)),
                           .accumulate = accumulate};
  if (out.size(0) == 0 || columns == 0) return;
  dispatch_dtype(out.dtype, [&]<class T>() { launch_combine_rows<T>(p, native); });
}

}  // namespace flex
