#include "kernels/moe/split_products.cuh"
#include "kernels/moe/token_products.cuh"

// A warp has 16 kM tokens, its block 8 kN rows of weights; a chunk of channels at a time, tokens are A and
// weights are B of the products. A lane stages just what it will read of the tokens, so that no other waits
// for it: lane t of a quad has channels 8t to 8t + 7 of a block of 32, the terms of two mma. Weights are
// split by the whole block, each once, and lie in shared memory in the order in which lanes read them.
namespace flex {
namespace {

constexpr int kBlockChannels = 2 * kMmaTerms;  // a block of channels
constexpr int kWeightParts = 3;
constexpr int kLastLevel = 2;

template <class T, int kTokenTiles, int kRowTiles>
struct DotTile {
  static constexpr int kM = kTokenTiles;
  static constexpr int kN = kRowTiles;
  static constexpr int kChannelBlocks = sizeof(T) == 4 ? 1 : 2;  // of a chunk
  static constexpr int kChunk = kChannelBlocks * kBlockChannels;
  static constexpr int kTokens = kMmaRows * kM;  // of a warp
  static constexpr int kTokensOfBlock = kTokens * kProductWarps;
  static constexpr int kRows = kMmaColumns * kN;
  static constexpr int kStages = 6 / kM;
  // A lane's tokens, and the 16-byte vectors of eight channels.
  static constexpr int kTokensOfLane = 2 * kM;
  static constexpr int kVectors = static_cast<int>(sizeof(T)) / 2;
  static constexpr int kStageBytes =
      kTokensOfLane * kChannelBlocks * kVectors * kProductThreads * kVectorBytes;
  // Places of split weights: eight channels of a row each, one for each lane of a tile.
  static constexpr int kPlaces = kChannelBlocks * kN * kWarpSize;
  static constexpr int kPlacesOfThread = ceil_div(kPlaces, kProductThreads);
  static constexpr int kWeightBytes = kPlaces * kWeightParts * kVectorBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + 2 * kWeightBytes;
  static constexpr int kBlocksPerSm = kSharedBytes > 75 * 1024 || kN == 8 ? 2 : 3;
  // Row tiles whose products are taken together, to have several chains of sums in flight.
  static constexpr int kGroup = kN < 4 / kM ? kN : 4 / kM;
};

struct DotParams {
  const void* x;
  StridedMatrix<const float> weight;
  const float* bias;
  float* out;
  std::int64_t num_tokens;
  std::int64_t row_tiles;
  bool x_vectors;
  bool weight_vectors;
  bool out_pairs;
};

template <class T, class Tile>
__device__ unsigned char* staged_vector(unsigned char* stage, int token, int block, int vector) {
  const int index = (token * Tile::kChannelBlocks + block) * Tile::kVectors + vector;
  return stage + (index * kProductThreads + static_cast<int>(threadIdx.x)) * kVectorBytes;
}

// This lane's channels of its tokens.
template <class T, class Tile>
__device__ void stage_tokens(unsigned char* stage, const DotParams& p, std::int64_t first_token,
                             std::int64_t first_channel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int token = 0; token < Tile::kTokensOfLane; ++token) {
    const std::int64_t source = min(first_token + 8 * token + lane / 4, p.num_tokens - 1);
    const T* row = static_cast<const T*>(p.x) + source * p.weight.cols;
#pragma unroll
    for (int block = 0; block < Tile::kChannelBlocks; ++block) {
#pragma unroll
      for (int vector = 0; vector < Tile::kVectors; ++vector) {
        const std::int64_t channel =
            first_channel + block * kBlockChannels + lane % 4 * 8 + vector * kVectorWidth<T>;
        stage_vector(staged_vector<T, Tile>(stage, token, block, vector), row, channel, p.weight.cols, true,
                     p.x_vectors);
      }
    }
  }
}

template <class Tile>
__device__ void read_weights(const DotParams& p, std::int64_t first_row, std::int64_t first_channel,
                             float (&values)[Tile::kPlacesOfThread][8]) {
#pragma unroll
  for (int i = 0; i < Tile::kPlacesOfThread; ++i) {
    const int place = i * kProductThreads + static_cast<int>(threadIdx.x);
    if (place >= Tile::kPlaces) continue;
    const int tile = place / kWarpSize;
    const int lane = place % kWarpSize;
    read_eight(p.weight, first_row + tile % Tile::kN * kMmaColumns + lane / 4,
               first_channel + tile / Tile::kN * kBlockChannels + lane % 4 * 8, p.weight_vectors, values[i]);
  }
}

// Parts lie as [block of channels][row tile][part][lane].
template <class Tile>
__device__ void split_weights(uint4* to, const float (&values)[Tile::kPlacesOfThread][8]) {
#pragma unroll
  for (int i = 0; i < Tile::kPlacesOfThread; ++i) {
    const int place = i * kProductThreads + static_cast<int>(threadIdx.x);
    if (place >= Tile::kPlaces) continue;
    unsigned words[kWeightParts][4];
    split_eight(values[i], words);
    uint4* parts = to + place / kWarpSize * kWeightParts * kWarpSize + place % kWarpSize;
#pragma unroll
    for (int part = 0; part < kWeightParts; ++part) {
      parts[part * kWarpSize] = make_uint4(words[part][0], words[part][1], words[part][2], words[part][3]);
    }
  }
}

template <class T, class Tile>
using DotSums = float[Tile::kN / Tile::kGroup][Tile::kM][Tile::kGroup][4];

// sums += the products of a chunk.
template <class T, class Tile>
__device__ void add_chunk(DotSums<T, Tile>& sums, unsigned char* stage, const uint4* weights) {
  constexpr int kParts = kNumParts<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int block = 0; block < Tile::kChannelBlocks; ++block) {
    unsigned a[Tile::kM][kParts][2][4];
#pragma unroll
    for (int token = 0; token < Tile::kTokensOfLane; ++token) {
      uint4 raw[Tile::kVectors];
#pragma unroll
      for (int vector = 0; vector < Tile::kVectors; ++vector) {
        raw[vector] = *reinterpret_cast<const uint4*>(staged_vector<T, Tile>(stage, token, block, vector));
      }
      unsigned words[kParts][4];
      split_raw_eight<T>(raw, words);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          a[token / 2][part][word / 2][word % 2 * 2 + token % 2] = words[part][word];
        }
      }
    }
