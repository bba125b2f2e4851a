#include "kernels/moe/activation.h"
#include "kernels/moe/expert_vector.cuh"

namespace flex {
namespace {

// Column sums: a block is kLanes column vectors wide and kGroups rows deep.
constexpr int kLanes = kWarpSize;
constexpr int kGroups = kExpertThreads / kLanes;
// Blocks that fill the largest device twice over; not asked of the device, so that the order of a sum, and
// with it its bits, do not depend on it.
constexpr std::int64_t kTargetBlocks = 528;
constexpr std::int64_t kLeastRows = 64;  // of a block: fewer are not worth a partial sum
constexpr int kRowUnroll = 4;

template <class T>
struct BiasOperands {
  ExpertElements<T> y;
  ExpertElements<const T> bias;
  std::int64_t y_columns, begin, columns;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kExpertThreads)
    add_bias_kernel(const __grid_constant__ BiasOperands<T> operands,
                    const __grid_constant__ RowCounts counts) {
  using Vector = Pack<T, kWidth>;
  const unsigned expert = blockIdx.y;
  const std::int64_t row_vectors = operands.columns / kWidth;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kExpertThreads + threadIdx.x;
  if (i >= counts.rows[expert] * row_vectors) return;
  const std::int64_t row = i / row_vectors;
  const std::int64_t column = (i - row * row_vectors) * kWidth;
  T* place = operands.y.of(expert) + row * operands.y_columns + operands.begin + column;
  float values[kWidth], bias[kWidth];
  Vector::unpack(Vector::load(place), values);
  Vector::unpack(Vector::load(operands.bias.of(expert) + column), bias);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) values[v] += bias[v];
  Vector::store(place, Vector::pack(values));
}

template <class T>
struct SumOperands {
  ExpertElements<const T> rows;  // at the first column that is summed
  std::int64_t row_stride, columns;
  float* partial;  // (experts, splits, columns)
  int splits;
};

// Each thread walks down one column vector of its block's rows, kGroups apart; the groups' sums are then
// added in order.
template <class T, int kWidth>
__global__ void __launch_bounds__(kExpertThreads)
    partial_sums_kernel(const __grid_constant__ SumOperands<T> operands,
                        const __grid_constant__ RowCounts counts) {
  using Vector = Pack<T, kWidth>;
  constexpr int kBlockColumns = kLanes * kWidth;
  const unsigned expert = blockIdx.z;
  const std::int64_t split = blockIdx.y;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * kBlockColumns;
  const std::int64_t column = first_column + lane * kWidth;
  const std::int64_t rows = counts.rows[expert];
  const std::int64_t split_rows = ceil_div<std::int64_t>(rows, operands.splits);
  const std::int64_t end = min(rows, (split + 1) * split_rows);

  float sums[kWidth] = {};
  if (column < operands.columns) {
    const T* data = operands.rows.of(expert) + column;
#pragma unroll kRowUnroll
    for (std::int64_t row = split * split_rows + group; row < end; row += kGroups) {
      float values[kWidth];
      Vector::unpack(Vector::load(data + row * operands.row_stride), values);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) sums[v] += values[v];
    }
  }
  __shared__ float table[kGroups][kBlockColumns];
#pragma unroll
  for (int v = 0; v < kWidth; ++v) table[group][lane * kWidth + v] = sums[v];
  __syncthreads();
  float* partial = operands.partial + (expert * operands.splits + split) * operands.columns + first_column;
  for (int c = static_cast<int>(threadIdx.x); c < kBlockColumns; c += kExpertThreads) {
    if (first_column + c >= operands.columns) return;
    float sum = 0.0F;
    for (const auto& line : table) sum += line[c];
    partial[c] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kExpertThreads)
    total_sums_kernel(const float* partial, int splits, std::int64_t columns, ExpertElements<T> sums,
                      std::int64_t sums_columns, bool accumulate) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kExpertThreads + threadIdx.x;
  const unsigned expert = blockIdx.y;
  if (column >= sums_columns) return;
  float sum = 0.0F;
  if (column < columns) {
    const std::int64_t first = static_cast<std::int64_t>(expert) * splits;
    for (int split = 0; split < splits; ++split) sum += partial[(first + split) * columns + column];
  }
  T* total = sums.of(expert) + column;
  *total = from_float<T>(accumulate ? to_float(*total) + sum : sum);
}

