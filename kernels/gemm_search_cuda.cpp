#include "kernels/gemm_search_cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/require.h"
#include "kernels/cuda_blas_check.h"
#include "kernels/cuda_check.h"
#include "kernels/gemm_scratch.h"

namespace flex {
namespace {

constexpr int kRunsPerCandidate = 3;  // first round: enough to drop what is far behind
constexpr int kRunsPerFinalist = 11;
constexpr std::size_t kNumFinalists = 4;
// A winner by less than this is noise of the clock: the first suggestion stays.
constexpr double kWorthwhile = 0.99;
constexpr std::uint64_t kSeed = 20240607;

// Elements from the first to one past the last that a batch of (rows, columns) matrices touches.
std::int64_t span_of(std::int64_t rows, std::int64_t columns, std::int64_t leading, std::int64_t batch,
                     std::int64_t stride) {
  return (batch - 1) * stride + (rows - 1) * leading + columns;
}

class DeviceBytes {
 public:
  DeviceBytes(Device device, std::int64_t bytes) : device_(device), data_(allocate_bytes(device, bytes)) {}
  ~DeviceBytes() { free_bytes(device_, data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  [[nodiscard]] void* data() const { return data_; }

 private:
  Device device_;
  void* data_;
};

class TimingEvent {
 public:
  TimingEvent() { FLEX_CUDA_CHECK(cudaEventCreate(&event_)); }
  ~TimingEvent() { static_cast<void>(cudaEventDestroy(event_)); }
  TimingEvent(const TimingEvent&) = delete;
  TimingEvent& operator=(const TimingEvent&) = delete;
  [[nodiscard]] cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Random operands of a shape, and the stopwatch.
class Bench {
 public:
  Bench(Device device, cublasLtHandle_t handle, const GemmProduct& product, std::int64_t workspace_bytes)
      : handle_(handle),
        product_(product),
        stream_(device),
        scratch_(device, workspace_bytes),
        workspace_{scratch_.data(), workspace_bytes},
        a_(device, a_count(product.shape()) * size_bytes(product.shape().dtype)),
        b_(device, b_count(product.shape()) * size_bytes(product.shape().dtype)),
        d_(device, d_count(product.shape()) * size_bytes(product.shape().dtype)),
        vector_(device, vector_count(product.shape()) * size_bytes(product.shape().dtype)),
        flush_bytes_(2 * l2_bytes(device)),
        flush_(device, flush_bytes_) {
    const GemmShape& shape = product.shape();
    fill_uniform_cuda(a_.data(), shape.dtype, a_count(shape), kSeed, stream_.native());
    fill_uniform_cuda(b_.data(), shape.dtype, b_count(shape), kSeed + 1, stream_.native());
    fill_uniform_cuda(d_.data(), shape.dtype, d_count(shape), kSeed + 2, stream_.native());
    fill_uniform_cuda(vector_.data(), shape.dtype, vector_count(shape), kSeed + 3, stream_.native());
    call_ = {.shape = shape,
             .a = a_.data(),
             .b = b_.data(),
             .d = d_.data(),
             .bias = vector_.data(),
             .sums = vector_.data()};
  }

  // One run; infinite if the library refuses to launch the algorithm after all.
  double run_us(const cublasLtMatmulAlgo_t& algorithm) {
    auto* stream = static_cast<cudaStream_t>(stream_.native());
    FLEX_CUDA_CHECK(cudaMemsetAsync(flush_.data(), 0, static_cast<std::size_t>(flush_bytes_), stream));
    FLEX_CUDA_CHECK(cudaEventRecord(begin_.get(), stream));
    if (product_.launch(handle_, algorithm, call_, workspace_, stream) != CUBLAS_STATUS_SUCCESS)
      return std::numeric_limits<double>::infinity();
    FLEX_CUDA_CHECK(cudaEventRecord(end_.get(), stream));
    const cudaError_t status = cudaEventSynchronize(end_.get());
    require<DeviceError>(status == cudaSuccess, "while algorithms of {} were timed: {}",
                         to_string(product_.shape()), cudaGetErrorString(status));
    float elapsed_ms = 0.0F;
    FLEX_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, begin_.get(), end_.get()));
    return static_cast<double>(elapsed_ms) * 1e3;
  }

 private:
  static std::int64_t a_count(const GemmShape& s) {
    return span_of(s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda, s.batch, s.stride_a);
  }
  static std::int64_t b_count(const GemmShape& s) {
    return span_of(s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb, s.batch, s.stride_b);
  }
  static std::int64_t d_count(const GemmShape& s) { return span_of(s.m, s.n, s.ldd, s.batch, s.stride_d); }
  static std::int64_t vector_count(const GemmShape& s) {
    return span_of(1, std::max(s.m, s.n), 0, s.batch, s.vector_stride);
  }
  static std::int64_t l2_bytes(Device device) {
    int bytes = 0;
    FLEX_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device.index));
    return bytes;
  }

  cublasLtHandle_t handle_;
  const GemmProduct& product_;
  Stream stream_;
  DeviceBytes scratch_;
  GemmWorkspace workspace_;
  DeviceBytes a_, b_, d_, vector_;
  std::int64_t flush_bytes_;
  DeviceBytes flush_;
  TimingEvent begin_, end_;
  GemmCall call_;
};

struct Candidate {
  cublasLtMatmulAlgo_t algorithm{};
  std::vector<double> runs_us;

  [[nodiscard]] double median_us() const {
    std::vector<double> sorted = runs_us;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

// Round by round rather than candidate by candidate, so that a drifting clock meets all alike.
void time_all(Bench& bench, std::span<Candidate> candidates, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    for (Candidate& candidate : candidates) candidate.runs_us.push_back(bench.run_us(candidate.algorithm));
  }
}

}  // namespace

std::optional<GemmSearchResult> search_gemm_blocking(Device device, cublasLtHandle_t handle,
                                                     const GemmProduct& product, std::int64_t workspace_bytes,
                                                     int num_candidates) {
  const auto algorithms = product.suggestions(handle, workspace_bytes, num_candidates);
  if (algorithms.empty()) return std::nullopt;
  FLEX_CUDA_CHECK(cudaDeviceSynchronize());
  Bench bench(device, handle, product, workspace_bytes);
  std::vector<Candidate> candidates;
  for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
    bench.run_us(algorithm);  // loads the kernel
    candidates.push_back({.algorithm = algorithm, .runs_us = {}});
  }
  time_all(bench, candidates, kRunsPerCandidate);

  // The finalists are the first suggestion, whose place is the first, and the fastest others.
  std::sort(candidates.begin() + 1, candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.median_us() < b.median_us(); });
  candidates.resize(std::min(candidates.size(), kNumFinalists + 1));
  for (Candidate& candidate : candidates) candidate.runs_us.clear();
  time_all(bench, candidates, kRunsPerFinalist);

  const Candidate& first = candidates.front();
  const auto fastest =
      std::min_element(candidates.begin(), candidates.end(),
                       [](const Candidate& a, const Candidate& b) { return a.median_us() < b.median_us(); });
  const double first_us = first.median_us();
  const Candidate& winner = fastest->median_us() < first_us * kWorthwhile ? *fastest : first;
  if (winner.median_us() == std::numeric_limits<double>::infinity()) return std::nullopt;
  return GemmSearchResult{.algorithm = winner.algorithm,
                          .median_us = winner.median_us(),
                          .first_median_us = first_us,
                          .num_timed = static_cast<int>(algorithms.size())};
}

}  // namespace flex