#pragma unroll
    for (int group = 0; group < Tile::kN / Tile::kGroup; ++group) {
      unsigned b[Tile::kGroup][kWeightParts][2][2];
#pragma unroll
      for (int n = 0; n < Tile::kGroup; ++n) {
        const int tile = block * Tile::kN + group * Tile::kGroup + n;
#pragma unroll
        for (int part = 0; part < kWeightParts; ++part) {
          const uint4 words = weights[(tile * kWeightParts + part) * kWarpSize + lane];
          b[n][part][0][0] = words.x;
          b[n][part][0][1] = words.y;
          b[n][part][1][0] = words.z;
          b[n][part][1][1] = words.w;
        }
      }
      add_products<kLastLevel>(sums[group], a, b);
    }
  }
}

template <class T, class Tile>
__device__ void write_sums(const DotParams& p, const DotSums<T, Tile>& sums, std::int64_t first_token,
                           std::int64_t first_row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int n = 0; n < Tile::kN; ++n) {
    const std::int64_t row = first_row + n * kMmaColumns + lane % 4 * 2;
    if (row >= p.weight.rows) continue;
    const bool pair = row + 1 < p.weight.rows;
    const float bias = p.bias == nullptr ? 0.0F : p.bias[row];
    const float next_bias = p.bias == nullptr || !pair ? 0.0F : p.bias[row + 1];
#pragma unroll
    for (int token = 0; token < Tile::kTokensOfLane; ++token) {
      const std::int64_t target = first_token + 8 * token + lane / 4;
      if (target >= p.num_tokens) continue;
      const float(&four)[4] = sums[n / Tile::kGroup][token / 2][n % Tile::kGroup];
      const float value = four[token % 2 * 2] + bias;
      const float next = four[token % 2 * 2 + 1] + next_bias;
      float* to = p.out + target * p.weight.rows + row;
      if (p.out_pairs) {
        *reinterpret_cast<float2*>(to) = make_float2(value, next);
      } else {
        to[0] = value;
        if (pair) to[1] = next;
      }
    }
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(kProductThreads, Tile::kBlocksPerSm)
    dot_rows_kernel(const __grid_constant__ DotParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  // Blocks of the same tokens are neighbours, so that the second one finds them in the L2 cache.
  const std::int64_t token_tile = blockIdx.x / p.row_tiles;
  const std::int64_t first_row = (blockIdx.x - token_tile * p.row_tiles) * Tile::kRows;
  const std::int64_t first_token =
      token_tile * Tile::kTokensOfBlock + static_cast<int>(threadIdx.x) / kWarpSize * Tile::kTokens;
  const int num_chunks = static_cast<int>(ceil_div<std::int64_t>(p.weight.cols, Tile::kChunk));

  const auto stage_of = [&](int chunk) { return shared + chunk % Tile::kStages * Tile::kStageBytes; };
  const auto weights_of = [&](int chunk) {
    return reinterpret_cast<uint4*>(shared + Tile::kStages * Tile::kStageBytes +
                                    chunk % 2 * Tile::kWeightBytes);
  };
  const auto stage = [&](int chunk) {
    if (chunk < num_chunks) {
      stage_tokens<T, Tile>(stage_of(chunk), p, first_token, static_cast<std::int64_t>(chunk) * Tile::kChunk);
    }
    commit_copies();  // also where there is nothing left, so that stages can be counted
  };

  DotSums<T, Tile> sums = {};
  float weights[Tile::kPlacesOfThread][8];
  for (int chunk = 0; chunk < Tile::kStages - 1; ++chunk) stage(chunk);
  read_weights<Tile>(p, first_row, 0, weights);
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    split_weights<Tile>(weights_of(chunk), weights);
    __syncthreads();  // these weights are there, and nobody reads the ones that are split next
    read_weights<Tile>(p, first_row, static_cast<std::int64_t>(chunk + 1) * Tile::kChunk, weights);
    wait_copies<Tile::kStages - 2>();
    stage(chunk + Tile::kStages - 1);
    add_chunk<T, Tile>(sums, stage_of(chunk), weights_of(chunk));
  }
  write_sums<T, Tile>(p, sums, first_token, first_row);
}