template <class T, int kWidth>
void sum_experts(const ColumnSumsArgs& args, std::int64_t first, std::int64_t num, int splits,
                 cudaStream_t stream) {
  const RowCounts counts = row_counts(args.counts, args.rows.size(1), first, num);
  auto* partial = args.workspace.as<float>();
  const auto experts = static_cast<unsigned>(num);
  if (args.columns > 0) {
    SumOperands<T> operands = {.rows = elements_from<const T>(args.rows, first),
                               .row_stride = args.rows.size(2),
                               .columns = args.columns,
                               .partial = partial,
                               .splits = splits};
    operands.rows.data += args.begin;
    const dim3 grid(grid_size(ceil_div<std::int64_t>(args.columns, kLanes * kWidth)),
                    static_cast<unsigned>(splits), experts);
    partial_sums_kernel<T, kWidth><<<grid, kExpertThreads, 0, stream>>>(operands, counts);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  const dim3 grid(grid_size(ceil_div<std::int64_t>(args.sums.size(1), kExpertThreads)), experts);
  total_sums_kernel<T><<<grid, kExpertThreads, 0, stream>>>(
      partial, splits, args.columns, elements_from<T>(args.sums, first), args.sums.size(1), args.accumulate);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// True if columns [begin, begin + columns) of every row are whole vectors.
bool columns_are_vectors(const ConstTensorView& rows, std::int64_t begin, std::int64_t columns) {
  return begins_at_vectors(rows) && fills_vectors(rows.size(2), rows.dtype) &&
         fills_vectors(begin, rows.dtype) && fills_vectors(columns, rows.dtype);
}

}  // namespace

void add_bias_cuda(const AddBiasArgs& args, Stream& stream) {
  const bool vectors = columns_are_vectors(args.y, args.begin, args.columns) && begins_at_vectors(args.bias);
  dispatch_vectors(args.y.dtype, vectors, [&]<class T, int kWidth>() {
    for (std::int64_t first = 0; first < args.y.size(0); first += kMaxExpertsPerLaunch) {
      const std::int64_t num = std::min(kMaxExpertsPerLaunch, args.y.size(0) - first);
      const RowCounts counts = row_counts(args.counts, args.y.size(1), first, num);
      const std::int64_t blocks =
          ceil_div<std::int64_t>(most_rows(counts, num) * (args.columns / kWidth), kExpertThreads);
      if (blocks == 0) continue;
      const dim3 grid(grid_size(blocks), static_cast<unsigned>(num));
      add_bias_kernel<T, kWidth><<<grid, kExpertThreads, 0, launch_stream(stream)>>>(
          {.y = elements_from<T>(args.y, first),
           .bias = elements_from<const T>(args.bias, first),
           .y_columns = args.y.size(2),
           .begin = args.begin,
           .columns = args.columns},
          counts);
      FLEX_CUDA_CHECK(cudaGetLastError());
    }
  });
}

void column_sums_cuda(const ColumnSumsArgs& args, Stream& stream) {
  const std::int64_t experts = args.rows.size(0);
  if (experts == 0 || args.sums.size(1) == 0) return;
  const bool vectors = columns_are_vectors(args.rows, args.begin, args.columns);
  dispatch_vectors(args.rows.dtype, vectors, [&]<class T, int kWidth>() {
    const std::int64_t blocks =
        experts * std::max<std::int64_t>(1, ceil_div<std::int64_t>(args.columns, kLanes * kWidth));
    const std::int64_t most_splits = std::max<std::int64_t>(1, ceil_div(args.rows.size(1), kLeastRows));
    const auto splits = static_cast<int>(std::clamp<std::int64_t>(kTargetBlocks / blocks, 1, most_splits));
    const std::int64_t expert_bytes =
        std::max<std::int64_t>(1, splits * args.columns * static_cast<std::int64_t>(sizeof(float)));
    const std::int64_t step = std::min(kMaxExpertsPerLaunch, args.workspace.size(0) / expert_bytes);
    if (step == 0) throw DeviceError("experts' bias gradients: the workspace of the products is too small");
    for (std::int64_t first = 0; first < experts; first += step) {
      sum_experts<T, kWidth>(args, first, std::min(step, experts - first), splits, launch_stream(stream));
    }
  });
}

}  // namespace flex