template <class T, int kM, int kN>
void launch_dot_rows(DotParams p, cudaStream_t stream) {
  using Tile = DotTile<T, kM, kN>;
  p.row_tiles = ceil_div<std::int64_t>(p.weight.rows, Tile::kRows);
  const std::int64_t blocks = ceil_div<std::int64_t>(p.num_tokens, Tile::kTokensOfBlock) * p.row_tiles;
  auto* kernel = dot_rows_kernel<T, Tile>;
  allow_shared_bytes(kernel, Tile::kSharedBytes);
  kernel<<<grid_size(blocks), kProductThreads, Tile::kSharedBytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// Few tokens are spread over more blocks.
template <class T, int kN>
void launch_dot_rows(const DotParams& p, cudaStream_t stream) {
  constexpr std::int64_t kManyTokens = kProductBlocks / 3 * 2 * DotTile<T, 2, kN>::kTokensOfBlock;
  p.num_tokens < kManyTokens ? launch_dot_rows<T, 1, kN>(p, stream) : launch_dot_rows<T, 2, kN>(p, stream);
}

}  // namespace

void dot_rows_cuda(const ConstTensorView& x, const StridedMatrix<const float>& weight, const float* bias,
                   const TensorView& out, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t columns = x.size(1);
  const DotParams p = {
      .x = x.data,
      .weight = weight,
      .bias = bias,
      .out = out.as<float>(),
      .num_tokens = x.size(0),
      .row_tiles = 0,
      .x_vectors = whole_vectors(x.data, columns, columns, 1, size_bytes(x.dtype)),
      .weight_vectors =
          whole_vectors(weight.data, columns, weight.row_stride, weight.col_stride, sizeof(float)),
      .out_pairs = whole_vectors(out.data, weight.rows, weight.rows, 1, sizeof(float), 2 * sizeof(float))};
  if (p.num_tokens == 0 || weight.rows == 0) return;
  dispatch_dtype(x.dtype, [&]<class T>() {
    if (weight.rows <= kMmaColumns)
      launch_dot_rows<T, 1>(p, native);
    else if (weight.rows <= 4 * kMmaColumns)
      launch_dot_rows<T, 4>(p, native);
    else
      launch_dot_rows<T, 8>(p, native);
  });
}

}  // namespace flex
